/*
 * A session over loopback with the real serve, the real receive and its real feeder; only the domains are
 * fakes. Each end is a process of its own.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "fake/fake_domain.h"
#include "receive.h"
#include "serve.h"

#define TOKEN_BYTE 0x42

struct fixture {
    char dir[64];
    char address[128]; /* where serve listens, or a peer the test plays */
    struct fake_config source, destination;
    struct fake_results *results; /* [0] source, [1] destination */
    struct serve_options serve;
    struct receive_options receive;
    pid_t serve_pid, receive_pid;
    pid_t domain_pid; /* the destination's domain: SIGUSR1 destroys it, SIGUSR2 is xl unpause */
};

/* A folder, and configs of a small domain: 1500 gfns with a hole. */
void fixture_init(struct fixture *f);
void fixture_free(struct fixture *f);

/* A test of its own: *state is a struct fixture. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

void fixture_start_serve(struct fixture *f);
void fixture_start_receive(struct fixture *f);

/* A number of report.processes: "keeper", "pager", "feeder". */
pid_t fixture_process(const json_t *report, const char *name);

/* Exit status of a session, which has to end within 60 s. */
int fixture_wait(pid_t pid);

/* serve has lost its channels, for that reason, and would wait for others as long as it lives: it is ended.
 */
void fixture_serve_pauses(struct fixture *f, const char *reason);

/* Wait (60 s) for a state of "serve" or "receive", then return what it shows. */
json_t *fixture_await(struct fixture *f, const char *role, const char *state);
/* What it shows now. */
json_t *fixture_status(struct fixture *f, const char *role);
/* NULL: it has ended. */
json_t *fixture_try_status(struct fixture *f, const char *role);
/* Starts a session in which nothing happens until the guest is unpaused; receive's report when it is active.
 */
json_t *fixture_idle(struct fixture *f);
/* The final figures. */
json_t *fixture_last(struct fixture *f, const char *role);

/* report.group.name, which has to be there. */
long long figure(const json_t *report, const char *group, const char *name);

/* A TCP listener on loopback for a test that plays serve; its address goes into f->address. */
int fixture_listen(struct fixture *f);

/* Connect to f->address. Blocking. */
int fixture_dial(struct fixture *f);

#endif
