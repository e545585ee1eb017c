/*
 * fuzz_config.c - any bytes as a configuration file, with settings behind it.
 *
 * The input is the file's text; after each byte 0xFE (never in UTF-8) comes a setting. What is
 * accepted must print, and what is refused must say why.
 */
#include "run/config.h"

#include <stdint.h>
#include <stdlib.h>

enum { SETTINGS_MAX = 8, SETTING_SEPARATOR = 0xFE, OUTPUT_BYTES_MAX = 64 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    CG_ASSERT(text != NULL);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';

    const char *settings[SETTINGS_MAX];
    size_t settings_count = 0;
    size_t file_len = size;
    for (size_t i = 0; i < size; i++) {
        if (data[i] == SETTING_SEPARATOR && settings_count < SETTINGS_MAX) {
            text[i] = '\0';
            file_len = settings_count == 0 ? i : file_len;
            settings[settings_count++] = text + i + 1;
        }
    }
    struct cg_buf out;
    cg_buf_init(&out, OUTPUT_BYTES_MAX);
    struct cg_config *config = NULL;
    if (cg_config_parse("fuzz", cg_bytes(text, file_len), settings, settings_count, &config,
                        &out)) {
        CG_ASSERT(out.len == 0);
        cg_config_print(config, &out);
        CG_ASSERT(out.len > 0);
        cg_config_free(config);
    } else {
        CG_ASSERT(out.len > 0 && out.data[out.len - 1] == '\n');
    }
    cg_buf_fini(&out);
    free(text);
    return 0;
}
