#include "work_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int work_file_open(struct work_file *file, const char *path, const char *key)
{
    uint64_t number;

    *file = (struct work_file){.fd = open(path, O_RDONLY | O_CLOEXEC), .key = key};
    if (file->fd < 0)
        return -1;
    if (!work_file_read(file, &number)) {
        work_file_close(file);
        errno = ENODATA;
        return -1;
    }
    return 0;
}

bool work_file_read(const struct work_file *file, uint64_t *number)
{
    char text[1024];
    const char *at = text;
    ssize_t got = pread(file->fd, text, sizeof(text) - 1, 0);
    char *end;

    if (got <= 0)
        return false;
    text[got] = '\0';
    if (file->key) {
        at = strstr(text, file->key);
        if (!at)
            return false;
        at += strlen(file->key);
    }
    while (isspace((unsigned char)*at))
        at++;
    if (!isdigit((unsigned char)*at))
        return false;
    *number = strtoull(at, &end, 10);
    return true;
}

void work_file_close(struct work_file *file)
{
    close(file->fd);
    file->fd = -1;
}
