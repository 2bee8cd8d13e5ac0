/* A migration's id, and the files in the run folder that are named after it. */
#ifndef XENPAGING_PC_SESSION_ID_H
#define XENPAGING_PC_SESSION_ID_H

#include <stdbool.h>
#include <string.h>

#define SESSION_ID_LENGTH 16

/*
 * RUN_DIR/ID + one of these. Both hosts of a migration may be one machine: what the source keeps has names of
 * its own.
 */
#define SESSION_TOKEN       ".token" /* destination: until the session ends */
#define SESSION_SERVE_TOKEN ".serve-token"
#define SESSION_JOIN_SOCKET ".join"
#define SESSION_PID         ".pid" /* behind that of a channel of join */
#define SESSION_SERVE_PID   ".serve.pid"
#define SESSION_RECEIVE_PID ".receive.pid"

/* 16 lower case hex digits, and nothing else: it becomes part of paths and of a command on the other host. */
static inline bool session_id_valid(const char *id)
{
    return strlen(id) == SESSION_ID_LENGTH && strspn(id, "0123456789abcdef") == SESSION_ID_LENGTH;
}

#endif
