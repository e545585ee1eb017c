/*
 * crc32c.c - CRC32C by the SSE4.2 instruction, three streams at a time, or by tables.
 *
 * The crc32 instruction has a latency of three cycles and a throughput of one, so one stream leaves
 * two thirds of it idle. Longer inputs are cut into three equal streams of k words whose checksums
 * are then joined: a checksum is moved over n words of zeros by a carry-less multiplication with a
 * constant, and the instruction itself reduces the product.
 */
#include "spool/crc32c.h"

#include <stdbool.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the spool's format is that of a little-endian machine"
#endif

#define CRC32C_POLYNOMIAL UINT32_C(0x82f63b78) /* bits reflected */

static uint32_t byte_tables[8][256];

static inline uint64_t load_u64(const unsigned char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    return word;
}

/* The table functions and the hardware functions below work on the inverted checksum. */
static uint32_t crc_by_table(uint32_t crc, const unsigned char *data, size_t len)
{
    for (; len >= 8; data += 8, len -= 8) {
        uint64_t word = load_u64(data) ^ crc;
        crc = 0;
        for (unsigned i = 0; i < 8; i++) {
            crc ^= byte_tables[7 - i][(word >> (8 * i)) & 0xff];
        }
    }
    for (; len > 0; data++, len--) {
        crc = byte_tables[0][(crc ^ *data) & 0xff] ^ (crc >> 8);
    }
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define HARDWARE __attribute__((target("sse4.2,pclmul")))

enum { STREAM_WORDS_MAX = 256, STREAM_WORDS_MIN = 4 };

static bool have_hardware;
/* shift_over[n] moves a checksum over n words of zeros: x^(64n - 33) modulo the polynomial. */
static uint32_t shift_over[2 * STREAM_WORDS_MAX + 1];

HARDWARE static inline uint64_t shifted(uint32_t crc, size_t words)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)crc),
                                           _mm_cvtsi32_si128((int)shift_over[words]), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

HARDWARE static inline uint32_t crc_of_three(uint32_t crc, const unsigned char *data, size_t words)
{
    const unsigned char *second = data + 8 * words;
    const unsigned char *third = second + 8 * words;
    uint64_t a = crc;
    uint64_t b = 0;
    uint64_t c = 0;
    size_t i = 0;
    for (; i + 1 < words; i++) {
        a = _mm_crc32_u64(a, load_u64(data + 8 * i));
        b = _mm_crc32_u64(b, load_u64(second + 8 * i));
        c = _mm_crc32_u64(c, load_u64(third + 8 * i));
    }
    a = _mm_crc32_u64(a, load_u64(data + 8 * i));
    b = _mm_crc32_u64(b, load_u64(second + 8 * i));
    uint64_t moved = shifted((uint32_t)a, 2 * words) ^ shifted((uint32_t)b, words);
    return (uint32_t)_mm_crc32_u64(c, load_u64(third + 8 * i) ^ moved);
}

HARDWARE static uint32_t crc_by_hardware(uint32_t crc, const unsigned char *data, size_t len)
{
    while (len >= (size_t)24 * STREAM_WORDS_MIN) {
        size_t words = len / 24;
        if (words > STREAM_WORDS_MAX) {
            words = STREAM_WORDS_MAX;
        }
        crc = crc_of_three(crc, data, words);
        data += 24 * words;
        len -= 24 * words;
    }
    for (; len >= 8; data += 8, len -= 8) {
        crc = (uint32_t)_mm_crc32_u64(crc, load_u64(data));
    }
    for (; len > 0; data++, len--) {
        crc = _mm_crc32_u8(crc, *data);
    }
    return crc;
}

HARDWARE static uint32_t crc_of_two_words(uint32_t crc, uint64_t first, uint64_t second)
{
    return (uint32_t)_mm_crc32_u64(_mm_crc32_u64(crc, first), second);
}

static void prepare_hardware(void)
{
    __builtin_cpu_init();
    have_hardware = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
    static const unsigned char zeros[8];
    shift_over[1] = 1;
    for (size_t i = 1; i < (size_t)2 * STREAM_WORDS_MAX; i++) {
        shift_over[i + 1] = crc_by_table(shift_over[i], zeros, sizeof(zeros));
    }
}
#else
static const bool have_hardware = false;

static uint32_t crc_by_hardware(uint32_t crc, const unsigned char *data, size_t len)
{
    return crc_by_table(crc, data, len);
}

static uint32_t crc_of_two_words(uint32_t crc, uint64_t first, uint64_t second)
{
    uint64_t words[2] = {first, second};
    return crc_by_table(crc, (const unsigned char *)words, sizeof(words));
}

static void prepare_hardware(void)
{
}
#endif

/* Before main, so that no caller has to ask whether the tables are there. */
__attribute__((constructor)) static void prepare_tables(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
        }
        byte_tables[0][i] = crc;
    }
    for (unsigned t = 1; t < 8; t++) {
        for (unsigned i = 0; i < 256; i++) {
            uint32_t before = byte_tables[t - 1][i];
            byte_tables[t][i] = byte_tables[0][before & 0xff] ^ (before >> 8);
        }
    }
    prepare_hardware();
}

uint32_t cg_crc32c(uint32_t crc, const void *data, size_t len)
{
    return ~(have_hardware ? crc_by_hardware(~crc, data, len) : crc_by_table(~crc, data, len));
}

uint32_t cg_crc32c_u64x2(uint32_t crc, uint64_t first, uint64_t second)
{
    if (have_hardware) {
        return ~crc_of_two_words(~crc, first, second);
    }
    uint64_t words[2] = {first, second};
    return cg_crc32c_portable(crc, words, sizeof(words));
}

uint32_t cg_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    return ~crc_by_table(~crc, data, len);
}
