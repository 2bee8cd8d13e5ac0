#include "core/session.h"

#include <string.h>

#define TO(state) (1u << SESSION_##state)

static const struct {
    const char *name;
    unsigned int next;
} states[SESSION_STATES] = {
    [SESSION_SETUP] = {"setup", TO(LISTEN) | TO(FAILED)},
    [SESSION_LISTEN] = {"listen", TO(DEVICE) | TO(COMPLETED) | TO(FAILED)},
    [SESSION_DEVICE] = {"device", TO(ACTIVE) | TO(COMPLETED) | TO(FAILED)},
    [SESSION_ACTIVE] = {"active", TO(PAUSED) | TO(DRAIN) | TO(COMPLETED) | TO(FAILED)},
    [SESSION_PAUSED] = {"paused", TO(RECOVER) | TO(DRAIN) | TO(COMPLETED) | TO(FAILED)},
    [SESSION_RECOVER] = {"recover", TO(ACTIVE) | TO(PAUSED) | TO(DRAIN) | TO(COMPLETED) | TO(FAILED)},
    [SESSION_DRAIN] = {"drain", TO(PAUSED) | TO(COMPLETED) | TO(FAILED)},
    [SESSION_COMPLETED] = {"completed", 0},
    [SESSION_FAILED] = {"failed", 0},
};

const char *session_state_name(enum session_state state)
{
    return states[state].name;
}

enum session_state session_state_find(const char *name)
{
    enum session_state state = SESSION_SETUP;

    while (state < SESSION_STATES && strcmp(states[state].name, name) != 0)
        state++;
    return state;
}

bool session_may(enum session_state from, enum session_state to)
{
    return states[from].next & (1u << to);
}
