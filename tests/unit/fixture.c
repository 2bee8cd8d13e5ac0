#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "exit_status.h"
#include "log.h"
#include "net.h"
#include "run_dir.h"

#define PATIENCE_S (getenv("TEST_PATIENCE") ? atoi(getenv("TEST_PATIENCE")) : 60)

static int bound_pipe = -1;

static struct fake_crash *crash;

/* The fixture of the test that runs. */
static const struct fixture *running;

static struct backend *open_remote(const char *domain, char *why, size_t why_size)
{
    fake_crash_pager(crash);
    return fake_remote_open(domain, why, why_size);
}

static void tell_bound(const char *address)
{
    if (write(bound_pipe, address, strlen(address)) < 0)
        abort();
    close(bound_pipe);
}

void fixture_init(struct fixture *f)
{
    static char empty[4096];

    memset(f, 0, sizeof(*f));
    running = f;
    snprintf(f->dir, sizeof(f->dir), "/tmp/xenpaging-pc-test.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(run_dir_prepare(f->dir, empty, sizeof(empty)), 0);
    f->results =
        mmap(NULL, 2 * sizeof(*f->results), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    f->source = (struct fake_config){.nr_gfns = 1500,
                                     .hole_first = 600,
                                     .hole_count = 200,
                                     .special_gfn = 1490,
                                     .seed = 1,
                                     .spoil_gfn = UINT64_MAX,
                                     .results = &f->results[0]};
    f->destination = f->source;
    f->destination.seed = 0;
    f->destination.results = &f->results[1];
    f->destination.auto_unpause = true;
    f->destination.vcpus = 4;
    f->destination.touches = 400;
    f->destination.features = FEATURES_ALL;
    f->serve = (struct serve_options){.domain = "g",
                                      .listen = "127.0.0.1:0",
                                      .run_dir = f->dir,
                                      .streams = 1,
                                      .sender_uid = 65532,
                                      .sender_gid = 65531,
                                      .empty_dir = empty,
                                      .bound = tell_bound,
                                      .open = fake_open};
    f->receive = (struct receive_options){.domain = "g",
                                          .connect = f->address,
                                          .streams = 1,
                                          .run_dir = f->dir,
                                          .empty_dir = empty,
                                          .slots = 64,
                                          .features = FEATURES_ALL,
                                          .range_foreign = 256,
                                          .range_guest = 1,
                                          .feeder_uid = 65534,
                                          .feeder_gid = 65533,
                                          .open = open_remote};
    memset(f->serve.token, TOKEN_BYTE, sizeof(f->serve.token));
    memset(f->receive.token, TOKEN_BYTE, sizeof(f->receive.token));
}

static void end(pid_t *pid)
{
    if (*pid > 0) {
        kill(*pid, SIGKILL);
        waitpid(*pid, NULL, 0);
    }
    *pid = 0;
}

void fixture_free(struct fixture *f)
{
    char command[128];

    running = NULL;
    end(&f->serve_pid);
    end(&f->receive_pid);
    end(&f->domain_pid);
    /* It outlives its keeper, which was ours. */
    if (f->results[1].crash.pager > 0)
        kill(f->results[1].crash.pager, SIGKILL);
    munmap(f->results, 2 * sizeof(*f->results));
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    if (!getenv("TEST_KEEP"))
        assert_int_equal(system(command), 0);
}

static void quiet(struct fixture *f, const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s.log", f->dir, name);
    if (!getenv("TEST_VERBOSE") && log_open(path))
        abort();
    log_set_level(LOG_LEVEL_DEBUG);
    log_set_name(name);
}

void fixture_start_serve(struct fixture *f)
{
    int pipe_fd[2];
    ssize_t n;

    assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
    f->serve_pid = fork();
    if (f->serve_pid == 0) {
        quiet(f, "serve");
        bound_pipe = pipe_fd[1];
        fake_prepare(&f->source);
        _exit(serve_run(&f->serve));
    }
    close(pipe_fd[1]);
    if (f->serve.session) { /* it listens nowhere */
        close(pipe_fd[0]);
        return;
    }
    n = read(pipe_fd[0], f->address, sizeof(f->address) - 1);
    close(pipe_fd[0]);
    f->address[n > 0 ? n : 0] = '\0';
}

static void start_domain(struct fixture *f)
{
    char path[128];
    FILE *pid;

    end(&f->domain_pid);
    fake_remote_prepare();
    f->results[1].crash.pagers = 0;
    crash = &f->results[1].crash;
    f->domain_pid = fork();
    if (f->domain_pid == 0)
        fake_remote_serve(&f->destination);
    crash->unpause = crash->at[0] ? f->domain_pid : 0;
    /* For scripts that play xl. */
    snprintf(path, sizeof(path), "%s/domain.pid", f->dir);
    pid = fopen(path, "we");
    fprintf(pid, "%d\n", f->domain_pid);
    fclose(pid);
}

void fixture_start_receive(struct fixture *f)
{
    start_domain(f);
    f->receive_pid = fork();
    if (f->receive_pid == 0) {
        int rc;

        quiet(f, "receive");
        rc = receive_run(&f->receive);
        /* A guest that waits for pages that nobody brings never comes to its end. */
        if (f->results[1].ready && rc != EXIT_MISSING)
            fake_remote_check();
        _exit(rc);
    }
}

pid_t fixture_process(const json_t *report, const char *name)
{
    return (pid_t)figure(report, "processes", name);
}

/* What there is to see of processes that hang: their states, their words, their figures. */
static void testify(void)
{
    char command[512];

    if (!running)
        return;
    snprintf(command, sizeof(command),
             "ps -eo pid,ppid,stat,wchan:24,time,args | grep -F '%s' >&2;"
             " for log in %s/*.log; do echo \"-- $log\" >&2; tail -n 30 $log >&2; done;"
             " for sock in %s/*.sock; do echo \"-- $sock\" >&2;"
             " timeout 2 socat -u UNIX-CONNECT:$sock - >&2; done; true",
             program_invocation_short_name, running->dir, running->dir);
    if (system(command))
        fprintf(stderr, "not all of it could be had\n");
}

int fixture_wait(pid_t pid)
{
    /* Not by SIGCHLD: one that another thread of the test takes is lost. */
    struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int status, rc;

    assert_true(p.fd >= 0);
    while ((rc = poll(&p, 1, PATIENCE_S * 1000)) < 0 && errno == EINTR)
        ;
    close(p.fd);
    if (rc == 0) {
        fprintf(stderr, "process %d hangs: %d seconds\n", pid, PATIENCE_S);
        testify();
        fail();
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        return -WTERMSIG(status);
    return WEXITSTATUS(status);
}

static FILE *connect_status(struct fixture *f, const char *role, int tries)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct timeval patience = {PATIENCE_S, 0};
    int fd;

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s-%d.sock", f->dir, role,
             strcmp(role, "serve") == 0 ? 7 : 8);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* It is being started: its socket will be there in a moment, or fixture_wait() finds it ended. */
    while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) && --tries)
        usleep(10000);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fdopen(fd, "r");
}

static bool seen(const json_t *report, const char *state)
{
    const json_t *list = json_object_get(report, "seen");

    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), state) == 0)
            return true;
    return false;
}

json_t *fixture_await(struct fixture *f, const char *role, const char *state)
{
    FILE *stream = connect_status(f, role, 6000);
    json_t *report;

    while ((report = json_loadf(stream, JSON_DISABLE_EOF_CHECK, NULL)) && !seen(report, state))
        json_decref(report);
    fclose(stream);
    assert_non_null(report);
    return report;
}

json_t *fixture_try_status(struct fixture *f, const char *role)
{
    FILE *stream = connect_status(f, role, 1);
    json_t *report = json_loadf(stream, JSON_DISABLE_EOF_CHECK, NULL);

    fclose(stream);
    return report;
}

json_t *fixture_status(struct fixture *f, const char *role)
{
    FILE *stream = connect_status(f, role, 6000);
    json_t *report = json_loadf(stream, JSON_DISABLE_EOF_CHECK, NULL);

    fclose(stream);
    assert_non_null(report);
    return report;
}

json_t *fixture_last(struct fixture *f, const char *role)
{
    char path[128];
    json_t *report;

    snprintf(path, sizeof(path), "%s/%s-%d.last.json", f->dir, role, strcmp(role, "serve") == 0 ? 7 : 8);
    report = json_load_file(path, 0, NULL);
    assert_non_null(report);
    return report;
}

long long figure(const json_t *report, const char *group, const char *name)
{
    const json_t *value = json_object_get(json_object_get(report, group), name);

    if (!json_is_integer(value))
        fprintf(stderr, "no figure %s.%s\n", group, name);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

void fixture_serve_pauses(struct fixture *f, const char *reason)
{
    json_t *report = fixture_await(f, "serve", "paused");
    const char *said = json_string_value(json_object_get(report, "reason"));

    if (!said || !strstr(said, reason))
        fprintf(stderr, "serve is paused: %s\n", said ? said : "(no reason)");
    assert_true(said && strstr(said, reason));
    json_decref(report);
    end(&f->serve_pid);
}

int fixture_listen(struct fixture *f)
{
    char why[256];
    int fd = net_listen("127.0.0.1:0", f->address, sizeof(f->address), why, sizeof(why));

    assert_true(fd >= 0);
    fcntl(fd, F_SETFL, 0);
    return fd;
}

int fixture_dial(struct fixture *f)
{
    char why[256];
    struct timeval patience = {PATIENCE_S, 0};
    int fd = net_dial(f->address, 5000, why, sizeof(why));

    assert_true(fd >= 0);
    fcntl(fd, F_SETFL, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    fixture_init(f);
    *state = f;
    return 0;
}

int fixture_teardown(void **state)
{
    fixture_free(*state);
    free(*state);
    return 0;
}

json_t *fixture_idle(struct fixture *f)
{
    f->receive.push_on_fault = true;
    f->destination.auto_unpause = false;
    fixture_start_serve(f);
    fixture_start_receive(f);
    return fixture_await(f, "receive", "active");
}
