#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "exit_status.h"
#include "serve.h"
#include "session_options.h"

enum { OPT_LISTEN = OPT_OWN };

static const char help[] =
    "Usage: xenpaging-pc serve --domain DOMAIN --listen ADDR:PORT --token-file FILE [OPTION...]\n\n"
    "Gives the pages of DOMAIN, which is paused (xl save -p), to one xenpaging-pc receive. Exits 0 after it "
    "has said\n"
    "that it has every page; until then every page is kept.\n\n"
    "  --listen ADDR:PORT where to wait for the receiver; '*:PORT' means every address of this host\n";

static void say_where(const char *address)
{
    printf("listening on %s\n", address);
    fflush(stdout);
}

int cmd_serve(int argc, char **argv)
{
    static const struct option table[] = {
        {"listen", required_argument, NULL, OPT_LISTEN}, SESSION_OPTIONS, {0}};
    struct serve_options serve = {.open = backend_xen_open};
    struct session_options session;
    int option, rc;

    session_options_init(&session, "serve");
    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        if (option == OPT_HELP || option == 'h') {
            printf("%s%s", help, session_options_help);
            return EXIT_DONE;
        }
        if (option == OPT_LISTEN)
            serve.listen = optarg;
        else if (!session_options_take(&session, option, optarg))
            return session_options_usage(&session, "see");
    }
    if (!serve.listen)
        return session_options_usage(&session, "where shall it listen? (--listen ADDR:PORT)");
    if (serve.listen[0] == ':')
        return session_options_usage(&session, "'%s' names no address; for all of them say '*%s'",
                                     serve.listen, serve.listen);
    rc = session_options_finish(&session, argc - optind, argv + optind);
    if (rc)
        return rc;
    serve.domain = session.domain;
    serve.run_dir = session.run_dir;
    serve.stats_file = session.stats_file;
    serve.bound = session.daemon.background ? NULL : say_where;
    memcpy(serve.token, session.token, sizeof(serve.token));
    rc = serve_run(&serve);
    daemon_leave(&session.daemon);
    return rc;
}
