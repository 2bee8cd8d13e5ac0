/* receive --trace: what is in the file is what happened, also when a pager is killed, or there is no room. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "commands.h"
#include "exit_status.h"
#include "fixture.h"
#include "trace.h"

static char folder[] = "/tmp/test-trace-XXXXXX";
static char path[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/trace", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static FILE *open_trace(struct trace_header *header)
{
    FILE *file = fopen(path, "re");

    assert_non_null(file);
    assert_int_equal(trace_read_header(file, header), 0);
    return file;
}

static void what_is_put_is_read(void **state)
{
    struct trace t;
    struct trace_header header;
    struct trace_record e;
    uint64_t begun, last = 0;
    FILE *file;

    (void)state;
    assert_int_equal(trace_open(&t, path, "a domain whose name is longer than what has room", false), 0);
    begun = t.begun_ns;
    for (uint64_t i = 0; i < 3 * TRACE_PIECE; i++)
        trace_put(&t, begun + i, TRACE_ARRIVAL, UINT64_C(1) << 39, TRACE_NOBODY, (uint32_t)i);
    trace_write(&t);
    assert_int_equal(trace_waiting(&t), 2 * TRACE_PIECE);
    trace_put(&t, begun + 5000000, TRACE_FAULT, 7, 3, 1);
    trace_close(&t);
    /* Another pager, after one that was killed amid a write. */
    assert_int_equal(truncate(path, TRACE_HEADER + (3 * TRACE_PIECE + 1) * TRACE_RECORD + 5), 0);
    assert_int_equal(trace_open(&t, path, "", true), 0);
    assert_int_equal(t.begun_ns, begun);
    trace_put(&t, begun + 6000000, TRACE_START, 0, TRACE_NOBODY, 1);
    trace_close(&t);
    trace_close(&t);
    trace_put(&t, 0, TRACE_START, 0, 0, 0);
    trace_write(&t);

    file = open_trace(&header);
    assert_int_equal(header.monotonic_ns, begun);
    assert_string_equal(header.name, "a domain whose name is longer th");
    for (uint64_t i = 0; i < 3 * TRACE_PIECE; i++) {
        assert_true(trace_read(file, &e));
        assert_true(e.ns >= last && e.event == TRACE_ARRIVAL && e.gfn == UINT64_C(1) << 39 && e.detail == i);
        last = e.ns;
    }
    assert_true(trace_read(file, &e));
    assert_true(e.ns == 5000000 && e.event == TRACE_FAULT && e.gfn == 7 && e.who == 3 && e.detail == 1);
    assert_true(trace_read(file, &e));
    assert_true(e.ns == 6000000 && e.event == TRACE_START && e.detail == 1);
    assert_false(trace_read(file, &e));
    fclose(file);
}

/* Nobody writes for so long that there is no room; then it goes on. */
static void what_does_not_fit_is_counted(void **state)
{
    struct trace t;
    struct trace_header header;
    struct trace_record e;
    uint64_t n = 0, lost = 0, starts = 0;
    FILE *file;

    (void)state;
    assert_int_equal(trace_open(&t, path, "d", false), 0);
    for (uint64_t i = 0; i < TRACE_RING + 100; i++)
        trace_put(&t, t.begun_ns, TRACE_ARRIVAL, i, TRACE_NOBODY, 0);
    assert_int_equal(t.lost, 101);
    trace_write(&t);
    trace_put(&t, t.begun_ns, TRACE_START, 0, TRACE_NOBODY, 0);
    for (uint64_t i = 0; i < TRACE_RING; i++)
        trace_put(&t, t.begun_ns, TRACE_ARRIVAL, i, TRACE_NOBODY, 0);
    trace_close(&t);

    file = open_trace(&header);
    while (trace_read(file, &e)) {
        n += e.event == TRACE_ARRIVAL;
        starts += e.event == TRACE_START;
        if (e.event == TRACE_LOST)
            lost += e.detail;
        /* It says so where it is. */
        assert_true(e.event != TRACE_START || lost == 101);
    }
    fclose(file);
    assert_int_equal(starts, 1);
    assert_int_equal(lost, t.lost);
    assert_int_equal(n + starts + lost, t.events);
}

static void what_is_no_trace_is_refused(void **state)
{
    struct trace t;
    struct stat st;
    FILE *file;

    (void)state;
    assert_int_equal(trace_open(&t, folder, "d", false), -EISDIR);
    assert_int_equal(trace_open(&t, "/dev/null", "d", false), -EINVAL);
    assert_int_equal(trace_open(&t, "/nonexistent/trace", "d", false), -ENOENT);
    file = fopen(path, "we");
    fputs("XPCTRACE but not really, although it is long enough to have a header, isn't it", file);
    fclose(file);
    assert_int_equal(trace_open(&t, path, "d", true), -ENODATA);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(trace_open(&t, path, "d", true), -ENODATA);
    assert_int_equal(trace_open(&t, path, "d", false), 0);
    assert_int_equal(fstat(t.fd, &st), 0);
    trace_close(&t);
    assert_int_equal(st.st_size, TRACE_HEADER);
}

static void a_full_disk_ends_it(void **state)
{
    struct trace t;

    (void)state;
    assert_int_equal(trace_open(&t, path, "d", false), 0);
    trace_put(&t, t.begun_ns, TRACE_DROP, 1, 0, 0);
    trace_write(&t);
    trace_put(&t, t.begun_ns, TRACE_DROP, 2, 0, 0);
    /* Nothing that a file can be asked for fails more reliably. */
    t.bytes = UINT64_MAX / 2;
    trace_write(&t);
    assert_true(t.error != 0);
    trace_put(&t, t.begun_ns, TRACE_DROP, 3, 0, 0);
    assert_int_equal(t.lost, 2);
    assert_int_equal(t.events, 3);
    trace_close(&t);
}

/* What xenpaging-pc trace prints. */
static int printed(char *text, size_t size, const char *option)
{
    char *argv[] = {(char *)"trace", path, (char *)option, NULL};
    char out[80];
    int status, argc = option ? 3 : 2;
    FILE *file;
    pid_t pid;

    snprintf(out, sizeof(out), "%s/out", folder);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        if (!freopen(out, "w", stdout) || !freopen("/dev/null", "w", stderr))
            _exit(99);
        status = cmd_trace(argc, argv);
        fflush(stdout);
        _exit(status);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    file = fopen(out, "re");
    assert_non_null(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
    unlink(out);
    return WEXITSTATUS(status);
}

static void it_is_printed(void **state)
{
    char text[4096];
    struct trace t;

    (void)state;
    assert_int_equal(trace_open(&t, path, "guest", false), 0);
    trace_put(&t, t.begun_ns, TRACE_START, 0, TRACE_NOBODY, 0);
    trace_put(&t, t.begun_ns + 1000, TRACE_FAULT, 0x1234, 3, PAGE_ABSENT);
    trace_put(&t, t.begun_ns + 1000, TRACE_ASK, 0x1234, 2, 1);
    trace_put(&t, t.begun_ns + 1500, TRACE_MAP, 0x99, TRACE_NOBODY, PAGE_PRESENT);
    trace_put(&t, t.begun_ns + 2000, TRACE_ARRIVAL, 0x55, TRACE_NOBODY, PAGE_ABSENT);
    trace_put(&t, t.begun_ns + 251000, TRACE_ARRIVAL, 0x1234, TRACE_NOBODY, PAGE_REQUESTED);
    trace_put(&t, t.begun_ns + 251000, TRACE_ANSWER, 0x1234, 3, 0);
    trace_put(&t, t.begun_ns + 1000251000, TRACE_DROP, 0x77, TRACE_NOBODY, PAGE_ABSENT);
    trace_close(&t);
    assert_int_equal(printed(text, sizeof(text), NULL), EXIT_DONE);
    assert_non_null(strstr(text, "0.000000000 start   0\n0.000001000 fault   0x1234       vcpu 3 absent\n"));
    assert_non_null(strstr(text, "0.000001000 ask     0x1234       1 pages, urgency 2\n"));
    assert_non_null(strstr(text, "0.000251000 answer  0x1234       vcpu 3 waited 250.0 us\n"));
    assert_non_null(strstr(text, "1.000251000 drop    0x77         absent\n"));
    assert_non_null(strstr(text, "# arrivals 2 (unasked 1), drops 1, pagers 1, lost events 0"));
    assert_int_equal(printed(text, sizeof(text), "--summary"), EXIT_DONE);
    assert_true(strncmp(text, "# domain guest: faults 1 (on absent pages 1, under way 0), maps 1", 65) == 0);
    assert_non_null(strstr(text, "# waits of vcpus 1: mean 250.0 us"));
    assert_int_equal(printed(text, sizeof(text), "--nonsense"), EXIT_USAGE);
    assert_int_equal(printed(text, sizeof(text), "another"), EXIT_USAGE);
    assert_int_equal(truncate(path, 60), 0);
    assert_int_equal(printed(text, sizeof(text), NULL), EXIT_FAILED);
}

/* -- sessions */

struct sums {
    uint64_t n[TRACE_EVENTS], asked, unasked_arrivals;
};

static struct sums sum_up(const struct fixture *f)
{
    struct sums sums = {{0}, 0, 0};
    struct trace_header header;
    struct trace_record e;
    uint64_t last = 0;
    FILE *file;

    file = fopen(f->receive.trace, "re");
    assert_non_null(file);
    assert_int_equal(trace_read_header(file, &header), 0);
    while (trace_read(file, &e)) {
        assert_non_null(trace_event_name(e.event));
        assert_true(e.ns >= last);
        last = e.ns;
        sums.n[e.event]++;
        sums.asked += e.event == TRACE_ASK ? e.detail : 0;
        sums.unasked_arrivals += e.event == TRACE_ARRIVAL && e.detail == PAGE_ABSENT;
    }
    fclose(file);
    return sums;
}

static void whole(struct fixture *f)
{
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_DONE);
    f->receive_pid = 0;
    assert_int_equal(fixture_wait(f->serve_pid), EXIT_DONE);
    f->serve_pid = 0;
    assert_int_equal(f->results[1].wrong_pages, 0);
    assert_int_equal(f->results[1].violations, 0);
}

static void a_session_is_in_it(void **state)
{
    struct fixture *f = *state;
    char file[128];
    json_t *receive;
    struct sums sums;

    snprintf(file, sizeof(file), "%s/trace", f->dir);
    f->receive.trace = file;
    f->receive.push_on_fault = true;
    f->destination.foreign_percent = 10;
    f->destination.drop_percent = 2;
    fixture_start_serve(f);
    fixture_start_receive(f);
    whole(f);
    receive = fixture_last(f, "receive");
    sums = sum_up(f);
    assert_int_equal(sums.n[TRACE_START], 1);
    assert_int_equal(sums.n[TRACE_LOST], 0);
    assert_int_equal(sums.n[TRACE_FAULT], figure(receive, "ring", "guest"));
    assert_int_equal(sums.n[TRACE_MAP], figure(receive, "ring", "foreign"));
    assert_true(sums.n[TRACE_FAULT] > 10 && sums.n[TRACE_MAP] > 0 && sums.n[TRACE_ANSWER] > 10);
    assert_int_equal(sums.n[TRACE_ARRIVAL],
                     figure(receive, "pages", "set") - figure(receive, "pages", "dropped") +
                         figure(receive, "link", "late") + figure(receive, "link", "duplicates"));
    /* Those that a vcpu came to wait for twice, first with their neighbours. */
    assert_int_equal(sums.asked, figure(receive, "link", "asked") + figure(receive, "link", "promoted"));
    assert_true(sums.unasked_arrivals > 100);
    assert_int_equal(figure(receive, "trace", "lost"), 0);
    assert_true(figure(receive, "trace", "events") > 1300);
    json_decref(receive);
    unlink(file);
}

static void the_next_pager_goes_on_with_it(void **state)
{
    struct fixture *f = *state;
    char file[128];
    json_t *report;
    struct sums sums;

    snprintf(file, sizeof(file), "%s/trace", f->dir);
    f->receive.trace = file;
    report = fixture_idle(f);
    usleep(300000); /* what is written every 100 ms is, and the rest dies with the pager */
    kill(fixture_process(report, "pager"), SIGKILL);
    json_decref(report);
    json_decref(fixture_await(f, "receive", "active"));
    assert_int_equal(kill(f->domain_pid, SIGUSR2), 0);
    whole(f);
    sums = sum_up(f);
    assert_int_equal(sums.n[TRACE_START], 2);
    assert_true(sums.n[TRACE_ARRIVAL] > 1200);
    unlink(file);
}

static void where_it_cannot_be_nothing_begins(void **state)
{
    struct fixture *f = *state;

    f->receive.trace = "/nonexistent/trace";
    fixture_start_serve(f);
    fixture_start_receive(f);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_FAILED);
    f->receive_pid = 0;
    kill(f->serve_pid, SIGTERM);
    fixture_wait(f->serve_pid);
    f->serve_pid = 0;
}

int main(void)
{
#define SESSION(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_read),
        cmocka_unit_test(what_does_not_fit_is_counted),
        cmocka_unit_test(what_is_no_trace_is_refused),
        cmocka_unit_test(a_full_disk_ends_it),
        cmocka_unit_test(it_is_printed),
        SESSION(a_session_is_in_it),
        SESSION(the_next_pager_goes_on_with_it),
        SESSION(where_it_cannot_be_nothing_begins),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
