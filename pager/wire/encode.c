#include "wire/wire.h"

#include "wire/bytes.h"

static const char magic[8] = {'X', 'E', 'N', 'P', 'C', 'O', 'P', 'Y'};

static uint8_t *head(uint8_t *out, enum wire_type type, uint32_t length)
{
    put_u32(out, length);
    put_u16(out + 4, (uint16_t)type);
    put_u16(out + 6, 0);
    return out + WIRE_HEAD_SIZE;
}

static void greeting(uint8_t *body, uint16_t version, uint8_t role, uint8_t page_shift, uint8_t streams)
{
    memcpy(body, magic, sizeof(magic));
    put_u16(body + 8, version);
    body[10] = role;
    body[11] = page_shift;
    body[12] = streams;
    memset(body + 13, 0, 3);
}

size_t wire_put_hello(uint8_t *out, const struct wire_hello *hello)
{
    uint8_t *body = head(out, WIRE_HELLO, WIRE_HELLO_SIZE);

    greeting(body, hello->version, hello->role, hello->page_shift, hello->streams);
    put_u64(body + 16, hello->offered);
    put_u64(body + 24, hello->required);
    memcpy(body + 32, hello->uuid, WIRE_UUID_SIZE);
    memcpy(body + 48, hello->token, WIRE_TOKEN_SIZE);
    put_u64(body + 80, hello->credit_max);
    put_u32(body + 88, hello->generation);
    put_u32(body + 92, hello->asked_max);
    return WIRE_HEAD_SIZE + WIRE_HELLO_SIZE;
}

size_t wire_put_hello_ack(uint8_t *out, const struct wire_hello_ack *ack)
{
    uint8_t *body = head(out, WIRE_HELLO_ACK, WIRE_ACK_SIZE);

    greeting(body, WIRE_VERSION, WIRE_SERVER, WIRE_PAGE_SHIFT, ack->streams);
    put_u64(body + 16, ack->features);
    memcpy(body + 24, ack->uuid, WIRE_UUID_SIZE);
    put_u64(body + 40, ack->populated);
    put_u64(body + 48, ack->nr_gfns);
    put_u32(body + 56, ack->generation);
    put_u32(body + 60, 0);
    memcpy(body + 64, ack->ticket, WIRE_TICKET_SIZE);
    put_u64(body + 96, 0);
    return WIRE_HEAD_SIZE + WIRE_ACK_SIZE;
}

size_t wire_put_join(uint8_t *out, const struct wire_join *join)
{
    uint8_t *body = head(out, WIRE_JOIN, WIRE_JOIN_SIZE);

    memcpy(body, magic, sizeof(magic));
    put_u16(body + 8, join->version);
    body[10] = join->role;
    body[11] = join->index;
    put_u32(body + 12, join->generation);
    memcpy(body + 16, join->ticket, WIRE_TICKET_SIZE);
    put_u64(body + 48, 0);
    return WIRE_HEAD_SIZE + WIRE_JOIN_SIZE;
}

size_t wire_put_fault(uint8_t *out, enum wire_type refuse_or_error, const struct wire_fault *fault)
{
    uint32_t length = (uint32_t)strnlen(fault->text, WIRE_TEXT_MAX);
    uint8_t *body = head(out, refuse_or_error, 8 + length);

    put_u32(body, fault->code);
    put_u32(body + 4, length);
    memcpy(body + 8, fault->text, length);
    return WIRE_HEAD_SIZE + 8 + length;
}

size_t wire_put_pair(uint8_t *out, enum wire_type type, uint64_t a, uint64_t b)
{
    uint8_t *body = head(out, type, 16);

    put_u64(body, a);
    put_u64(body + 8, b);
    return WIRE_HEAD_SIZE + 16;
}

size_t wire_put_words(uint8_t *out, enum wire_type type, uint32_t a, uint32_t b)
{
    uint8_t *body = head(out, type, 8);

    put_u32(body, a);
    put_u32(body + 4, b);
    return WIRE_HEAD_SIZE + 8;
}

size_t wire_put_count(uint8_t *out, enum wire_type type, uint64_t count)
{
    put_u64(head(out, type, 8), count);
    return WIRE_HEAD_SIZE + 8;
}

size_t wire_put_complete(uint8_t *out, const struct wire_complete *complete)
{
    uint8_t *body = head(out, WIRE_COMPLETE, 48);

    put_u64(body, complete->set);
    put_u64(body + 8, complete->installed);
    put_u64(body + 16, complete->dropped);
    put_u64(body + 24, complete->replaced);
    put_u64(body + 32, complete->guest_faults);
    put_u64(body + 40, complete->foreign_requests);
    return WIRE_HEAD_SIZE + 48;
}

size_t wire_put_complete_ack(uint8_t *out, uint64_t set, uint64_t sent, uint64_t resent)
{
    uint8_t *body = head(out, WIRE_COMPLETE_ACK, 24);

    put_u64(body, set);
    put_u64(body + 8, sent);
    put_u64(body + 16, resent);
    return WIRE_HEAD_SIZE + 24;
}

void wire_add_run(uint8_t *out, uint32_t index, uint64_t first, uint32_t count, uint32_t word)
{
    uint8_t *p = out + WIRE_HEAD_SIZE + 8 + 16 * (size_t)index;

    put_u64(p, first);
    put_u32(p + 8, count);
    put_u32(p + 12, word);
}

size_t wire_finish_list(uint8_t *out, enum wire_type type, uint32_t n, uint32_t flags)
{
    uint8_t *body = head(out, type, 8 + 16 * n);

    put_u32(body, n);
    put_u32(body + 4, flags);
    return WIRE_HEAD_SIZE + 8 + 16 * (size_t)n;
}

void wire_add_pair(uint8_t *out, uint32_t index, uint64_t a, uint64_t b)
{
    uint8_t *p = out + WIRE_HEAD_SIZE + 8 + 16 * (size_t)index;

    put_u64(p, a);
    put_u64(p + 8, b);
}

void wire_add_hash(uint8_t *out, uint32_t n, uint32_t index, uint64_t hash)
{
    put_u64(out + WIRE_HEAD_SIZE + 8 + 16 * (size_t)n + 8 * (size_t)index, hash);
}

size_t wire_finish_pages_head(uint8_t *out, uint32_t n, uint32_t contents, uint32_t flags)
{
    uint32_t size = 8 + 16 * n + (flags & WIRE_PAGES_HASHED ? 8 * contents : 0);
    uint8_t *body = head(out, WIRE_PAGES, size + contents * WIRE_PAGE_SIZE);

    put_u32(body, n);
    put_u32(body + 4, flags);
    return WIRE_HEAD_SIZE + (size_t)size;
}
