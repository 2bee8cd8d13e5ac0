#include "port.h"

#include <fcntl.h>
#include <unistd.h>

// Not by ioperm() and outb: QEMU's TCG lets user space at a port only if TR's
// type is "available TSS", and Xen restores TR as busy, which is what real
// CPUs have; so the first outb after a restore was a #GP (seen). The system
// call costs nothing beside the exit to the hypervisor.
int port_open(struct port *port, unsigned int number)
{
    *port = (struct port){.method = PORT_DEVICE, .number = number};
    port->fd = open("/dev/port", O_WRONLY | O_CLOEXEC);
    return port->fd < 0 ? -1 : 0;
}

int port_open_file(struct port *port, const char *path)
{
    *port = (struct port){.method = PORT_FILE};
    port->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return port->fd < 0 ? -1 : 0;
}

// A tick that could not be written is a lost tick, which is what the reader
// of the log has to see: no error is kept.
void port_write(const struct port *port, const char *line, size_t len)
{
    switch (port->method) {
    case PORT_NONE:
        break;
    case PORT_DEVICE:
        // One byte at a time: a longer write would go to the ports that follow.
        for (size_t i = 0; i < len; i++)
            if (pwrite(port->fd, &line[i], 1, (off_t)port->number) != 1)
                return;
        break;
    case PORT_FILE:
        if (write(port->fd, line, len) != (ssize_t)len)
            return;
        break;
    }
}

void port_close(struct port *port)
{
    if (port->fd >= 0)
        close(port->fd);
    *port = (struct port){.method = PORT_NONE, .fd = -1};
}

const char *port_method_name(const struct port *port)
{
    static const char *const names[] = {
        [PORT_NONE] = "none",
        [PORT_DEVICE] = "/dev/port",
        [PORT_FILE] = "file",
    };

    return names[port->method];
}
