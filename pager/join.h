/*
 * The destination's end of the second channel. serve (on the source) starts it through the transport; it
 * proves itself with the session's token, and hands its stdin and stdout to the feeder of receive.
 */
#ifndef XENPAGING_PC_JOIN_H
#define XENPAGING_PC_JOIN_H

#include <stdint.h>

/* What join says first on stdout; serve takes nothing else for a join. */
#define JOIN_GREETING "xenpaging-pc join 1\n"

/*
 * For the control channel (0), beside which there are so many bulk channels, or for one of those (from 1 on):
 * read the token, wait for receive, hand the channel over, and stay until receive's feeder has ended. Returns
 * the exit status.
 */
int join_run(const char *run_dir, const char *session, unsigned int channel, uint8_t streams);

#endif
