/* When a session's changes are reported: at leisure, together, and not much later. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "status_server.h"

struct session {
    char dir[64];
    struct status_server server;
    int number; /* what is reported */
    int fd;     /* a client */
    unsigned int worked;
};

static json_t *render(void *data, bool brief)
{
    const struct session *s = data;

    return json_pack("{s:i}", brief ? "n" : "number", s->number);
}

static int set_up(void **state)
{
    struct session *s = calloc(1, sizeof(*s));
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(s->dir, sizeof(s->dir), "/tmp/xenpaging-pc-test.XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/sock", s->dir);
    assert_int_equal(status_server_start(&s->server, ev_loop_new(0), addr.sun_path, render, NULL, s), 0);
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(s->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ev_run(s->server.loop, EVRUN_ONCE);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct session *s = *state;

    status_server_stop(&s->server);
    ev_loop_destroy(s->server.loop);
    close(s->fd);
    assert_int_equal(rmdir(s->dir), 0);
    free(s);
    return 0;
}

/* All that the client has been told by now. */
static const char *told(struct session *s)
{
    static char text[1000];
    ssize_t n = recv(s->fd, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void change(struct session *s)
{
    s->number++;
    status_server_changed(&s->server);
}

static void changes_are_reported_together(void **state)
{
    struct session *s = *state;

    assert_string_equal(told(s), "{\"number\":0}\n");
    change(s);
    change(s);
    assert_string_equal(told(s), "");
    ev_run(s->server.loop, EVRUN_ONCE);
    assert_string_equal(told(s), "{\"number\":2}\n");
    ev_run(s->server.loop, EVRUN_NOWAIT);
    assert_string_equal(told(s), "");
    change(s);
    ev_run(s->server.loop, EVRUN_ONCE);
    assert_string_equal(told(s), "{\"number\":3}\n");
}

/* Whoever says so, and nobody else, gets short reports. */
static void who_wants_them_brief_gets_them_so(void **state)
{
    struct session *s = *state, other = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/sock", s->dir);
    assert_int_equal(connect(other.fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(send(other.fd, "brief\n", 6, 0), 6);
    for (int i = 0; i < 3; i++)
        ev_run(s->server.loop, EVRUN_NOWAIT);
    assert_string_equal(told(s), "{\"number\":0}\n");
    assert_string_equal(told(&other), "{\"number\":0}\n");
    change(s);
    ev_run(s->server.loop, EVRUN_ONCE);
    assert_string_equal(told(s), "{\"number\":1}\n");
    assert_string_equal(told(&other), "{\"n\":1}\n");
    close(other.fd);
    ev_run(s->server.loop, EVRUN_NOWAIT);
}

static void work(struct ev_loop *loop, ev_idle *w, int events)
{
    struct session *s = w->data;

    (void)loop;
    (void)events;
    s->worked++;
}

static void work_goes_first_but_not_for_ever(void **state)
{
    struct session *s = *state;
    struct ev_loop *loop = s->server.loop;
    unsigned int before;
    ev_tstamp since;
    ev_idle idle;

    told(s);
    ev_idle_init(&idle, work);
    idle.data = s;
    ev_idle_start(loop, &idle);
    ev_now_update(loop);
    since = ev_now(loop);
    change(s);
    ev_run(loop, EVRUN_ONCE);
    before = s->worked;
    assert_int_equal(before, 1);
    while (ev_is_active(&s->server.at_leisure))
        ev_run(loop, EVRUN_ONCE);
    assert_true(s->worked > before);
    assert_true(ev_now(loop) - since >= 0.049); /* two clocks */
    assert_string_equal(told(s), "{\"number\":1}\n");
    ev_idle_stop(loop, &idle);
}

static void the_last_change_is_reported_before_the_end(void **state)
{
    struct session *s = *state;

    told(s);
    change(s);
    status_server_stop(&s->server);
    assert_string_equal(told(s), "{\"number\":1}\n");
}

int main(void)
{
#define STATUS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        STATUS(changes_are_reported_together),
        STATUS(who_wants_them_brief_gets_them_so),
        STATUS(work_goes_first_but_not_for_ever),
        STATUS(the_last_change_is_reported_before_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
