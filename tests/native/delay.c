/*
 * The round trip time of a link, for kernels without tc's netem: packets in one direction, whichever has
 * fewer of them, go through here and are held for a while. Half of it in each direction would be the same to
 * all who wait for answers, and cost more of the CPU that is measured.
 *
 *     native-delay --from NETNS --to NETNS --name DEVICE
 *
 * Each NETNS (a path) gets a tun device of that name. Says "ready" when both are there. Each line on stdin is
 * a number: from now on packets are held for so many microseconds. Ends with stdin.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "durations.h"
#include "number.h"

#define PACKET_MOST 2048u /* MTU 1500: nobody segments later than here */
#define HELD_MOST   4096u
#define DELAY_MOST  1000000u

struct packet {
    uint64_t due_ns;
    size_t size;
    uint8_t bytes[PACKET_MOST];
};

static struct {
    int from, to;
    _Atomic uint64_t delay_ns;
    struct packet held[HELD_MOST];
    unsigned int head, n;
} cable;

static void usage(void)
{
    fprintf(stderr, "Usage: native-delay --from NETNS --to NETNS --name DEVICE\n");
    exit(2);
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int open_netns(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        die(path);
    return fd;
}

/* A device in a namespace. The thread stays in it. */
static int open_device(int netns, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd;

    if (setns(netns, CLONE_NEWNET))
        die("network namespace");
    close(netns);
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
        die("tun device");
    return fd;
}

/* All that there are. */
static void take(void)
{
    uint64_t due = now_ns() + atomic_load(&cable.delay_ns);
    ssize_t size;

    while (cable.n < HELD_MOST) {
        struct packet *p = &cable.held[(cable.head + cable.n) % HELD_MOST];

        size = read(cable.from, p->bytes, sizeof(p->bytes));
        if (size <= 0)
            break;
        p->size = (size_t)size;
        p->due_ns = due;
        cable.n++;
    }
}

/* A packet that the other end does not take is lost, as it would be elsewhere. */
static void give(void)
{
    struct packet *p = &cable.held[cable.head];
    ssize_t n = write(cable.to, p->bytes, p->size);

    (void)n;
    cable.head = (cable.head + 1) % HELD_MOST;
    cable.n--;
}

static void *carry(void *data)
{
    const struct sched_param hardware = {.sched_priority = 50};

    /* It is not a program among others. */
    if (sched_setscheduler(0, SCHED_FIFO, &hardware))
        prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        struct pollfd p = {.fd = cable.from, .events = cable.n < HELD_MOST ? POLLIN : 0};
        struct timespec left = {0, 0};
        uint64_t now = now_ns();

        while (cable.n && cable.held[cable.head].due_ns <= now)
            give();
        if (cable.n) {
            uint64_t ns = cable.held[cable.head].due_ns - now;

            left = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
        }
        if (ppoll(&p, 1, cable.n ? &left : NULL, NULL) < 0 && errno != EINTR)
            die("poll");
        if (p.revents & POLLIN)
            take();
    }
    return data;
}

static void obey(void)
{
    char line[32];
    uint64_t us;

    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        if (!native_number(line, 0, DELAY_MOST, &us))
            usage();
        atomic_store(&cable.delay_ns, us * 1000);
    }
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"from", required_argument, NULL, 'f'},
        {"to", required_argument, NULL, 't'},
        {"name", required_argument, NULL, 'n'},
        {0},
    };
    const char *from = NULL, *to = NULL, *name = NULL;
    pthread_t thread;
    int option, from_ns, to_ns;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option == 'f')
            from = optarg;
        else if (option == 't')
            to = optarg;
        else if (option == 'n')
            name = optarg;
        else
            usage();
    }
    if (!from || !to || !name)
        usage();
    from_ns = open_netns(from);
    to_ns = open_netns(to); /* which may be said relative to where we are now */
    cable.from = open_device(from_ns, name);
    cable.to = open_device(to_ns, name);
    if (mlockall(MCL_CURRENT | MCL_FUTURE) || pthread_create(&thread, NULL, carry, NULL))
        die("start");
    puts("ready");
    fflush(stdout);
    obey();
    return 0;
}
