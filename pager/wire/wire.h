/* The wire protocol of PROTOCOL.md: numbers, and the messages as structs. */
#ifndef XENPAGING_PC_WIRE_H
#define XENPAGING_PC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_PAGE_SIZE   4096u
#define WIRE_PAGE_SHIFT  12u
#define WIRE_VERSION     1u
#define WIRE_HEAD_SIZE   8u
#define WIRE_HELLO_SIZE  96u
#define WIRE_ACK_SIZE    104u
#define WIRE_JOIN_SIZE   56u
#define WIRE_TEXT_MAX    200u
#define WIRE_RUNS_MAX    4096u
#define WIRE_ASK_MAX     256u /* runs in a REQUEST or DROP */
#define WIRE_RUN_MAX     512u /* pages in one of those */
#define WIRE_BATCH_MAX   64u  /* runs in PAGES */
#define WIRE_PAGES_MAX   512u /* pages with contents in PAGES */
#define WIRE_STREAMS_MAX 8u   /* bulk channels */
#define WIRE_ASKED_MAX   4096u
#define WIRE_CREDIT_MAX  1048576u
#define WIRE_GFN_LIMIT   (UINT64_C(1) << 40)
#define WIRE_CONTROL_MAX (8u + 16u * WIRE_RUNS_MAX) /* largest body but that of PAGES */
#define WIRE_ENTRIES_MAX (8u + 16u * WIRE_BATCH_MAX + 8u * WIRE_PAGES_MAX)
#define WIRE_TOKEN_SIZE  32u
#define WIRE_TICKET_SIZE 32u
#define WIRE_UUID_SIZE   16u

#define WIRE_FEATURE_HASH   (UINT64_C(1) << 0)
#define WIRE_FEATURE_VERIFY (UINT64_C(1) << 1)
#define WIRE_FEATURE_ZERO   (UINT64_C(1) << 2)
#define WIRE_FEATURES       (WIRE_FEATURE_HASH | WIRE_FEATURE_VERIFY | WIRE_FEATURE_ZERO)

#define WIRE_REQUEST_RESEND 1u
/* How urgent a run of REQUEST is. */
#define WIRE_NOBODY_WAITS 0u
#define WIRE_DOM0_WAITS   1u
#define WIRE_VCPU_WAITS   2u

#define WIRE_PAGES_COMPARE 1u
#define WIRE_PAGES_HASHED  2u
#define WIRE_PAGES_ASKED   4u /* answers to REQUEST: they use no credit */
/* What a run of PAGES is. */
#define WIRE_CONTENTS 0u
#define WIRE_ZERO     1u

enum wire_role { WIRE_RECEIVER = 1, WIRE_SERVER = 2, WIRE_JOINER = 3 };
enum wire_channel { WIRE_CONTROL, WIRE_BULK };

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_HELLO_ACK,
    WIRE_REFUSE,
    WIRE_SET,
    WIRE_SET_END,
    WIRE_SET_ACK,
    WIRE_CREDIT,
    WIRE_REQUEST,
    WIRE_PAGES,
    WIRE_DROP,
    WIRE_VERIFY,
    WIRE_VERIFY_END,
    WIRE_COMPLETE,
    WIRE_COMPLETE_ACK,
    WIRE_GONE,
    WIRE_ERROR,
    WIRE_JOIN,
    WIRE_JOIN_ACK,
    WIRE_ACK,
    WIRE_RECEIVED,
    WIRE_RECEIVED_END,
    WIRE_RESUME_ACK,
    WIRE_TYPES,
};

/* States of a connection; a set of them is a mask of 1 << state. */
enum wire_state {
    WIRE_IN_HELLO,
    WIRE_IN_SET,
    WIRE_IN_ACTIVE,
    WIRE_IN_VERIFY,
    WIRE_IN_COMPLETE,
    WIRE_IN_RESUME,
    WIRE_STATES
};

enum wire_code {
    WIRE_OK = 0,
    WIRE_REFUSE_MAGIC = 1,
    WIRE_REFUSE_VERSION,
    WIRE_REFUSE_TOKEN,
    WIRE_REFUSE_PAGE_SIZE,
    WIRE_REFUSE_FEATURES,
    WIRE_REFUSE_UUID,
    WIRE_REFUSE_BOUNDS,
    WIRE_REFUSE_BUSY,
    WIRE_REFUSE_MALFORMED,
    WIRE_REFUSE_NOT_READY,
    WIRE_REFUSE_GENERATION,
    WIRE_ERROR_PROTOCOL = 16,
    WIRE_ERROR_SET,
    WIRE_ERROR_MAP,
    WIRE_ERROR_SOURCE_GONE,
    WIRE_ERROR_COUNTS,
    WIRE_ERROR_VERIFY,
    WIRE_ERROR_INTERNAL,
    WIRE_ERROR_GIVEN_UP,
};

enum wire_gone {
    WIRE_GONE_DESTROYED = 1,
    WIRE_GONE_GIVEN_UP = 2,
    WIRE_GONE_RAN = 3,
    WIRE_GONE_HANDED_BACK = 4,
};

struct wire_hello {
    uint16_t version;
    uint8_t role;
    uint8_t page_shift;
    uint64_t offered;
    uint64_t required;
    uint8_t uuid[WIRE_UUID_SIZE];
    uint8_t token[WIRE_TOKEN_SIZE];
    uint8_t streams;     /* most bulk channels */
    uint64_t credit_max; /* pages */
    uint32_t generation; /* that it was in last; 0: none */
    uint32_t asked_max;  /* pages asked for and not come */
};

struct wire_hello_ack {
    uint64_t features;
    uint8_t uuid[WIRE_UUID_SIZE];
    uint64_t populated; /* pages */
    uint64_t nr_gfns;   /* largest populated gfn + 1 */
    uint8_t streams;
    uint32_t generation;
    uint8_t ticket[WIRE_TICKET_SIZE];
};

struct wire_join {
    uint16_t version;
    uint8_t role;
    uint8_t index;
    uint32_t generation;
    uint8_t ticket[WIRE_TICKET_SIZE];
};

struct wire_run {
    uint64_t first; /* gfn */
    uint32_t count; /* pages */
    uint32_t word;  /* what it means the frame says */
};

struct wire_complete {
    uint64_t set;
    uint64_t installed;
    uint64_t dropped;
    uint64_t replaced;
    uint64_t guest_faults;
    uint64_t foreign_requests;
};

/* What went wrong, to be sent and shown. text is printable and terminated. */
struct wire_fault {
    uint32_t code;
    char text[WIRE_TEXT_MAX + 1];
};

void wire_fault_set(struct wire_fault *fault, uint32_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

const char *wire_type_name(unsigned int type);
const char *wire_state_name(unsigned int state);
const char *wire_code_name(unsigned int code);

/*
 * May a frame of this type and body length, sent by the other end, come now on such a channel? role is our
 * own. Returns 0, or -EPROTO with fault set.
 */
int wire_allowed(unsigned int type, uint32_t length, enum wire_role role, enum wire_channel channel,
                 enum wire_state state, struct wire_fault *fault);

/*
 * Encoders write header and body to out (which has to have room for WIRE_HEAD_SIZE and the largest body of
 * the type) and return the size of both.
 */
size_t wire_put_hello(uint8_t *out, const struct wire_hello *hello);
size_t wire_put_hello_ack(uint8_t *out, const struct wire_hello_ack *ack);
size_t wire_put_fault(uint8_t *out, enum wire_type refuse_or_error, const struct wire_fault *fault);
/* SET_END, SET_ACK, RECEIVED_END, RESUME_ACK */
size_t wire_put_pair(uint8_t *out, enum wire_type type, uint64_t a, uint64_t b);
size_t wire_put_words(uint8_t *out, enum wire_type type, uint32_t a, uint32_t b); /* VERIFY, GONE, JOIN_ACK */
size_t wire_put_count(uint8_t *out, enum wire_type type, uint64_t count); /* VERIFY_END, CREDIT, ACK */
size_t wire_put_join(uint8_t *out, const struct wire_join *join);
size_t wire_put_complete(uint8_t *out, const struct wire_complete *complete);
size_t wire_put_complete_ack(uint8_t *out, uint64_t set, uint64_t sent, uint64_t resent);

/* REQUEST and DROP, SET, and the head of PAGES are built in place: begin, add, finish with the number added.
 */
void wire_add_run(uint8_t *out, uint32_t index, uint64_t first, uint32_t count, uint32_t word);
void wire_add_pair(uint8_t *out, uint32_t index, uint64_t a, uint64_t b);
size_t wire_finish_list(uint8_t *out, enum wire_type type, uint32_t n, uint32_t flags); /* all but PAGES */
/* PAGES without the contents that follow: n runs, which have as many pages with contents. Of each of those
 * the hash, behind the runs, if HASHED is in flags. */
void wire_add_hash(uint8_t *out, uint32_t n, uint32_t index, uint64_t hash);
size_t wire_finish_pages_head(uint8_t *out, uint32_t n, uint32_t contents, uint32_t flags);

/*
 * Decoders look at a body whose length wire_allowed() has accepted. They return 0, or -EPROTO with fault set.
 * Lists are checked here (counts against the length, reserved fields, flags; of runs, each) and read with
 * wire_run() and wire_pair().
 */
int wire_get_hello(const uint8_t *body, struct wire_hello *hello, struct wire_fault *fault);
int wire_get_hello_ack(const uint8_t *body, struct wire_hello_ack *ack, struct wire_fault *fault);
int wire_get_fault(const uint8_t *body, uint32_t length, struct wire_fault *from_peer,
                   struct wire_fault *fault);
int wire_get_set(const uint8_t *body, uint32_t length, uint32_t *n, struct wire_fault *fault);
/* Runs of REQUEST or DROP: none is empty, too long, passes WIRE_GFN_LIMIT or has a word above most_word. */
int wire_get_runs(const uint8_t *body, uint32_t length, uint32_t allowed_flags, uint32_t most_word,
                  uint32_t *n, uint32_t *flags, struct wire_fault *fault);
/* The first 8 bytes of PAGES; and when its n runs are there, how many pages have contents. */
int wire_get_pages_head(const uint8_t *body, uint32_t length, uint32_t *n, uint32_t *flags,
                        struct wire_fault *fault);
int wire_get_pages_runs(const uint8_t *body, uint32_t length, uint32_t n, uint32_t flags, uint32_t *contents,
                        struct wire_fault *fault);
uint64_t wire_hash(const uint8_t *body, uint32_t n, uint32_t index); /* of page index, behind n runs */
int wire_get_join(const uint8_t *body, struct wire_join *join, struct wire_fault *fault);
/* The index of the channel. */
int wire_get_join_ack(const uint8_t *body, uint32_t *index, struct wire_fault *fault);
void wire_get_pair(const uint8_t *body, uint64_t *a, uint64_t *b);
uint64_t wire_get_count(const uint8_t *body);
void wire_get_complete(const uint8_t *body, struct wire_complete *complete);
int wire_get_gone(const uint8_t *body, uint32_t *reason, struct wire_fault *fault);
struct wire_run wire_run(const uint8_t *body, uint32_t index);
void wire_pair(const uint8_t *body, uint32_t index, uint64_t *a, uint64_t *b);

/*
 * What S answers to a HELLO. expect says what S knows: version, page_shift, uuid, token, and in offered the
 * features it has, in generation
 * the last one. Returns 0 with the features in use, or -EPROTO with the first reason in the order of
 * PROTOCOL.md.
 */
int wire_judge_hello(const struct wire_hello *hello, const struct wire_hello *expect, uint64_t *features,
                     struct wire_fault *fault);

/* And to a JOIN, with index the number of channels, of which those of the bits in joined are there. */
int wire_judge_join(const struct wire_join *join, const struct wire_join *expect, uint32_t joined,
                    struct wire_fault *fault);

/* What R thinks of HELLO_ACK, given the HELLO that it sent. 0 or -EPROTO. */
int wire_judge_hello_ack(const struct wire_hello_ack *ack, const struct wire_hello *sent,
                         struct wire_fault *fault);

#endif
