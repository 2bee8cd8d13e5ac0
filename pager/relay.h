/* Bytes both ways between a pair of descriptors and a socket. */
#ifndef XENPAGING_PC_RELAY_H
#define XENPAGING_PC_RELAY_H

/*
 * Carry what comes from in to sock, and what comes from sock to out, until both directions are over. An end
 * of one is passed on by itself once everything before it has been; a reader that is slow is not read ahead
 * of by more than one buffer. in and out may be one socket. All become non-blocking; SIGPIPE has to be
 * ignored. stop, when readable, ends it at once. Returns 0, or -1 with errno if a direction broke instead of
 * ending.
 */
int relay_run(int in, int out, int sock, int stop);

#endif
