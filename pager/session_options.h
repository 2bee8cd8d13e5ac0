/* Options that serve and receive share. */
#ifndef XENPAGING_PC_SESSION_OPTIONS_H
#define XENPAGING_PC_SESSION_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon.h"

#define SESSION_STREAMS 1u     /* bulk channels */
#define SESSION_NOBODY  65534u /* user and group of who talks to the network */

struct session_options {
    const char *command;
    const char *domain;
    const char *name; /* what reports and logs call it; the domain as it was given unless told otherwise */
    const char *token_file;
    const char *stats_file;
    const char *run_dir;
    struct daemon_options daemon;
    char daemon_name[128];
    char empty_dir[4096];
    uint8_t token[32];
    bool debug;
    bool baseline;
    bool detach;         /* in the background, and ready as soon as it shows itself */
    const char *session; /* of a migration by xl, and what comes with it: */
    int set_fd;
    pid_t watch_pid;
};

enum {
    OPT_DOMAIN = 256,
    OPT_NAME,
    OPT_TOKEN_FILE,
    OPT_STATS_FILE,
    OPT_RUN_DIR,
    OPT_DAEMON,
    OPT_PID_FILE,
    OPT_LOG,
    OPT_DEBUG,
    OPT_BASELINE,
    OPT_HELP,
    OPT_DETACH,
    OPT_SESSION,
    OPT_SET_FD,
    OPT_WATCH_PID,
    OPT_OWN, /* the command's own options start here */
};

/* For the long option table of a command. */
/* clang-format off */
#define SESSION_OPTIONS                                       \
    {"domain", required_argument, NULL, OPT_DOMAIN},          \
    {"name", required_argument, NULL, OPT_NAME},              \
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},  \
    {"stats-file", required_argument, NULL, OPT_STATS_FILE},  \
    {"run-dir", required_argument, NULL, OPT_RUN_DIR},        \
    {"daemon", no_argument, NULL, OPT_DAEMON},                \
    {"pid-file", required_argument, NULL, OPT_PID_FILE},      \
    {"log", required_argument, NULL, OPT_LOG},                \
    {"debug", no_argument, NULL, OPT_DEBUG},                  \
    {"detach", no_argument, NULL, OPT_DETACH},                \
    {"session", required_argument, NULL, OPT_SESSION},        \
    {"set-fd", required_argument, NULL, OPT_SET_FD},          \
    {"watch-pid", required_argument, NULL, OPT_WATCH_PID},    \
    {"baseline", no_argument, NULL, OPT_BASELINE},            \
    {"help", no_argument, NULL, OPT_HELP}
/* clang-format on */

extern const char session_options_help[];

void session_options_init(struct session_options *options, const char *command);

/* Take an option that getopt_long() returned. False if it is not one of ours. */
bool session_options_take(struct session_options *options, int option, const char *argument);

/* A whole decimal number, digits only, from min to max. 0, or -1. */
int session_options_number(const char *text, unsigned long min, unsigned long max, uint32_t *value);

/* A complaint with the command's name and where to look next. Returns EXIT_USAGE. */
int session_options_usage(const struct session_options *options, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * After the options: what is left of argv, checks, token, run folder, log, background. Returns 0, or the exit
 * status after saying why.
 */
int session_options_finish(struct session_options *options, int argc, char **argv);

/* FIRST[:SECOND], each for parse (0, or -1); second stays as it is if there is none. 0 or -1. */
int session_options_pair(const char *text, int (*parse)(const char *text, uint32_t *value), uint32_t *first,
                         uint32_t *second);

/* UID[:GID], by number, neither of them root's; without GID it is the same number. 0 or -1. */
int session_options_account(const char *text, uid_t *uid, gid_t *gid);

#endif
