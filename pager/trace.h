/*
 * What happened to which page, and when: receive --trace FILE, xenpaging-pc trace FILE. Integers are little
 * endian. A header of 64 bytes:
 *
 *     0   8  XPCTRACE
 *     8   2  version, 1
 *    10   2  bytes of a record, 24
 *    12   4  0
 *    16   8  CLOCK_MONOTONIC when the trace began, in ns
 *    24   8  CLOCK_REALTIME then
 *    32  32  the domain's name as the session has it, cut off there, the rest 0
 *
 * and records in the order in which things were noticed, until the end of the file:
 *
 *     0   8  ns since the trace began
 *     8   8  gfn
 *    16   2  enum trace_event
 *    18   2  who
 *    20   4  detail
 *
 * Each is put into memory that was there before; the file is written later, in pieces, when there is nothing
 * else to do. What does not fit is counted, and the file says where it is missing.
 */
#ifndef XENPAGING_PC_TRACE_H
#define XENPAGING_PC_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TRACE_MAGIC   "XPCTRACE"
#define TRACE_VERSION 1
#define TRACE_HEADER  64u
#define TRACE_RECORD  24u
#define TRACE_RING    65536u /* records that wait to be written: 1.5 MiB */
#define TRACE_PIECE   2048u  /* of them, written at a time */
#define TRACE_NOBODY  0xffffu

/* state: of the page before that, as enum page_state (core/pagein.h). */
enum trace_event {
    TRACE_START = 1, /* a pager begins; detail: pagers that have died */
    TRACE_FAULT,     /* a vcpu (who) wants gfn; detail: state */
    TRACE_MAP,       /* dom0 wants gfn; detail: state */
    TRACE_ASK,       /* serve is asked for detail pages from gfn on; who: how urgently, WIRE_..._WAITS */
    TRACE_ARRIVAL,   /* gfn has come; detail: state */
    TRACE_ANSWER,    /* vcpu who goes on with gfn, or (nobody) dom0 */
    TRACE_DROP,      /* the guest has released gfn; detail: state */
    TRACE_LOST,      /* detail records did not fit in here */
    TRACE_EVENTS
};

struct trace_record {
    uint64_t ns, gfn;
    uint16_t event, who;
    uint32_t detail;
};

struct trace_header {
    uint64_t monotonic_ns, realtime_ns;
    char name[33];
};

struct trace {
    int fd;
    struct trace_record *ring; /* NULL: there is no trace, and everything here does nothing */
    uint32_t head, tail;
    uint64_t begun_ns; /* the header's */
    uint64_t bytes;    /* of the file */
    uint64_t events;   /* put, or lost */
    uint64_t lost, lost_untold;
    int error; /* writing gave that: there is nothing more in the file */
};

/*
 * Begin a trace in a new file, or (again) go on with that of the pager before this one, which may have died
 * amid a record. 0, or -errno: -ENODATA if the file is no trace.
 */
int trace_open(struct trace *trace, const char *path, const char *name, bool again);

void trace_put(struct trace *trace, uint64_t now_ns, enum trace_event event, uint64_t gfn, uint16_t who,
               uint32_t detail);

static inline uint32_t trace_waiting(const struct trace *trace)
{
    return trace->tail - trace->head;
}

/* Write at most a piece. */
void trace_write(struct trace *trace);

/* Write all, and end. */
void trace_close(struct trace *trace);

/* "fault"; NULL for what is no event. */
const char *trace_event_name(unsigned int event);

/* 0, or -ENODATA if that is no trace. */
int trace_read_header(FILE *file, struct trace_header *header);
/* False at the end. Less than a whole record is not there. */
bool trace_read(FILE *file, struct trace_record *record);

#endif
