/* Where the background push goes on. Fed with faults; chooses runs of push_pages, which its caller takes. */
#ifndef XENPAGING_PC_PUSH_POLICY_H
#define XENPAGING_PC_PUSH_POLICY_H

#include "core/push_pages.h"
#include "core/push_streams.h"

enum push_policy_kind {
    PUSH_ADAPTIVE, /* round the faults, along the streams that they are part of; then as PUSH_ONLY */
    PUSH_FOLLOW,   /* behind the page that was asked for and sent last, upwards and round, as in 2017 */
    PUSH_ONLY,     /* upwards, whatever is asked for */
};

#define PUSH_POLICIES 3u

struct push_policy {
    enum push_policy_kind kind;
    uint64_t cursor;
    struct push_streams streams;
};

/* "adaptive", "follow", "push". */
const char *push_policy_name(enum push_policy_kind kind);
/* 0, or -EINVAL. */
int push_policy_find(const char *name, enum push_policy_kind *kind);

void push_policy_init(struct push_policy *policy, enum push_policy_kind kind);

/* Somebody waits for gfn, which has been sent already, or will be by itself; and then it is sent. */
void push_policy_fault(struct push_policy *policy, uint64_t gfn);
void push_policy_answered(struct push_policy *policy, uint64_t gfn);

/* Pages that were taken are free again. */
void push_policy_restart(struct push_policy *policy);

/* The next run, of at most `most` free pages in one region: the caller takes all of it out of pages. 0: there
 * is no free page. */
unsigned int push_policy_next(struct push_policy *policy, const struct push_pages *pages, uint64_t *first,
                              unsigned int most);

#endif
