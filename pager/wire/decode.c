#include "wire/wire.h"

#include <errno.h>

#include "wire/bytes.h"

static const char magic[8] = {'X', 'E', 'N', 'P', 'C', 'O', 'P', 'Y'};

static int bad_reserved(const char *name, uint64_t value, struct wire_fault *fault)
{
    wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "%s has 0x%llx in a reserved field", name,
                   (unsigned long long)value);
    return -EPROTO;
}

/* Of HELLO and HELLO_ACK, behind the number of channels. */
static uint32_t padding(const uint8_t *body)
{
    return get_u32(body + 12) >> 8;
}

int wire_get_hello(const uint8_t *body, struct wire_hello *hello, struct wire_fault *fault)
{
    hello->version = get_u16(body + 8);
    hello->role = body[10];
    hello->page_shift = body[11];
    hello->offered = get_u64(body + 16);
    hello->required = get_u64(body + 24);
    memcpy(hello->uuid, body + 32, WIRE_UUID_SIZE);
    memcpy(hello->token, body + 48, WIRE_TOKEN_SIZE);
    hello->streams = body[12];
    hello->credit_max = get_u64(body + 80);
    hello->generation = get_u32(body + 88);
    hello->asked_max = get_u32(body + 92);
    if (memcmp(body, magic, sizeof(magic)) != 0) {
        wire_fault_set(fault, WIRE_REFUSE_MAGIC, "not a xenpaging-pc stream (wrong magic)");
        return -EPROTO;
    }
    if (padding(body) != 0) {
        bad_reserved("HELLO", padding(body), fault);
        fault->code = WIRE_REFUSE_MALFORMED;
        return -EPROTO;
    }
    return 0;
}

int wire_get_hello_ack(const uint8_t *body, struct wire_hello_ack *ack, struct wire_fault *fault)
{
    if (memcmp(body, magic, sizeof(magic)) != 0 || body[10] != WIRE_SERVER) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "HELLO_ACK is not that of a xenpaging-pc serve");
        return -EPROTO;
    }
    if (get_u16(body + 8) != WIRE_VERSION || body[11] != WIRE_PAGE_SHIFT) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL,
                       "HELLO_ACK has version %u and page shift %u, not %u and %u", get_u16(body + 8),
                       body[11], WIRE_VERSION, WIRE_PAGE_SHIFT);
        return -EPROTO;
    }
    if (padding(body) != 0)
        return bad_reserved("HELLO_ACK", padding(body), fault);
    if (get_u32(body + 60) != 0 || get_u64(body + 96) != 0)
        return bad_reserved("HELLO_ACK", get_u32(body + 60) | get_u64(body + 96), fault);
    ack->streams = body[12];
    ack->generation = get_u32(body + 56);
    memcpy(ack->ticket, body + 64, WIRE_TICKET_SIZE);
    ack->features = get_u64(body + 16);
    memcpy(ack->uuid, body + 24, WIRE_UUID_SIZE);
    ack->populated = get_u64(body + 40);
    ack->nr_gfns = get_u64(body + 48);
    if (ack->nr_gfns > WIRE_GFN_LIMIT || ack->populated > ack->nr_gfns) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "HELLO_ACK says %llu pages below gfn 0x%llx",
                       (unsigned long long)ack->populated, (unsigned long long)ack->nr_gfns);
        return -EPROTO;
    }
    return 0;
}

int wire_get_join(const uint8_t *body, struct wire_join *join, struct wire_fault *fault)
{
    join->version = get_u16(body + 8);
    join->role = body[10];
    join->index = body[11];
    join->generation = get_u32(body + 12);
    memcpy(join->ticket, body + 16, WIRE_TICKET_SIZE);
    if (memcmp(body, magic, sizeof(magic)) != 0) {
        wire_fault_set(fault, WIRE_REFUSE_MAGIC, "not a xenpaging-pc stream (wrong magic)");
        return -EPROTO;
    }
    if (get_u64(body + 48) != 0) {
        bad_reserved("JOIN", get_u64(body + 48), fault);
        fault->code = WIRE_REFUSE_MALFORMED;
        return -EPROTO;
    }
    return 0;
}

int wire_get_join_ack(const uint8_t *body, uint32_t *index, struct wire_fault *fault)
{
    *index = get_u32(body);
    if (get_u32(body + 4) != 0)
        return bad_reserved("JOIN_ACK", get_u32(body + 4), fault);
    return 0;
}

int wire_get_fault(const uint8_t *body, uint32_t length, struct wire_fault *from_peer,
                   struct wire_fault *fault)
{
    uint32_t n = get_u32(body + 4);

    if (n > WIRE_TEXT_MAX || n != length - 8) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "text of %u bytes in a body of %u", n, length);
        return -EPROTO;
    }
    from_peer->code = get_u32(body);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t c = body[8 + i];

        from_peer->text[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    from_peer->text[n] = '\0';
    return 0;
}

int wire_get_set(const uint8_t *body, uint32_t length, uint32_t *n, struct wire_fault *fault)
{
    *n = get_u32(body);
    if (*n == 0 || *n > WIRE_RUNS_MAX || length != 8 + 16 * *n) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "SET says %u runs in a body of %u bytes", *n, length);
        return -EPROTO;
    }
    if (get_u32(body + 4) != 0)
        return bad_reserved("SET", get_u32(body + 4), fault);
    return 0;
}

static int check_runs(const uint8_t *body, uint32_t n, uint32_t most_word, struct wire_fault *fault)
{
    for (uint32_t i = 0; i < n; i++) {
        struct wire_run run = wire_run(body, i);

        if (run.count == 0 || run.count > WIRE_RUN_MAX || run.first > WIRE_GFN_LIMIT - run.count) {
            wire_fault_set(fault, WIRE_ERROR_PROTOCOL,
                           "run of %u pages at gfn 0x%llx; allowed are 1 to %u, below 2^40", run.count,
                           (unsigned long long)run.first, WIRE_RUN_MAX);
            return -EPROTO;
        }
        if (run.word > most_word) {
            wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "run at gfn 0x%llx with 0x%x, allowed are 0 to %u",
                           (unsigned long long)run.first, run.word, most_word);
            return -EPROTO;
        }
    }
    return 0;
}

int wire_get_runs(const uint8_t *body, uint32_t length, uint32_t allowed_flags, uint32_t most_word,
                  uint32_t *n, uint32_t *flags, struct wire_fault *fault)
{
    *n = get_u32(body);
    *flags = get_u32(body + 4);
    if (*n == 0 || *n > WIRE_ASK_MAX || length != 8 + 16 * *n) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "list of %u runs in a body of %u bytes", *n, length);
        return -EPROTO;
    }
    if (*flags & ~allowed_flags) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "unknown flags 0x%x with a list of runs", *flags);
        return -EPROTO;
    }
    return check_runs(body, *n, most_word, fault);
}

int wire_get_pages_head(const uint8_t *body, uint32_t length, uint32_t *n, uint32_t *flags,
                        struct wire_fault *fault)
{
    *n = get_u32(body);
    *flags = get_u32(body + 4);
    if (*n == 0 || *n > WIRE_BATCH_MAX || length < 8 + 16 * *n) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "PAGES says %u runs in a body of %u bytes", *n, length);
        return -EPROTO;
    }
    if (*flags & ~(WIRE_PAGES_COMPARE | WIRE_PAGES_HASHED | WIRE_PAGES_ASKED)) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "unknown flags 0x%x in PAGES", *flags);
        return -EPROTO;
    }
    return 0;
}

int wire_get_pages_runs(const uint8_t *body, uint32_t length, uint32_t n, uint32_t flags, uint32_t *contents,
                        struct wire_fault *fault)
{
    uint32_t each = WIRE_PAGE_SIZE + (flags & WIRE_PAGES_HASHED ? 8 : 0);

    if (check_runs(body, n, WIRE_ZERO, fault))
        return -EPROTO;
    *contents = 0; /* at most WIRE_BATCH_MAX * WIRE_RUN_MAX */
    for (uint32_t i = 0; i < n; i++)
        if (wire_run(body, i).word == WIRE_CONTENTS)
            *contents += wire_run(body, i).count;
    if (*contents > WIRE_PAGES_MAX || length != 8 + 16 * n + *contents * each) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL,
                       "PAGES says %u runs with the contents of %u pages in a body of %u bytes", n, *contents,
                       length);
        return -EPROTO;
    }
    return 0;
}

uint64_t wire_hash(const uint8_t *body, uint32_t n, uint32_t index)
{
    return get_u64(body + 8 + 16 * (size_t)n + 8 * (size_t)index);
}

int wire_get_gone(const uint8_t *body, uint32_t *reason, struct wire_fault *fault)
{
    *reason = get_u32(body);
    if (*reason < WIRE_GONE_DESTROYED || *reason > WIRE_GONE_HANDED_BACK) {
        wire_fault_set(fault, WIRE_ERROR_PROTOCOL, "GONE with unknown reason %u", *reason);
        return -EPROTO;
    }
    if (get_u32(body + 4) != 0)
        return bad_reserved("GONE", get_u32(body + 4), fault);
    return 0;
}

void wire_get_pair(const uint8_t *body, uint64_t *a, uint64_t *b)
{
    *a = get_u64(body);
    *b = get_u64(body + 8);
}

uint64_t wire_get_count(const uint8_t *body)
{
    return get_u64(body);
}

void wire_get_complete(const uint8_t *body, struct wire_complete *complete)
{
    complete->set = get_u64(body);
    complete->installed = get_u64(body + 8);
    complete->dropped = get_u64(body + 16);
    complete->replaced = get_u64(body + 24);
    complete->guest_faults = get_u64(body + 32);
    complete->foreign_requests = get_u64(body + 40);
}

struct wire_run wire_run(const uint8_t *body, uint32_t index)
{
    const uint8_t *p = body + 8 + 16 * (size_t)index;

    return (struct wire_run){.first = get_u64(p), .count = get_u32(p + 8), .word = get_u32(p + 12)};
}

void wire_pair(const uint8_t *body, uint32_t index, uint64_t *a, uint64_t *b)
{
    const uint8_t *p = body + 8 + 16 * (size_t)index;

    *a = get_u64(p);
    *b = get_u64(p + 8);
}
