#include "convoy.h"

void convoy_init(struct convoy *convoy, unsigned int threads)
{
    *convoy = (struct convoy){.threads = threads, .go_on = true};
    pthread_mutex_init(&convoy->lock, NULL);
    pthread_cond_init(&convoy->moved, NULL);
}

bool convoy_wait(struct convoy *convoy, const atomic_bool *stop)
{
    bool go_on;

    pthread_mutex_lock(&convoy->lock);
    if (++convoy->arrived == convoy->threads) {
        convoy->arrived = 0;
        convoy->go_on = !atomic_load(stop);
        convoy->round++;
        pthread_cond_broadcast(&convoy->moved);
    } else {
        unsigned long round = convoy->round;

        while (convoy->round == round)
            pthread_cond_wait(&convoy->moved, &convoy->lock);
    }
    go_on = convoy->go_on;
    pthread_mutex_unlock(&convoy->lock);
    return go_on;
}
