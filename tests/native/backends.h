/* The two domains of the native bench, as the pager sees them (pager/backend.h). */
#ifndef NATIVE_BACKENDS_H
#define NATIVE_BACKENDS_H

#include "backend.h"

#define NATIVE_SOURCE_ID      7
#define NATIVE_DESTINATION_ID 8

/* The guest that was suspended: memory with the contents of each page (contents.h), filled here. */
struct backend *source_open(const char *domain, uint64_t pages, unsigned int zero_percent, char *why,
                            size_t why_size);

/* A guest that runs: a process whose memory is under userfaultfd, behind that socket. */
struct backend *destination_open(const char *domain, const char *socket, char *why, size_t why_size);

/* Both have the same uuid. */
void native_uuid(uint8_t uuid[16]);

#endif
