/* Not to be the OOM killer's first victim: without its pager a guest stops for ever. */
#ifndef XENPAGING_PC_OOM_H
#define XENPAGING_PC_OOM_H

/* Exempt this process. Not without the right to: then a warning says so, and nothing else changes. */
void oom_protect(void);

/* In a child that is no pager, before it becomes what it is to be: as we were before oom_protect(). */
void oom_unprotect(void);

#endif
