/* The command lines of serve and receive: every long option sets what it names, and nothing else
 * (the stock pager's --mru_size set max_memkb). */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "commands.h"
#include "exit_status.h"
#include "pool.h"
#include "receive.h"
#include "serve.h"

#define MOST_ARGS 32

static char folder[] = "/tmp/test-options-XXXXXX";
static char token_file[64], stats_file[64], pid_file[64], log_file[64];
static struct receive_options received;
static struct serve_options served;
static int runs;

/* Instead of the sessions themselves (the linker's --wrap). */
int __wrap_receive_run(const struct receive_options *options);
int __wrap_serve_run(const struct serve_options *options);

int __wrap_receive_run(const struct receive_options *options)
{
    received = *options;
    runs++;
    return EXIT_DONE;
}

int __wrap_serve_run(const struct serve_options *options)
{
    served = *options;
    runs++;
    return EXIT_DONE;
}

/* Never called here. */
struct backend *backend_xen_open(const char *domain, char *why, size_t why_size)
{
    (void)domain;
    snprintf(why, why_size, "no Xen in unit tests");
    return NULL;
}

static int setup(void **state)
{
    FILE *f;

    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(token_file, sizeof(token_file), "%s/token", folder);
    snprintf(stats_file, sizeof(stats_file), "%s/stats", folder);
    snprintf(pid_file, sizeof(pid_file), "%s/pid", folder);
    snprintf(log_file, sizeof(log_file), "%s/log", folder);
    f = fopen(token_file, "w");
    if (!f)
        return -1;
    for (int i = 0; i < 32; i++)
        fprintf(f, "%02x", i);
    fclose(f);
    return chmod(token_file, 0600);
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

/* Runs a command with the arguments every session needs, and the given ones (NULL at the end). */
static int run(int (*command)(int argc, char **argv), const char *name, const char *where,
               const char *const *more)
{
    const char *argv[MOST_ARGS] = {name,           where,      "[::1]:7002", "--domain", "guest",
                                   "--token-file", token_file, "--run-dir",  folder};
    int argc = 9;

    while (*more)
        argv[argc++] = *more++;
    argv[argc] = NULL;
    memset(&received, 0, sizeof(received));
    memset(&served, 0, sizeof(served));
    runs = 0;
    optind = 0; /* glibc: start anew */
    return command(argc, (char **)argv);
}

#define RECEIVE(...) run(cmd_receive, "receive", "--connect", (const char *const[]){__VA_ARGS__, NULL})
#define SERVE(...)   run(cmd_serve, "serve", "--listen", (const char *const[]){__VA_ARGS__, NULL})

static void rot_07_every_long_option_of_receive_sets_its_own_field(void **state)
{
    struct receive_options plain;

    (void)state;
    assert_int_equal(RECEIVE(NULL), EXIT_DONE);
    assert_int_equal(runs, 1);
    plain = received;
    assert_string_equal(plain.domain, "guest");
    assert_string_equal(plain.connect, "[::1]:7002");
    assert_string_equal(plain.run_dir, folder);
    assert_null(plain.stats_file);
    assert_int_equal(plain.verify, VERIFY_NONE);
    assert_false(plain.push_on_fault);
    assert_int_equal(plain.slots, 512);
    assert_int_equal(plain.streams, 1);
    assert_int_equal(plain.feeder_uid, 65534);
    assert_int_equal(plain.feeder_gid, 65534);
    for (int i = 0; i < 32; i++)
        assert_int_equal(plain.token[i], i);

    /* One option, one field: the others stay as they were. */
    assert_int_equal(RECEIVE("--pool-pages", "768"), EXIT_DONE);
    assert_int_equal(received.slots, 768);
    received.slots = plain.slots;
    received.empty_dir = plain.empty_dir;
    assert_memory_equal(&received, &plain, sizeof(plain));

    assert_int_equal(RECEIVE("--streams", "8"), EXIT_DONE);
    assert_int_equal(received.streams, 8);
    received.streams = plain.streams;
    received.empty_dir = plain.empty_dir;
    assert_memory_equal(&received, &plain, sizeof(plain));

    assert_int_equal(RECEIVE("--feeder-uid", "1000"), EXIT_DONE);
    assert_int_equal(received.feeder_uid, 1000);
    assert_int_equal(received.feeder_gid, 1000);
    assert_int_equal(RECEIVE("--feeder-uid", "100:105"), EXIT_DONE);
    assert_int_equal(received.feeder_uid, 100);
    assert_int_equal(received.feeder_gid, 105);
    received.feeder_uid = plain.feeder_uid;
    received.feeder_gid = plain.feeder_gid;
    assert_int_equal(RECEIVE("--leave-paused"), EXIT_DONE);
    assert_true(received.leave_paused && !plain.leave_paused);
    received.leave_paused = false;
    received.empty_dir = plain.empty_dir;
    assert_memory_equal(&received, &plain, sizeof(plain));

    assert_int_equal(RECEIVE("--push", "on-fault"), EXIT_DONE);
    assert_true(received.push_on_fault);
    assert_int_equal(RECEIVE("--push", "at-once"), EXIT_DONE);
    assert_false(received.push_on_fault || received.push_on_commit);
    assert_int_equal(RECEIVE("--push", "on-commit"), EXIT_DONE);
    assert_false(received.push_on_commit); /* there is none */
    assert_int_equal(RECEIVE("--verify"), EXIT_DONE);
    assert_int_equal(received.verify, VERIFY_HASH);
    assert_int_equal(RECEIVE("--verify=full"), EXIT_DONE);
    assert_int_equal(received.verify, VERIFY_FULL);
    assert_int_equal(RECEIVE("--stats-file", stats_file), EXIT_DONE);
    assert_string_equal(received.stats_file, stats_file);
    assert_int_equal(RECEIVE("--features", "ring,mark"), EXIT_DONE);
    assert_int_equal(received.features, FEATURE_RING | FEATURE_MARK);
    assert_int_equal(RECEIVE("--features", "none"), EXIT_DONE);
    assert_int_equal(received.features, 0);
    assert_int_equal(RECEIVE("--features", "mark,prep,ring,range,superpages"), EXIT_DONE);
    assert_int_equal(received.features, plain.features);
    assert_int_equal(plain.features, FEATURES_ALL);
    assert_int_equal(RECEIVE("--range", "64"), EXIT_DONE);
    assert_int_equal(received.range_foreign, 64);
    assert_int_equal(received.range_guest, plain.range_guest);
    assert_int_equal(RECEIVE("--range", "1:8"), EXIT_DONE);
    assert_int_equal(received.range_foreign, 1);
    assert_int_equal(received.range_guest, 8);
    assert_int_equal(RECEIVE("--widen", "256"), EXIT_DONE);
    assert_int_equal(received.widen, 256);
    assert_int_equal(RECEIVE("--trace", "file"), EXIT_DONE);
    assert_string_equal(received.trace, "file");
    received.trace = NULL;
    received.widen = plain.widen;
    received.empty_dir = plain.empty_dir;
    assert_memory_equal(&received, &plain, sizeof(plain));
    assert_int_equal(RECEIVE("--evict", "all", "--baseline"), EXIT_DONE);
    assert_int_equal(received.features, 0);
    assert_int_equal(received.streams, 0);
    assert_int_equal(RECEIVE("--evict", "all"), EXIT_DONE);
    received.empty_dir = plain.empty_dir;
    assert_memory_equal(&received, &plain, sizeof(plain));
}

static void rot_07_every_long_option_of_serve_sets_its_own_field(void **state)
{
    (void)state;
    assert_int_equal(SERVE(NULL), EXIT_DONE);
    assert_int_equal(runs, 1);
    assert_string_equal(served.domain, "guest");
    assert_string_equal(served.listen, "[::1]:7002");
    assert_string_equal(served.run_dir, folder);
    assert_null(served.stats_file);
    assert_int_equal(SERVE("--stats-file", stats_file), EXIT_DONE);
    assert_string_equal(served.stats_file, stats_file);
    assert_int_equal(served.max_push, 0);
    assert_int_equal(SERVE("--max-push", "25"), EXIT_DONE);
    assert_int_equal(served.max_push, 25);
    assert_int_equal(served.order, PUSH_ADAPTIVE);
    assert_int_equal(SERVE("--order", "push"), EXIT_DONE);
    assert_int_equal(served.order, PUSH_ONLY);
    assert_int_equal(SERVE("--order", "best"), EXIT_USAGE);
    assert_int_equal(SERVE("--baseline"), EXIT_DONE);
    assert_int_equal(served.order, PUSH_FOLLOW);
    assert_int_equal(SERVE("--max-push", "25"), EXIT_DONE);
    assert_int_equal(served.streams, 1);
    assert_int_equal(served.sender_uid, 65534);
    assert_int_equal(served.sender_gid, 65534);
    assert_int_equal(SERVE("--streams", "0"), EXIT_DONE);
    assert_int_equal(served.streams, 0);
    assert_int_equal(SERVE("--streams", "8"), EXIT_DONE);
    assert_int_equal(served.streams, 8);
    assert_int_equal(SERVE("--streams", "8", "--baseline"), EXIT_DONE);
    assert_int_equal(served.streams, 0);
    assert_int_equal(SERVE("--sender-uid", "1000"), EXIT_DONE);
    assert_int_equal(served.sender_uid, 1000);
    assert_int_equal(served.sender_gid, 1000);
    assert_int_equal(SERVE("--sender-uid", "100:105"), EXIT_DONE);
    assert_int_equal(served.sender_uid, 100);
    assert_int_equal(served.sender_gid, 105);
}

#define ID "0123456789abcdef"

static void what_comes_with_xl(void **state)
{
    char fd[16];
    int set = dup(STDERR_FILENO);

    (void)state;
    snprintf(fd, sizeof(fd), "%d", set);
    assert_int_equal(RECEIVE("--session", ID, "--set-fd", fd, "--watch-pid", "4711"), EXIT_DONE);
    assert_true(received.push_on_commit && !received.push_on_fault);
    assert_string_equal(received.session, ID);
    assert_int_equal(received.set_fd, set);
    assert_int_equal(received.watch_pid, 4711);
    assert_false(received.detach);
    /* It is ours alone. */
    assert_int_equal(fcntl(set, F_GETFD), FD_CLOEXEC);
    assert_false(received.early);
    assert_int_equal(RECEIVE("--session", ID, "--set-fd", fd, "--early"), EXIT_DONE);
    assert_true(received.early);
    assert_int_equal(RECEIVE("--early"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--session", ID), EXIT_USAGE);
    assert_int_equal(RECEIVE("--set-fd", fd), EXIT_USAGE);
    assert_int_equal(RECEIVE("--watch-pid", "1"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--session", "x", "--set-fd", fd), EXIT_USAGE);
    assert_int_equal(RECEIVE("--session", ID, "--set-fd", "2"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--session", ID, "--set-fd", "999"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--session", ID, "--set-fd", fd, "--watch-pid", "0"), EXIT_USAGE);
    assert_int_equal(runs, 0);
    assert_int_equal(run(cmd_serve, "serve", "--transport",
                         (const char *const[]){"--session", ID, "--set-fd", fd, "--destroy", NULL}),
                     EXIT_DONE);
    assert_string_equal(served.session, ID);
    assert_string_equal(served.transport, "[::1]:7002");
    assert_int_equal(served.set_fd, set);
    assert_true(served.destroy);
    assert_null(served.listen);
    assert_int_equal(SERVE("--session", ID, "--set-fd", fd, "--transport", "ssh b"), EXIT_USAGE);
    assert_int_equal(SERVE("--transport", "ssh b"), EXIT_USAGE);
    assert_int_equal(SERVE("--destroy"), EXIT_USAGE);
    assert_int_equal(runs, 0);
    close(set);
}

static void numbers_have_limits(void **state)
{
    static const char *const bad[] = {"0", "15", "65537", "-1", "", "64k", "99999999999999999999"};
    static const char *const bad_streams[] = {"9", "-1", "", "1x", "4294967296"};
    static const char *const bad_uids[] = {"0",    "100:0", "0:100",         ":", "100:", ":100",
                                           "root", "1:2:3", "100:2147483648"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(RECEIVE("--pool-pages", bad[i]), EXIT_USAGE);
        assert_int_equal(runs, 0);
    }
    assert_int_equal(SERVE("--max-push", "-1"), EXIT_USAGE);
    assert_int_equal(SERVE("--max-push", "4294967296"), EXIT_USAGE);
    assert_int_equal(SERVE("--max-push", "10M"), EXIT_USAGE);
    assert_int_equal(SERVE("--max-push", ""), EXIT_USAGE);
    assert_int_equal(SERVE("--max-push", "4294967295"), EXIT_DONE);
    assert_int_equal(RECEIVE("--pool-pages", "16"), EXIT_DONE);
    assert_int_equal(RECEIVE("--pool-pages", "65536"), EXIT_DONE);
    for (size_t i = 0; i < sizeof(bad_uids) / sizeof(bad_uids[0]); i++) {
        assert_int_equal(RECEIVE("--feeder-uid", bad_uids[i]), EXIT_USAGE);
        assert_int_equal(SERVE("--sender-uid", bad_uids[i]), EXIT_USAGE);
        assert_int_equal(runs, 0);
    }
    for (size_t i = 0; i < sizeof(bad_streams) / sizeof(bad_streams[0]); i++) {
        assert_int_equal(RECEIVE("--streams", bad_streams[i]), EXIT_USAGE);
        assert_int_equal(SERVE("--streams", bad_streams[i]), EXIT_USAGE);
        assert_int_equal(runs, 0);
    }
}

static void what_is_unknown_or_too_much_is_a_usage_error(void **state)
{
    (void)state;
    assert_int_equal(RECEIVE("--no-such-option"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--push", "later"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--verify=some"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--evict", "none"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--features", ""), EXIT_USAGE);
    assert_int_equal(RECEIVE("--features", "mark,"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--features", "mar"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--features", "mark,all"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--range", "512"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--range", "3"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--range", "64:"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--range", ":4"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--range", "00000000064"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--widen", "0"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--widen", "100"), EXIT_USAGE);
    assert_int_equal(RECEIVE("another"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--domain", "a/b"), EXIT_USAGE);
    assert_int_equal(RECEIVE("--token-file", "/nonexistent"), EXIT_USAGE);
    assert_int_equal(SERVE("--connect", "[::1]:1"), EXIT_USAGE);
    assert_int_equal(SERVE("--listen", ":7002"), EXIT_USAGE);
    assert_int_equal(runs, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rot_07_every_long_option_of_receive_sets_its_own_field),
        cmocka_unit_test(rot_07_every_long_option_of_serve_sets_its_own_field),
        cmocka_unit_test(what_comes_with_xl),
        cmocka_unit_test(numbers_have_limits),
        cmocka_unit_test(what_is_unknown_or_too_much_is_a_usage_error),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
