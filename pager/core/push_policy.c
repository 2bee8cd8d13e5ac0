#include "core/push_policy.h"

#include <errno.h>
#include <string.h>

static const char *const names[PUSH_POLICIES] = {
    [PUSH_ADAPTIVE] = "adaptive",
    [PUSH_FOLLOW] = "follow",
    [PUSH_ONLY] = "push",
};

const char *push_policy_name(enum push_policy_kind kind)
{
    return names[kind];
}

int push_policy_find(const char *name, enum push_policy_kind *kind)
{
    for (unsigned int i = 0; i < PUSH_POLICIES; i++) {
        if (strcmp(name, names[i]) == 0) {
            *kind = (enum push_policy_kind)i;
            return 0;
        }
    }
    return -EINVAL;
}

void push_policy_init(struct push_policy *policy, enum push_policy_kind kind)
{
    memset(policy, 0, sizeof(*policy));
    policy->kind = kind;
}

void push_policy_fault(struct push_policy *policy, uint64_t gfn)
{
    if (policy->kind == PUSH_ADAPTIVE)
        push_streams_fault(&policy->streams, gfn);
}

void push_policy_answered(struct push_policy *policy, uint64_t gfn)
{
    if (policy->kind == PUSH_FOLLOW)
        policy->cursor = gfn + 1;
}

void push_policy_restart(struct push_policy *policy)
{
    push_streams_restart(&policy->streams);
}

/* Upwards from the cursor, and round. A region that is begun is finished before the next. */
static unsigned int go_on(struct push_policy *policy, const struct push_pages *pages, uint64_t *first,
                          unsigned int most)
{
    unsigned int n;

    *first = push_pages_above(pages, policy->cursor);
    if (*first == PUSH_NOWHERE)
        *first = push_pages_above(pages, 0);
    if (*first == PUSH_NOWHERE)
        return 0;
    n = push_pages_up(pages, *first, most);
    policy->cursor = *first + n;
    return n;
}

unsigned int push_policy_next(struct push_policy *policy, const struct push_pages *pages, uint64_t *first,
                              unsigned int most)
{
    unsigned int n = 0;

    if (policy->kind == PUSH_ADAPTIVE)
        n = push_streams_next(&policy->streams, pages, first, most);
    return n ? n : go_on(policy, pages, first, most);
}
