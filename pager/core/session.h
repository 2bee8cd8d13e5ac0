/* Session states: the same words in logs, status, metrics and the man page. */
#ifndef XENPAGING_PC_SESSION_H
#define XENPAGING_PC_SESSION_H

#include <stdbool.h>

enum session_state {
    SESSION_SETUP,     /* reading arguments, opening the domain */
    SESSION_LISTEN,    /* waiting for the other end, handshake */
    SESSION_DEVICE,    /* marking pages absent; the set of absent gfns is agreed on */
    SESSION_ACTIVE,    /* the guest may run at the destination */
    SESSION_PAUSED,    /* pages are absent and nobody can bring them; the guest waits where it touches one */
    SESSION_RECOVER,   /* there are new channels: what has come by now is agreed on */
    SESSION_DRAIN,     /* every page is accounted for; closing down */
    SESSION_COMPLETED, /* final */
    SESSION_FAILED,    /* final */
    SESSION_STATES,
};

const char *session_state_name(enum session_state state);

/* The state of that name, or SESSION_STATES. */
enum session_state session_state_find(const char *name);

/* May a session go from one state to another? */
bool session_may(enum session_state from, enum session_state to);

static inline bool session_final(enum session_state state)
{
    return state == SESSION_COMPLETED || state == SESSION_FAILED;
}

#endif
