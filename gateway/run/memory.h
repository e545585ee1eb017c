/*
 * memory.h - memory that is given back all at once: what a configuration's pointers point into.
 *
 * Allocations are zeroed and never freed one by one. A failed allocation returns NULL and is
 * remembered, so that a reader can go on with what it has and ask once at the end. One thread.
 */
#ifndef CELLGATE_MEMORY_H
#define CELLGATE_MEMORY_H

#include "cellgate/bytes.h"

struct cg_config_memory;

/* NULL without memory. */
struct cg_config_memory *cg_config_memory_new(void);
/* Frees it and everything allocated from it; NULL is fine. */
void cg_config_memory_free(struct cg_config_memory *memory);

/* Zeroed, aligned for any type; NULL without memory. `size` 0 gives a valid pointer too. */
void *cg_config_memory_alloc(struct cg_config_memory *memory, size_t size);
/* An array of `count` elements, or NULL without memory or if the product overflows. */
void *cg_config_memory_array(struct cg_config_memory *memory, size_t count, size_t element_size);
/* A terminated copy. */
const char *cg_config_memory_copy(struct cg_config_memory *memory, struct cg_bytes text);
/* Whether any allocation failed. */
bool cg_config_memory_failed(const struct cg_config_memory *memory);

#endif
