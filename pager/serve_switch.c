/* The moment when receive comes: the guest has been suspended, and libxc has said what is outstanding. */
#include <errno.h>
#include <string.h>

#include "log.h"
#include "serve.h"

static int not_ready(struct wire_fault *fault, const char *text)
{
    wire_fault_set(fault, WIRE_REFUSE_NOT_READY, "%s", text);
    return -1;
}

int serve_switch(struct server *s, struct wire_fault *fault)
{
    struct backend_domain now;
    char why[256];
    int rc;

    if (!s->options->session)
        return 0;
    if (s->be->ops->info(s->be, &now) || !now.exists || now.dying)
        return not_ready(fault, "the domain is gone at the source");
    if (!now.shutdown || now.shutdown_reason != BACKEND_SUSPENDED)
        return not_ready(fault, "the domain is not suspended at the source");
    s->domain = now;
    if (set_file_load(s->options->set_fd, &s->set, true, why, sizeof(why)))
        return not_ready(fault, why);
    rc = serve_scan_start(s);
    if (rc)
        return not_ready(fault, strerror(-rc));
    /* No pause of ours: it is suspended, and libxl does not resume what a session owns. A pause would outlive
     * us if we were killed, and the guest that xl then resumes would not run. */
    s->nr_gfns = s->set.map.nr;
    log_info("%llu pages are outstanding", (unsigned long long)s->set.count);
    return 0;
}
