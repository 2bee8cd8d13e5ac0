/* The folder in which sessions show themselves: sockets of live ones, last words of ended ones. */
#ifndef XENPAGING_PC_RUN_DIR_H
#define XENPAGING_PC_RUN_DIR_H

#include <stddef.h>

#define RUN_DIR "/run/xenpaging-pc"

/* Make the folder (0700), and in it one that stays empty (0555) for the feeder to change root to. 0, or -1
 * with errno. */
int run_dir_prepare(const char *dir, char *empty, size_t empty_size);

#endif
