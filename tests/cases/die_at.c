/*
 * In the pager that test-pager-killed runs: fault_point() of pager/fault_point.h. /run/die-at has a line
 * `N NAME` for each pager, the first for the first one: it kills itself when it comes to NAME for the N-th
 * time, and /run/died-at says so. A pager without a line, or that never comes there, lives on. Nothing counts
 * before a guest depends on there being a pager: until then one that dies has no successor, and is missed.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault_point.h"

#define PLANNED 64

struct plan {
    unsigned int pagers; /* started so far */
    bool depended;
    unsigned int n;
    struct {
        unsigned int times;
        char name[32];
    } at[PLANNED];
};

static struct plan *plan; /* the keeper's, shared with all its pagers */
static bool is_pager;
static unsigned int mine, came;

__attribute__((constructor)) static void load(void)
{
    FILE *f = fopen("/run/die-at", "re");

    if (!f)
        return;
    plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (plan == MAP_FAILED)
        abort();
    while (plan->n < PLANNED &&
           fscanf(f, "%u %31[^\n]", &plan->at[plan->n].times, plan->at[plan->n].name) == 2)
        plan->n++;
    fclose(f);
}

void fault_point(const char *name)
{
    char said[64];
    int fd, n;

    if (!plan)
        return;
    if (strcmp(name, "a pager starts") == 0) {
        is_pager = true;
        mine = plan->pagers++;
    }
    if (strcmp(name, "a guest depends on us") == 0)
        plan->depended = true;
    if (!is_pager || !plan->depended || mine >= plan->n || strcmp(name, plan->at[mine].name) != 0 ||
        ++came != plan->at[mine].times)
        return;
    n = snprintf(said, sizeof(said), "%u %s\n", came, name);
    fd = open("/run/died-at", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, said, (size_t)n) != n)
        abort();
    kill(getpid(), SIGKILL);
}
