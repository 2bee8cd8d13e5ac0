// memwitness: a workload that knows every byte of its memory and says at once
// when one is wrong or a touch took too long. See README.md.
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "buffer.h"
#include "clock.h"
#include "events.h"
#include "options.h"
#include "report.h"
#include "sweep.h"
#include "tick.h"
#include "worker.h"

enum exit_status { EXIT_CLEAN, EXIT_WRONG_BYTES, EXIT_NOT_RUN };

// RUNNING: workload on. LAST_SWEEP: workload stopped, the final sweep runs.
enum phase { RUNNING, LAST_SWEEP, ENDED };

struct run {
    struct options options;
    struct buffer buffer;
    struct events events;
    struct worker_group workers;
    struct tick_group ticks;
    struct sweeper sweeper;
    struct report report;
    int signal_fd, command_fd;
    char command[64]; // a line of stdin, as far as it has come
    size_t command_len;
    enum phase phase;
    int64_t next_report, next_stats, next_sweep, deadline; // clock_now(); INT64_MAX = never
    uint64_t sweeps_asked;
};

static int fail(const char *what, int err)
{
    fprintf(stderr, "memwitness: %s: %s\n", what, strerror(err));
    return EXIT_NOT_RUN;
}

static size_t buffer_pages(const struct options *options)
{
    if (options->share != 0)
        return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)options->share / 100;
    return (size_t)options->mib << 20 >> 12;
}

static int open_port(struct run *run)
{
    struct port *port = &run->ticks.port;

    *port = (struct port){.method = PORT_NONE, .fd = -1};
    if (run->options.tick_ms == 0)
        return 0;
    if (run->options.tick_file)
        return port_open_file(port, run->options.tick_file);
    if (run->options.tick_port)
        return port_open(port, (unsigned int)run->options.tick_port);
    return 0;
}

static int open_signals(struct run *run)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    run->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return run->signal_fd < 0 ? -1 : 0;
}

// A console that echoes a command would put it in the middle of a line of JSON.
static void no_echo(void)
{
    struct termios terminal;

    if (tcgetattr(STDIN_FILENO, &terminal) != 0)
        return;
    terminal.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
}

static void ask_sweep(struct run *run)
{
    run->sweeps_asked++;
    sweeper_request(&run->sweeper);
}

// First call: stop the load and verify everything. Second call: leave off.
static void stop(struct run *run)
{
    if (run->phase == RUNNING) {
        workers_stop(&run->workers);
        run->phase = LAST_SWEEP;
        run->next_sweep = run->deadline = INT64_MAX;
        ask_sweep(run);
    } else {
        run->phase = ENDED;
    }
}

static void on_signals(struct run *run)
{
    struct signalfd_siginfo info;

    while (read(run->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGUSR1)
            ask_sweep(run);
        else if (info.ssi_signo == SIGUSR2)
            report_stats(&run->report);
        else
            stop(run);
    }
}

static void on_command(struct run *run, const char *line)
{
    if (strcmp(line, "sweep") == 0)
        ask_sweep(run);
    else if (strcmp(line, "stats") == 0)
        report_stats(&run->report);
    else if (strcmp(line, "stop") == 0 && run->phase == RUNNING)
        stop(run);
    else if (strcmp(line, "quit") == 0)
        run->phase = ENDED;
    else if (*line != '\0')
        fprintf(stderr, "memwitness: unknown command: %s\n", line);
}

static void on_stdin(struct run *run)
{
    char bytes[64];
    ssize_t got = read(STDIN_FILENO, bytes, sizeof(bytes));

    if (got <= 0) {
        run->command_fd = -1;
        return;
    }
    for (ssize_t i = 0; i < got; i++) {
        if (bytes[i] != '\n' && bytes[i] != '\r') {
            // What does not fit is no command: keep the start, which will not match.
            if (run->command_len < sizeof(run->command) - 1)
                run->command[run->command_len++] = bytes[i];
            continue;
        }
        run->command[run->command_len] = '\0';
        run->command_len = 0;
        on_command(run, run->command);
    }
}

static void on_events(struct run *run)
{
    struct event event;
    uint64_t count;

    if (read(run->events.wake_fd, &count, sizeof(count)) != sizeof(count))
        return;
    while (events_pop(&run->events, &event)) {
        report_event(&run->report, &event);
        if (event.kind != EVENT_SWEEP)
            continue;
        if (run->phase == LAST_SWEEP && event.sweep.number >= run->sweeps_asked)
            run->phase = ENDED;
        else if (run->phase == RUNNING && run->options.stop_after_sweeps != 0 &&
                 event.sweep.number + 1 >= run->options.stop_after_sweeps)
            stop(run);
    }
}

// Next time after now of something that is to happen every period.
static int64_t again(int64_t due, int64_t period, int64_t now)
{
    due += period;
    return due > now && due - now <= period ? due : now + period;
}

static void on_time(struct run *run, int64_t now)
{
    if (now >= run->next_report) {
        report_work(&run->report);
        run->next_report = again(run->next_report, (int64_t)run->options.report_ms * NS_PER_MS, now);
    }
    if (now >= run->next_stats) {
        report_stats(&run->report);
        run->next_stats = again(run->next_stats, (int64_t)run->options.stats_every * NS_PER_S, now);
    }
    if (now >= run->deadline) {
        stop(run);
        return;
    }
    if (now >= run->next_sweep) {
        ask_sweep(run);
        run->next_sweep = again(run->next_sweep, (int64_t)run->options.sweep_every * NS_PER_S, now);
    }
}

// Milliseconds until something is due, at most 1 s, so that a clock that
// stepped back cannot stop the reports.
static int time_left(const struct run *run, int64_t now)
{
    int64_t due = now + NS_PER_S;
    const int64_t all[] = {run->next_report, run->next_stats, run->next_sweep, run->deadline};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i] < due)
            due = all[i];
    return due <= now ? 0 : (int)((due - now + NS_PER_MS - 1) / NS_PER_MS);
}

static void supervise(struct run *run)
{
    while (run->phase != ENDED) {
        struct pollfd fds[] = {
            {.fd = run->signal_fd, .events = POLLIN},
            {.fd = run->events.wake_fd, .events = POLLIN},
            {.fd = run->command_fd, .events = POLLIN},
        };

        if (poll(fds, 3, time_left(run, clock_now())) < 0 && errno != EINTR)
            return;
        if (fds[0].revents)
            on_signals(run);
        if (fds[1].revents)
            on_events(run);
        if (fds[2].revents)
            on_stdin(run);
        on_time(run, clock_now());
    }
}

static int64_t in_seconds(int64_t start, uint64_t seconds)
{
    return seconds == 0 ? INT64_MAX : start + (int64_t)seconds * NS_PER_S;
}

static void set_times(struct run *run)
{
    int64_t start = run->workers.work.start;

    run->next_report = start + (int64_t)run->options.report_ms * NS_PER_MS;
    run->next_stats = in_seconds(start, run->options.stats_every);
    run->next_sweep = in_seconds(start, run->options.sweep_every);
    run->deadline = in_seconds(start, run->options.seconds);
    // A single sweep is the last one.
    if (run->options.stop_after_sweeps == 1 && run->deadline > run->next_sweep)
        run->deadline = run->next_sweep;
}

static void wire(struct run *run)
{
    const struct options *options = &run->options;
    unsigned int threads = options->threads ? (unsigned int)options->threads : cpus_allowed();

    run->workers = (struct worker_group){
        .options = options, .buffer = &run->buffer, .events = &run->events, .count = threads};
    run->ticks.options = options;
    run->ticks.buffer = &run->buffer;
    run->ticks.events = &run->events;
    run->ticks.workers = &run->workers;
    run->sweeper = (struct sweeper){.options = options, .buffer = &run->buffer, .events = &run->events};
    run->report = (struct report){.options = options,
                                  .buffer = &run->buffer,
                                  .events = &run->events,
                                  .workers = &run->workers,
                                  .ticks = &run->ticks,
                                  .sweeper = &run->sweeper};
    run->command_fd = options->commands ? STDIN_FILENO : -1;
}

static int prepare(struct run *run)
{
    size_t pages = buffer_pages(&run->options);

    wire(run);
    cycles_calibrate();
    if (pages < run->workers.count)
        return fail("size of the buffer", EINVAL);
    if (run->options.commands)
        no_echo();
    if (open_signals(run) != 0)
        return fail("signalfd", errno);
    if (events_init(&run->events) != 0)
        return fail("eventfd", errno);
    if (run->options.work_file &&
        work_file_open(&run->ticks.work_file, run->options.work_file, run->options.work_key) != 0)
        return fail(run->options.work_file, errno);
    if (open_port(run) != 0)
        return fail(run->options.tick_file ? run->options.tick_file : "/dev/port", errno);
    if (buffer_create(&run->buffer, pages, run->options.seed) != 0)
        return fail("buffer", errno);
    return EXIT_CLEAN;
}

static int start(struct run *run)
{
    int err;

    run->workers.work.start = clock_now();
    err = sweeper_start(&run->sweeper);
    if (!err)
        err = workers_start(&run->workers);
    if (!err)
        err = ticks_start(&run->ticks);
    if (err)
        return fail("thread", err);
    set_times(run);
    report_start(&run->report);
    return EXIT_CLEAN;
}

static void finish(struct run *run, bool swept)
{
    if (!atomic_load(&run->workers.stop))
        workers_stop(&run->workers);
    sweeper_stop(&run->sweeper, !swept);
    ticks_stop(&run->ticks);
    on_events(run);
    report_work(&run->report);
    report_stats(&run->report);
    report_end(&run->report);
    port_close(&run->ticks.port);
    if (run->options.work_file)
        work_file_close(&run->ticks.work_file);
    buffer_destroy(&run->buffer);
    free(run->workers.workers);
    free(run->ticks.tickers);
    close(run->signal_fd);
    close(run->events.wake_fd);
}

int main(int argc, char **argv)
{
    static struct run run;
    bool wrong;
    int status;

    switch (options_parse(argc, argv, &run.options)) {
    case OPTIONS_RUN:
        break;
    case OPTIONS_HELP:
        return EXIT_CLEAN;
    case OPTIONS_WRONG:
        return EXIT_NOT_RUN;
    }
    status = prepare(&run);
    if (status != EXIT_CLEAN)
        return status;
    // A thread that could not be started: the others end with the process.
    status = start(&run);
    if (status != EXIT_CLEAN)
        return status;
    supervise(&run);
    finish(&run, counter_get(&run.sweeper.sweeps) >= run.sweeps_asked);
    wrong = counter_get(&run.events.wrong_bytes) != 0;
    return wrong ? EXIT_WRONG_BYTES : EXIT_CLEAN;
}
