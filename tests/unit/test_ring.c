/* The paging ring against a Xen that is a page and a few functions: what exactly is written into it, and
 * when. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "xen_ring.h"

#include <xen/hvm/params.h>

static struct {
    union {
        uint8_t bytes[PAGING_RING_FRAMES_MAX * 4096]; /* of a ring of one page only the first */
        vm_event_sring_t ring;
    } page __attribute__((aligned(4096)));
    struct paging_attach how;
    int fail_acquire, fail_attach, acquired;
    uint32_t frames_most, attach_most; /* more than so many are refused with that errno; 0: none is */
    int refusal, tries;
    vm_event_front_ring_t front;
    int pauses, maps, notified, bound;
    bool enabled, ring_page_there;
    int fail_param, fail_enable, fail_bind, fail_remove, fail_map;
} xen;

/* -- the parts of libxenctrl and friends that xen_ring.c uses */

int xc_domain_pause(xc_interface *xch, uint32_t domid)
{
    (void)xch, (void)domid;
    xen.pauses++;
    return 0;
}

int xc_domain_unpause(xc_interface *xch, uint32_t domid)
{
    (void)xch, (void)domid;
    xen.pauses--;
    return 0;
}

int xc_hvm_param_get(xc_interface *handle, uint32_t dom, uint32_t param, uint64_t *value)
{
    (void)handle, (void)dom;
    assert_int_equal(param, HVM_PARAM_PAGING_RING_PFN);
    if (xen.fail_param) {
        errno = xen.fail_param;
        return -1;
    }
    *value = 0xfeff8;
    return 0;
}

int xc_get_pfn_type_batch(xc_interface *xch, uint32_t domid, unsigned int num, xen_pfn_t *pfns)
{
    (void)xch, (void)domid;
    assert_int_equal(num, 1);
    if (!xen.ring_page_there)
        pfns[0] = XEN_DOMCTL_PFINFO_XTAB;
    else
        pfns[0] = 0;
    return 0;
}

int xc_domain_populate_physmap_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                     unsigned int order, unsigned int mem_flags, xen_pfn_t *extent_start)
{
    (void)xch, (void)domid, (void)order, (void)mem_flags;
    assert_int_equal(nr_extents, 1);
    assert_int_equal(*extent_start, 0xfeff8);
    assert_false(xen.ring_page_there);
    xen.ring_page_there = true;
    return 0;
}

int xc_domain_decrease_reservation_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                         unsigned int order, xen_pfn_t *extent_start)
{
    (void)xch, (void)domid, (void)nr_extents, (void)order;
    assert_int_equal(*extent_start, 0xfeff8);
    if (xen.fail_remove) {
        errno = xen.fail_remove;
        return -1;
    }
    xen.ring_page_there = false;
    return 0;
}

int xc_clear_domain_pages(xc_interface *xch, uint32_t domid, unsigned long dst_pfn, int num)
{
    (void)xch, (void)domid, (void)dst_pfn, (void)num;
    return 0;
}

int xc_mem_paging_enable(xc_interface *xch, uint32_t domain_id, uint32_t *port)
{
    (void)xch, (void)domain_id;
    if (xen.fail_enable) {
        errno = xen.fail_enable;
        return -1;
    }
    xen.enabled = true;
    *port = 5;
    FRONT_RING_INIT(&xen.front, &xen.page.ring, 4096);
    return 0;
}

int xc_mem_paging_disable(xc_interface *xch, uint32_t domain_id)
{
    (void)xch, (void)domain_id;
    xen.enabled = false;
    return 0;
}

void *xenforeignmemory_map(xenforeignmemory_handle *fmem, uint32_t dom, int prot, size_t pages,
                           const xen_pfn_t arr[], int err[])
{
    (void)fmem, (void)dom, (void)prot;
    assert_int_equal(pages, 1);
    assert_int_equal(arr[0], 0xfeff8);
    xen.maps++;
    err[0] = xen.fail_map ? -xen.fail_map : 0;
    return &xen.page;
}

int xenforeignmemory_unmap(xenforeignmemory_handle *fmem, void *addr, size_t pages)
{
    (void)fmem, (void)pages;
    assert_ptr_equal(addr, &xen.page);
    xen.maps--;
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid,
                                                     evtchn_port_t remote)
{
    (void)xce, (void)domid;
    assert_int_equal(remote, 5);
    if (xen.fail_bind) {
        errno = xen.fail_bind;
        return -1;
    }
    xen.bound++;
    return 9;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce;
    assert_int_equal(port, 9);
    xen.bound--;
    return 0;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce;
    assert_int_equal(port, 9);
    xen.notified++;
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    (void)xce;
    return 9;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce;
    assert_int_equal(port, 9);
    return 0;
}

xenforeignmemory_resource_handle *xenforeignmemory_map_resource(xenforeignmemory_handle *fmem, domid_t domid,
                                                                unsigned int type, unsigned int id,
                                                                unsigned long frame, unsigned long nr_frames,
                                                                void **paddr, int prot, int flags)
{
    (void)fmem, (void)domid, (void)prot, (void)flags;
    assert_int_equal(type, 3);
    assert_int_equal(id, XEN_DOMCTL_VM_EVENT_OP_PAGING);
    assert_int_equal(frame, 0);
    assert_in_range(nr_frames, 1, PAGING_RING_FRAMES_MAX);
    xen.tries++;
    if (xen.fail_acquire || (xen.frames_most && nr_frames > xen.frames_most)) {
        errno = xen.fail_acquire ? xen.fail_acquire : xen.refusal;
        return NULL;
    }
    xen.acquired++;
    *paddr = &xen.page;
    return (xenforeignmemory_resource_handle *)&xen;
}

int xenforeignmemory_unmap_resource(xenforeignmemory_handle *fmem, xenforeignmemory_resource_handle *fres)
{
    (void)fmem;
    assert_ptr_equal(fres, &xen);
    xen.acquired--;
    return 0;
}

int paging_ops_attach(struct paging_ops *ops, const struct paging_attach *how, uint32_t *port)
{
    assert_int_equal(ops->domid, 3);
    if (xen.fail_attach)
        return -xen.fail_attach;
    if (xen.attach_most && how->frames > xen.attach_most)
        return -xen.refusal;
    xen.how = *how;
    xen.enabled = true;
    *port = 5;
    SHARED_RING_INIT(&xen.page.ring);
    FRONT_RING_INIT(&xen.front, &xen.page.ring, how->frames * 4096);
    return 0;
}

/* -- the hypervisor's end of the ring */

static void request(uint64_t gfn, uint32_t vcpu, uint32_t flags, uint32_t paging_flags)
{
    vm_event_request_t req = {.version = VM_EVENT_INTERFACE_VERSION,
                              .flags = flags,
                              .reason = VM_EVENT_REASON_MEM_PAGING,
                              .vcpu_id = vcpu,
                              .u.mem_paging = {.gfn = gfn, .p2mt = 7, .flags = paging_flags}};

    assert_true(RING_FREE_REQUESTS(&xen.front) > 0);
    memcpy(RING_GET_REQUEST(&xen.front, xen.front.req_prod_pvt), &req, sizeof(req));
    xen.front.req_prod_pvt++;
    RING_PUSH_REQUESTS(&xen.front);
}

static bool response(vm_event_response_t *rsp)
{
    if (!XEN_RING_NR_UNCONSUMED_RESPONSES(&xen.front))
        return false;
    memcpy(rsp, RING_GET_RESPONSE(&xen.front, xen.front.rsp_cons), sizeof(*rsp));
    xen.front.rsp_cons++;
    return true;
}

/* As a Xen that has ranges writes it: nr follows flags. */
static void range_request(uint64_t gfn, uint64_t nr)
{
    struct {
        uint64_t gfn;
        uint32_t p2mt, flags;
        uint64_t nr;
    } paging = {gfn, 7, 4, nr};
    vm_event_request_t *req;

    request(gfn, 0, VM_EVENT_FLAG_FOREIGN, 4);
    req = RING_GET_REQUEST(&xen.front, xen.front.req_prod_pvt - 1);
    memcpy(&req->u, &paging, sizeof(paging));
}

static struct xen_ring ring;

static int setup(void **state)
{
    (void)state;
    memset(&xen, 0, sizeof(xen));
    memset(&xen.page, 0xa5, sizeof(xen.page)); /* what a guest might have left there */
    xen.ring_page_there = true;
    return 0;
}

static void attach(void)
{
    enum xen_ring_step step;

    assert_int_equal(xen_ring_attach(&ring, NULL, NULL, NULL, 3, &step), 0);
    assert_int_equal(xen.pauses, 0);
    assert_false(xen.ring_page_there);
    assert_int_equal(xen_ring_slots(&ring), 8);
}

static void answer_next(void)
{
    struct xen_ring_request req;

    assert_true(xen_ring_next(&ring, &req));
    xen_ring_respond(&ring, &req);
    assert_int_equal(xen_ring_push(&ring), 0);
}

static void rot_01_a_response_has_version_and_reason(void **state)
{
    vm_event_response_t rsp;

    (void)state;
    attach();
    request(0x1234, 1, VM_EVENT_FLAG_VCPU_PAUSED, 0);
    answer_next();
    assert_true(response(&rsp));
    assert_int_equal(rsp.version, VM_EVENT_INTERFACE_VERSION);
    assert_int_equal(rsp.reason, VM_EVENT_REASON_MEM_PAGING);
    assert_int_equal(rsp.vcpu_id, 1);
    assert_int_equal(rsp.flags, VM_EVENT_FLAG_VCPU_PAUSED);
    assert_int_equal(rsp.u.mem_paging.gfn, 0x1234);
    assert_int_equal(xen.notified, 1);
}

static void rot_02_nothing_in_a_response_is_left_to_chance(void **state)
{
    vm_event_response_t rsp, expected;

    (void)state;
    attach();
    memset(&expected, 0, sizeof(expected));
    expected.version = VM_EVENT_INTERFACE_VERSION;
    expected.reason = VM_EVENT_REASON_MEM_PAGING;
    expected.vcpu_id = 2;
    expected.flags = VM_EVENT_FLAG_VCPU_PAUSED;
    expected.u.mem_paging.gfn = 77;
    expected.u.mem_paging.p2mt = 7;
    for (int i = 0; i < 20; i++) {
        request(77, 2, VM_EVENT_FLAG_VCPU_PAUSED, 0);
        answer_next();
        assert_true(response(&rsp));
        assert_memory_equal(&rsp, &expected, sizeof(rsp));
    }
}

static void rot_03_foreign_is_never_echoed(void **state)
{
    vm_event_response_t rsp;

    (void)state;
    attach();
    request(5, 3, VM_EVENT_FLAG_FOREIGN, 0);
    answer_next();
    assert_true(response(&rsp));
    assert_int_equal(rsp.flags, 0);
    /* Even if it claims a paused vcpu: the number is that of a vcpu of dom0. */
    request(5, 3, VM_EVENT_FLAG_FOREIGN | VM_EVENT_FLAG_VCPU_PAUSED, 0);
    answer_next();
    assert_true(response(&rsp));
    assert_int_equal(rsp.flags, 0);
    request(5, 3, 0, MEM_PAGING_DROP_PAGE);
    answer_next();
    assert_true(response(&rsp));
    assert_int_equal(rsp.flags, 0);
    assert_int_equal(rsp.u.mem_paging.flags, MEM_PAGING_DROP_PAGE);
    request(5, 3, VM_EVENT_FLAG_VCPU_PAUSED, MEM_PAGING_EVICT_FAIL);
    answer_next();
    assert_true(response(&rsp));
    assert_int_equal(rsp.u.mem_paging.flags, 0);
}

static void what_the_guest_left_in_the_ring_page_is_not_believed(void **state)
{
    struct xen_ring_request req;

    (void)state;
    attach();
    /* 0xa5 in every index: attached to that, the consumer would see requests. */
    assert_false(xen_ring_next(&ring, &req));
    assert_int_equal(xen.page.ring.rsp_prod, 0);
}

static void rot_12_every_step_of_attaching_is_checked_and_undone(void **state)
{
    enum xen_ring_step step;
    const struct {
        int *fail;
        enum xen_ring_step step;
    } cases[] = {{&xen.fail_param, XEN_RING_PARAM},
                 {&xen.fail_map, XEN_RING_MAP},
                 {&xen.fail_enable, XEN_RING_ENABLE},
                 {&xen.fail_bind, XEN_RING_BIND},
                 {&xen.fail_remove, XEN_RING_REMOVE}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        *cases[i].fail = EXDEV;
        assert_int_equal(xen_ring_attach(&ring, NULL, NULL, NULL, 3, &step), -1);
        assert_int_equal(errno, EXDEV);
        assert_int_equal(step, cases[i].step);
        assert_non_null(xen_ring_step_text(step));
        *cases[i].fail = 0;
        assert_int_equal(xen.pauses, 0);
        assert_int_equal(xen.maps, 0);
        assert_int_equal(xen.bound, 0);
        assert_false(xen.enabled);
        assert_true(xen.ring_page_there);
    }
    assert_string_equal(xen_ring_enable_hint(ENOSYS), "this Xen was built without CONFIG_MEM_PAGING");
}

static void rot_14_detaching_gives_the_ring_page_back(void **state)
{
    (void)state;
    attach();
    assert_int_equal(xen_ring_detach(&ring, true), 0);
    assert_true(xen.ring_page_there);
    assert_int_equal(xen.maps, 0);
    assert_int_equal(xen.bound, 0);
    assert_false(xen.enabled);
    /* And another pager can come, also when the page is missing. */
    xen.ring_page_there = false;
    attach();
    /* A dying domain: no hypercall, only let go. */
    xen_ring_abandon(&ring);
    assert_int_equal(xen.maps, 0);
    assert_int_equal(xen.bound, 0);
    assert_true(xen.enabled);
}

static void answers_in_any_order_fill_the_ring_exactly(void **state)
{
    struct xen_ring_request held[8];
    vm_event_response_t rsp;
    unsigned int n = 0, random = 7;
    uint64_t sent = 0, got = 0;

    (void)state;
    attach();
    /* Requests are taken at once and answered in random order; slots are reused under entries that still
     * wait. */
    for (int step = 0; step < 20000; step++) {
        while (RING_FREE_REQUESTS(&xen.front) && rand_r(&random) % 3)
            request(sent, (uint32_t)sent % 4, VM_EVENT_FLAG_VCPU_PAUSED, 0), sent++;
        while (n < 8 && xen_ring_next(&ring, &held[n]))
            n++;
        assert_int_equal(xen_ring_unanswered(&ring), n);
        if (n && rand_r(&random) % 2) {
            unsigned int i = (unsigned int)rand_r(&random) % n;

            xen_ring_respond(&ring, &held[i]);
            held[i] = held[--n];
            assert_int_equal(xen_ring_push(&ring), 0);
        }
        while (response(&rsp)) {
            assert_int_equal(rsp.version, VM_EVENT_INTERFACE_VERSION);
            assert_true(rsp.u.mem_paging.gfn < sent);
            got++;
        }
    }
    assert_true(got > 5000);
    assert_int_equal(got + n + XEN_RING_NR_UNCONSUMED_REQUESTS(&ring.back), sent);
}

static void attach_frames(uint32_t frames)
{
    struct paging_ops ops = {.domid = 3};
    const struct paging_attach how = {.frames = frames, .range_foreign = 256};
    enum xen_ring_step step;

    assert_int_equal(xen_ring_attach_frames(&ring, NULL, NULL, NULL, &ops, &how, &step), 0);
    assert_int_equal(step, XEN_RING_OK);
    assert_int_equal(xen.how.frames, frames);
    assert_int_equal(xen.how.range_foreign, 256);
    assert_false(xen.how.again);
}

static void a_ring_of_many_pages_leaves_the_guest_alone(void **state)
{
    const struct {
        uint32_t frames, slots;
    } sizes[] = {{1, 8}, {2, 16}, {64, 512}};
    struct xen_ring_request req;
    vm_event_response_t rsp;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        attach_frames(sizes[i].frames);
        assert_int_equal(xen_ring_slots(&ring), sizes[i].slots);
        assert_true(xen.ring_page_there);
        assert_int_equal(xen.pauses, 0);
        for (uint32_t k = 0; k < sizes[i].slots; k++)
            request(k, k, VM_EVENT_FLAG_VCPU_PAUSED, 0);
        for (uint32_t k = 0; k < sizes[i].slots; k++) {
            assert_true(xen_ring_next(&ring, &req));
            assert_int_equal(req.gfn, k);
            assert_int_equal(req.nr, 1);
            xen_ring_respond(&ring, &req);
        }
        xen.notified = 0;
        assert_int_equal(xen_ring_push(&ring), 0);
        assert_int_equal(xen.notified, 1);
        for (uint32_t k = 0; k < sizes[i].slots; k++)
            assert_true(response(&rsp));
        assert_int_equal(xen_ring_detach(&ring, true), 0);
        assert_int_equal(xen.acquired, 0);
        assert_int_equal(xen.bound, 0);
        assert_false(xen.enabled);
        assert_true(xen.ring_page_there);
    }
}

static void a_request_for_a_range_says_how_many(void **state)
{
    struct xen_ring_request req;
    vm_event_response_t rsp;

    (void)state;
    attach_frames(64);
    range_request(0x100, 256);
    assert_true(xen_ring_next(&ring, &req));
    assert_int_equal(req.gfn, 0x100);
    assert_int_equal(req.nr, 256);
    assert_int_equal(req.paging_flags, XEN_RING_RANGE);
    xen_ring_respond(&ring, &req);
    assert_int_equal(xen_ring_push(&ring), 0);
    assert_true(response(&rsp));
    assert_int_equal(rsp.u.mem_paging.flags, 0);
    assert_int_equal(rsp.u.mem_paging.gfn, 0x100);
    xen_ring_abandon(&ring);
}

static int attach_again(enum xen_ring_step *step)
{
    struct paging_ops ops = {.domid = 3};
    const struct paging_attach how = {.frames = 4, .range_foreign = 256, .again = true};

    /* Killed: what the last one had mapped and bound went with it. */
    xen.acquired = xen.bound = 0;
    return xen_ring_attach_frames(&ring, NULL, NULL, NULL, &ops, &how, step);
}

static void a_ring_of_frames_is_taken_over_empty(void **state)
{
    struct xen_ring_request req;
    enum xen_ring_step step;

    (void)state;
    attach_frames(4);
    assert_int_equal(xen_ring_slots(&ring), 32);
    request(0x1234, 1, VM_EVENT_FLAG_VCPU_PAUSED, 0);
    assert_true(xen_ring_next(&ring, &req));
    assert_int_equal(attach_again(&step), 0);
    assert_true(xen.how.again);
    assert_int_equal(xen.how.range_foreign, 256);
    assert_false(xen_ring_next(&ring, &req));
    assert_int_equal(xen_ring_unanswered(&ring), 0);
    request(0x1234, 1, VM_EVENT_FLAG_VCPU_PAUSED, 0);
    assert_true(xen_ring_next(&ring, &req));
    assert_int_equal(req.gfn, 0x1234);
    assert_int_equal(xen_ring_detach(&ring, true), 0);
    assert_false(xen.enabled);
    assert_int_equal(xen.acquired, 0);
    assert_int_equal(xen.bound, 0);
}

/* A failure to take over leaves paging enabled: the next one tries again. */
static void a_take_over_that_fails_leaves_the_ring(void **state)
{
    enum xen_ring_step step;

    (void)state;
    attach_frames(4);
    xen.fail_attach = EBUSY;
    assert_int_equal(attach_again(&step), -1);
    assert_int_equal(errno, EBUSY);
    assert_int_equal(step, XEN_RING_ENABLE);
    assert_true(xen.enabled);
    assert_int_equal(xen.acquired, 0);
    xen.fail_attach = 0;
    xen.fail_bind = ENOSPC;
    assert_int_equal(attach_again(&step), -1);
    assert_int_equal(step, XEN_RING_BIND);
    assert_true(xen.enabled);
    assert_int_equal(xen.acquired, 0);
    xen.fail_bind = 0;
    assert_int_equal(attach_again(&step), 0);
    xen_ring_abandon(&ring);
}

static void a_xen_without_the_resource_is_told_apart(void **state)
{
    struct paging_ops ops = {.domid = 3};
    const struct paging_attach how = {.frames = 64};
    enum xen_ring_step step;

    (void)state;
    memset(&ring, 0xa5, sizeof(ring)); /* nothing of it is believed */
    xen.fail_acquire = EOPNOTSUPP;
    assert_int_equal(xen_ring_attach_frames(&ring, NULL, NULL, NULL, &ops, &how, &step), -1);
    assert_int_equal(step, XEN_RING_RESOURCE);
    assert_int_equal(errno, EOPNOTSUPP);
    xen.fail_acquire = 0;
    xen.fail_attach = EBUSY;
    assert_int_equal(xen_ring_attach_frames(&ring, NULL, NULL, NULL, &ops, &how, &step), -1);
    assert_int_equal(step, XEN_RING_ENABLE);
    assert_int_equal(errno, EBUSY);
    assert_int_equal(xen.acquired, 0);
    xen.fail_attach = 0;
    xen.fail_bind = ENOSPC;
    assert_int_equal(xen_ring_attach_frames(&ring, NULL, NULL, NULL, &ops, &how, &step), -1);
    assert_int_equal(step, XEN_RING_BIND);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(xen.acquired, 0);
    assert_false(xen.enabled);
    /* And the ring of one page still comes. */
    xen.fail_bind = 0;
    attach();
}

static int attach_most(struct paging_attach *how, enum xen_ring_step *step, int *refused)
{
    struct paging_ops ops = {.domid = 3};

    *how = (struct paging_attach){.frames = 64, .range_foreign = 256};
    xen.tries = 0;
    return xen_ring_attach_most(&ring, NULL, NULL, NULL, &ops, how, step, refused);
}

static void a_ring_is_as_large_as_there_is_memory_for(void **state)
{
    struct paging_attach how;
    enum xen_ring_step step;
    int refused;

    (void)state;
    assert_int_equal(attach_most(&how, &step, &refused), 0);
    assert_int_equal(how.frames, 64);
    assert_int_equal(refused, 0);
    assert_int_equal(xen_ring_detach(&ring, false), 0);

    /* No memory for the frames; or not for mapping them. */
    xen.refusal = ENOMEM;
    for (int attaching = 0; attaching < 2; attaching++) {
        xen.frames_most = attaching ? 0 : 10;
        xen.attach_most = attaching ? 10 : 0;
        assert_int_equal(attach_most(&how, &step, &refused), 0);
        assert_int_equal(how.frames, 8);
        assert_int_equal(xen.how.frames, 8);
        assert_int_equal(xen.how.range_foreign, 256);
        assert_int_equal(refused, ENOMEM);
        assert_int_equal(xen.tries, 4);
        assert_int_equal(xen_ring_slots(&ring), 64);
        assert_int_equal(xen.acquired, 1);
        assert_int_equal(xen_ring_detach(&ring, false), 0);
        assert_int_equal(xen.acquired, 0);
    }
    /* Not even for one. */
    xen.fail_attach = ENOMEM;
    assert_int_equal(attach_most(&how, &step, &refused), -1);
    assert_int_equal(errno, ENOMEM);
    assert_true(xen_ring_too_large(step, errno));
    assert_int_equal(xen.tries, 7);
    /* What is not a matter of size is not tried again. */
    xen.fail_attach = EBUSY;
    assert_int_equal(attach_most(&how, &step, &refused), -1);
    assert_int_equal(errno, EBUSY);
    assert_int_equal(xen.tries, 1);
    assert_false(xen_ring_too_large(step, errno));
    xen.fail_attach = 0;
    xen.fail_acquire = EOPNOTSUPP;
    assert_int_equal(attach_most(&how, &step, &refused), -1);
    assert_int_equal(xen.tries, 1);
    assert_int_equal(xen.acquired, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(rot_01_a_response_has_version_and_reason, setup),
        cmocka_unit_test_setup(rot_02_nothing_in_a_response_is_left_to_chance, setup),
        cmocka_unit_test_setup(rot_03_foreign_is_never_echoed, setup),
        cmocka_unit_test_setup(what_the_guest_left_in_the_ring_page_is_not_believed, setup),
        cmocka_unit_test_setup(rot_12_every_step_of_attaching_is_checked_and_undone, setup),
        cmocka_unit_test_setup(rot_14_detaching_gives_the_ring_page_back, setup),
        cmocka_unit_test_setup(a_ring_of_many_pages_leaves_the_guest_alone, setup),
        cmocka_unit_test_setup(a_request_for_a_range_says_how_many, setup),
        cmocka_unit_test_setup(a_ring_of_frames_is_taken_over_empty, setup),
        cmocka_unit_test_setup(a_take_over_that_fails_leaves_the_ring, setup),
        cmocka_unit_test_setup(a_xen_without_the_resource_is_told_apart, setup),
        cmocka_unit_test_setup(a_ring_is_as_large_as_there_is_memory_for, setup),
        cmocka_unit_test_setup(answers_in_any_order_fill_the_ring_exactly, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
