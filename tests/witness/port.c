#include "port.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/io.h>
#include <unistd.h>

static sigjmp_buf refused;

static void on_fault(int sig)
{
    siglongjmp(refused, sig);
}

// ioperm() may succeed and the instruction still fault (seen under nested
// KVM), so try it. Xen drops a NUL that is sent to its debug port.
static bool outb_works(unsigned int number)
{
    struct sigaction action = {.sa_handler = on_fault}, old;
    volatile bool works = false;

    if (ioperm(number, 1, 1) != 0)
        return false;
    sigaction(SIGSEGV, &action, &old);
    if (sigsetjmp(refused, 1) == 0) {
        outb(0, (unsigned short)number);
        works = true;
    }
    sigaction(SIGSEGV, &old, NULL);
    return works;
}

int port_open(struct port *port, unsigned int number)
{
    *port = (struct port){.method = PORT_OUTB, .number = number, .fd = -1};
    if (outb_works(number))
        return 0;
    port->method = PORT_DEVICE;
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
    case PORT_OUTB:
        for (size_t i = 0; i < len; i++)
            outb((unsigned char)line[i], (unsigned short)port->number);
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
        [PORT_OUTB] = "outb",
        [PORT_DEVICE] = "/dev/port",
        [PORT_FILE] = "file",
    };

    return names[port->method];
}
