/* recover and abandon: what is to become of a session that is paused. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "commands.h"
#include "exit_status.h"
#include "run_dir.h"
#include "session_find.h"
#include "session_id.h"

#define NO_SESSION 9
#define PATIENCE_S 60

static const char help[] =
    "Usage: xenpaging-pc recover [--role serve|receive] [--session ID] [DOMAIN]\n\n"
    "Has a session that is paused, because its channels are lost, open new ones at once. By itself it tries "
    "again after a\n"
    "tenth of a second, then after twice as long each time, up to every ten seconds. Returns when it goes "
    "on, "
    "or after a\n"
    "minute; the session goes on trying then.\n\n"
    "  --role ROLE        serve or receive, where both run on this host\n"
    "  --session ID       16 hex digits\n"
    "  --run-dir DIR      where sessions show themselves (default " RUN_DIR ")\n\n"
    "Exit status: 0 it goes on; 1 it is not paused, still is, or has ended: with the reason; 2 usage; 9 "
    "there "
    "is no such\n"
    "session.\n";

static const char abandon_help[] =
    "Usage: xenpaging-pc abandon [--session ID] [--yes] [DOMAIN]\n\n"
    "Ends a serve that is paused, although the destination has not got every page. Says first what will be "
    "lost, and does\n"
    "nothing without --yes.\n\n"
    "  --session ID       16 hex digits\n"
    "  --yes              do it\n"
    "  --run-dir DIR      where sessions show themselves (default " RUN_DIR ")\n\n"
    "Exit status: 0 it has ended; 1 it is not paused, or --yes was not said; 2 usage; 9 there is no such "
    "session.\n";

static const char *text(const struct session_found *live, const char *name)
{
    const char *value = json_string_value(json_object_get(live->report, name));

    return value ? value : "";
}

static json_int_t recoveries(const struct session_found *live)
{
    return json_integer_value(json_object_get(json_object_get(live->report, "link"), "recoveries"));
}

/* It may be complete by now, which is also the state of one whose guest has ended. */
static bool goes_on(const struct session_found *live, json_int_t before)
{
    return recoveries(live) > before &&
           (strcmp(text(live, "state"), "active") == 0 || strcmp(text(live, "state"), "drain") == 0 ||
            strcmp(text(live, "state"), "completed") == 0);
}

static int say(struct session_found *live)
{
    static const char word[] = "recover\n";
    const struct timeval patience = {PATIENCE_S, 0};
    json_int_t before = recoveries(live);

    setsockopt(live->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (send(live->fd, word, sizeof(word) - 1, MSG_NOSIGNAL) < 0)
        return EXIT_FAILED;
    while (session_found_next(live) && !text(live, "refused")[0])
        if (goes_on(live, before))
            return EXIT_DONE;
    fprintf(stderr, "xenpaging-pc recover: %s\n",
            text(live, "refused")[0] ? text(live, "refused") : text(live, "reason"));
    return EXIT_FAILED;
}

static int parse(int argc, char **argv, const char *text_of_help, struct session_query *of, bool *yes)
{
    static const struct option table[] = {
        {"role", required_argument, NULL, 'r'},    {"session", required_argument, NULL, 's'},
        {"run-dir", required_argument, NULL, 'd'}, {"yes", no_argument, NULL, 'y'},
        {"help", no_argument, NULL, 'h'},          {0}};
    int option;

    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (option) {
        case 'r':
            of->role = optarg;
            break;
        case 's':
            of->session = optarg;
            break;
        case 'd':
            of->run_dir = optarg;
            break;
        case 'y':
            *yes = true;
            break;
        case 'h':
            printf("%s", text_of_help);
            exit(EXIT_DONE);
        default:
            return EXIT_USAGE;
        }
    }
    if ((of->session && !session_id_valid(of->session)) || argc - optind > 1) {
        fprintf(stderr, "xenpaging-pc %s: a session is 16 hex digits, and one domain at most; see --help\n",
                argv[0]);
        return EXIT_USAGE;
    }
    of->domain = argc > optind ? argv[optind] : NULL;
    return 0;
}

static int find(const char *command, const struct session_query *of, struct session_found *live)
{
    session_find_live(of, live);
    if (live->fd >= 0)
        return 0;
    fprintf(stderr, "xenpaging-pc %s: no such session is running here\n", command);
    return NO_SESSION;
}

int cmd_recover(int argc, char **argv)
{
    struct session_query of = {.run_dir = RUN_DIR};
    struct session_found live = {.fd = -1};
    bool yes = false;
    int rc = parse(argc, argv, help, &of, &yes);

    if (rc == 0)
        rc = find("recover", &of, &live);
    if (rc)
        return rc;
    rc = say(&live);
    session_found_release(&live);
    return rc;
}

/* Until it has ended, which is what was asked for, or refuses. */
static int say_abandon(struct session_found *live)
{
    static const char word[] = "abandon\n";
    const struct timeval patience = {PATIENCE_S, 0};

    setsockopt(live->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (send(live->fd, word, sizeof(word) - 1, MSG_NOSIGNAL) < 0)
        return EXIT_FAILED;
    while (session_found_next(live) && !text(live, "refused")[0])
        if (strcmp(text(live, "state"), "failed") == 0)
            break;
    if (!text(live, "refused")[0])
        return EXIT_DONE;
    fprintf(stderr, "xenpaging-pc abandon: %s\n", text(live, "refused"));
    return EXIT_FAILED;
}

static void say_what_is_lost(const struct session_found *live)
{
    json_int_t left = json_integer_value(json_object_get(json_object_get(live->report, "pages"), "left"));

    fprintf(
        stderr,
        "xenpaging-pc abandon: %s is %s (%s). If its guest runs at the destination it has not got %lld "
        "pages, "
        "which "
        "nobody will bring any more: it stops at the first that it touches. Domain %lld stays here as it is, "
        "suspended. "
        "To do that: --yes\n",
        text(live, "domain"), text(live, "state"), text(live, "reason"), (long long)left,
        (long long)json_integer_value(json_object_get(live->report, "domid")));
}

int cmd_abandon(int argc, char **argv)
{
    struct session_query of = {.run_dir = RUN_DIR, .role = "serve"};
    struct session_found live = {.fd = -1};
    bool yes = false;
    int rc = parse(argc, argv, abandon_help, &of, &yes);

    if (rc == 0)
        rc = find("abandon", &of, &live);
    if (rc)
        return rc;
    rc = yes ? say_abandon(&live) : EXIT_FAILED;
    if (!yes)
        say_what_is_lost(&live);
    session_found_release(&live);
    return rc;
}
