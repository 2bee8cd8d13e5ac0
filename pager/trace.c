#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "wire/bytes.h"

static const char *const names[TRACE_EVENTS] = {
    [TRACE_START] = "start",     [TRACE_FAULT] = "fault",   [TRACE_MAP] = "map",   [TRACE_ASK] = "ask",
    [TRACE_ARRIVAL] = "arrival", [TRACE_ANSWER] = "answer", [TRACE_DROP] = "drop", [TRACE_LOST] = "lost",
};

const char *trace_event_name(unsigned int event)
{
    return event < TRACE_EVENTS ? names[event] : NULL;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int write_header(struct trace *trace, const char *name)
{
    uint8_t head[TRACE_HEADER] = {0};
    ssize_t n;

    trace->begun_ns = clock_ns(CLOCK_MONOTONIC);
    trace->bytes = TRACE_HEADER;
    memcpy(head, TRACE_MAGIC, 8);
    put_u16(head + 8, TRACE_VERSION);
    put_u16(head + 10, TRACE_RECORD);
    put_u64(head + 16, trace->begun_ns);
    put_u64(head + 24, clock_ns(CLOCK_REALTIME));
    memcpy(head + 32, name, strnlen(name, 32));
    n = pwrite(trace->fd, head, sizeof(head), 0);
    return n == sizeof(head) ? 0 : n < 0 ? -errno : -ENOSPC;
}

static int parse_header(const uint8_t *head, struct trace_header *header)
{
    if (memcmp(head, TRACE_MAGIC, 8) != 0 || get_u16(head + 8) != TRACE_VERSION ||
        get_u16(head + 10) != TRACE_RECORD)
        return -ENODATA;
    header->monotonic_ns = get_u64(head + 16);
    header->realtime_ns = get_u64(head + 24);
    memcpy(header->name, head + 32, 32);
    header->name[32] = '\0';
    return 0;
}

/* Behind the last whole record. */
static int find_end(struct trace *trace)
{
    struct trace_header header;
    uint8_t head[TRACE_HEADER];
    struct stat st;

    if (fstat(trace->fd, &st))
        return -errno;
    if (pread(trace->fd, head, sizeof(head), 0) != sizeof(head) || parse_header(head, &header))
        return -ENODATA;
    trace->begun_ns = header.monotonic_ns;
    trace->bytes = (uint64_t)st.st_size - ((uint64_t)st.st_size - TRACE_HEADER) % TRACE_RECORD;
    return 0;
}

int trace_open(struct trace *trace, const char *path, const char *name, bool again)
{
    struct stat st;
    int rc;

    memset(trace, 0, sizeof(*trace));
    trace->fd =
        open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (again ? 0 : O_CREAT | O_TRUNC), 0600);
    if (trace->fd < 0)
        return -errno;
    if (fstat(trace->fd, &st) || !S_ISREG(st.st_mode))
        rc = -EINVAL;
    else
        rc = again ? find_end(trace) : write_header(trace, name);
    if (rc == 0) {
        trace->ring = calloc(TRACE_RING, sizeof(*trace->ring));
        rc = trace->ring ? 0 : -ENOMEM;
    }
    if (rc) {
        close(trace->fd);
        trace->fd = -1;
    }
    return rc;
}

static void append(struct trace *trace, const struct trace_record *record)
{
    trace->ring[trace->tail++ % TRACE_RING] = *record;
}

/* Where something is missing. */
static void tell_lost(struct trace *trace, uint64_t ns)
{
    const uint64_t n = trace->lost_untold < UINT32_MAX ? trace->lost_untold : UINT32_MAX;
    const struct trace_record lost = {ns, 0, TRACE_LOST, TRACE_NOBODY, (uint32_t)n};

    append(trace, &lost);
    trace->lost_untold = 0;
}

void trace_put(struct trace *trace, uint64_t now_ns, enum trace_event event, uint64_t gfn, uint16_t who,
               uint32_t detail)
{
    const struct trace_record record = {now_ns - trace->begun_ns, gfn, (uint16_t)event, who, detail};

    if (!trace->ring)
        return;
    trace->events++;
    /* There is a place for saying so, too. */
    if (trace->error || trace_waiting(trace) >= TRACE_RING - 1) {
        trace->lost++;
        trace->lost_untold++;
        return;
    }
    if (trace->lost_untold)
        tell_lost(trace, record.ns);
    append(trace, &record);
}

/* What was not written is lost with what waits. */
static void fail(struct trace *trace, int error)
{
    trace->error = error;
    trace->lost += trace_waiting(trace);
    trace->head = trace->tail;
}

void trace_write(struct trace *trace)
{
    uint8_t piece[TRACE_PIECE * TRACE_RECORD];
    uint32_t n = trace_waiting(trace) < TRACE_PIECE ? trace_waiting(trace) : TRACE_PIECE;
    ssize_t done;

    if (!trace->ring || !n)
        return;
    for (uint32_t i = 0; i < n; i++) {
        const struct trace_record *record = &trace->ring[(trace->head + i) % TRACE_RING];
        uint8_t *p = piece + i * TRACE_RECORD;

        put_u64(p, record->ns);
        put_u64(p + 8, record->gfn);
        put_u16(p + 16, record->event);
        put_u16(p + 18, record->who);
        put_u32(p + 20, record->detail);
    }
    done = pwrite(trace->fd, piece, n * TRACE_RECORD, (off_t)trace->bytes);
    if (done < 0 && errno == EINTR)
        return;
    if (done < (ssize_t)TRACE_RECORD) {
        fail(trace, done < 0 ? errno : ENOSPC);
        return;
    }
    trace->head += (uint32_t)done / TRACE_RECORD;
    trace->bytes += (uint64_t)done / TRACE_RECORD * TRACE_RECORD;
}

void trace_close(struct trace *trace)
{
    if (!trace->ring)
        return;
    while (trace_waiting(trace))
        trace_write(trace);
    if (trace->lost_untold && !trace->error) {
        tell_lost(trace, clock_ns(CLOCK_MONOTONIC) - trace->begun_ns);
        trace_write(trace);
    }
    free(trace->ring);
    trace->ring = NULL;
    close(trace->fd);
    trace->fd = -1;
}

int trace_read_header(FILE *file, struct trace_header *header)
{
    uint8_t head[TRACE_HEADER];

    return fread(head, sizeof(head), 1, file) == 1 ? parse_header(head, header) : -ENODATA;
}

bool trace_read(FILE *file, struct trace_record *record)
{
    uint8_t p[TRACE_RECORD];

    if (fread(p, sizeof(p), 1, file) != 1)
        return false;
    record->ns = get_u64(p);
    record->gfn = get_u64(p + 8);
    record->event = get_u16(p + 16);
    record->who = get_u16(p + 18);
    record->detail = get_u32(p + 20);
    return true;
}
