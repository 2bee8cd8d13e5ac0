// Output of a line through an I/O port, as the guest of a hypervisor that
// listens there (Xen: 0xe9, printed on the host's console).
#pragma once

#include <stddef.h>

enum port_method { PORT_NONE, PORT_DEVICE, PORT_FILE };

struct port {
    enum port_method method;
    unsigned int number;
    int fd; // PORT_DEVICE: /dev/port; PORT_FILE: the file
};

// I/O port number, through /dev/port. 0, or -1 with errno set.
int port_open(struct port *port, unsigned int number);

// Lines go to a file instead, for runs outside a guest. 0, or -1 with errno set.
int port_open_file(struct port *port, const char *path);

void port_write(const struct port *port, const char *line, size_t len);
void port_close(struct port *port);
const char *port_method_name(const struct port *port);
