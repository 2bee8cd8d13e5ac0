// A number in a file that tells how much work another program has done, for instance a line of /proc/PID/io.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct work_file {
    int fd;
    const char *key; // the number is the first one after this text; NULL: of the file
};

// 0, or -1 with errno.
int work_file_open(struct work_file *file, const char *path, const char *key);
// False if it cannot be read, as when that program has ended.
bool work_file_read(const struct work_file *file, uint64_t *number);
void work_file_close(struct work_file *file);
