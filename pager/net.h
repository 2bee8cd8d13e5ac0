/* Addresses and sockets. */
#ifndef XENPAGING_PC_NET_H
#define XENPAGING_PC_NET_H

#include <stddef.h>

/*
 * Listen on "ADDR:PORT", "[ADDR6]:PORT"; "*:PORT" for every address. Port 0 takes a free one. Returns a
 * non-blocking socket, and the address it got in bound; or -1 with a sentence in why.
 */
int net_listen(const char *where, char *bound, size_t bound_size, char *why, size_t why_size);

/*
 * Connect to "HOST:PORT" within timeout_ms. Returns a non-blocking socket, set up by net_tune(), or -1 with a
 * sentence in why.
 */
int net_dial(const char *where, int timeout_ms, char *why, size_t why_size);

/*
 * No Nagle delay, and a peer that vanished without a word is noticed after about half a minute (keepalive,
 * user timeout): the guest waits meanwhile. Nothing on what is no TCP socket.
 */
void net_tune(int fd);

/*
 * Before close(): nothing more is sent, and what has come is thrown away, because unread bytes would make
 * close() reset the connection and with it the last words on their way to the other end.
 */
void net_say_goodbye(int fd);

#endif
