#include "session_find.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REPORT_SIZE 4096u
#define PATIENCE_S  20
#define TRIES       3

static bool matches(const struct session_query *q, const json_t *report)
{
    const char *name = json_string_value(json_object_get(report, "domain"));
    const char *role = json_string_value(json_object_get(report, "role"));
    const char *session = json_string_value(json_object_get(report, "session"));
    char domid[32];

    snprintf(domid, sizeof(domid), "%lld", (long long)json_integer_value(json_object_get(report, "domid")));
    if (q->role && (!role || strcmp(role, q->role) != 0))
        return false;
    if (q->session && (!session || strcmp(session, q->session) != 0))
        return false;
    return !q->domain || strcmp(domid, q->domain) == 0 || (name && strcmp(name, q->domain) == 0);
}

void session_found_release(struct session_found *f)
{
    json_decref(f->report);
    free(f->bytes);
    if (f->fd >= 0)
        close(f->fd);
    *f = (struct session_found){.fd = -1};
}

bool session_found_has_next(const struct session_found *f)
{
    return f->used && memchr(f->bytes, '\n', f->used);
}

bool session_found_next(struct session_found *f)
{
    json_t *report = NULL;
    char *end;

    while (!session_found_has_next(f)) {
        ssize_t n;

        if (f->used == f->size) {
            char *more = realloc(f->bytes, f->size + REPORT_SIZE);

            if (!more)
                return false;
            f->bytes = more;
            f->size += REPORT_SIZE;
        }
        n = read(f->fd, f->bytes + f->used, f->size - f->used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        f->used += (size_t)n;
    }
    end = memchr(f->bytes, '\n', f->used);
    report = json_loadb(f->bytes, (size_t)(end - f->bytes), 0, NULL);
    f->used -= (size_t)(end + 1 - f->bytes);
    memmove(f->bytes, end + 1, f->used);
    if (!report)
        return false;
    json_decref(f->report);
    f->report = report;
    return true;
}

/* Without a report, errno tells why. */
static bool open_once(const char *path, struct session_found *f)
{
    const struct timeval patience = {PATIENCE_S, 0};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path))
        return false;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    /* One daemon that hangs must not hold up who looks for another. */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
        int saved = errno;

        close(fd);
        errno = saved;
        return false;
    }
    f->fd = fd;
    errno = 0;
    return session_found_next(f);
}

/* A pager that is killed before it has said anything is followed by another on the same socket. */
static bool open_live(const char *path, struct session_found *f)
{
    for (int tries = 0; tries < TRIES; tries++) {
        if (open_once(path, f))
            return true;
        if (f->fd < 0 || errno == EAGAIN)
            return false;
        session_found_release(f);
    }
    return false;
}

static bool open_ended(const char *path, struct session_found *f)
{
    struct stat st;

    f->fd = -1;
    f->report = stat(path, &st) == 0 ? json_load_file(path, 0, NULL) : NULL;
    f->modified = st.st_mtim;
    return f->report != NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

unsigned int session_find(const struct session_query *q, bool (*visit)(struct session_found *f, void *data),
                          void *data)
{
    DIR *dir = opendir(q->run_dir);
    struct dirent *entry;
    unsigned int n = 0;

    while (dir && (entry = readdir(dir))) {
        struct session_found f = {.fd = -1};
        char path[4096];

        if (q->role && strncmp(entry->d_name, q->role, strlen(q->role)) != 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", q->run_dir, entry->d_name);
        if (ends_with(entry->d_name, ".sock"))
            open_live(path, &f);
        else if (ends_with(entry->d_name, ".last.json"))
            open_ended(path, &f);
        if (f.report && matches(q, f.report)) {
            n++;
            if (visit(&f, data))
                continue;
        }
        session_found_release(&f);
    }
    if (dir)
        closedir(dir);
    return n;
}

void session_sweep(const char *run_dir)
{
    DIR *dir = opendir(run_dir);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        struct session_found f = {.fd = -1};
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", run_dir, entry->d_name);
        errno = 0;
        if (ends_with(entry->d_name, ".sock") && !open_live(path, &f) && errno == ECONNREFUSED)
            unlink(path);
        session_found_release(&f);
    }
    if (dir)
        closedir(dir);
}

static bool take_live(struct session_found *f, void *data)
{
    struct session_found *live = data;

    if (f->fd < 0 || live->fd >= 0)
        return false;
    *live = *f;
    return true;
}

void session_find_live(const struct session_query *query, struct session_found *live)
{
    session_find(query, take_live, live);
}
