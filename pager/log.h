/* Log lines: time, level, session, text. To stderr, or to a file that is opened anew on SIGHUP. */
#ifndef XENPAGING_PC_LOG_H
#define XENPAGING_PC_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* path NULL: stderr. Returns 0, or -1 with errno. */
int log_open(const char *path);
void log_reopen(void);
void log_set_level(enum log_level level);

/* While on, lines that go to a file go to stderr as well: a daemon that is not ready yet has someone
 * watching. */
void log_also_stderr(int on);

/* What each line says after the level, for instance "receive g". Copied. */
void log_set_name(const char *name);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
