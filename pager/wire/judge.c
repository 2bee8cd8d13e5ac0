/* The handshake's verdicts: each mismatch is refused early, with its reason. */
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "token.h"

#define UUID_TEXT 37

static void uuid_text(const uint8_t *u, char *out)
{
    snprintf(out, UUID_TEXT, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
             u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

int wire_judge_hello(const struct wire_hello *hello, const struct wire_hello *expect, uint64_t *features,
                     struct wire_fault *fault)
{
    if (hello->role != WIRE_RECEIVER) {
        wire_fault_set(fault, WIRE_REFUSE_MAGIC, "serve talks to receive, and this is role %u", hello->role);
    } else if (hello->version != expect->version) {
        wire_fault_set(fault, WIRE_REFUSE_VERSION, "serve speaks version %u, receive version %u",
                       expect->version, hello->version);
    } else if (!token_equal(hello->token, expect->token)) {
        wire_fault_set(fault, WIRE_REFUSE_TOKEN, "the session token is not the one serve was given");
    } else if (hello->page_shift != expect->page_shift) {
        wire_fault_set(fault, WIRE_REFUSE_PAGE_SIZE,
                       "pages of 2^%u bytes at the source, of 2^%u at the destination", expect->page_shift,
                       hello->page_shift);
    } else if (hello->required & ~hello->offered || hello->required & ~expect->offered) {
        wire_fault_set(fault, WIRE_REFUSE_FEATURES, "receive requires features 0x%llx, serve has 0x%llx",
                       (unsigned long long)hello->required, (unsigned long long)expect->offered);
    } else if (memcmp(hello->uuid, expect->uuid, WIRE_UUID_SIZE) != 0) {
        char here[UUID_TEXT], there[UUID_TEXT];

        uuid_text(expect->uuid, here);
        uuid_text(hello->uuid, there);
        wire_fault_set(fault, WIRE_REFUSE_UUID, "serve has domain %s, receive has %s: not the same guest",
                       here, there);
    } else if (hello->credit_max == 0 || hello->credit_max > WIRE_CREDIT_MAX || hello->asked_max == 0 ||
               hello->asked_max > WIRE_ASKED_MAX || hello->streams > WIRE_STREAMS_MAX) {
        wire_fault_set(fault, WIRE_REFUSE_BOUNDS,
                       "credit of %llu pages, %u asked for, %u channels; allowed are 1 to %u, 1 to %u, 0 to "
                       "%u",
                       (unsigned long long)hello->credit_max, hello->asked_max, hello->streams,
                       WIRE_CREDIT_MAX, WIRE_ASKED_MAX, WIRE_STREAMS_MAX);
    } else if (!hello->generation != !expect->generation || hello->generation > expect->generation) {
        wire_fault_set(fault, WIRE_REFUSE_GENERATION, "receive was in generation %u, the last here is %u",
                       hello->generation, expect->generation);
    } else {
        *features = hello->offered & expect->offered;
        return 0;
    }
    return -EPROTO;
}

int wire_judge_join(const struct wire_join *join, const struct wire_join *expect, uint32_t joined,
                    struct wire_fault *fault)
{
    if (join->role != WIRE_JOINER) {
        wire_fault_set(fault, WIRE_REFUSE_MAGIC, "JOIN with role %u", join->role);
    } else if (join->version != expect->version) {
        wire_fault_set(fault, WIRE_REFUSE_VERSION, "serve speaks version %u, receive version %u",
                       expect->version, join->version);
    } else if (!token_equal(join->ticket, expect->ticket) || join->generation != expect->generation) {
        wire_fault_set(fault, WIRE_REFUSE_TOKEN, "the ticket is not that of this generation");
    } else if (join->index >= expect->index || joined >> join->index & 1) {
        wire_fault_set(fault, WIRE_REFUSE_BOUNDS, "bulk channel %u of %u, or it has joined already",
                       join->index, expect->index);
    } else {
        return 0;
    }
    return -EPROTO;
}

int wire_judge_hello_ack(const struct wire_hello_ack *ack, const struct wire_hello *sent,
                         struct wire_fault *fault)
{
    if (ack->features & ~sent->offered || sent->required & ~ack->features) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL,
                       "serve uses features 0x%llx, offered 0x%llx, required 0x%llx",
                       (unsigned long long)ack->features, (unsigned long long)sent->offered,
                       (unsigned long long)sent->required);
        return -EPROTO;
    }
    if (ack->streams > sent->streams || ack->generation <= sent->generation) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL,
                       "HELLO_ACK with %u channels and generation %u, after %u and %u", ack->streams,
                       ack->generation, sent->streams, sent->generation);
        return -EPROTO;
    }
    if (memcmp(ack->uuid, sent->uuid, WIRE_UUID_SIZE) != 0) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "HELLO_ACK names another domain");
        return -EPROTO;
    }
    return 0;
}
