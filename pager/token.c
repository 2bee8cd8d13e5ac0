#include "token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int token_parse(const char *text, size_t length, uint8_t token[TOKEN_SIZE])
{
    if (length == 2 * TOKEN_SIZE + 1 && text[length - 1] == '\n')
        length--;
    if (length != 2 * TOKEN_SIZE)
        return -1;
    for (size_t i = 0; i < TOKEN_SIZE; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return -1;
        token[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

int token_read(const char *path, uint8_t token[TOKEN_SIZE], char *why, size_t why_size)
{
    char text[2 * TOKEN_SIZE + 2];
    struct stat st;
    ssize_t n = -1;
    int rc = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        snprintf(why, why_size, "token file %s: %s", path, strerror(errno));
        return -1;
    }
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        snprintf(why, why_size, "token file %s is not a regular file", path);
    else if (st.st_uid != geteuid() || st.st_mode & 077)
        snprintf(why, why_size, "token file %s can be read by others (uid %u, mode %04o): chmod 600 it", path,
                 (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777));
    else if ((n = read(fd, text, sizeof(text))) < 0)
        snprintf(why, why_size, "token file %s: %s", path, strerror(errno));
    else if (token_parse(text, (size_t)n, token))
        snprintf(why, why_size,
                 "token file %s does not hold %u hex digits (make one with: "
                 "(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \\n' > FILE))",
                 path, 2 * TOKEN_SIZE);
    else
        rc = 0;
    explicit_bzero(text, sizeof(text));
    close(fd);
    return rc;
}

bool token_equal(const uint8_t a[TOKEN_SIZE], const uint8_t b[TOKEN_SIZE])
{
    volatile uint8_t diff = 0;

    for (size_t i = 0; i < TOKEN_SIZE; i++)
        diff = (uint8_t)(diff | (a[i] ^ b[i]));
    return diff == 0;
}
