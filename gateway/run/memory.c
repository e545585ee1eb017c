#include "run/memory.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 64 * 1024 };

struct chunk {
    struct chunk *next;
    size_t used;
    size_t size;
    alignas(max_align_t) char bytes[];
};

struct cg_config_memory {
    struct chunk *chunks; /* the first one is being filled, … */
    struct chunk *texts;  /* … as is this one of texts, which need no alignment */
    bool failed;
};

struct cg_config_memory *cg_config_memory_new(void)
{
    return calloc(1, sizeof(struct cg_config_memory));
}

static void free_chunks(struct chunk *chunks)
{
    while (chunks != NULL) {
        struct chunk *chunk = chunks;
        chunks = chunk->next;
        free(chunk);
    }
}

void cg_config_memory_free(struct cg_config_memory *memory)
{
    if (memory == NULL) {
        return;
    }
    free_chunks(memory->chunks);
    free_chunks(memory->texts);
    free(memory);
}

static struct chunk *add_chunk(struct cg_config_memory *memory, struct chunk **chunks, size_t size)
{
    size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
    struct chunk *chunk = calloc(1, sizeof(*chunk) + room);
    if (chunk == NULL) {
        memory->failed = true;
        return NULL;
    }
    chunk->size = room;
    chunk->next = *chunks;
    *chunks = chunk;
    return chunk;
}

static void *take(struct cg_config_memory *memory, struct chunk **chunks, size_t size)
{
    struct chunk *chunk = *chunks;
    if (chunk == NULL || chunk->size - chunk->used < size) {
        chunk = add_chunk(memory, chunks, size);
        if (chunk == NULL) {
            return NULL;
        }
    }
    void *result = chunk->bytes + chunk->used;
    chunk->used += size;
    return result;
}

void *cg_config_memory_alloc(struct cg_config_memory *memory, size_t size)
{
    if (size > SIZE_MAX / 2) {
        memory->failed = true;
        return NULL;
    }
    size_t rounded = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    return take(memory, &memory->chunks, rounded);
}

void *cg_config_memory_array(struct cg_config_memory *memory, size_t count, size_t element_size)
{
    size_t size;
    if (__builtin_mul_overflow(count, element_size, &size)) {
        memory->failed = true;
        return NULL;
    }
    return cg_config_memory_alloc(memory, size);
}

const char *cg_config_memory_copy(struct cg_config_memory *memory, struct cg_bytes text)
{
    char *copy = take(memory, &memory->texts, text.len + 1);
    if (copy != NULL && text.len > 0) {
        memcpy(copy, text.data, text.len); /* terminated: the memory is zeroed */
    }
    return copy;
}

bool cg_config_memory_failed(const struct cg_config_memory *memory)
{
    return memory->failed;
}
