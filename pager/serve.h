/* The source: serves pages of the paused guest, and keeps every one until the destination has said COMPLETE
 * with counts that add up. */
#ifndef XENPAGING_PC_SERVE_H
#define XENPAGING_PC_SERVE_H

#include <ev.h>

#include "backend.h"
#include "child.h"
#include "core/gfn_bitmap.h"
#include "sender.h"
#include "session_run.h"
#include "set_file.h"

#define SERVE_BUDGET_NS UINT64_C(100000)

struct serve_options {
    const char *domain;
    const char *name;   /* in reports; NULL: domain */
    const char *listen; /* NULL: transport */
    enum push_policy_kind order;
    uint32_t max_push; /* MiB/s of pages that nobody has asked for; 0: no limit */
    uint32_t streams;  /* bulk channels, at most */
    uid_t sender_uid;  /* that the sender becomes */
    gid_t sender_gid;
    const char *empty_dir;
    /* Under xl migrate --postcopy: */
    const char *session;   /* NULL: none of what follows */
    const char *transport; /* shell words that run a command on the destination */
    int set_fd;            /* the set file, sealed when receive comes */
    pid_t watch_pid;       /* whoever moves the domain; 0: nobody */
    bool destroy;          /* the domain, when it is whole at the destination and committed */
    bool detach;           /* ready when it shows itself */
    double patience_s; /* how long a session that does not know whether the guest runs there waits; 0: 30 s */
    const char *xl;
    const char *run_dir;
    const char *stats_file;
    uint8_t token[32];
    void (*bound)(const char *address); /* told where it listens; may be NULL */
    struct backend *(*open)(const char *domain, char *why, size_t why_size);
};

struct server;

/* A channel through the transport, and the join behind it: control, then the bulk channels. */
struct serve_link {
    struct server *server;
    struct child transport;
    int fd;         /* our end of it until the sender has it */
    size_t greeted; /* characters of the greeting that have come */
    ev_io io;
    ev_timer timer; /* for the greeting */
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

    char bound[160], peer[256];
    pid_t sender;     /* 0: there is none */
    int sender_pidfd; /* libev reaps all children: its number may be another's by now */
    int sender_socket, listener;
    ev_io sender_io;
    struct sender_figures *figures; /* shared with it */
    int bitmaps;                    /* the memfd of sender.h; -1: none yet */
    bool sender_over;               /* it has said its last word */
    bool agreed;                    /* on the set: the receiver's guest may run */
    uint32_t generation;            /* of channels: that came last */
    uint64_t recoveries;
    bool given_over;   /* by the administrator, or nobody came back in time */
    bool known_there;  /* the guest runs at the destination: its receiver has come back */
    ev_timer patience; /* of who does not know that */
    double again_s;    /* until the next transports are started */
    ev_timer again;
    bool acknowledging; /* the receiver has every page, and is told that we know */
    struct wire_complete complete;

    struct child xl;
    struct serve_link links[1 + WIRE_STREAMS_MAX]; /* those of a session under xl */
    unsigned int n_links, n_greeted;
    ev_timer transport_timer;
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

/* serve_sender.c: what the sender says, and what it is told. */
/* With the listener, or the control channel of a transport. 0, or -1 after logging why. */
int serve_sender_start(struct server *s, int link);
/* Another channel of a transport. */
void serve_sender_link(struct server *s, int link);
/* The receiver is told so, if it can be. */
void serve_sender_fail(struct server *s, uint32_t code, const char *text);
/* Nothing more is heard of it; it has so long to end. */
void serve_sender_end(struct server *s, int ms);
int serve_listen(struct server *s, const char *where);

/* serve_transport.c */
/* Start a transport for each channel, and the join behind it. 0, or -1 after logging why. */
int serve_transport_start(struct server *s);
/* What the transport's end has to say about the end of the connection. */
void serve_transport_words(struct server *s, const char *text, char *reason, size_t size);
void serve_transport_stop(struct server *s);
/* At once: they lead nowhere any more. */
void serve_transport_drop(struct server *s);

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

/* serve_end.c */
/* We cannot go on: say so on the wire, and fail. */
void serve_fail(struct server *s, uint32_t code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The sender has said so. */
void serve_failed(struct server *s, const char *text);
void serve_lost(struct server *s, const char *text);
void serve_domain_event(struct server *s);
/* After commit, when only the administrator can know whose guest it is: what there is to do. */
const char *serve_advice(const struct server *s);

/* serve_recover.c: a session whose channels are lost, and which goes on with others. */
void serve_recover_init(struct server *s);
/* Can it? Then it is paused, and true. */
bool serve_pause(struct server *s, const char *text);
/* At once, by hand: NULL, or why not. */
const char *serve_recover(struct server *s);
/* Nobody is to fetch the rest any more: NULL, or why not. */
const char *serve_abandon(struct server *s);
void serve_recover_stop(struct server *s);

/* serve_report.c */
void serve_details(void *data, json_t *report);

#endif
