#include <getopt.h>
#include <stdio.h>

#include "commands.h"
#include "exit_status.h"
#include "join.h"
#include "run_dir.h"
#include "session_id.h"
#include "session_options.h"
#include "wire/wire.h"

static const char help[] =
    "Usage: xenpaging-pc join --session ID [--streams N | --channel N]\n\n"
    "Run on the destination by xenpaging-pc serve, through the transport. Reads the session's token from "
    "stdin, greets on\n"
    "stdout, hands both to receive when that comes, and exits when receive has ended.\n\n"
    "  --session ID       16 hex digits\n"
    "  --streams N        there are so many bulk channels besides this one (default 0), each with a join of "
    "its "
    "own:\n"
    "  --channel N        this is that one of them, from 1 on\n"
    "  --run-dir DIR      where ID.token lies and ID.join is made (default " RUN_DIR ")\n\n"
    "Exit status: 0; 1 failed; 2 usage; 3 refused: wrong token, no such session, joined already.\n";

static int wrong(const char *option, const char *value)
{
    fprintf(stderr, "xenpaging-pc join: %s takes a number up to %u, not '%s'\n", option, WIRE_STREAMS_MAX,
            value);
    return EXIT_USAGE;
}

int cmd_join(int argc, char **argv)
{
    static const struct option table[] = {
        {"session", required_argument, NULL, 's'}, {"run-dir", required_argument, NULL, 'd'},
        {"channel", required_argument, NULL, 'c'}, {"streams", required_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},          {0}};
    const char *session = NULL, *run_dir = RUN_DIR;
    uint32_t channel = 0, streams = 0;
    int option;

    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (option) {
        case 's':
            session = optarg;
            break;
        case 'd':
            run_dir = optarg;
            break;
        case 'c':
            if (session_options_number(optarg, 1, WIRE_STREAMS_MAX, &channel))
                return wrong("--channel", optarg);
            break;
        case 'n':
            if (session_options_number(optarg, 0, WIRE_STREAMS_MAX, &streams))
                return wrong("--streams", optarg);
            break;
        case 'h':
            printf("%s", help);
            return EXIT_DONE;
        default:
            return EXIT_USAGE;
        }
    }
    if (!session || !session_id_valid(session) || argc > optind) {
        fprintf(stderr, "xenpaging-pc join: which session? (--session and 16 hex digits); "
                        "xenpaging-pc join --help\n");
        return EXIT_USAGE;
    }
    return join_run(run_dir, session, channel, (uint8_t)streams);
}
