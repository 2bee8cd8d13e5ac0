/*
 * Takes a stream apart into frames, whatever pieces it comes in. No I/O: the caller asks where the next bytes
 * go, reads, and says how many came. A body is read only after its type and length were found to be allowed.
 */
#ifndef XENPAGING_PC_FRAME_READER_H
#define XENPAGING_PC_FRAME_READER_H

#include "wire/wire.h"

enum frame_event {
    FRAME_MORE,  /* go on reading */
    FRAME_DONE,  /* a whole frame: type, length, body */
    FRAME_PAGES, /* the head of PAGES: body holds runs and hashes, the contents follow and are the caller's to
                    read */
    FRAME_BAD,   /* fault says why; nothing more may be read */
};

struct frame_reader {
    enum wire_role role; /* ours */
    enum wire_channel channel;
    unsigned int type;
    uint32_t length;
    size_t have; /* bytes of the part being read */
    size_t want;
    enum { READ_HEAD, READ_BODY, READ_PAGES_COUNT, READ_PAGES_RUNS, READ_PAGES_HASHES } part;
    uint32_t runs;  /* after FRAME_PAGES */
    uint32_t pages; /* with contents */
    uint32_t flags;
    struct wire_fault fault;
    uint8_t head[WIRE_HEAD_SIZE];
    uint8_t body[WIRE_CONTROL_MAX];
};

void frame_reader_init(struct frame_reader *reader, enum wire_role role, enum wire_channel channel);

/* Where the next bytes go. At least one is wanted. */
size_t frame_reader_space(struct frame_reader *reader, uint8_t **where);

/*
 * n bytes (at least 1, at most what was asked for) have come. state is that of the connection now. After
 * FRAME_DONE and after the contents of FRAME_PAGES the caller calls frame_reader_next().
 */
enum frame_event frame_reader_advance(struct frame_reader *reader, size_t n, enum wire_state state);
void frame_reader_next(struct frame_reader *reader);

/*
 * The same with bytes that are there already: takes what it can of n bytes, returns how many, and the event;
 * FRAME_MORE only if it took them all.
 */
size_t frame_reader_take(struct frame_reader *reader, const uint8_t *bytes, size_t n, enum wire_state state,
                         enum frame_event *event);

/* True between frames, where EOF at least tears nothing apart. */
bool frame_reader_idle(const struct frame_reader *reader);

#endif
