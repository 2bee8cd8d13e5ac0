#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "exit_status.h"
#include "receive.h"
#include "session_options.h"
#include "wire/wire.h"

enum {
    OPT_CONNECT = OPT_OWN,
    OPT_EVICT,
    OPT_VERIFY,
    OPT_PUSH,
    OPT_STREAMS,
    OPT_POOL_PAGES,
    OPT_FEATURES,
    OPT_RANGE,
    OPT_TRACE,
    OPT_WIDEN,
    OPT_FEEDER_UID,
    OPT_LEAVE_PAUSED,
    OPT_EARLY
};

/* 2 MiB: half for pages that are pushed, which fills 10 Gbit/s for 0.8 ms, half for those asked for. */
#define POOL_PAGES_DEFAULT 512
#define POOL_PAGES_LEAST   16

static const char help[] =
    "Usage: xenpaging-pc receive --domain DOMAIN --connect HOST:PORT --token-file FILE [OPTION...]\n\n"
    "Makes the pages of DOMAIN, which is paused (xl restore -p), absent, and then brings them from "
    "xenpaging-pc serve as\n"
    "the guest touches them, and in the background. Once the session is active the guest may run (xl "
    "unpause). Exits 0\n"
    "when every page is there and serve has acknowledged it.\n\n"
    "  --connect H:PORT   where xenpaging-pc serve listens; unix:PATH: where join does\n"
    "  --evict all        which pages to make absent: all that Xen lets go (default)\n"
    "  --push WHEN        start of the background push: at-once, on-commit (default with --session), or "
    "on-fault: with\n"
    "                     the first page that the guest asks for\n"
    "  --verify           check a hash of each page before it is installed\n"
    "  --verify=full      bring everything while the guest is paused, then compare every page of both hosts\n"
    "  --pool-pages N     pages that may be on their way at a time (16 to 65536, default 512)\n"
    "  --streams N        bulk channels for pages that nobody waits for, if serve has as many (0 to 8, "
    "default "
    "1); 0:\n"
    "                     they share the channel with what is asked for\n"
    "  --features LIST    which of what Xen may have is used: mark, prep, ring, range, superpages, with "
    "commas "
    "between;\n"
    "                     all (default) or none\n"
    "  --range F[:G]      how many pages a request of dom0 (F), and of the guest (G), may be for: powers of "
    "two up "
    "to 256\n"
    "                     (default 256:1)\n"
    "  --widen N          fetch with a page that dom0 maps the others of its aligned N (a power of two up to "
    "256, "
    "default 1)\n"
    "  --trace FILE       record there what is asked for and what comes, and when (xenpaging-pc trace)\n"
    "  --feeder-uid N[:G] user that the process which talks to the network becomes (default 65534), and "
    "group (N)\n"
    "  --leave-paused     with --watch-pid: do not unpause the domain if that process ends after commit and "
    "has "
    "not\n"
    "  --early            with --set-fd: the guest still runs at the source; mark what is likely to be "
    "outstanding,\n"
    "                     and then wait for xenpaging-pc activate\n";

/* 1, 2, 4 ... BACKEND_RANGE_MAX. */
static int window(const char *text, uint32_t *value)
{
    return session_options_number(text, 1, BACKEND_RANGE_MAX, value) || *value & (*value - 1) ? -1 : 0;
}

static int take(struct receive_options *receive, const struct session_options *session, int option,
                const char *argument)
{
    switch (option) {
    case OPT_CONNECT:
        receive->connect = argument;
        return 0;
    case OPT_EVICT:
        if (strcmp(argument, "all") == 0)
            return 0;
        return session_options_usage(session, "--evict knows 'all', not '%s'", argument);
    case OPT_VERIFY:
        if (argument && strcmp(argument, "full") != 0 && strcmp(argument, "hash") != 0)
            return session_options_usage(session, "--verify knows 'hash' and 'full', not '%s'", argument);
        receive->verify = argument && strcmp(argument, "full") == 0 ? VERIFY_FULL : VERIFY_HASH;
        return 0;
    case OPT_PUSH:
        receive->push_on_fault = strcmp(argument, "on-fault") == 0;
        receive->push_on_commit = strcmp(argument, "on-commit") == 0;
        if (receive->push_on_fault || receive->push_on_commit || strcmp(argument, "at-once") == 0)
            return 0;
        return session_options_usage(session, "--push knows 'at-once', 'on-commit' and 'on-fault', not '%s'",
                                     argument);
    case OPT_POOL_PAGES:
        if (session_options_number(argument, POOL_PAGES_LEAST, POOL_SLOTS_MAX, &receive->slots))
            return session_options_usage(session, "--pool-pages takes %u to %u, not '%s'", POOL_PAGES_LEAST,
                                         POOL_SLOTS_MAX, argument);
        return 0;
    case OPT_STREAMS:
        if (session_options_number(argument, 0, WIRE_STREAMS_MAX, &receive->streams))
            return session_options_usage(session, "--streams takes 0 to %u, not '%s'", WIRE_STREAMS_MAX,
                                         argument);
        return 0;
    case OPT_FEATURES:
        if (features_parse(argument, &receive->features))
            return session_options_usage(
                session, "--features knows mark, prep, ring, range, superpages, all and none, not '%s'",
                argument);
        return 0;
    case OPT_RANGE:
        if (session_options_pair(argument, window, &receive->range_foreign, &receive->range_guest))
            return session_options_usage(session, "--range takes powers of two up to %u, not '%s'",
                                         BACKEND_RANGE_MAX, argument);
        return 0;
    case OPT_TRACE:
        receive->trace = argument;
        return 0;
    case OPT_WIDEN:
        if (window(argument, &receive->widen))
            return session_options_usage(session, "--widen takes a power of two up to %u, not '%s'",
                                         BACKEND_RANGE_MAX, argument);
        return 0;
    case OPT_FEEDER_UID:
        if (session_options_account(argument, &receive->feeder_uid, &receive->feeder_gid))
            return session_options_usage(
                session,
                "--feeder-uid takes the numbers of a user, and a group, that are not root's, not '%s'",
                argument);
        return 0;
    case OPT_LEAVE_PAUSED:
        receive->leave_paused = true;
        return 0;
    case OPT_EARLY:
        receive->early = true;
        return 0;
    default:
        return session_options_usage(session, "see");
    }
}

int cmd_receive(int argc, char **argv)
{
    static const struct option table[] = {{"connect", required_argument, NULL, OPT_CONNECT},
                                          {"evict", required_argument, NULL, OPT_EVICT},
                                          {"verify", optional_argument, NULL, OPT_VERIFY},
                                          {"push", required_argument, NULL, OPT_PUSH},
                                          {"streams", required_argument, NULL, OPT_STREAMS},
                                          {"pool-pages", required_argument, NULL, OPT_POOL_PAGES},
                                          {"features", required_argument, NULL, OPT_FEATURES},
                                          {"range", required_argument, NULL, OPT_RANGE},
                                          {"trace", required_argument, NULL, OPT_TRACE},
                                          {"widen", required_argument, NULL, OPT_WIDEN},
                                          {"feeder-uid", required_argument, NULL, OPT_FEEDER_UID},
                                          {"leave-paused", no_argument, NULL, OPT_LEAVE_PAUSED},
                                          {"early", no_argument, NULL, OPT_EARLY},
                                          SESSION_OPTIONS,
                                          {0}};
    struct receive_options receive = {.open = backend_xen_open,
                                      .xl = "xl",
                                      .push_on_commit = true,
                                      .slots = POOL_PAGES_DEFAULT,
                                      .features = FEATURES_ALL,
                                      .range_foreign = BACKEND_RANGE_MAX,
                                      .range_guest = 1,
                                      .widen = 1,
                                      .streams = SESSION_STREAMS,
                                      .feeder_uid = SESSION_NOBODY,
                                      .feeder_gid = SESSION_NOBODY};
    struct session_options session;
    int option, rc;

    session_options_init(&session, "receive");
    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        if (option == OPT_HELP || option == 'h') {
            printf("%s%s", help, session_options_help);
            return EXIT_DONE;
        }
        if (session_options_take(&session, option, optarg))
            continue;
        rc = take(&receive, &session, option, optarg);
        if (rc)
            return rc;
    }
    if (!receive.connect)
        return session_options_usage(&session, "where is serve? (--connect HOST:PORT)");
    if (receive.early && !session.session)
        return session_options_usage(&session, "--early goes with --session");
    rc = session_options_finish(&session, argc - optind, argv + optind);
    if (rc)
        return rc;
    if (session.baseline)
        receive.features = receive.streams = 0;
    receive.foreign_waits = session.baseline;
    receive.domain = session.domain;
    receive.name = session.name;
    receive.run_dir = session.run_dir;
    receive.session = session.session;
    /* By hand there is no commit. */
    receive.push_on_commit &= receive.session != NULL;
    receive.set_fd = session.set_fd;
    receive.watch_pid = session.watch_pid;
    receive.detach = session.detach;
    receive.stats_file = session.stats_file;
    receive.empty_dir = session.empty_dir;
    memcpy(receive.token, session.token, sizeof(receive.token));
    rc = receive_run(&receive);
    daemon_leave(&session.daemon);
    return rc;
}
