/* Shows sessions, and waits for their states: by what they send on their sockets, never by asking again and
 * again. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "commands.h"
#include "core/session.h"
#include "exit_status.h"
#include "run_dir.h"
#include "session_run.h"

#define STATUS_NONE      9
#define STATUS_TIMED_OUT 124

static const char help[] =
    "Usage: xenpaging-pc status [--json] [--wait STATE [--timeout S]] [--role serve|receive] [DOMAIN]\n\n"
    "Shows the sessions on this host (of DOMAIN, by name or number), live ones and the last words of ended "
    "ones.\n\n"
    "  --json          all figures, one object a line\n"
    "  --wait STATE    until a session has reached STATE: setup, listen, device, active, paused, drain, "
    "completed, failed;\n"
    "                  or until it has ended, one way or the other, and said its last words: ended\n"
    "  --timeout S     for at most that many seconds\n"
    "  --role ROLE     only sessions of that command\n"
    "  --run-dir DIR   where sessions show themselves (default " RUN_DIR ")\n\n"
    "Exit status: 0; 1 it ended without reaching STATE, or without last words; 9 there is no such session; "
    "124 the time is over.\n";

struct query {
    const char *run_dir, *domain, *role;
    enum session_state wait; /* SESSION_STATES: do not, or until it has ended */
    bool ended;
    double timeout; /* seconds, below 0: none */
    bool as_json;
};

/* One session found: fd of a live one, -1 of an ended one. */
struct found {
    int fd;
    FILE *stream;
    json_t *report;
    struct timespec modified;
};

static bool matches(const struct query *q, const json_t *report)
{
    const char *name = json_string_value(json_object_get(report, "domain"));
    const char *role = json_string_value(json_object_get(report, "role"));
    char domid[32];

    snprintf(domid, sizeof(domid), "%lld", (long long)json_integer_value(json_object_get(report, "domid")));
    if (q->role && (!role || strcmp(role, q->role) != 0))
        return false;
    return !q->domain || strcmp(domid, q->domain) == 0 || (name && strcmp(name, q->domain) == 0);
}

static void release(struct found *f)
{
    json_decref(f->report);
    if (f->stream)
        fclose(f->stream);
    f->report = NULL;
    f->stream = NULL;
    f->fd = -1;
}

static bool open_live(const char *path, struct found *f)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path))
        return false;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) || !(f->stream = fdopen(fd, "r"))) {
        close(fd);
        return false;
    }
    f->fd = fd;
    f->report = json_loadf(f->stream, JSON_DISABLE_EOF_CHECK, NULL);
    return f->report != NULL;
}

static bool open_ended(const char *path, struct found *f)
{
    struct stat st;

    f->fd = -1;
    f->report = stat(path, &st) == 0 ? json_load_file(path, 0, NULL) : NULL;
    f->modified = st.st_mtim;
    return f->report != NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

/* Every session that matches: calls visit with it, which keeps it (true) or leaves it to be released. */
static unsigned int each(const struct query *q,
                         bool (*visit)(const struct query *q, struct found *f, void *data), void *data)
{
    DIR *dir = opendir(q->run_dir);
    struct dirent *entry;
    unsigned int n = 0;

    while (dir && (entry = readdir(dir))) {
        struct found f = {.fd = -1};
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", q->run_dir, entry->d_name);
        if (ends_with(entry->d_name, ".sock"))
            open_live(path, &f);
        else if (ends_with(entry->d_name, ".last.json"))
            open_ended(path, &f);
        if (f.report && matches(q, f.report)) {
            n++;
            if (visit(q, &f, data))
                continue;
        }
        release(&f);
    }
    if (dir)
        closedir(dir);
    return n;
}

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

static void print_one(const struct query *q, const struct found *f)
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

static bool show(const struct query *q, struct found *f, void *data)
{
    (void)data;
    print_one(q, f);
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
static bool pick(const struct query *q, struct found *f, void *data)
{
    struct found *best = data;
    bool better =
        !best->report || (f->fd >= 0 && best->fd < 0) ||
        (f->fd < 0 && best->fd < 0 &&
         (f->modified.tv_sec > best->modified.tv_sec ||
          (f->modified.tv_sec == best->modified.tv_sec && f->modified.tv_nsec > best->modified.tv_nsec)));

    (void)q;
    if (!better)
        return false;
    release(best);
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
static int judge(const struct query *q, const struct found *f)
{
    if (q->ended)
        return is_final(f->report) && f->fd < 0 ? EXIT_DONE : -1;
    if (has_seen(f->report, q->wait))
        return EXIT_DONE;
    return is_final(f->report) ? EXIT_FAILED : -1;
}

/* Follow one session: 0 reached, 1 ended without, -1 it is gone without a last word, 124. */
static int follow(const struct query *q, struct found *f, uint64_t start)
{
    for (;;) {
        json_t *next;
        int rc = judge(q, f);

        if (rc >= 0 || f->fd < 0)
            return rc;
        if (wait_until_readable(f->fd, q, start) == 0)
            return STATUS_TIMED_OUT;
        next = json_loadf(f->stream, JSON_DISABLE_EOF_CHECK, NULL);
        if (!next) /* its socket is closed */
            return !q->ended ? -1 : is_final(f->report) ? EXIT_DONE : EXIT_FAILED;
        json_decref(f->report);
        f->report = next;
    }
}

static int wait_for(const struct query *q)
{
    uint64_t start = monotonic_ns();
    char scrap[4096], empty[4096];
    int changes = inotify_init1(IN_CLOEXEC), rc;

    run_dir_prepare(q->run_dir, empty, sizeof(empty));
    if (changes < 0 || inotify_add_watch(changes, q->run_dir, IN_CREATE | IN_MOVED_TO | IN_DELETE) < 0) {
        fprintf(stderr, "xenpaging-pc status: %s: %s\n", q->run_dir, strerror(errno));
        return EXIT_FAILED;
    }
    for (;;) {
        struct found best = {.fd = -1};

        each(q, pick, &best);
        rc = best.report ? follow(q, &best, start) : -1;
        if (rc >= 0 && best.report)
            print_one(q, &best);
        release(&best);
        if (rc >= 0)
            break;
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
                q->domain ? " of " : "", q->domain ? q->domain : "",
                q->ended ? "ended" : session_state_name(q->wait));
    return rc;
}

int cmd_status(int argc, char **argv)
{
    static const struct option table[] = {{"json", no_argument, NULL, 'j'},
                                          {"wait", required_argument, NULL, 'w'},
                                          {"timeout", required_argument, NULL, 't'},
                                          {"role", required_argument, NULL, 'r'},
                                          {"run-dir", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    struct query q = {.run_dir = RUN_DIR, .wait = SESSION_STATES, .timeout = -1};
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
            q.role = optarg;
            break;
        case 'd':
            q.run_dir = optarg;
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
    q.domain = argc > optind ? argv[optind] : NULL;
    if (q.wait != SESSION_STATES || q.ended)
        return wait_for(&q);
    if (each(&q, show, NULL))
        return EXIT_DONE;
    fprintf(stderr, "xenpaging-pc status: no session%s%s here\n", q.domain ? " of " : "",
            q.domain ? q.domain : "");
    return STATUS_NONE;
}
