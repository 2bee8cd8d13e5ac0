/*
 * xenpaging-pc serve and receive with all their options, with the native bench's domains in the place of
 * Xen's. Which domain it is the environment says, as a pager that takes over is told nothing but its number:
 *
 *     NATIVE_GUEST=SOCKET                                  of receive: where native-guest answers
 *     NATIVE_SOURCE_MIB=N, NATIVE_SOURCE_ZERO=PERCENT      of serve
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>

#include "backends.h"
#include "commands.h"
#include "exit_status.h"
#include "number.h"

#define MIB_PAGES 256u
#define MIB_MOST  (1u << 20)

static bool of_environment(const char *name, uint64_t most, uint64_t *value)
{
    const char *text = getenv(name);

    return text && native_number(text, 0, most, value);
}

/* What the commands know as the way to open a domain. */
struct backend *backend_xen_open(const char *domain, char *why, size_t why_size)
{
    const char *guest = getenv("NATIVE_GUEST");
    uint64_t mib, zero = 0;

    if (guest)
        return destination_open(domain, guest, why, why_size);
    of_environment("NATIVE_SOURCE_ZERO", 100, &zero);
    if (of_environment("NATIVE_SOURCE_MIB", MIB_MOST, &mib) && mib)
        return source_open(domain, mib * MIB_PAGES, (unsigned int)zero, why, why_size);
    snprintf(why, why_size, "neither NATIVE_GUEST nor NATIVE_SOURCE_MIB says what domain '%s' is", domain);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *role = argc > 1 ? argv[1] : "";

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (strcmp(role, "serve") == 0)
        return cmd_serve(argc - 1, argv + 1);
    if (strcmp(role, "receive") == 0)
        return cmd_receive(argc - 1, argv + 1);
    fprintf(stderr, "Usage: native-pager serve|receive OPTION...: as xenpaging-pc\n");
    return EXIT_USAGE;
}
