/* activate, commit and abort: a word to a session, and its answer. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "commands.h"
#include "exit_status.h"
#include "run_dir.h"
#include "session_find.h"
#include "session_id.h"

#define TRIES        3
#define NO_SESSION   9
#define ANSWER_MS    20000 /* libxl gives a hook 40 s */
#define BY_ITSELF_MS 1000
#define TERMINATE_MS 5000

#define WHEN_TOLD                                                                                            \
    "\n  --when-told  wait for a line on stdin before doing anything; at its end without one: nothing is "   \
    "done, exit status 0\n"

static const char commit_help[] =
    "Usage: xenpaging-pc commit --role serve|receive [--session ID] [--when-told] [DOMAIN]\n\n"
    "Tells a session that the guest runs at the destination, and nowhere else, from now on. Returns when it "
    "has taken note.\n" WHEN_TOLD "\n"
    "Exit status: 0; 1 it refuses, with the reason; 9 there is no such session.\n";

static const char activate_help[] =
    "Usage: xenpaging-pc activate --session ID [--when-told]\n\n"
    "Tells a receive that was started --early that the guest has been suspended and sent, and that the set "
    "file is\nsealed. Returns when it is active.\n" WHEN_TOLD "\n"
    "Exit status: 0; 1 it refuses or has ended, with the reason; 4 this host or domain cannot be paged; 9 "
    "there is no such session.\n";

static const char abort_help[] =
    "Usage: xenpaging-pc abort --session ID [--role serve|receive]\n\n"
    "Ends what this host has of a migration, takes everything back, and removes its files. The caller knows "
    "that the guest\n"
    "does not run at the destination: after commit, too, because that has said so. May be repeated.\n\n"
    "Exit status: 0; 1 it refuses (the guest belongs to the destination already), or does not end.\n";

struct word {
    const char *name;
    struct session_query of;
    bool when_told;
};

/* The live session of the query, whose reports are brief from now on: what it is in is all that matters here.
 */
static void find_live(const struct word *w, struct session_found *live)
{
    static const char brief[] = "brief\n";

    session_find_live(&w->of, live);
    /* One that is gone is found to be when it is talked to. */
    if (live->fd >= 0)
        send(live->fd, brief, sizeof(brief) - 1, MSG_NOSIGNAL);
}

static int options(int argc, char **argv, const char *help, struct word *w)
{
    static const struct option table[] = {
        {"role", required_argument, NULL, 'r'},    {"session", required_argument, NULL, 's'},
        {"run-dir", required_argument, NULL, 'd'}, {"when-told", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},          {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (option) {
        case 'r':
            w->of.role = optarg;
            break;
        case 's':
            w->of.session = optarg;
            break;
        case 'd':
            w->of.run_dir = optarg;
            break;
        case 't':
            w->when_told = true;
            break;
        case 'h':
            printf("%s", help);
            exit(EXIT_DONE);
        default:
            return EXIT_USAGE;
        }
    }
    if (w->of.role && strcmp(w->of.role, "serve") != 0 && strcmp(w->of.role, "receive") != 0) {
        fprintf(stderr, "xenpaging-pc %s: --role is serve or receive, not '%s'\n", w->name, w->of.role);
        return EXIT_USAGE;
    }
    if (w->of.session && !session_id_valid(w->of.session)) {
        fprintf(stderr, "xenpaging-pc %s: '%s' is no session: 16 hex digits\n", w->name, w->of.session);
        return EXIT_USAGE;
    }
    if (argc - optind > 1) {
        fprintf(stderr, "xenpaging-pc %s: one domain at most\n", w->name);
        return EXIT_USAGE;
    }
    w->of.domain = argc > optind ? argv[optind] : NULL;
    return 0;
}

/*
 * The live session, once we are told; false: never. Started ahead of our time, since starting a program, and
 * finding the session, takes longer than what follows. Whoever should tell us and ends without a word has not
 * told us.
 */
static bool told(const struct word *w, struct session_found *live)
{
    char c = 0;
    ssize_t n;

    find_live(w, live);
    while (w->when_told && c != '\n') {
        n = read(STDIN_FILENO, &c, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            session_found_release(live);
            return false;
        }
    }
    if (w->when_told && live->fd < 0)
        find_live(w, live);
    return true;
}

/* Send the word; the answer may take that many seconds, 0: as long as it takes. 0, or -1 when the session is
 * gone. */
static int say(struct session_found *live, const char *name, int patience_s)
{
    char line[32];
    int n = snprintf(line, sizeof(line), "%s\n", name);
    struct timeval patience = {patience_s, 0};

    setsockopt(live->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return send(live->fd, line, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -1;
}

static bool has_committed(struct session_found *f, void *data)
{
    bool *noted = data;

    if (f->fd < 0 && json_is_true(json_object_get(f->report, "committed")))
        *noted = true;
    return false;
}

static const char *refusal(const struct session_found *live)
{
    return json_string_value(json_object_get(live->report, "refused"));
}

/* One that is killed before it answers is followed by another, who knows whether it took note. live: the last
 * one, if it lives and does not answer. */
static int say_to_one_of(const struct word *w, struct session_found *live,
                         int (*say_it)(struct session_found *live))
{
    int rc = EXIT_FAILED;

    for (int tries = 0; tries < TRIES && live->fd >= 0; tries++) {
        bool over;

        rc = say_it(live);
        if (rc == EXIT_DONE || refusal(live))
            break;
        over = json_object_get(live->report, "exit_status");
        session_found_release(live);
        if (over)
            break;
        find_live(w, live);
    }
    return rc;
}

static int say_commit(struct session_found *live)
{
    if (json_is_true(json_object_get(live->report, "committed")))
        return EXIT_DONE;
    if (say(live, "commit", 0))
        return EXIT_FAILED;
    while (session_found_next(live) && !refusal(live))
        if (json_is_true(json_object_get(live->report, "committed")))
            return EXIT_DONE;
    return EXIT_FAILED;
}

static bool in_state(const struct session_found *live, const char *state)
{
    const char *now = json_string_value(json_object_get(live->report, "state"));

    return now && strcmp(now, state) == 0;
}

/* All pages may be here as soon as it is active. */
static bool is_active(const struct session_found *live)
{
    return in_state(live, "active") || in_state(live, "paused") || in_state(live, "recover") ||
           in_state(live, "drain");
}

static bool take_ended(struct session_found *f, void *data)
{
    struct session_found *last = data;

    if (f->fd >= 0 || last->report)
        return false;
    *last = *f;
    return true;
}

/* There is no session to be active any more: says why. Returns the exit status. */
static int ended(const struct word *w)
{
    struct session_found last = {.fd = -1};
    const char *reason;
    int rc = EXIT_FAILED;

    session_find(&w->of, take_ended, &last);
    if (!last.report) {
        fprintf(stderr, "xenpaging-pc activate: no such receive is running here\n");
        return NO_SESSION;
    }
    reason = json_string_value(json_object_get(last.report, "reason"));
    fprintf(stderr, "xenpaging-pc activate: receive ended before it was active: %s\n", reason ? reason : "");
    if (json_integer_value(json_object_get(last.report, "exit_status")) == EXIT_UNFIT)
        rc = EXIT_UNFIT;
    session_found_release(&last);
    return rc;
}

static int say_activate(struct session_found *live)
{
    if (is_active(live))
        return EXIT_DONE;
    if (say(live, "activate", 0))
        return EXIT_FAILED;
    while (session_found_next(live) && !refusal(live))
        if (is_active(live))
            return EXIT_DONE;
    return EXIT_FAILED;
}

int cmd_activate(int argc, char **argv)
{
    struct word w = {.name = "activate", .of = {.run_dir = RUN_DIR, .role = "receive"}};
    struct session_found live = {.fd = -1};
    int rc = options(argc, argv, activate_help, &w);

    if (rc)
        return rc;
    if (!w.of.session) {
        fprintf(stderr, "xenpaging-pc activate: which session? (--session)\n");
        return EXIT_USAGE;
    }
    if (!told(&w, &live))
        return EXIT_DONE;
    if (live.fd < 0)
        return ended(&w);
    rc = say_to_one_of(&w, &live, say_activate);
    if (rc && live.fd >= 0)
        fprintf(stderr, "xenpaging-pc activate: %s\n",
                refusal(&live) ? refusal(&live) : "receive dies again and again");
    else if (rc)
        rc = ended(&w);
    session_found_release(&live);
    return rc;
}

int cmd_commit(int argc, char **argv)
{
    struct word w = {.name = "commit", .of = {.run_dir = RUN_DIR}};
    struct session_found live = {.fd = -1};
    int rc = options(argc, argv, commit_help, &w);

    if (rc)
        return rc;
    if (!w.of.role || (!w.of.domain && !w.of.session)) {
        fprintf(stderr, "xenpaging-pc commit: which session? (--role, and DOMAIN or --session)\n");
        return EXIT_USAGE;
    }
    if (!told(&w, &live))
        return EXIT_DONE;
    if (live.fd < 0) {
        fprintf(stderr, "xenpaging-pc commit: no such %s is running here\n", w.of.role);
        return NO_SESSION;
    }
    rc = say_to_one_of(&w, &live, say_commit);
    if (rc && !refusal(&live)) {
        bool noted = false;

        /* It took note, and has come to its end since. */
        session_find(&w.of, has_committed, &noted);
        if (noted)
            rc = EXIT_DONE;
    }
    if (rc)
        fprintf(stderr, "xenpaging-pc commit: %s\n",
                refusal(&live) ? refusal(&live) : "the session ended before it took note");
    session_found_release(&live);
    return rc;
}

/* End a live session: 0 when its socket is closed. */
static int end_live(const struct word *w)
{
    struct session_found live = {.fd = -1};
    int rc = EXIT_DONE;

    find_live(w, &live);
    if (live.fd < 0)
        return EXIT_DONE;
    if (say(&live, "abort", ANSWER_MS / 1000) == 0) {
        errno = 0;
        while (session_found_next(&live) && !refusal(&live))
            ;
        if (refusal(&live) || errno == EAGAIN) {
            fprintf(stderr, "xenpaging-pc abort: %s\n",
                    refusal(&live) ? refusal(&live) : "the session does not end");
            rc = EXIT_FAILED;
        }
    }
    session_found_release(&live);
    return rc;
}

/* Is that pid one of ours still, and of this session? Pids are used again. */
static bool is_of_session(pid_t pid, const char *session)
{
    char path[64], line[4096];
    bool ours = false, named = false;
    size_t n = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%ld/cmdline", (long)pid);
    f = fopen(path, "re");
    if (f)
        n = fread(line, 1, sizeof(line) - 1, f);
    if (f)
        fclose(f);
    line[n] = '\0';
    for (size_t i = 0; i < n; i += strlen(line + i) + 1) {
        ours |= strcmp(line + i, "join") == 0 || strcmp(line + i, "serve") == 0 ||
                strcmp(line + i, "receive") == 0;
        named |= strcmp(line + i, session) == 0;
    }
    return ours && named;
}

/* A process that does not show itself any more (or never did: join), by its pid file. */
static int end_by_pid(const struct word *w, const char *suffix)
{
    char path[4096];
    long pid = 0;
    struct pollfd p = {.events = POLLIN};
    int rc = EXIT_DONE;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s%s", w->of.run_dir, w->of.session, suffix);
    f = fopen(path, "re");
    if (!f)
        return EXIT_DONE;
    if (fscanf(f, "%ld", &pid) != 1)
        pid = 0;
    fclose(f);
    p.fd = pid > 0 ? (int)syscall(SYS_pidfd_open, (pid_t)pid, 0) : -1;
    /* Asked after the descriptor is open: it cannot become another's meanwhile. */
    if (p.fd >= 0 && is_of_session((pid_t)pid, w->of.session)) {
        /* Last words may be on their way through it. */
        if (poll(&p, 1, BY_ITSELF_MS) == 0)
            syscall(SYS_pidfd_send_signal, p.fd, SIGTERM, NULL, 0);
        if (poll(&p, 1, TERMINATE_MS) == 0) {
            fprintf(stderr, "xenpaging-pc abort: process %ld does not end\n", pid);
            rc = EXIT_FAILED;
        }
    }
    if (p.fd >= 0)
        close(p.fd);
    return rc;
}

static void remove_file(const struct word *w, const char *suffix)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s%s", w->of.run_dir, w->of.session, suffix);
    unlink(path);
}

static bool remove_last_words(struct session_found *f, void *data)
{
    const struct word *w = data;
    const char *role = json_string_value(json_object_get(f->report, "role"));
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s-%lld.last.json", w->of.run_dir, role ? role : "",
             (long long)json_integer_value(json_object_get(f->report, "domid")));
    if (f->fd < 0)
        unlink(path);
    return false;
}

static int abort_role(struct word *w, const char *role, const char *const *pids, const char *const *files)
{
    bool ran = false;
    int rc;

    w->of.role = role;
    rc = end_live(w);
    for (size_t i = 0; rc == EXIT_DONE && pids[i]; i++)
        rc = end_by_pid(w, pids[i]);
    if (rc)
        return rc;
    if (strcmp(role, "receive") == 0)
        session_find(&w->of, has_committed, &ran);
    if (ran) {
        fprintf(stderr, "xenpaging-pc abort: the guest runs here; to give it up, destroy it\n");
        return EXIT_FAILED;
    }
    for (size_t i = 0; files[i]; i++)
        remove_file(w, files[i]);
    for (size_t i = 0; pids[i]; i++)
        remove_file(w, pids[i]);
    session_find(&w->of, remove_last_words, w);
    return EXIT_DONE;
}

/* Of the control channel, and of each bulk channel that there may be. */
#define EACH_JOIN(suffix)                                                                                    \
    SESSION_JOIN_SOCKET suffix, SESSION_JOIN_SOCKET "-0" suffix, SESSION_JOIN_SOCKET "-1" suffix,            \
        SESSION_JOIN_SOCKET "-2" suffix, SESSION_JOIN_SOCKET "-3" suffix, SESSION_JOIN_SOCKET "-4" suffix,   \
        SESSION_JOIN_SOCKET "-5" suffix, SESSION_JOIN_SOCKET "-6" suffix, SESSION_JOIN_SOCKET "-7" suffix

int cmd_abort(int argc, char **argv)
{
    static const char *const serve_pids[] = {SESSION_SERVE_PID, NULL};
    static const char *const serve_files[] = {SESSION_SERVE_TOKEN, NULL};
    static const char *const receive_pids[] = {SESSION_RECEIVE_PID, EACH_JOIN(SESSION_PID), NULL};
    static const char *const receive_files[] = {SESSION_TOKEN, EACH_JOIN(""), NULL};
    struct word w = {.name = "abort", .of = {.run_dir = RUN_DIR}};
    const char *role;
    int rc = options(argc, argv, abort_help, &w);

    if (rc)
        return rc;
    if (!w.of.session) {
        fprintf(stderr, "xenpaging-pc abort: which session? (--session)\n");
        return EXIT_USAGE;
    }
    role = w.of.role;
    w.of.domain = NULL;
    if (!role || strcmp(role, "serve") == 0)
        rc = abort_role(&w, "serve", serve_pids, serve_files);
    if (rc == EXIT_DONE && (!role || strcmp(role, "receive") == 0))
        rc = abort_role(&w, "receive", receive_pids, receive_files);
    if (rc == EXIT_DONE)
        session_sweep(w.of.run_dir);
    return rc;
}
