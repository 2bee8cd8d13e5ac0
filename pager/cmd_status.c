/* Shows sessions, and waits for their states: by what they send on their sockets, never by asking again and
 * again. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <jansson.h>

#include "commands.h"
#include "core/session.h"
#include "exit_status.h"
#include "run_dir.h"
#include "session_find.h"
#include "session_run.h"

#define STATUS_NONE      9
#define STATUS_TIMED_OUT 124

static const char help[] =
    "Usage: xenpaging-pc status [--json] [--wait STATE [--timeout S]] [--role serve|receive] [--session ID] "
    "[DOMAIN]\n\n"
    "Shows the sessions on this host (of DOMAIN, by name or number), live ones and the last words of ended "
    "ones.\n\n"
    "  --json          all figures, one object a line\n"
    "  --wait STATE    until a session has reached STATE: setup, listen, device, active, paused, drain, "
    "completed, failed;\n"
    "                  or until it has ended, one way or the other, and said its last words: ended\n"
    "  --timeout S     for at most that many seconds\n"
    "  --role ROLE     only sessions of that command\n"
    "  --session ID    only that migration's; with --wait it has to be there: it is not waited for to come\n"
    "  --run-dir DIR   where sessions show themselves (default " RUN_DIR ")\n\n"
    "Exit status: 0; 1 it ended without reaching STATE, or without last words; 9 there is no such session; "
    "124 the time is over.\n";

struct query {
    struct session_query of;
    enum session_state wait; /* SESSION_STATES: do not, or until it has ended */
    bool ended;
    double timeout; /* seconds, below 0: none */
    bool as_json;
};

static double figure(const json_t *report, const char *group, const char *name)
{
    return json_number_value(json_object_get(json_object_get(report, group), name));
}

/* A string of the report, "?" if there is none. */
static const char *word(const json_t *report, const char *name)
{
    const char *value = json_string_value(json_object_get(report, name));

    return value ? value : "?";
}

static void print_one(const struct query *q, const struct session_found *f)
{
    const json_t *report = f->report;
    const char *role = word(report, "role");
    const char *reason = json_string_value(json_object_get(report, "reason"));

    json_object_set_new(f->report, "live", json_boolean(f->fd >= 0));
    if (q->as_json) {
        json_dumpf(report, stdout, JSON_COMPACT);
        printf("\n");
        return;
    }
    printf("%-8s %-16s %5lld  %-9s %s", role, word(report, "domain"),
           (long long)json_integer_value(json_object_get(report, "domid")), word(report, "state"),
           f->fd >= 0 ? "" : "(ended) ");
    if (strcmp(role, "receive") == 0)
        printf("%.0f of %.0f pages outstanding, %.0f faults", figure(report, "pages", "outstanding"),
               figure(report, "pages", "set"), figure(report, "faults", "guest"));
    else
        printf("%.0f of %.0f pages to send", figure(report, "pages", "left"), figure(report, "pages", "set"));
    printf("%s%s\n", reason ? ": " : "", reason ? reason : "");
}

static bool show(struct session_found *f, void *data)
{
    print_one(data, f);
    return false;
}

static bool has_seen(const json_t *report, enum session_state state)
{
    const json_t *seen = json_object_get(report, "seen");

    for (size_t i = 0; i < json_array_size(seen); i++)
        if (strcmp(json_string_value(json_array_get(seen, i)), session_state_name(state)) == 0)
            return true;
    return false;
}

static bool is_final(const json_t *report)
{
    const char *state = json_string_value(json_object_get(report, "state"));

    return state && session_final(session_state_find(state));
}

/* Prefer a live session, then the one that ended last. */
static bool pick(struct session_found *f, void *data)
{
    struct session_found *best = data;
    bool better =
        !best->report || (f->fd >= 0 && best->fd < 0) ||
        (f->fd < 0 && best->fd < 0 &&
         (f->modified.tv_sec > best->modified.tv_sec ||
          (f->modified.tv_sec == best->modified.tv_sec && f->modified.tv_nsec > best->modified.tv_nsec)));

    if (!better)
        return false;
    session_found_release(best);
    *best = *f;
    return true;
}

/* Milliseconds left, -1 for ever; 0 when the time is over. */
static int left_ms(const struct query *q, uint64_t start)
{
    double left = q->timeout - (double)(monotonic_ns() - start) / 1e9;

    if (q->timeout < 0)
        return -1;
    return left <= 0 ? 0 : left > 1e6 ? 1000000000 : (int)(left * 1000) + 1;
}

static int wait_until_readable(int fd, const struct query *q, uint64_t start)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int rc;

    do
        rc = poll(&p, 1, left_ms(q, start));
    while (rc < 0 && errno == EINTR);
    return rc;
}

/* What the session's present report means for who waits: 0 reached, 1 ended without, -1 neither yet. */
static int judge(const struct query *q, const struct session_found *f)
{
    if (q->ended)
        return is_final(f->report) && f->fd < 0 ? EXIT_DONE : -1;
    if (has_seen(f->report, q->wait))
        return EXIT_DONE;
    return is_final(f->report) ? EXIT_FAILED : -1;
}

/* Follow one session: 0 reached, 1 ended without, -1 it is gone without a last word, 124. */
static int follow(const struct query *q, struct session_found *f, uint64_t start)
{
    for (;;) {
        int rc = judge(q, f);

        if (rc >= 0 || f->fd < 0)
            return rc;
        if (!session_found_has_next(f) && wait_until_readable(f->fd, q, start) == 0)
            return STATUS_TIMED_OUT;
        if (!session_found_next(f)) /* its socket is closed */
            return !q->ended ? -1 : is_final(f->report) ? EXIT_DONE : EXIT_FAILED;
    }
}

static int wait_for(const struct query *q)
{
    uint64_t start = monotonic_ns();
    char scrap[4096], empty[4096];
    bool missed = false;
    int changes = inotify_init1(IN_CLOEXEC), rc;

    run_dir_prepare(q->of.run_dir, empty, sizeof(empty));
    if (changes < 0 || inotify_add_watch(changes, q->of.run_dir, IN_CREATE | IN_MOVED_TO | IN_DELETE) < 0) {
        fprintf(stderr, "xenpaging-pc status: %s: %s\n", q->of.run_dir, strerror(errno));
        return EXIT_FAILED;
    }
    for (;;) {
        struct session_found best = {.fd = -1};

        session_find(&q->of, pick, &best);
        if (!best.report && q->of.session) {
            /* Last words are written before the socket goes, but perhaps behind our back: look twice. */
            if (!missed) {
                missed = true;
                continue;
            }
            fprintf(stderr, "xenpaging-pc status: session %s is not here, or ended without last words\n",
                    q->of.session);
            rc = STATUS_NONE;
            break;
        }
        missed = false;
        rc = best.report ? follow(q, &best, start) : -1;
        if (rc >= 0 && best.report)
            print_one(q, &best);
        session_found_release(&best);
        if (rc >= 0)
            break;
        if (q->of.session) /* it was here, and is gone: with last words or without */
            continue;
        /* None yet, or it went without last words: something in the folder will change. */
        if (wait_until_readable(changes, q, start) == 0) {
            rc = STATUS_TIMED_OUT;
            break;
        }
        if (read(changes, scrap, sizeof(scrap)) < 0 && errno != EINTR) {
            rc = EXIT_FAILED;
            break;
        }
    }
    close(changes);
    if (rc == STATUS_TIMED_OUT)
        fprintf(stderr, "xenpaging-pc status: no session%s%s was seen in state %s in time\n",
                q->of.domain ? " of " : "", q->of.domain ? q->of.domain : "",
                q->ended ? "ended" : session_state_name(q->wait));
    return rc;
}

int cmd_status(int argc, char **argv)
{
    static const struct option table[] = {
        {"json", no_argument, NULL, 'j'},          {"wait", required_argument, NULL, 'w'},
        {"timeout", required_argument, NULL, 't'}, {"role", required_argument, NULL, 'r'},
        {"session", required_argument, NULL, 's'}, {"run-dir", required_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},          {0}};
    struct query q = {.of = {.run_dir = RUN_DIR}, .wait = SESSION_STATES, .timeout = -1};
    char *end;
    int option;

    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (option) {
        case 'j':
            q.as_json = true;
            break;
        case 'w':
            q.ended = strcmp(optarg, "ended") == 0;
            q.wait = session_state_find(optarg);
            if (q.wait == SESSION_STATES && !q.ended) {
                fprintf(stderr, "xenpaging-pc status: no state '%s'; xenpaging-pc status --help\n", optarg);
                return EXIT_USAGE;
            }
            break;
        case 't':
            q.timeout = strtod(optarg, &end);
            if (end == optarg || *end || !(q.timeout >= 0)) {
                fprintf(stderr, "xenpaging-pc status: --timeout takes seconds, not '%s'\n", optarg);
                return EXIT_USAGE;
            }
            break;
        case 'r':
            q.of.role = optarg;
            break;
        case 's':
            q.of.session = optarg;
            break;
        case 'd':
            q.of.run_dir = optarg;
            break;
        case 'h':
            printf("%s", help);
            return EXIT_DONE;
        default:
            return EXIT_USAGE;
        }
    }
    if (argc - optind > 1) {
        fprintf(stderr, "xenpaging-pc status: one domain at most; xenpaging-pc status --help\n");
        return EXIT_USAGE;
    }
    q.of.domain = argc > optind ? argv[optind] : NULL;
    if (q.wait != SESSION_STATES || q.ended)
        return wait_for(&q);
    if (session_find(&q.of, show, &q))
        return EXIT_DONE;
    fprintf(stderr, "xenpaging-pc status: no session%s%s here\n", q.of.domain ? " of " : "",
            q.of.domain ? q.of.domain : "");
    return STATUS_NONE;
}
