/*
 * A migration as xl drives it: serve with a transport, join and receive over its socket, each a process of
 * its own; the domains, xl and the transport's other host are fakes. A test program that uses it is the
 * command, too: its main calls switch_main().
 */
#ifndef XENPAGING_PC_SWITCH_FIXTURE_H
#define XENPAGING_PC_SWITCH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "fixture.h"

#define ID "0123456789abcdef"
#define NR 1500

extern char exe[200]; /* this program */

struct move {
    struct fixture f;
    pid_t xl[2]; /* that moves the domain: at the source, at the destination */
    char join[128], transport[128], xl_script[128];
    int set_fd[2];
};

#define MOVE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

/* Runs the tests, or the sub-command of xenpaging-pc that the arguments name; returns the exit status. */
int switch_main(int argc, char **argv, const struct CMUnitTest *tests, size_t n);

void script(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

char *in_dir(const struct move *m, const char *name);

bool outstanding(uint64_t gfn);

/* What libxc does at the switch. */
void write_set(int fd, uint64_t without, uint64_t with);

/* What it hands over before, likely to be in the set. */
void write_early(int fd, bool (*in)(uint64_t gfn));

void kill_xl(struct move *m, int side);

int setup(void **state);

int teardown(void **state);

/* Exit status of the command. */
int command(const struct move *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

bool file_has(const struct move *m, const char *name, const char *text);

void start_serve(struct move *m);

void suspend(struct move *m);

/* As far as early marking: receive has done it, and the source runs. */
void start_early(struct move *m, bool (*in)(uint64_t gfn));

/* The source is suspended, the stream is in, and receive told. */
void send_all(struct move *m, int status);

/* As far as READY. */
void ready(struct move *m);

void commit(struct move *m, const char *role);

/* xl at the destination does its part. */
void unpause(const struct move *m);

/* Both commit, the guest runs, and both end well with every page right. */
void commit_both(struct move *m);

/* Until the session shows that reason. */
void await_reason(struct move *m, const char *role, const char *reason);

void ends(pid_t *pid, int status);

void last_reason(struct move *m, const char *role, const char *text);

void nothing_wrong(const struct move *m);

void no_file_is_left(const struct move *m);

/* Everything back as it was: the source may go on, xl destroys the copy. */
void both_give_up(struct move *m);

#endif
