/*
 * What a page costs on this link with nothing round it: a request of 32 bytes, an answer of a page and its
 * header, on sockets as the pager's (pager/net.h).
 *
 *     native-pingpong answer --listen ADDR:PORT
 *         says on stdout where it listens
 *     native-pingpong ask --connect ADDR:PORT [--vcpus N] [--ms N] [--bulk [--pace N]] [--probe]
 *         says on stdout, as a line of JSON, how long round trips took
 *
 * --bulk: beside one more connection on which as much comes as goes; --pace: at most so many bytes a second
 * are handed to the link. --probe: answers of 32 bytes, for the round trip time of the link itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "durations.h"
#include "net.h"
#include "number.h"

#define ASKERS   16u
#define ANSWER   (4096u + 24u)
#define BULK     (256u << 10)
#define WARM_UP  32u /* round trips that are not counted */
#define IS_PING  'p'
#define IS_BULK  'b'
#define IS_PROBE 'r'
#define PROBE    32u /* bytes of an answer that takes no time on the wire */
#define DIAL_MS  5000

/* What a connection is for. */
struct greeting {
    char role;
    uint32_t
        pace; /* of bulk: at most so many bytes a second are handed to the link; 0: as many as it takes */
};

/* As long as the pager's. */
struct request {
    uint32_t answer; /* so many bytes */
    char rest[28];
};

struct asker {
    pthread_t thread;
    int fd;
    uint32_t answer;
    uint64_t until_ns;
    struct durations durations;
    uint64_t bytes, started_ns, ended_ns; /* of bulk */
};

static void usage(void)
{
    fprintf(stderr, "Usage: native-pingpong answer --listen ADDR:PORT\n"
                    "       native-pingpong ask --connect ADDR:PORT [--vcpus N] [--ms N] [--bulk [--pace N]] "
                    "[--probe]\n");
    exit(2);
}

static void die(const char *what)
{
    fprintf(stderr, "native-pingpong: %s: %s\n", what, strerror(errno));
    exit(1);
}

static bool receive_all(int fd, void *buffer, size_t size)
{
    return recv(fd, buffer, size, MSG_WAITALL) == (ssize_t)size;
}

static bool send_all(int fd, const void *buffer, size_t size)
{
    const char *at = buffer;

    while (size) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static void *answer_one(void *data)
{
    int fd = (int)(intptr_t)data;
    static char bulk[BULK];
    char answer[ANSWER] = {0};
    struct greeting greeting;
    struct request request;

    if (!receive_all(fd, &greeting, sizeof(greeting)))
        die("no greeting");
    if (greeting.pace)
        setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &greeting.pace, sizeof(greeting.pace));
    if (greeting.role == IS_BULK)
        while (send_all(fd, bulk, sizeof(bulk)))
            ;
    else
        while (receive_all(fd, &request, sizeof(request)) && request.answer <= ANSWER &&
               send_all(fd, answer, request.answer))
            ;
    close(fd);
    return NULL;
}

static void answer(const char *where)
{
    char bound[160], why[256];
    int listener = net_listen(where, bound, sizeof(bound), why, sizeof(why));

    if (listener < 0)
        die(why);
    fcntl(listener, F_SETFL, 0);
    printf("%s\n", bound);
    fflush(stdout);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;

        if (fd < 0)
            die("accept");
        net_tune(fd);
        if (pthread_create(&thread, NULL, answer_one, (void *)(intptr_t)fd))
            die("thread");
        pthread_detach(thread);
    }
}

static int dial(const char *where, const struct greeting *greeting)
{
    char why[256];
    int fd = net_dial(where, DIAL_MS, why, sizeof(why));

    if (fd < 0)
        die(why);
    fcntl(fd, F_SETFL, 0);
    if (!send_all(fd, greeting, sizeof(*greeting)))
        die("greeting");
    return fd;
}

static void *ask_main(void *data)
{
    struct asker *a = data;
    struct request request = {.answer = a->answer};
    char page[ANSWER];

    for (unsigned int i = 0; now_ns() < a->until_ns; i++) {
        uint64_t start = now_ns();

        if (!send_all(a->fd, &request, sizeof(request)) || !receive_all(a->fd, page, a->answer))
            die("round trip");
        if (i >= WARM_UP)
            durations_add(&a->durations, now_ns() - start);
    }
    return NULL;
}

static void *bulk_main(void *data)
{
    struct asker *a = data;
    static char bulk[BULK];
    ssize_t n;

    a->started_ns = now_ns();
    while (now_ns() < a->until_ns && (n = recv(a->fd, bulk, sizeof(bulk), 0)) > 0)
        a->bytes += (uint64_t)n;
    a->ended_ns = now_ns();
    return NULL;
}

static void start(struct asker *a, const char *where, char role, uint32_t pace, uint64_t until_ns)
{
    const struct greeting greeting = {.role = role, .pace = pace};

    a->answer = role == IS_PROBE ? PROBE : ANSWER;
    a->fd = dial(where, &greeting);
    a->until_ns = until_ns;
    if (pthread_create(&a->thread, NULL, role == IS_BULK ? bulk_main : ask_main, a))
        die("thread");
}

static void ask(const char *where, unsigned int vcpus, uint64_t ms, bool with_bulk, uint32_t pace, char role)
{
    static struct asker askers[ASKERS], bulk;
    static struct durations sum;
    uint64_t until_ns = now_ns() + ms * 1000000u;
    double rate = 0.;
    json_t *report;

    if (with_bulk)
        start(&bulk, where, IS_BULK, pace, until_ns);
    for (unsigned int i = 0; i < vcpus; i++)
        start(&askers[i], where, role, 0, until_ns);
    for (unsigned int i = 0; i < vcpus; i++) {
        pthread_join(askers[i].thread, NULL);
        durations_merge(&sum, &askers[i].durations);
    }
    if (with_bulk) {
        pthread_join(bulk.thread, NULL);
        rate = (double)bulk.bytes * 1e9 / (double)(bulk.ended_ns - bulk.started_ns);
    }
    report = json_pack("{s:o, s:f}", "round_trip_us", durations_json(&sum), "bulk_bytes_per_s", rate);
    json_dumpf(report, stdout, JSON_COMPACT);
    puts("");
    json_decref(report);
}

static unsigned int number(const char *text, unsigned int most)
{
    uint64_t value;

    if (!native_number(text, 1, most, &value))
        usage();
    return (unsigned int)value;
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"listen", required_argument, NULL, 'l'}, {"connect", required_argument, NULL, 'c'},
        {"vcpus", required_argument, NULL, 'v'},  {"ms", required_argument, NULL, 's'},
        {"bulk", no_argument, NULL, 'b'},         {"probe", no_argument, NULL, 'r'},
        {"pace", required_argument, NULL, 'p'},   {0},
    };
    const char *listen = NULL, *connect = NULL, *role = argc > 1 ? argv[1] : "";
    unsigned int vcpus = 1, ms = 2000, pace = 0;
    bool with_bulk = false;
    char asked = IS_PING;
    int option;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while ((option = getopt_long(argc - 1, argv + 1, "", table, NULL)) != -1) {
        if (option == 'l')
            listen = optarg;
        else if (option == 'c')
            connect = optarg;
        else if (option == 'v')
            vcpus = number(optarg, ASKERS);
        else if (option == 's')
            ms = number(optarg, 600000);
        else if (option == 'b')
            with_bulk = true;
        else if (option == 'p')
            pace = number(optarg, UINT32_MAX);
        else if (option == 'r')
            asked = IS_PROBE;
        else
            usage();
    }
    if (strcmp(role, "answer") == 0 && listen)
        answer(listen);
    else if (strcmp(role, "ask") == 0 && connect)
        ask(connect, vcpus, ms, with_bulk, pace, asked);
    else
        usage();
    return 0;
}
