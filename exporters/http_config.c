#include "exporters/http_config.h"

const struct cg_option_name cg_http_version_names[] = {
    {"auto", CG_HTTP_VERSION_AUTO},
    {"1.1", CG_HTTP_VERSION_1_1},
    {"2", CG_HTTP_VERSION_2},
    {NULL, 0},
};
