/* In the test builds of the pager: fault_point() of fault_point.h. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fake/fake_domain.h"
#include "fault_point.h"

static struct fake_crash *crash; /* of this process, if it is a pager */
static pid_t pager;
static unsigned int generation;

void fake_crash_pager(struct fake_crash *c)
{
    crash = c;
    pager = getpid();
    c->pager = pager;
    generation = c->pagers++;
    if (generation >= FAKE_CRASHES)
        generation = FAKE_CRASHES - 1;
    c->points = 0;
}

void fake_crash_point(const char *where)
{
    bool depends = strcmp(where, "a guest depends on us") == 0;

    /* Not a child of the pager's, which has our memory. */
    if (!crash || getpid() != pager)
        return;
    if (depends) {
        crash->depended = crash->points;
        if (crash->unpause)
            kill(crash->unpause, SIGUSR2);
    }
    if (++crash->points != crash->at[generation] && !(crash->when_depended && generation == 0 && depends))
        return;
    crash->crashed++;
    snprintf(crash->where, sizeof(crash->where), "%s", where);
    kill(pager, SIGKILL);
}

void fault_point(const char *name)
{
    fake_crash_point(name);
}
