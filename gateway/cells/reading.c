#include "cells/reading.h"

#include <stdlib.h>

struct cg_reading *cg_reading_new(enum cg_reading_kind kind, struct cg_bytes inputs,
                                  struct cg_bytes output)
{
    struct cg_reading *reading = calloc(1, sizeof(*reading) + inputs.len + output.len);
    if (reading == NULL) {
        return NULL;
    }
    cg_list_init(&reading->in_channel);
    reading->kind = kind;
    if (inputs.len > 0) {
        memcpy(reading->text, inputs.data, inputs.len);
    }
    if (output.len > 0) {
        memcpy(reading->text + inputs.len, output.data, output.len);
    }
    reading->inputs = cg_bytes(reading->text, inputs.len);
    reading->output = cg_bytes(reading->text + inputs.len, output.len);
    return reading;
}

void cg_reading_free(struct cg_reading *reading)
{
    free(reading);
}
