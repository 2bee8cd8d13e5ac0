/*
 * The pager of `receive`: it has the Xen handles and never sees the network. It drains the paging ring, asks
 * the feeder for what the guest waits for, and installs what arrives in the pool.
 */
#ifndef XENPAGING_PC_RECEIVE_H
#define XENPAGING_PC_RECEIVE_H

#include <ev.h>
#include <signal.h>
#include <sys/types.h>

#include "backend.h"
#include "child.h"
#include "core/gfn_bitmap.h"
#include "core/pagein.h"
#include "core/run_hash.h"
#include "keeper.h"
#include "pool.h"
#include "receive_journal.h"
#include "session_run.h"
#include "set_file.h"
#include "trace.h"

enum receive_verify { VERIFY_NONE, VERIFY_HASH, VERIFY_FULL };

struct receive_options {
    const char *domain;
    const char *name; /* in reports; NULL: domain */
    const char *connect;
    uint32_t streams; /* bulk channels */
    /* Under xl migrate --postcopy: */
    const char *session; /* NULL: none of what follows */
    int set_fd;          /* the set file: exactly these pages are made absent */
    bool early;          /* it has what is likely to be, until `activate` says that it is the set */
    pid_t watch_pid;     /* whoever moves the domain; 0: nobody */
    bool leave_paused;   /* committed or not, nobody but the user unpauses it */
    bool detach;         /* ready when it shows itself */
    const char *xl;
    const char *run_dir;
    const char *stats_file;
    const char *trace; /* NULL: none */
    const char *empty_dir;
    enum receive_verify verify;
    /* The background push starts with the first page that the guest asks for, or, before that, on commit;
     * neither: as soon as the session is active. */
    bool push_on_fault, push_on_commit;
    uint32_t slots;
    bool foreign_waits;    /* see struct pagein */
    unsigned int features; /* FEATURE_* that may be used */
    uint32_t range_foreign, range_guest;
    uint32_t
        widen; /* gfns of the aligned window that a foreign request is widened to here; 0, 1: it is not */
    uid_t feeder_uid;
    gid_t feeder_gid;
    uint8_t token[32];
    /* How to open the domain: backend_xen_open, or the tests' fake. */
    struct backend *(*open)(const char *domain, char *why, size_t why_size);
};

/* Not in a slot: */
#define RECEIVE_STAGED UINT32_MAX       /* its contents are in a stage */
#define RECEIVE_ZERO   (UINT32_MAX - 1) /* there are none to keep */

/* An arrived page that is not installed yet. */
struct receive_held {
    uint64_t gfn;
    uint64_t hash;
    uint32_t slot; /* or RECEIVE_STAGED, RECEIVE_ZERO */
    uint32_t stage;
};

/* Those that will be installed when everything that has come is looked through. */
struct receive_batch {
    struct backend_page pages[BACKEND_LOAD_MAX];
    struct receive_held from[BACKEND_LOAD_MAX];
    unsigned int n;
};

/* Where the pages of a region are gathered. Its notes and contents outlive us (receive_journal.h). */
struct receive_stage {
    uint64_t first;
    unsigned int n;                     /* pages in it, or that have not left it yet */
    bool giving_up;                     /* they leave it one by one, */
    unsigned int next, looked;          /* from that one on; so many places have been gone through */
    uint64_t used;                      /* when; for the one that is given up when another is needed */
    uint64_t there[BACKEND_SUPER / 64]; /* of n, those that have not begun to leave it: a bit each */
    uint8_t *pages;
};

/* Going through the regions, several times where someone has mapped some. */
struct receive_collapse {
    bool running, done;
    uint64_t gfn; /* the next region */
    unsigned int round;
    struct gfn_bitmap busy; /* by region: to be tried again */
    uint64_t n_busy;
    ev_timer timer;
};

/* Marking before the guest is suspended at the source. */
struct receive_early {
    bool on;                   /* attached, and the set not known yet */
    struct gfn_bitmap marked;  /* were made absent */
    struct gfn_bitmap touched; /* gfns that something was heard of since */
    uint64_t pages;            /* marked; then those of them that are in the set, and were absent still */
    uint64_t refused;          /* by Xen, which may be right */
    uint64_t unmarked;         /* not in the set: holes again */
    uint64_t entries;          /* of the ring */
    uint64_t since_ns, ns;     /* when it began, how long it took */
};

struct receive_trace {
    struct trace file;
    uint64_t now_ns; /* 0: nobody has looked since the last wake-up */
    ev_check check;
    ev_idle idle;
    ev_timer timer;
};

struct receiver {
    const struct receive_options *options;
    struct session_run run;
    struct backend *be;
    struct backend_domain domain;

    const struct keeping *keeping;
    const sigset_t *signals;
    struct receive_journal *journal;
    struct pool *pool; /* the journal's */
    bool taken_over;   /* from a pager that was killed */
    bool feeder_alive;
    bool keeper_ended;
    int feeder_pidfd; /* of the present one: ours, or the keeper's */
    struct receive_recover {
        uint32_t feeders;  /* that there have been, as far as we know */
        unsigned int ms;   /* until the next try, doubling */
        bool wanted;       /* the keeper has been asked for another feeder */
        uint32_t failures; /* of the keeper's to start one */
        uint64_t times;    /* the session has been resumed */
        ev_timer timer;
    } recover;
    bool feeder_told_why;
    bool recoverable; /* what it told was not the end of the session */
    bool last_order;  /* GONE or ERROR was sent: the feeder ends by itself */
    bool more_to_say; /* GONE was, and that the domain is destroyed may follow */
    bool peer_active; /* serve has acknowledged the set and is still there */
    uint64_t features;

    /* Marking. */
    enum { WORK_NONE, WORK_EARLY, WORK_CORRECT, WORK_SCAN, WORK_MARK, WORK_SEND, WORK_RECEIVED } work;
    uint64_t work_gfn;
    uint64_t max_gfn;
    uint64_t populated_count;
    uint64_t special_count;
    uint64_t refused; /* pages Xen did not let go */
    unsigned int half_tries;
    struct gfn_bitmap populated;
    struct gfn_bitmap special;
    struct set_file set;
    uint64_t *mark_bits, *mark_half; /* of one step: backend_mark() */
    uint64_t claimed;
    struct run_hash set_hash;
    struct receive_early early;
    uint64_t late_since_ns, late_ns; /* marking what the set says: since when, how long it took */
    bool introduced;                 /* to serve */
    bool attached;
    bool our_pause;
    bool went; /* ORDER_GO sent */
    bool left; /* the ring: every page is here */
    bool aborted;
    ev_io pid_io;
    struct child xl; /* xl unpause */

    struct pagein pages;
    struct gfn_bitmap unsent; /* gfns somebody waits for that could not be asked for yet */
    uint64_t n_unsent;
    struct receive_notes notes;
    uint64_t n_asked;      /* in notes.asked */
    uint32_t asked_slots;  /* slots for answers that are ours */
    uint64_t zeros;        /* pages that came as zero */
    uint64_t n_zeros_held; /* of those, pages that could not be installed yet */
    uint64_t drops_not_told;

    uint64_t run_first, run_count; /* neighbours that are asked for together, as urgently */
    uint32_t run_urgency;
    bool orders_waiting;    /* put, and the feeder not woken yet */
    uint32_t slots_waiting; /* given back since it was woken for that */
    struct {
        uint64_t first, end;
        bool waits;
    } more[PAGEIN_WAITERS]; /* what entries want besides their first page; asked for after all of those */
    unsigned int n_more;

    struct receive_batch batch;
    struct receive_held *held; /* queue of held_size entries */
    uint32_t held_size, held_head, n_held;
    struct receive_stage stages[RECEIVE_STAGES];
    uint64_t stage_clock;
    struct gfn_bitmap super; /* by region: a superpage by prep */
    struct receive_supers supers;
    struct receive_collapse collapse;
    struct backend_ring_stats ring_stats; /* at the end */
    unsigned int retry_ms;
    uint64_t retries;
    int last_load_error;

    bool verifying, verified;
    struct {
        uint64_t compared, differing_pages, differing_bytes, not_in_set, not_in_set_differing, missing,
            unmapped;
        uint64_t first_gfns[16];
    } full;
    uint64_t stray_pages; /* not in the set: discarded */

    bool complete_sent;
    uint64_t serve_sent, serve_resent;
    uint64_t asked_rounds; /* wake-ups in which something was asked for: round trips */
    uint64_t bytes;
    uint64_t sigterm_refused;
    struct receive_trace trace;

    struct receive_inlet {
        struct pool_ring *ring;
        uint64_t zeros_done; /* of the report that is next in it */
    } reports, arrivals;

    ev_io ring_io, reports_io, arrivals_io, life_io, news_io, keeper_io, feeder_io;
    ev_prepare prepare;
    ev_idle idle;
    ev_timer retry, leave, leaving;
    ev_signal on_term, on_int, on_hup;
    uint8_t *scratch; /* BACKEND_LOAD_MAX pages: what is hashed is what is installed */
};

/* Run a session to its end, as its keeper (keeper.c). Returns the exit status. */
int receive_run(const struct receive_options *options);

/* The keeper's child: the first pager, or the next. signals: the mask to have. Returns the exit status. */
int receive_pager(const struct receive_options *options, const struct keeping *keeping,
                  const sigset_t *signals);

/* receive.c: say HELLO; what follows from the answer is receive_mark_start(). */
void receive_introduce(struct receiver *r);

/* receive_mark.c: scan, evict and announce, in pieces, from the idle watcher. */
void receive_mark_start(struct receiver *r);
void receive_mark_step(struct receiver *r);
/* Say runs of gfns from r->work_gfn on, as many as the ring of orders takes, and at last their hash. next:
 * the first gfn of one at or above `first`, with its end; or pages.nr. */
void receive_send_runs(struct receiver *r,
                       uint64_t (*next)(const struct receiver *r, uint64_t first, uint64_t *end));
/* Attach to the ring. 0; -1: given up; 1: only to one of its own memory, and this Xen has none. */
int receive_attach(struct receiver *r, bool own_ring);
/* All that depends on how large the domain is, for gfns below nr; nothing if that was done for as many. 0;
 * -1: given up. */
int receive_mark_allocate(struct receiver *r, uint64_t nr);
void receive_mark_free(struct receiver *r);
/* Of 64 gfns from first on, all in the set, those of the bits are absent. */
void receive_mark_taken(struct receiver *r, uint64_t first, uint64_t absent);
/* gfn is nominated, and was not evicted. */
void receive_half_keep(struct receiver *r, uint64_t gfn);
/* gfn is no longer nominated. */
void receive_half_gone(struct receiver *r, uint64_t gfn);
/* Make all that are left ordinary pages again; the domain is paused. 0, or -EBUSY: try again. */
int receive_half_unmark(struct receiver *r);

/* receive_early.c */
void receive_early_start(struct receiver *r);
void receive_early_step(struct receiver *r);
void receive_early_entry(struct receiver *r, const struct ring_entry *entry);
/* The set is known: make holes of what is not in it. True when that is done, and the rest is taken over. */
bool receive_early_correct_step(struct receiver *r);
/* 64 gfns from a multiple of that on: those that are absent since. */
uint64_t receive_early_word(const struct receiver *r, uint64_t first);
/* Those of them that are in the set. */
uint64_t receive_early_adopted(const struct receiver *r, uint64_t first);
void receive_early_free(struct receiver *r);

/* receive_link.c */
void receive_order(struct receiver *r, uint32_t type, uint64_t a, uint64_t b);
/* Ask for gfn .. gfn+count-1 (count at most POOL_ASK_MAX, urgency WIRE_..._WAITS); neighbours that are as
 * urgent are gathered until receive_ask_end(). */
void receive_ask(struct receiver *r, uint64_t gfn, uint64_t count, uint32_t urgency);
void receive_ask_end(struct receiver *r);
/* What could not be asked for yet, as far as there are slots for the answers: when one has been given back.
 */
void receive_ask_unsent(struct receiver *r);
/* Ask for everything that somebody waits for. */
void receive_ask_all(struct receiver *r);
/* Ask for a page that came with wrong contents. */
void receive_ask_again(struct receiver *r, uint64_t gfn);
void receive_tell_dropped(struct receiver *r, uint64_t gfn);
void receive_free_slot(struct receiver *r, uint32_t slot);
/* Have serve push. What it is asked for it sends without. */
void receive_go(struct receiver *r);
/* By now it is to push: the guest has asked for a page, or the option does not wait for that. */
bool receive_push_now(const struct receiver *r);
/* Take the feeder's reports of the control channel, or the pages of bulk channels: all of them, or a bounded
 * number after which it wakes itself. */
void receive_reports(struct receiver *r, bool all);
void receive_arrivals(struct receiver *r, bool all);
void receive_feeder_lost(struct receiver *r, uint32_t code, uint32_t who, const char *text);

/* receive_recover.c: a session whose channels are lost goes on with others. */
void receive_recover_init(struct receiver *r);
/* Paused: have another feeder, in a while. */
void receive_recover_later(struct receiver *r);
/* At once, by hand: NULL, or why not. */
const char *receive_recover(struct receiver *r);
/* There is another. */
void receive_recover_begin(struct receiver *r);
/* It has shaken hands: say what is here, in steps. */
void receive_recover_hello(struct receiver *r);
void receive_recover_step(struct receiver *r);
/* Serve has understood it. */
void receive_recover_done(struct receiver *r);

/* receive_pages.c */
void receive_ring(struct receiver *r);
void receive_page(struct receiver *r, uint32_t slot, uint64_t gfn, uint64_t hash, uint64_t flags);
/* gfn .. gfn+count-1 are zero. */
void receive_zeros(struct receiver *r, uint64_t gfn, uint64_t count);
void receive_retry(struct receiver *r);
/* The contents of a page, wherever they are. */
const uint8_t *receive_contents(const struct receiver *r, const struct receive_held *page);
/* An arrived page into the batch; and install the batch. */
void receive_add(struct receiver *r, const struct receive_held *page);
void receive_install(struct receiver *r);
/* No more pages come: those who can ask again leave their slots of the ring to the guest's vcpus. */
void receive_let_foreign_go(struct receiver *r);
/* gfn is settled: have everyone who waited for it answered with the next push(). */
void receive_answer_waiters(struct receiver *r, uint64_t gfn);

/* receive_super.c: superpages, as they arrive. */
int receive_super_init(struct receiver *r, uint64_t nr);
void receive_super_free(struct receiver *r);
/* Taken over: what the last pager has gathered, and Xen says is absent, has arrived. */
void receive_super_adopt(struct receiver *r);
/* Is gfn gathered in a stage? */
bool receive_super_has(const struct receiver *r, uint64_t gfn);
/* True if the page was taken to become part of one. */
bool receive_super_take(struct receiver *r, const struct receive_held *page);
/* Someone wants, or has dropped, gfn: it goes to the batch, and what else is gathered of its region will. */
void receive_super_touched(struct receiver *r, uint64_t gfn);
/* A bounded number of these. */
void receive_super_leaving(struct receiver *r);
/* Everything, now. */
void receive_super_give_up(struct receiver *r);
/* The contents of a staged page; and it is not needed any more. */
const uint8_t *receive_super_page(const struct receiver *r, const struct receive_held *page);
void receive_super_page_done(struct receiver *r, const struct receive_held *page);

/* receive_collapse.c: the others, when all is here. */
/* True if regions are being collapsed; receive_leave() is called when that is done. */
bool receive_collapse(struct receiver *r);
void receive_collapse_step(struct receiver *r);
/* Not any more. True if they were. */
bool receive_collapse_stop(struct receiver *r);

/* receive_verify.c */
void receive_compare(struct receiver *r, uint32_t slot, uint64_t gfn);
void receive_verified(struct receiver *r);

/* receive_end.c */
void receive_check_complete(struct receiver *r);
/* Every page is here: tell serve, and leave. */
void receive_conclude(struct receiver *r);
void receive_acknowledged(struct receiver *r);
void receive_domain_event(struct receiver *r);
/* The domain is known not to be there any more, or to be dying. */
void receive_domain_gone(struct receiver *r);
void receive_leave(struct receiver *r);
/* The memory that was set aside is anybody's again. */
void receive_unclaim(struct receiver *r);
/* Before the guest could run: give up, the source is intact. */
void receive_give_up(struct receiver *r, int exit_status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* receive_set.c: exactly the pages of the set file are made absent. -1: given up. */
int receive_set_load(struct receiver *r);
/* None of them is one that the toolstack needs. */
int receive_set_check(struct receiver *r);
/* They are absent, they and no others: set memory aside for them. */
int receive_set_claim(struct receiver *r);

/* receive_commit.c */
int receive_commit_watch(struct receiver *r);
const char *receive_command(void *data, const char *word);
/* Every page is here and the ring is left: the end, or waiting for commit. */
void receive_whole(struct receiver *r);
/* Say on the wire that the guest is given up before it ran. */
void receive_say_given_up(struct receiver *r);
/* The domain is gone, and never ran: the last thing there is to say. */
void receive_hand_back(struct receiver *r);
/* After the session: what xl has begun with the domain is brought to its end, also if xl is not there any
 * more. */
void receive_custody(struct receiver *r);

/* receive_takeover.c: a pager was killed, and this is the next one. */
/* What is true now, for the next pager. */
void receive_save(struct receiver *r);
/* Before the domain is opened, what the last one knew; then domain and ring. An exit status. */
void receive_restore(struct receiver *r);
int receive_take_over(struct receiver *r);
/* In the loop: the pages on their way, and whatever the state asks for. */
void receive_resume(struct receiver *r);

/* receive_trace.c: nothing without --trace. */
/* 0, or -1 after saying why. */
int receive_trace_open(struct receiver *r);
void receive_trace_watch(struct receiver *r);
void receive_trace_end(struct receiver *r);
/* Before pagein_entry(), and pagein_arrived(). */
void receive_trace_entry(struct receiver *r, const struct ring_entry *entry, uint64_t now_ns);
void receive_trace_arrival(struct receiver *r, uint64_t gfn);
void receive_trace_ask(struct receiver *r, uint64_t gfn, uint64_t count, uint32_t urgency);
void receive_trace_answer(struct receiver *r, const struct ring_entry *entry, uint64_t now_ns);

/* receive_report.c */
void receive_details(void *data, json_t *report);

#endif
