/* The source: serves pages of the paused guest, and keeps every one until the destination has said COMPLETE
 * with counts that add up. */
#ifndef XENPAGING_PC_SERVE_H
#define XENPAGING_PC_SERVE_H

#include <ev.h>

#include "backend.h"
#include "child.h"
#include "core/gfn_bitmap.h"
#include "core/push_order.h"
#include "core/push_rate.h"
#include "core/run_hash.h"
#include "session_run.h"
#include "set_file.h"
#include "wire/frame_reader.h"

#define SERVE_PENDING 8 /* connections that have not said HELLO yet */
#define SERVE_HELLO_S 10.
#define SERVE_CONTROL 2048

struct serve_options {
    const char *domain;
    const char *name;   /* in reports; NULL: domain */
    const char *listen; /* NULL: transport */
    enum push_policy_kind order;
    uint32_t max_push; /* MiB/s of pages that nobody has asked for; 0: no limit */
    /* Under xl migrate --postcopy: */
    const char *session;   /* NULL: none of what follows */
    const char *transport; /* shell words that run a command on the destination */
    int set_fd;            /* the set file, sealed when receive comes */
    pid_t watch_pid;       /* whoever moves the domain; 0: nobody */
    bool destroy;          /* the domain, when it is whole at the destination and committed */
    bool detach;           /* ready when it shows itself */
    const char *xl;
    const char *run_dir;
    const char *stats_file;
    uint8_t token[32];
    void (*bound)(const char *address); /* told where it listens; may be NULL */
    struct backend *(*open)(const char *domain, char *why, size_t why_size);
};

struct server;

/* A connection whose HELLO is not complete. */
struct serve_pending {
    struct server *server;
    int fd; /* -1: free */
    ev_io io;
    ev_timer timer;
    struct frame_reader reader;
};

/* The PAGES frame on its way out. */
struct serve_batch {
    uint8_t head[WIRE_HEAD_SIZE + WIRE_ENTRIES_MAX];
    size_t head_size;
    void *map;
    unsigned int pages; /* 0: none */
    size_t sent;        /* bytes of head and pages */
};

struct server {
    const struct serve_options *options;
    struct session_run run;
    struct backend *be;
    struct backend_domain domain;
    bool our_pause;
    bool custody;     /* we may resume the domain yet: it stays marked as ours */
    bool given_up;    /* at the destination, after commit here, before it ran there */
    bool handed_back; /* and it is destroyed there */

    struct set_file set; /* with a set file */
    bool scanned;
    uint64_t scan_gfn, max_gfn;
    ev_idle scan_idle;

    struct gfn_bitmap populated;
    uint64_t populated_count;
    uint64_t nr_gfns; /* largest populated gfn + 1 */

    ev_io listener;
    char bound[160];
    struct serve_pending pending[SERVE_PENDING];
    uint64_t refused;

    int sock;
    char peer[160];
    ev_io reader_io, writer_io;
    struct frame_reader reader;
    enum wire_state state;
    uint64_t features;
    uint64_t credit, credit_max;
    struct run_hash set_hash;
    struct push_order order;
    struct push_rate rate;
    ev_timer rate_timer; /* until the push may go on */
    uint64_t verify_cursor, compared;

    struct serve_batch batch;
    uint8_t control[SERVE_CONTROL];
    size_t control_start, control_end;
    bool closing; /* end when the control bytes are out */

    uint64_t requests, requested, credits, drops, batches, bytes;
    struct wire_complete complete;
    bool completed;

    struct child transport, xl;
    int link; /* our end of the transport until receive's HELLO */
    char greeting[64];
    size_t greeting_length;
    ev_io greeting_io;
    ev_timer greeting_timer, transport_timer;
    int pidfd;
    ev_io pid_io;
    bool delivered;   /* the acknowledgement of COMPLETE is out */
    bool destroying;  /* xl destroy runs */
    bool guest_ended; /* at the destination, before it was whole */
    bool aborted;     /* by who knows that the guest does not run at the destination */

    ev_io life_io;
    ev_signal on_term, on_int, on_hup;
    uint64_t sigterm_refused;
};

/* Run a session to its end. Returns the exit status. */
int serve_run(const struct serve_options *options);

/* serve_listen.c */
int serve_listen(struct server *s, const char *where);
void serve_listen_stop(struct server *s);
/* Read HELLO from the one connection there will be: no time limit, the pre-copy may take long. */
void serve_expect_hello(struct server *s, int fd);
/* Take over a connection that has said an acceptable HELLO. */
void serve_accept(struct server *s, int fd, const struct wire_hello *hello, uint64_t features);

/* serve_transport.c */
/* Start the transport and the join behind it. 0, or -1 after logging why. */
int serve_transport_start(struct server *s);
/* What the transport's end has to say about the end of the connection. */
void serve_transport_words(struct server *s, const char *text, char *reason, size_t size);
void serve_transport_stop(struct server *s);

/* serve_scan.c */
/* Find what is populated, at once or (start) in pieces while receive marks. 0 or -errno. */
int serve_scan_all(struct server *s);
int serve_scan_start(struct server *s);
int serve_scan_rest(struct server *s);

/* serve_switch.c */
/* receive has come: is the guest suspended, and the set complete? Takes our pause. 0, or -1 with fault. */
int serve_switch(struct server *s, struct wire_fault *fault);

/* serve_commit.c */
int serve_commit_watch(struct server *s);
const char *serve_command(void *data, const char *word);
/* receive has every page, and knows that we know. */
void serve_delivered(struct server *s);
/* The guest has ended at the destination, after it ran there or (ran false) perhaps before. */
void serve_gone(struct server *s, bool ran);
/* receive will not let the guest run; (handed_back) and the domain there is destroyed. */
void serve_given_up(struct server *s);
void serve_handed_back(struct server *s);
bool serve_wants_custody(const struct server *s);
void serve_custody(struct server *s);

/* serve_frames.c */
void serve_readable(struct server *s);

/* serve_push.c */
void serve_push_init(struct server *s);
void serve_writable(struct server *s);
void serve_want_write(struct server *s);
uint8_t *serve_control(struct server *s, size_t room);
/* Unmap the batch. Only one of which nothing is sent yet may go, or that of a connection that ends. */
void serve_drop_batch(struct server *s);

/* serve_end.c */
/* The other end broke the protocol, or we cannot go on: say so on the wire, and fail. */
void serve_fail(struct server *s, uint32_t code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void serve_lost(struct server *s, const char *text);
void serve_domain_event(struct server *s);
/* After commit, when only the administrator can know whose guest it is: what there is to do. */
const char *serve_advice(const struct server *s);

/* serve_report.c */
void serve_details(void *data, json_t *report);

#endif
