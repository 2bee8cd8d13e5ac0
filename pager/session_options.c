#include "session_options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exit_status.h"
#include "log.h"
#include "run_dir.h"
#include "session_id.h"
#include "token.h"

const char session_options_help[] =
    "  --domain DOMAIN    name or number of the domain; also as last argument\n"
    "  --name NAME        what to call it in reports and logs, whatever it is called on Xen now\n"
    "  --token-file FILE  the session's secret, the same on both hosts: 64 hex digits, mode 0600\n"
    "  --daemon           go into the background; returns when the session is ready\n"
    "  --pid-file FILE    write the pid there\n"
    "  --log FILE         log there instead of stderr (SIGHUP opens it anew)\n"
    "  --stats-file FILE  write the final figures there as JSON\n"
    "  --run-dir DIR      folder for status sockets (default " RUN_DIR ")\n"
    "  --baseline         the data path of 2017, to be given to both: --streams 0; for serve --order follow; "
    "for\n"
    "                     receive nothing of --features, and what dom0 asks for keeps its slot of the ring "
    "until it\n"
    "                     is there\n"
    "  --debug            log more\n"
    "  --detach           as --daemon; returns as soon as status can show the session\n"
    "Under xl migrate --postcopy:\n"
    "  --session ID       the migration's id, 16 hex digits: it waits for commit (or abort)\n"
    "  --set-fd N         inherited descriptor of the set file that libxc writes\n"
    "  --watch-pid N      process that moves the domain: if it ends before commit, everything is taken back\n"
    "  --help             print this\n";

void session_options_init(struct session_options *options, const char *command)
{
    memset(options, 0, sizeof(*options));
    options->command = command;
    options->run_dir = RUN_DIR;
}

/* -1: session_options_finish() complains. */
static int positive(const char *text)
{
    char *end;
    long v;

    errno = 0;
    v = strtol(text, &end, 10);
    return errno || end == text || *end || v <= 0 || v > INT_MAX ? -1 : (int)v;
}

bool session_options_take(struct session_options *options, int option, const char *argument)
{
    switch (option) {
    case OPT_DOMAIN:
        options->domain = argument;
        return true;
    case OPT_NAME:
        options->name = argument;
        return true;
    case OPT_TOKEN_FILE:
        options->token_file = argument;
        return true;
    case OPT_STATS_FILE:
        options->stats_file = argument;
        return true;
    case OPT_RUN_DIR:
        options->run_dir = argument;
        return true;
    case OPT_DAEMON:
        options->daemon.background = true;
        return true;
    case OPT_PID_FILE:
        options->daemon.pid_file = argument;
        return true;
    case OPT_LOG:
        options->daemon.log_file = argument;
        return true;
    case OPT_DEBUG:
        options->debug = true;
        return true;
    case OPT_DETACH:
        options->daemon.background = options->detach = true;
        return true;
    case OPT_SESSION:
        options->session = argument;
        return true;
    case OPT_SET_FD:
        options->set_fd = positive(argument);
        return true;
    case OPT_WATCH_PID:
        options->watch_pid = positive(argument);
        return true;
    case OPT_BASELINE:
        options->baseline = true;
        return true;
    default:
        return false;
    }
}

int session_options_number(const char *text, unsigned long min, unsigned long max, uint32_t *value)
{
    unsigned long v;
    char *end;

    errno = 0;
    v = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || v < min || v > max)
        return -1;
    *value = (uint32_t)v;
    return 0;
}

int session_options_usage(const struct session_options *options, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "xenpaging-pc %s: ", options->command);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "; xenpaging-pc %s --help\n", options->command);
    return EXIT_USAGE;
}

int session_options_finish(struct session_options *options, int argc, char **argv)
{
    char why[512];

    if (argc == 1 && !options->domain)
        options->domain = argv[0];
    else if (argc > 0)
        return session_options_usage(options, "'%s' is one argument too many", argv[0]);
    if (!options->domain)
        return session_options_usage(options, "which domain? (--domain)");
    if (strchr(options->domain, '/') || strlen(options->domain) > 64)
        return session_options_usage(options, "'%s' is no name of a domain", options->domain);
    if (!options->name)
        options->name = options->domain;
    if (!options->token_file)
        return session_options_usage(options, "which token? (--token-file)");
    if (options->session && !session_id_valid(options->session))
        return session_options_usage(options, "'%s' is no session: 16 hex digits", options->session);
    if (options->session ? !options->set_fd : options->set_fd || options->watch_pid)
        return session_options_usage(options,
                                     "--session and --set-fd go together, --watch-pid goes with them");
    if (options->set_fd && options->set_fd <= STDERR_FILENO)
        return session_options_usage(options, "--set-fd takes the number of a descriptor from 3 on");
    if (options->set_fd && fcntl(options->set_fd, F_SETFD, FD_CLOEXEC))
        return session_options_usage(options, "--set-fd %d: %s", options->set_fd, strerror(errno));
    if (options->watch_pid < 0)
        return session_options_usage(options, "--watch-pid takes the number of a process");
    options->daemon.keep_fd = options->set_fd;
    snprintf(options->daemon_name, sizeof(options->daemon_name), "%s-%s", options->command, options->domain);
    options->daemon.name = options->daemon_name;
    options->daemon.run_dir = options->run_dir;
    snprintf(why, sizeof(why), "%s %s", options->command, options->name);
    log_set_name(why);
    if (options->debug)
        log_set_level(LOG_LEVEL_DEBUG);
    if (token_read(options->token_file, options->token, why, sizeof(why))) {
        log_error("%s", why);
        return EXIT_USAGE;
    }
    if (run_dir_prepare(options->run_dir, options->empty_dir, sizeof(options->empty_dir))) {
        log_error("run folder %s: %s", options->run_dir, strerror(errno));
        return EXIT_FAILED;
    }
    return daemon_enter(&options->daemon) ? EXIT_FAILED : 0;
}

int session_options_pair(const char *text, int (*parse)(const char *text, uint32_t *value), uint32_t *first,
                         uint32_t *second)
{
    char word[11]; /* 0x7fffffff */
    size_t length = strcspn(text, ":");

    if (length >= sizeof(word))
        return -1;
    memcpy(word, text, length);
    word[length] = '\0';
    if (text[length] && parse(text + length + 1, second))
        return -1;
    return parse(word, first);
}

static int not_root(const char *text, uint32_t *value)
{
    return session_options_number(text, 1, 0x7fffffff, value);
}

int session_options_account(const char *text, uid_t *uid, gid_t *gid)
{
    uint32_t user = 0, group = 0;

    if (session_options_pair(text, not_root, &user, &group))
        return -1;
    *uid = user;
    *gid = group ? group : user;
    return 0;
}
