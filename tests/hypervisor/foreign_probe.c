#include "foreign_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenctrl.h>

#include <xen/sys/privcmd.h>

int foreign_probe(uint32_t domid, uint64_t gfn, int *ioctl_errno)
{
    xen_pfn_t pfn = gfn;
    int err = -EIO;
    void *at;
    int fd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);

    *ioctl_errno = 0;
    if (fd < 0) {
        *ioctl_errno = errno;
        return err;
    }
    at = mmap(NULL, XC_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        *ioctl_errno = errno;
    } else {
        privcmd_mmapbatch_v2_t batch = {
            .num = 1,
            .dom = (domid_t)domid,
            .addr = (uintptr_t)at,
            .arr = &pfn,
            .err = &err,
        };

        if (ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH_V2, &batch))
            *ioctl_errno = errno;
        munmap(at, XC_PAGE_SIZE);
    }
    close(fd);
    return err;
}
