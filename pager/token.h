/* The session token: 32 secret bytes that both ends were given in a file, as 64 hex digits. */
#ifndef XENPAGING_PC_TOKEN_H
#define XENPAGING_PC_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_SIZE 32u

/*
 * Read a token file. It has to be a regular file of the caller's own user with no access for group and
 * others, holding 64 hex digits and at most one newline. Returns 0, or -1 with a message (without the token)
 * in why.
 */
int token_read(const char *path, uint8_t token[TOKEN_SIZE], char *why, size_t why_size);

/* 64 hex digits and at most one newline. 0 or -1. */
int token_parse(const char *text, size_t length, uint8_t token[TOKEN_SIZE]);

/* Takes the same time whatever the contents. */
bool token_equal(const uint8_t a[TOKEN_SIZE], const uint8_t b[TOKEN_SIZE]);

#endif
