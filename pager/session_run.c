#include "session_run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"

void report_number(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double seconds(struct timeval tv)
{
    return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

static json_t *uuid_json(const uint8_t *u)
{
    return json_sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
                        u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
                        u[15]);
}

/* CPU time of this process and (receive) of its feeder once that has ended. */
static json_t *cpu_json(const struct session_run *run)
{
    json_t *o = json_object();
    struct rusage self, children;

    getrusage(RUSAGE_SELF, &self);
    if (run->feeder)
        children = *run->feeder;
    else
        getrusage(RUSAGE_CHILDREN, &children);
    json_object_set_new(o, "user", json_real(seconds(self.ru_utime)));
    json_object_set_new(o, "system", json_real(seconds(self.ru_stime)));
    json_object_set_new(o, "feeder_user", json_real(seconds(children.ru_utime)));
    json_object_set_new(o, "feeder_system", json_real(seconds(children.ru_stime)));
    return o;
}

/* brief: rendering and reading all of it takes milliseconds of a suspended guest's time where one slow CPU
 * does both. */
static json_t *render(void *data, bool brief)
{
    struct session_run *run = data;
    json_t *report = json_object(), *seen, *at;

    if (!report)
        return NULL;
    json_object_set_new(report, "role", json_string(run->role));
    json_object_set_new(report, "domain", json_string(run->domain));
    json_object_set_new(report, "domid", json_integer(run->be->domid));
    if (run->session) {
        json_object_set_new(report, "session", json_string(run->session));
        json_object_set_new(report, "committed", json_boolean(run->committed));
    }
    json_object_set_new(report, "state", json_string(session_state_name(run->state)));
    json_object_set_new(report, "reason", run->reason[0] ? json_string(run->reason) : json_null());
    if (session_final(run->state))
        json_object_set_new(report, "exit_status", json_integer(run->exit_status));
    if (brief)
        return report;
    json_object_set_new(report, "uuid", uuid_json(run->uuid));
    json_object_set_new(report, "pid", json_integer(run->pid ? run->pid : getpid()));
    seen = json_array();
    at = json_object();
    for (unsigned int i = 0; i < SESSION_STATES; i++) {
        const char *name = session_state_name((enum session_state)i);

        if (!run->entered_ns[i])
            continue;
        json_array_append_new(seen, json_string(name));
        json_object_set_new(at, name, json_real((double)(run->entered_ns[i] - run->started_ns) / 1e9));
    }
    json_object_set_new(report, "seen", seen);
    json_object_set_new(report, "entered_s", at);
    json_object_set_new(report, "started_at", json_real(run->started_at));
    json_object_set_new(report, "elapsed_s", json_real((double)(monotonic_ns() - run->started_ns) / 1e9));
    run->loops = ev_iteration(run->loop);
    json_object_set_new(report, "event_loops", json_integer(run->loops));
    json_object_set_new(report, "cpu_s", cpu_json(run));
    run->details(run->data, report);
    return report;
}

static const char *command(void *data, const char *word)
{
    struct session_run *run = data;
    const char *why = run->command ? run->command(run->data, word) : "this session takes no commands";

    if (why)
        return why;
    status_server_changed(&run->status);
    /* Of what "activate" begins the end is what matters. Who says another waits for the report, and a guest
     * for them. */
    if (strcmp(word, "activate") != 0)
        status_server_flush(&run->status);
    return NULL;
}

static void begin(struct session_run *run)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    run->started_at = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    run->started_ns = monotonic_ns();
    run->entered_ns[SESSION_SETUP] = run->started_ns;
    run->state = SESSION_SETUP;
}

int session_run_start_on(struct session_run *run, const struct backend *be, int status_fd, bool taken_over)
{
    char path[108], last[4096];

    if (!taken_over)
        begin(run);
    run->be = be;
    snprintf(path, sizeof(path), "%s/%s-%u.sock", run->run_dir, run->role, be->domid);
    snprintf(last, sizeof(last), "%s/%s-%u.last.json", run->run_dir, run->role, be->domid);
    if (status_fd < 0
            ? status_server_start(&run->status, run->loop, path, render, command, run)
            : status_server_start_on(&run->status, status_fd, run->loop, path, render, command, run)) {
        if (errno == EADDRINUSE)
            log_error("another '%s' session for domain %s (%u) is running; see xenpaging-pc status",
                      run->role, run->domain, be->domid);
        else
            log_error("status socket %s: %s", path, strerror(errno));
        return -1;
    }
    if (taken_over)
        return 0;
    unlink(last);
    if (run->ready_at == SESSION_SETUP)
        daemon_ready();
    return 0;
}

int session_run_start(struct session_run *run, const struct backend *be)
{
    return session_run_start_on(run, be, -1, false);
}

void session_run_enter(struct session_run *run, enum session_state state, const char *reason)
{
    if (state != run->state && !session_may(run->state, state)) {
        log_error("internal: no way from %s to %s", session_state_name(run->state),
                  session_state_name(state));
        return;
    }
    run->state = state;
    if (!run->entered_ns[state])
        run->entered_ns[state] = monotonic_ns();
    snprintf(run->reason, sizeof(run->reason), "%s", reason ? reason : "");
    log_line(state == SESSION_FAILED || state == SESSION_PAUSED ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO,
             "state %s%s%s", session_state_name(state), reason ? ": " : "", reason ? reason : "");
    if (state == run->ready_at)
        daemon_ready();
    status_server_changed(&run->status);
    if (session_final(state))
        status_server_flush(&run->status); /* no more turns of the loop */
}

void session_run_end(struct session_run *run, enum session_state state, int exit_status, const char *fmt, ...)
{
    char reason[768];
    va_list ap;

    if (session_final(run->state))
        return;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof(reason), fmt, ap);
    va_end(ap);
    run->exit_status = exit_status;
    session_run_enter(run, state, reason);
    ev_break(run->loop, EVBREAK_ALL);
}

static void write_json(const char *path, json_t *json)
{
    char fresh[4096];

    snprintf(fresh, sizeof(fresh), "%s.%ld", path, (long)getpid());
    if (json_dump_file(json, fresh, JSON_INDENT(2)) || rename(fresh, path)) {
        log_error("cannot write %s: %s", path, strerror(errno));
        unlink(fresh);
    }
}

static void last_words(struct session_run *run)
{
    char last[4096];
    json_t *report = render(run, false);

    snprintf(last, sizeof(last), "%s/%s-%u.last.json", run->run_dir, run->role, run->be->domid);
    if (report) {
        write_json(last, report);
        if (run->stats_file)
            write_json(run->stats_file, report);
    }
    json_decref(report);
}

void session_run_finish(struct session_run *run)
{
    last_words(run);
    /* After the last words are there: who waited for them finds them when the socket goes. */
    status_server_stop(&run->status);
}

void session_run_postscript(struct session_run *run, const char *text)
{
    size_t n = strlen(run->reason);

    snprintf(run->reason + n, sizeof(run->reason) - n, "; %s", text);
    log_info("%s", text);
    last_words(run);
}
