#include "wire/frame_reader.h"

#include "wire/bytes.h"

void frame_reader_init(struct frame_reader *reader, enum wire_role role, enum wire_channel channel)
{
    reader->role = role;
    reader->channel = channel;
    reader->fault.code = WIRE_OK;
    reader->fault.text[0] = '\0';
    frame_reader_next(reader);
}

void frame_reader_next(struct frame_reader *reader)
{
    reader->part = READ_HEAD;
    reader->have = 0;
    reader->want = WIRE_HEAD_SIZE;
}

bool frame_reader_idle(const struct frame_reader *reader)
{
    return reader->part == READ_HEAD && reader->have == 0;
}

size_t frame_reader_space(struct frame_reader *reader, uint8_t **where)
{
    *where = (reader->part == READ_HEAD ? reader->head : reader->body) + reader->have;
    return reader->want - reader->have;
}

static enum frame_event head_done(struct frame_reader *reader, enum wire_state state)
{
    reader->length = get_u32(reader->head);
    reader->type = get_u16(reader->head + 4);
    if (get_u16(reader->head + 6) != 0) {
        wire_fault_set(&reader->fault, WIRE_ERROR_PROTOCOL, "frame header with 0x%x in its reserved field",
                       get_u16(reader->head + 6));
        return FRAME_BAD;
    }
    if (wire_allowed(reader->type, reader->length, reader->role, reader->channel, state, &reader->fault))
        return FRAME_BAD;
    reader->have = 0;
    if (reader->type == WIRE_PAGES) {
        reader->part = READ_PAGES_COUNT;
        reader->want = 8;
    } else {
        reader->part = READ_BODY;
        reader->want = reader->length;
    }
    return FRAME_MORE;
}

static enum frame_event runs_done(struct frame_reader *reader)
{
    if (wire_get_pages_runs(reader->body, reader->length, reader->runs, reader->flags, &reader->pages,
                            &reader->fault))
        return FRAME_BAD;
    if (!(reader->flags & WIRE_PAGES_HASHED) || !reader->pages)
        return FRAME_PAGES;
    reader->part = READ_PAGES_HASHES;
    reader->want += 8 * (size_t)reader->pages;
    return FRAME_MORE;
}

enum frame_event frame_reader_advance(struct frame_reader *reader, size_t n, enum wire_state state)
{
    reader->have += n;
    if (reader->have < reader->want)
        return FRAME_MORE;
    switch (reader->part) {
    case READ_HEAD:
        return head_done(reader, state);
    case READ_BODY:
        return FRAME_DONE;
    case READ_PAGES_COUNT:
        if (wire_get_pages_head(reader->body, reader->length, &reader->runs, &reader->flags, &reader->fault))
            return FRAME_BAD;
        reader->part = READ_PAGES_RUNS;
        reader->want = 8 + 16 * (size_t)reader->runs;
        return FRAME_MORE;
    case READ_PAGES_RUNS:
        return runs_done(reader);
    case READ_PAGES_HASHES:
        return FRAME_PAGES;
    }
    return FRAME_BAD;
}

size_t frame_reader_take(struct frame_reader *reader, const uint8_t *bytes, size_t n, enum wire_state state,
                         enum frame_event *event)
{
    size_t done = 0;

    *event = FRAME_MORE;
    while (done < n && *event == FRAME_MORE) {
        uint8_t *where;
        size_t part = frame_reader_space(reader, &where);

        if (part > n - done)
            part = n - done;
        memcpy(where, bytes + done, part);
        done += part;
        *event = frame_reader_advance(reader, part, state);
    }
    return done;
}
