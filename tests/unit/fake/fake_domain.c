/* The fake domain: its start, and what a test does to it. */
#include "fake_internal.h"

#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static struct fake_config next_config;
static int next_event_fd = -1, next_life_fd = -1;
static struct fake_domain *the_domain;

void fake_prepare(const struct fake_config *config)
{
    next_config = *config;
}

void fake_prepare_events(int event_fd, int life_fd)
{
    next_event_fd = event_fd;
    next_life_fd = life_fd;
}

void violation(struct fake_domain *d, const char *text)
{
    d->results->violations++;
    fprintf(stderr, "fake: violation: %s\n", text);
}

void kick(int fd)
{
    uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) < 0)
        abort();
}

static void on_destroy(int signal)
{
    (void)signal;
    fake_destroy();
}

static void on_unpause(int signal)
{
    (void)signal;
    fake_toolstack_unpause();
}

/* The test tells the domain's process by signals; they are taken here, not in a handler. */
static sem_t started;

static void *toolstack_main(void *data)
{
    sigset_t set;
    int signal;

    sem_post(data);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    while (sigwait(&set, &signal) == 0)
        (signal == SIGUSR1 ? on_destroy : on_unpause)(signal);
    return NULL;
}

struct backend *fake_open(const char *domain, char *why, size_t why_size)
{
    struct fake_domain *d = calloc(1, sizeof(*d));
    pthread_t toolstack;
    sigset_t set;

    if (strcmp(domain, "nobody") == 0) {
        snprintf(why, why_size, "no domain '%s' here", domain);
        free(d);
        return NULL;
    }
    d->be.ops = &fake_ops;
    d->be.domid = d->config.seed ? 7 : 8;
    d->config = next_config;
    d->be.scan_most = d->config.features & FEATURE_MARK ? FAKE_SCAN_MOST : BACKEND_SCAN_MAX;
    d->results = d->config.results;
    d->be.domid = d->config.seed ? 7 : 8;
    d->pauses = d->config.running ? 0 : 1;
    d->ran = d->config.ran;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    d->event_fd = next_event_fd >= 0 ? next_event_fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->life_fd = next_life_fd >= 0 ? next_life_fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->memory = mmap(NULL, d->config.nr_gfns * FAKE_PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    d->type = calloc(d->config.nr_gfns, 1);
    d->own = calloc(d->config.nr_gfns, 1);
    d->super = calloc(d->config.nr_gfns / BACKEND_SUPER + 1, 1);
    d->nominated = calloc(d->config.nr_gfns, 1);
    d->slots = FAKE_SLOTS;
    for (uint64_t gfn = 0; gfn < d->config.nr_gfns; gfn++) {
        if (gfn >= d->config.hole_first && gfn - d->config.hole_first < d->config.hole_count)
            continue;
        /* Restored without the pages that come later. */
        if (d->config.switched && gfn != d->config.special_gfn)
            continue;
        d->type[gfn] = FAKE_RAM;
        /* The restored guest holds what the source has: the stream brought it. */
        fake_contents(gfn, d->config.seed ? d->config.seed : 1, page_of(d, gfn));
    }
    the_domain = d;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    /* serve forks its sender next: a sanitizer's lock that a thread holds while it starts would be held there
     * for ever. */
    sem_init(&started, 0, 0);
    pthread_create(&toolstack, NULL, toolstack_main, &started);
    while (sem_wait(&started))
        ;
    for (unsigned int i = 0; i < d->config.vcpus; i++) {
        struct vcpu_start *start = malloc(sizeof(*start));

        *start = (struct vcpu_start){d, i};
        pthread_create(&d->threads[i], NULL, vcpu_main, start);
    }
    d->results->ready = 1;
    return &d->be;
}

void fake_destroy(void)
{
    struct fake_domain *d = the_domain;

    pthread_mutex_lock(&d->lock);
    d->dying = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    kick(d->life_fd);
}

void fake_toolstack_unpause(void)
{
    struct fake_domain *d = the_domain;

    pthread_mutex_lock(&d->lock);
    if (d->pauses > 0)
        d->pauses--;
    d->ran |= d->pauses == 0;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    /* Or the test has changed something else: results->suspended. */
    kick(d->life_fd);
}

void fake_foreign(uint64_t gfn)
{
    struct fake_domain *d = the_domain;

    pthread_mutex_lock(&d->lock);
    foreign(d, gfn);
    pthread_mutex_unlock(&d->lock);
}

void fake_out_of_memory(bool out)
{
    the_domain->config.nomem_every = out;
}

void fake_check_all(void)
{
    struct fake_domain *d = the_domain;

    /* The vcpus go on until they have touched what they wanted: now that all is there, nothing holds them. */
    if (!d->dying && d->pauses == 0)
        for (unsigned int i = 0; i < d->config.vcpus; i++)
            pthread_join(d->threads[i], NULL);
    pthread_mutex_lock(&d->lock);
    for (uint64_t gfn = 0; gfn < d->config.nr_gfns; gfn++) {
        if (marked(d, gfn) && !d->dying)
            d->results->wrong_pages++;
        if (d->type[gfn] == FAKE_RAM)
            look(d, gfn);
    }
    pthread_mutex_unlock(&d->lock);
}
