/* Between serve and the feeder: a connection, or the stdin and stdout that join was started with and has
 * handed over. */
#ifndef XENPAGING_PC_CHANNEL_H
#define XENPAGING_PC_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#define CHANNEL_UNIX "unix:"

struct channel {
    int in,
        out;  /* non-blocking; may be the same descriptor; sockets, or (join's) whatever a transport uses */
    int join; /* held open as long as the channel is in use, so that join stays: a transport ends with it. Or
                 -1 */
};

/*
 * The control channel: connect to serve at "HOST:PORT", or take over the channel of the join that listens at
 * "unix:PATH", within timeout_ms. streams: as many bulk channels are wanted; over join as many as serve has
 * started. The descriptors are the caller's. Returns 0, or -1 with a sentence in why.
 */
int channel_open(const char *where, int timeout_ms, struct channel *channel, uint32_t *streams, char *why,
                 size_t why_size);

/* Bulk channel index, in the same way; that of join listens at "PATH-INDEX". */
int channel_open_bulk(const char *where, uint32_t index, int timeout_ms, struct channel *channel, char *why,
                      size_t why_size);

/* For join: give in and out to who has connected as receiver (a unix socket), and say how many bulk channels
 * there are. 0, or -1 with errno. */
int channel_hand_over(int receiver, int in, int out, uint8_t streams);

#endif
