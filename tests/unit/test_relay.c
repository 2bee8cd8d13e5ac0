/* What copies between a transport and a session's socket. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "relay.h"

#define BULK 3000000u

static void send_bulk(int fd, unsigned int seed)
{
    static uint8_t bytes[65536];
    size_t left = BULK;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + seed);
    while (left) {
        size_t n = left < sizeof(bytes) ? left : sizeof(bytes);
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

        if (sent != (ssize_t)n)
            _exit(2);
        left -= n;
    }
    shutdown(fd, SHUT_WR);
}

static size_t take_bulk(int fd, unsigned int seed, bool slowly)
{
    uint8_t bytes[10000];
    size_t total = 0;
    ssize_t n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (bytes[i] != (uint8_t)((total + (size_t)i) % 65536 * 7 + seed))
                _exit(3);
        total += (size_t)n;
        if (slowly)
            usleep(500);
    }
    return total;
}

static void both_ways_at_any_speed(void **state)
{
    int near[2], far[2], stop[2];
    pid_t relay, sender;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, near), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, far), 0);
    assert_int_equal(pipe2(stop, O_CLOEXEC), 0);
    relay = fork();
    if (relay == 0) {
        signal(SIGPIPE, SIG_IGN);
        close(near[0]);
        close(far[0]);
        _exit(relay_run(near[1], near[1], far[1], stop[0]) ? 1 : 0);
    }
    close(near[1]);
    close(far[1]);
    sender = fork();
    if (sender == 0) {
        /* First all one way, and its end; the other way still goes. */
        send_bulk(near[0], 1);
        _exit(take_bulk(near[0], 2, true) == BULK ? 0 : 1);
    }
    close(near[0]);
    assert_int_equal(take_bulk(far[0], 1, true), BULK);
    send_bulk(far[0], 2);
    assert_int_equal(fixture_wait(sender), 0);
    assert_int_equal(fixture_wait(relay), 0);
    close(far[0]);
    close(stop[0]);
    close(stop[1]);
}

static void pipes_and_a_reader_that_goes(void **state)
{
    int in[2], out[2], far[2], stop[2];
    char byte;
    pid_t relay;

    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(stop, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, far), 0);
    relay = fork();
    if (relay == 0) {
        signal(SIGPIPE, SIG_IGN);
        close(in[1]);
        close(out[0]);
        close(far[0]);
        _exit(relay_run(in[0], out[1], far[1], stop[0]) ? 1 : 0);
    }
    close(in[0]);
    close(out[1]);
    close(far[1]);
    assert_int_equal(send(far[0], "x", 1, MSG_NOSIGNAL), 1);
    close(far[0]);
    /* What came before is passed on, then the end; nobody takes the other way any more. */
    assert_int_equal(read(out[0], &byte, 1), 1);
    assert_int_equal(read(out[0], &byte, 1), 0);
    assert_int_equal(write(in[1], "y", 1), 1);
    assert_int_equal(fixture_wait(relay), 1);
    close(in[1]);
    close(out[0]);
    close(stop[0]);
    close(stop[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_at_any_speed),
        cmocka_unit_test(pipes_and_a_reader_that_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
