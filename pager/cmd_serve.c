#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "exit_status.h"
#include "serve.h"
#include "session_options.h"
#include "wire/wire.h"

enum {
    OPT_LISTEN = OPT_OWN,
    OPT_ORDER,
    OPT_TRANSPORT,
    OPT_DESTROY,
    OPT_MAX_PUSH,
    OPT_STREAMS,
    OPT_SENDER_UID
};

static const char help[] =
    "Usage: xenpaging-pc serve --domain DOMAIN --listen ADDR:PORT --token-file FILE [OPTION...]\n\n"
    "Gives the pages of DOMAIN, which is paused (xl save -p), to one xenpaging-pc receive. Exits 0 after it "
    "has said\n"
    "that it has every page; until then every page is kept.\n\n"
    "  --listen ADDR:PORT where to wait for the receiver; '*:PORT' means every address of this host\n"
    "  --transport CMD    instead: shell words that run a command on the destination (with --session)\n"
    "  --order WHICH      of pages that nobody has asked for: adaptive (default), along what is asked for; "
    "follow, behind\n"
    "                     the last page asked for; push, upwards\n"
    "  --destroy          xl destroy DOMAIN when it is whole at the destination and committed\n"
    "  --max-push N       at most N MiB a second of pages that nobody has asked for (default 0: no limit)\n"
    "  --streams N        bulk channels for those pages, if receive wants as many (0 to 8, default 1); 0: "
    "they "
    "share\n"
    "                     the channel with what is asked for\n"
    "  --sender-uid N[:G] user that the process which talks to the network becomes (default 65534), and "
    "group "
    "(N)\n";

static void say_where(const char *address)
{
    printf("listening on %s\n", address);
    fflush(stdout);
}

int cmd_serve(int argc, char **argv)
{
    static const struct option table[] = {{"listen", required_argument, NULL, OPT_LISTEN},
                                          {"order", required_argument, NULL, OPT_ORDER},
                                          {"transport", required_argument, NULL, OPT_TRANSPORT},
                                          {"destroy", no_argument, NULL, OPT_DESTROY},
                                          {"max-push", required_argument, NULL, OPT_MAX_PUSH},
                                          {"streams", required_argument, NULL, OPT_STREAMS},
                                          {"sender-uid", required_argument, NULL, OPT_SENDER_UID},
                                          SESSION_OPTIONS,
                                          {0}};
    struct serve_options serve = {.open = backend_xen_open,
                                  .xl = "xl",
                                  .streams = SESSION_STREAMS,
                                  .sender_uid = SESSION_NOBODY,
                                  .sender_gid = SESSION_NOBODY};
    struct session_options session;
    int option, rc;

    session_options_init(&session, "serve");
    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        if (option == OPT_HELP || option == 'h') {
            printf("%s%s", help, session_options_help);
            return EXIT_DONE;
        }
        if (option == OPT_MAX_PUSH) {
            if (session_options_number(optarg, 0, UINT32_MAX, &serve.max_push))
                return session_options_usage(&session, "--max-push takes MiB a second, not '%s'", optarg);
        } else if (option == OPT_STREAMS) {
            if (session_options_number(optarg, 0, WIRE_STREAMS_MAX, &serve.streams))
                return session_options_usage(&session, "--streams takes 0 to %u, not '%s'", WIRE_STREAMS_MAX,
                                             optarg);
        } else if (option == OPT_SENDER_UID) {
            if (session_options_account(optarg, &serve.sender_uid, &serve.sender_gid))
                return session_options_usage(
                    &session,
                    "--sender-uid takes the numbers of a user, and a group, that are not root's, not '%s'",
                    optarg);
        } else if (option == OPT_LISTEN)
            serve.listen = optarg;
        else if (option == OPT_ORDER) {
            if (push_policy_find(optarg, &serve.order))
                return session_options_usage(
                    &session, "--order knows 'adaptive', 'follow' and 'push', not '%s'", optarg);
        } else if (option == OPT_TRANSPORT)
            serve.transport = optarg;
        else if (option == OPT_DESTROY)
            serve.destroy = true;
        else if (!session_options_take(&session, option, optarg))
            return session_options_usage(&session, "see");
    }
    if (session.session ? !serve.transport || serve.listen : serve.transport || serve.destroy)
        return session_options_usage(&session, "--session and --transport go together, without --listen; "
                                               "--destroy goes with them");
    if (!session.session && !serve.listen)
        return session_options_usage(&session, "where shall it listen? (--listen ADDR:PORT)");
    if (serve.listen && serve.listen[0] == ':')
        return session_options_usage(&session, "'%s' names no address; for all of them say '*%s'",
                                     serve.listen, serve.listen);
    rc = session_options_finish(&session, argc - optind, argv + optind);
    if (rc)
        return rc;
    serve.domain = session.domain;
    serve.name = session.name;
    serve.run_dir = session.run_dir;
    serve.session = session.session;
    serve.set_fd = session.set_fd;
    serve.watch_pid = session.watch_pid;
    serve.detach = session.detach;
    serve.stats_file = session.stats_file;
    serve.empty_dir = session.empty_dir;
    if (session.baseline) {
        serve.order = PUSH_FOLLOW;
        serve.streams = 0;
    }
    serve.bound = session.daemon.background ? NULL : say_where;
    memcpy(serve.token, session.token, sizeof(serve.token));
    rc = serve_run(&serve);
    daemon_leave(&session.daemon);
    return rc;
}
