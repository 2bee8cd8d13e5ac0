/*
 * The product's serve and receive, with the native bench's domains behind them:
 *     native-pager serve --listen ADDR:PORT --mib N [--zero PERCENT] --run-dir DIR     says on stdout where
 * it listens native-pager receive --connect ADDR:PORT --guest SOCKET --run-dir DIR [--push at-once|on-fault]
 * Both leave DIR/stats.json, and end with the session's exit status.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "backends.h"
#include "log.h"
#include "number.h"
#include "receive.h"
#include "run_dir.h"
#include "serve.h"

#define TOKEN_BYTE 0x6e
#define NOBODY     65534
#define POOL_PAGES 256 /* xenpaging-pc's default */
#define MIB_PAGES  256u
#define MIB_MOST   (1u << 20)
#define POOL_LEAST 16u
#define POOL_MOST  65536u
#define RATE_MOST  1000000u

static void usage(void)
{
    fprintf(stderr, "Usage: native-pager serve --listen ADDR:PORT --mib N --run-dir DIR [--zero PERCENT] "
                    "[--max-push MIB_S]\n"
                    "       native-pager receive --connect ADDR:PORT --guest SOCKET --run-dir DIR\n"
                    "           [--push at-once|on-fault] [--pool-pages N] [--verify]\n");
    exit(2);
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
    uint64_t value;

    if (!native_number(text, least, most, &value))
        usage();
    return value;
}

static void say_where(const char *address)
{
    printf("%s\n", address);
    fflush(stdout);
}

static struct serve_options serve = {
    .domain = "native", .bound = say_where, .open = source_open, .xl = "false"};
static struct receive_options receive = {.domain = "native",
                                         .open = destination_open,
                                         .xl = "false",
                                         .slots = POOL_PAGES,
                                         .features = FEATURES_ALL,
                                         .range_foreign = 1,
                                         .range_guest = 1,
                                         .widen = 1,
                                         .feeder_uid = NOBODY,
                                         .feeder_gid = NOBODY};
static struct source_config source;
static const char *guest;

static void take(int option)
{
    switch (option) {
    case 'l':
        serve.listen = optarg;
        break;
    case 'm':
        source.pages = number(optarg, 1, MIB_MOST) * MIB_PAGES;
        break;
    case 'z':
        source.zero_percent = (unsigned int)number(optarg, 0, 100);
        break;
    case 'x':
        serve.max_push = (uint32_t)number(optarg, 0, RATE_MOST);
        break;
    case 'c':
        receive.connect = optarg;
        break;
    case 'g':
        guest = optarg;
        break;
    case 'd':
        serve.run_dir = receive.run_dir = optarg;
        break;
    case 'p':
        receive.push_on_fault = strcmp(optarg, "on-fault") == 0;
        if (!receive.push_on_fault && strcmp(optarg, "at-once") != 0)
            usage();
        break;
    case 'o':
        receive.slots = (uint32_t)number(optarg, POOL_LEAST, POOL_MOST);
        break;
    case 'v':
        receive.verify = VERIFY_HASH;
        break;
    default:
        usage();
    }
}

static void prepare(const char *role)
{
    static char empty[4096], stats[4096], log[4096];

    if (!serve.run_dir || run_dir_prepare(serve.run_dir, empty, sizeof(empty)))
        usage();
    snprintf(stats, sizeof(stats), "%s/stats.json", serve.run_dir);
    snprintf(log, sizeof(log), "%s/log", serve.run_dir);
    serve.stats_file = receive.stats_file = stats;
    receive.empty_dir = empty;
    memset(serve.token, TOKEN_BYTE, sizeof(serve.token));
    memset(receive.token, TOKEN_BYTE, sizeof(receive.token));
    if (log_open(log))
        usage();
    log_set_name(role);
    /* In the product daemon_enter() does. */
    signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"listen", required_argument, NULL, 'l'},
        {"mib", required_argument, NULL, 'm'},
        {"zero", required_argument, NULL, 'z'},
        {"max-push", required_argument, NULL, 'x'},
        {"connect", required_argument, NULL, 'c'},
        {"guest", required_argument, NULL, 'g'},
        {"run-dir", required_argument, NULL, 'd'},
        {"push", required_argument, NULL, 'p'},
        {"pool-pages", required_argument, NULL, 'o'},
        {"verify", no_argument, NULL, 'v'},
        {0},
    };
    const char *role = argc > 1 ? argv[1] : "";
    int option;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while ((option = getopt_long(argc - 1, argv + 1, "", table, NULL)) != -1)
        take(option);
    if (strcmp(role, "serve") == 0 && serve.listen && source.pages) {
        source_prepare(&source);
        prepare(role);
        return serve_run(&serve);
    }
    if (strcmp(role, "receive") == 0 && receive.connect && guest) {
        destination_prepare(guest);
        prepare(role);
        return receive_run(&receive);
    }
    usage();
}
