#include "switch_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "commands.h"
#include "exit_status.h"
#include "wire/bytes.h"

#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

char exe[200];

void script(const char *path, const char *fmt, ...)
{
    FILE *out = fopen(path, "we");
    va_list ap;

    assert_non_null(out);
    fprintf(out, "#!/bin/sh\n");
    va_start(ap, fmt);
    vfprintf(out, fmt, ap);
    va_end(ap);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

char *in_dir(const struct move *m, const char *name)
{
    static char path[4][256];
    static unsigned int i;

    i = (i + 1) % 4;
    snprintf(path[i], sizeof(path[i]), "%s/%s", m->f.dir, name);
    return path[i];
}

static void write_token(const struct move *m, unsigned int byte)
{
    FILE *out = fopen(in_dir(m, ID ".token"), "we");

    for (int i = 0; i < 32; i++)
        fprintf(out, "%02x", byte);
    fprintf(out, "\n");
    fclose(out);
    assert_int_equal(chmod(in_dir(m, ID ".token"), 0600), 0);
}

bool outstanding(uint64_t gfn)
{
    return (gfn < 600 || gfn >= 800) && gfn != 1490;
}

void write_set(int fd, uint64_t without, uint64_t with)
{
    static uint8_t bytes[SET_FILE_HEAD + (NR + 63) / 64 * 8];
    uint64_t count = 0;

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, SET_FILE_MAGIC, 8);
    put_u64(bytes + 8, NR);
    for (uint64_t gfn = 0; gfn < NR; gfn++) {
        if ((outstanding(gfn) && gfn != without) || gfn == with) {
            bytes[SET_FILE_HEAD + gfn / 8] |= (uint8_t)(1u << gfn % 8);
            count++;
        }
    }
    put_u64(bytes + 16, count);
    assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    assert_int_equal(fcntl(fd, F_ADD_SEALS, ALL_SEALS), 0);
}

/* What libxc hands over then. */
void write_early(int fd, bool (*in)(uint64_t gfn))
{
    static uint8_t bytes[SET_FILE_HEAD + (NR + 63) / 64 * 8];
    uint64_t count = 0, nr = 0;

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, SET_FILE_MAGIC, 8);
    for (uint64_t gfn = 0; gfn < NR; gfn++) {
        if (in(gfn)) {
            bytes[SET_FILE_HEAD + gfn / 8] |= (uint8_t)(1u << gfn % 8);
            nr = gfn + 1;
            count++;
        }
    }
    put_u64(bytes + 8, nr);
    put_u64(bytes + 16, count);
    assert_int_equal(pwrite(fd, bytes, SET_FILE_HEAD + (nr + 63) / 64 * 8, 0),
                     SET_FILE_HEAD + (nr + 63) / 64 * 8);
}

static pid_t start_xl(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        for (;;)
            pause();
    }
    return pid;
}

void kill_xl(struct move *m, int side)
{
    kill(m->xl[side], SIGKILL);
    waitpid(m->xl[side], NULL, 0);
    m->xl[side] = 0;
}

int setup(void **state)
{
    struct move *m = calloc(1, sizeof(*m));

    fixture_init(&m->f);
    write_token(m, TOKEN_BYTE);
    snprintf(m->join, sizeof(m->join), "unix:%s", in_dir(m, ID ".join"));
    snprintf(m->transport, sizeof(m->transport), "%s b", in_dir(m, "transport"));
    snprintf(m->xl_script, sizeof(m->xl_script), "%s", in_dir(m, "xl"));
    /* transport HOST xenpaging-pc join ...: on the other host. */
    script(in_dir(m, "transport"),
           "shift 2\ncat /proc/self/oom_score_adj >%s/transport.oom\nexec %s \"$@\" --run-dir %s\n", m->f.dir,
           exe, m->f.dir);
    /* The destination's domain is a process; the source's is in serve, which has started us. */
    script(m->xl_script,
           "echo \"$@\" >>%s/xl.log\n"
           "if [ -e %s/xl-fails ]; then echo 'xl: not today' >&2; exit 3; fi\n"
           "cat /proc/self/oom_score_adj >%s/xl.oom\n"
           "case $1$2 in destroy8) kill -USR1 $(cat %s/domain.pid); sleep 0.3;;\n"
           "destroy*) kill -USR1 $PPID; sleep 0.3;;\n"
           "unpause*) kill -USR2 $(cat %s/domain.pid); sleep 0.3;; esac\n",
           m->f.dir, m->f.dir, m->f.dir, m->f.dir, m->f.dir);
    for (int i = 0; i < 2; i++) {
        m->set_fd[i] = memfd_create("set", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        m->xl[i] = start_xl();
    }
    m->f.source.running = true;
    m->f.destination.switched = true;
    m->f.destination.auto_unpause = false;
    m->f.serve.listen = NULL;
    m->f.serve.bound = NULL;
    m->f.serve.session = ID;
    m->f.serve.transport = m->transport;
    m->f.serve.set_fd = m->set_fd[0];
    m->f.serve.watch_pid = m->xl[0];
    m->f.serve.destroy = true;
    m->f.serve.xl = m->xl_script;
    m->f.receive.connect = m->join;
    m->f.receive.session = ID;
    m->f.receive.set_fd = m->set_fd[1];
    m->f.receive.watch_pid = m->xl[1];
    m->f.receive.xl = m->xl_script;
    *state = m;
    return 0;
}

int teardown(void **state)
{
    struct move *m = *state;

    for (int i = 0; i < 2; i++) {
        close(m->set_fd[i]);
        if (m->xl[i])
            kill_xl(m, i);
    }
    fixture_free(&m->f);
    free(m);
    return 0;
}

int command(const struct move *m, const char *fmt, ...)
{
    char words[256], line[5120];
    va_list ap;
    int rc;

    va_start(ap, fmt);
    vsnprintf(words, sizeof(words), fmt, ap);
    va_end(ap);
    snprintf(line, sizeof(line), "%s %s --run-dir %s >>%s/command.log 2>&1 </dev/null", exe, words, m->f.dir,
             m->f.dir);
    rc = system(line);
    assert_true(WIFEXITED(rc));
    return WEXITSTATUS(rc);
}

bool file_has(const struct move *m, const char *name, const char *text)
{
    static char bytes[65536];
    FILE *in = fopen(in_dir(m, name), "re");
    size_t n = in ? fread(bytes, 1, sizeof(bytes) - 1, in) : 0;

    if (in)
        fclose(in);
    bytes[n] = '\0';
    return strstr(bytes, text);
}

void start_serve(struct move *m)
{
    fixture_start_serve(&m->f);
    json_decref(fixture_await(&m->f, "serve", "listen"));
}

void suspend(struct move *m)
{
    m->f.results[0].suspended = true;
    write_set(m->set_fd[0], UINT64_MAX, UINT64_MAX);
    write_set(m->set_fd[1], UINT64_MAX, UINT64_MAX);
}

/* The source runs, and receive has marked. */
void start_early(struct move *m, bool (*early)(uint64_t gfn))
{
    m->f.receive.early = true;
    write_early(m->set_fd[1], early);
    start_serve(m);
    fixture_start_receive(&m->f);
    json_decref(fixture_await(&m->f, "receive", "listen"));
}

/* The stream is in; status: what comes of it. */
void send_all(struct move *m, int status)
{
    m->f.results[0].suspended = true;
    assert_int_equal(ftruncate(m->set_fd[1], 0), 0);
    lseek(m->set_fd[1], 0, SEEK_SET);
    write_set(m->set_fd[0], UINT64_MAX, UINT64_MAX);
    write_set(m->set_fd[1], UINT64_MAX, UINT64_MAX);
    assert_int_equal(command(m, "activate --session " ID), status);
}

void ready(struct move *m)
{
    start_serve(m);
    suspend(m);
    fixture_start_receive(&m->f);
    json_decref(fixture_await(&m->f, "receive", "active"));
}

void commit(struct move *m, const char *role)
{
    assert_int_equal(command(m, "commit --role %s --session " ID, role), 0);
}

void unpause(const struct move *m)
{
    assert_int_equal(kill(m->f.domain_pid, SIGUSR2), 0);
}

void commit_both(struct move *m)
{
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_int_equal(m->f.results[1].wrong_pages, 0);
    nothing_wrong(m);
}

void await_reason(struct move *m, const char *role, const char *reason)
{
    for (int i = 0; i < 3000; i++) {
        json_t *report = fixture_status(&m->f, role);
        const char *now = json_string_value(json_object_get(report, "reason"));
        bool there = now && strstr(now, reason);

        json_decref(report);
        if (there)
            return;
        usleep(20000);
    }
    fail();
}

void ends(pid_t *pid, int status)
{
    assert_int_equal(fixture_wait(*pid), status);
    *pid = 0;
}

void last_reason(struct move *m, const char *role, const char *text)
{
    json_t *report = fixture_last(&m->f, role);
    const char *reason = json_string_value(json_object_get(report, "reason"));

    if (!reason || !strstr(reason, text))
        fprintf(stderr, "%s: reason is '%s', not '%s'\n", role, reason ? reason : "", text);
    assert_non_null(reason);
    assert_non_null(strstr(reason, text));
    json_decref(report);
}

void nothing_wrong(const struct move *m)
{
    assert_int_equal(m->f.results[0].violations, 0);
    assert_int_equal(m->f.results[1].violations, 0);
    assert_int_equal(m->f.results[0].our_pauses, 0);
    assert_int_equal(m->f.results[1].claim, 0);
}

void no_file_is_left(const struct move *m)
{
    char line[256];

    snprintf(line, sizeof(line), "! ls %s | grep -q '^" ID "'", m->f.dir);
    assert_int_equal(system(line), 0);
}

void both_give_up(struct move *m)
{
    ends(&m->f.serve_pid, EXIT_FAILED);
    ends(&m->f.receive_pid, EXIT_FAILED);
    nothing_wrong(m);
    assert_true(m->f.results[0].forgotten > 0);
    assert_true(m->f.results[1].forgotten > 0);
    assert_false(file_has(m, "xl.log", "destroy 7"));
}

int switch_main(int argc, char **argv, const struct CMUnitTest *tests, size_t n)
{
    if (argc > 1 && strcmp(argv[1], "join") == 0)
        return cmd_join(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "activate") == 0)
        return cmd_activate(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "commit") == 0)
        return cmd_commit(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "abort") == 0)
        return cmd_abort(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "recover") == 0)
        return cmd_recover(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "status") == 0)
        return cmd_status(argc - 1, argv + 1);
    if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0)
        return 1;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return _cmocka_run_group_tests(argv[0], tests, n, NULL, NULL);
}
