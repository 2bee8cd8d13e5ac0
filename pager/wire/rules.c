/* Which frame is allowed when, from whom, and how long: the table of PROTOCOL.md as data. */
#include "wire/wire.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define IN(state) (1u << WIRE_IN_##state)
#define ANY       ((1u << WIRE_STATES) - 1u)

#define FROM_R (1u << WIRE_RECEIVER)
#define FROM_S (1u << WIRE_SERVER)

#define CONTROL (1u << WIRE_CONTROL)
#define BULK    (1u << WIRE_BULK)

static const struct {
    const char *name;
    unsigned int senders;
    unsigned int channels;
    unsigned int states; /* of the end that gets it */
    uint32_t min;
    uint32_t max;
} rules[WIRE_TYPES] = {
    [WIRE_HELLO] = {"HELLO", FROM_R, CONTROL, IN(HELLO), WIRE_HELLO_SIZE, WIRE_HELLO_SIZE},
    [WIRE_HELLO_ACK] = {"HELLO_ACK", FROM_S, CONTROL, IN(HELLO), WIRE_ACK_SIZE, WIRE_ACK_SIZE},
    [WIRE_REFUSE] = {"REFUSE", FROM_S, CONTROL | BULK, IN(HELLO), 8, 8 + WIRE_TEXT_MAX},
    [WIRE_SET] = {"SET", FROM_R, CONTROL, IN(SET), 8 + 16, WIRE_CONTROL_MAX},
    [WIRE_SET_END] = {"SET_END", FROM_R, CONTROL, IN(SET), 16, 16},
    [WIRE_SET_ACK] = {"SET_ACK", FROM_S, CONTROL, IN(SET), 16, 16},
    [WIRE_CREDIT] = {"CREDIT", FROM_R, CONTROL, IN(ACTIVE) | IN(VERIFY), 8, 8},
    [WIRE_REQUEST] = {"REQUEST", FROM_R, CONTROL, IN(ACTIVE), 8 + 16, 8 + 16 * WIRE_ASK_MAX},
    [WIRE_PAGES] = {"PAGES", FROM_S, CONTROL | BULK, IN(ACTIVE) | IN(VERIFY) | IN(COMPLETE), 8 + 16,
                    WIRE_ENTRIES_MAX + WIRE_PAGES_MAX *WIRE_PAGE_SIZE},
    [WIRE_DROP] = {"DROP", FROM_R, CONTROL, IN(ACTIVE), 8 + 16, 8 + 16 * WIRE_ASK_MAX},
    [WIRE_VERIFY] = {"VERIFY", FROM_R, CONTROL, IN(ACTIVE), 8, 8},
    [WIRE_VERIFY_END] = {"VERIFY_END", FROM_S, CONTROL, IN(VERIFY), 8, 8},
    [WIRE_COMPLETE] = {"COMPLETE", FROM_R, CONTROL, IN(ACTIVE), 48, 48},
    [WIRE_COMPLETE_ACK] = {"COMPLETE_ACK", FROM_S, CONTROL, IN(COMPLETE), 24, 24},
    [WIRE_GONE] = {"GONE", FROM_R, CONTROL, ANY & ~IN(HELLO), 8, 8},
    [WIRE_JOIN] = {"JOIN", FROM_R, BULK, IN(HELLO), WIRE_JOIN_SIZE, WIRE_JOIN_SIZE},
    [WIRE_JOIN_ACK] = {"JOIN_ACK", FROM_S, BULK, IN(HELLO), 8, 8},
    [WIRE_ACK] = {"ACK", FROM_R, BULK, IN(ACTIVE) | IN(VERIFY) | IN(COMPLETE), 8, 8},
    [WIRE_RECEIVED] = {"RECEIVED", FROM_R, CONTROL, IN(RESUME), 8 + 16, WIRE_CONTROL_MAX},
    [WIRE_RECEIVED_END] = {"RECEIVED_END", FROM_R, CONTROL, IN(RESUME), 16, 16},
    [WIRE_RESUME_ACK] = {"RESUME_ACK", FROM_S, CONTROL, IN(RESUME), 16, 16},
    [WIRE_ERROR] = {"ERROR", FROM_R | FROM_S, CONTROL | BULK, ANY, 8, 8 + WIRE_TEXT_MAX},
};

static const char *const state_names[WIRE_STATES] = {
    [WIRE_IN_HELLO] = "HELLO",   [WIRE_IN_SET] = "SET",           [WIRE_IN_ACTIVE] = "ACTIVE",
    [WIRE_IN_VERIFY] = "VERIFY", [WIRE_IN_COMPLETE] = "COMPLETE", [WIRE_IN_RESUME] = "RESUME",
};

const char *wire_type_name(unsigned int type)
{
    return type < WIRE_TYPES && rules[type].name ? rules[type].name : "unknown";
}

const char *wire_state_name(unsigned int state)
{
    return state < WIRE_STATES ? state_names[state] : "unknown";
}

const char *wire_code_name(unsigned int code)
{
    switch (code) {
    case WIRE_REFUSE_MAGIC:
        return "magic";
    case WIRE_REFUSE_VERSION:
        return "version";
    case WIRE_REFUSE_TOKEN:
        return "token";
    case WIRE_REFUSE_PAGE_SIZE:
        return "page-size";
    case WIRE_REFUSE_FEATURES:
        return "features";
    case WIRE_REFUSE_UUID:
        return "uuid";
    case WIRE_REFUSE_BOUNDS:
        return "bounds";
    case WIRE_REFUSE_BUSY:
        return "busy";
    case WIRE_REFUSE_MALFORMED:
        return "malformed";
    case WIRE_REFUSE_NOT_READY:
        return "not-ready";
    case WIRE_REFUSE_GENERATION:
        return "generation";
    case WIRE_ERROR_PROTOCOL:
        return "protocol";
    case WIRE_ERROR_SET:
        return "set";
    case WIRE_ERROR_MAP:
        return "map";
    case WIRE_ERROR_SOURCE_GONE:
        return "source-gone";
    case WIRE_ERROR_COUNTS:
        return "counts";
    case WIRE_ERROR_VERIFY:
        return "verify";
    case WIRE_ERROR_INTERNAL:
        return "internal";
    case WIRE_ERROR_GIVEN_UP:
        return "given-up";
    default:
        return "unknown";
    }
}

void wire_fault_set(struct wire_fault *fault, uint32_t code, const char *fmt, ...)
{
    va_list ap;

    fault->code = code;
    va_start(ap, fmt);
    vsnprintf(fault->text, sizeof(fault->text), fmt, ap);
    va_end(ap);
}

int wire_allowed(unsigned int type, uint32_t length, enum wire_role role, enum wire_channel channel,
                 enum wire_state state, struct wire_fault *fault)
{
    unsigned int sender = role == WIRE_RECEIVER ? FROM_S : FROM_R;

    if (type >= WIRE_TYPES || !rules[type].name) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "frame of unknown type %u", type);
        return -EPROTO;
    }
    if (!(rules[type].senders & sender) || !(rules[type].channels & (1u << channel)) ||
        !(rules[type].states & (1u << state))) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "%s is not allowed in state %s here%s", rules[type].name,
                       state_names[state], channel == WIRE_BULK ? ", on a bulk channel" : "");
        return -EPROTO;
    }
    if (length < rules[type].min || length > rules[type].max) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "%s with a body of %u bytes, allowed are %u to %u",
                       rules[type].name, length, rules[type].min, rules[type].max);
        return -EPROTO;
    }
    return 0;
}
