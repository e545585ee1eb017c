/* reference.c - the page that explains every key, from the tables that read them. */
#include "exporters/registry.h"
#include "run/config.h"
#include "run/schema.h"
#include "run/show.h"
#include "run/value.h"

static const char introduction[] =
    "# Configuration\n"
    "\n"
    "This page is generated from the tables that read the file (`cellgate check --reference`).\n"
    "`config/cellgate.yaml` shows every key in its place. `cellgate check --config FILE` names "
    "every\n"
    "problem of a file as `file:line:column`, and with `--print` shows what is in force.\n"
    "\n"
    "- The file is YAML, UTF-8, one document, at most 16 MiB; JSON is accepted too.\n"
    "- Unknown and repeated keys are errors. `null` is as if the key were not there.\n"
    "- Texts are taken as they are written: `0660` is octal where a file mode is expected, `off` "
    "is a\n"
    "  word where a word is expected. A whole number has no leading zero, a file mode has one.\n"
    "- Durations: a whole number with `ns`, `us`, `ms`, `s`, `m`, `h` or `d`. Sizes: a whole "
    "number\n"
    "  of bytes, or with `kB`, `MB`, `GB`, `TB` (thousands) or `KiB`, `MiB`, `GiB`, `TiB` "
    "(1,024s).\n"
    "- Anchors, aliases, merge keys and tags are refused.\n"
    "- `--set path=value` sets any key beside the file: keys joined by dots, an element of a list "
    "by\n"
    "  its name, cell id or number. A value that begins with a bracket or a quote is YAML, any "
    "other\n"
    "  is the text itself. `--set spool.max_bytes=2GiB`, `--set exporters.central.mode=single`,\n"
    "  `--set signing.kid=null`, `--set 'http.hosts=[gw.example, gw]'`.\n"
    "- A key marked *live* can be changed while the gateway runs: by SIGHUP or `POST /v1/reload`. "
    "For\n"
    "  any other a reload is refused and names it, since it takes a restart.\n"
    "\n";

static void put_sections(struct cg_buf *out)
{
    for (const struct cg_option *option = cg_schema; option->key != NULL; option++) {
        if (option->fields != NULL) {
            (void)cg_buf_printf(out, "## `%s`\n\n%s\n\n", option->key, option->help);
            cg_show_reference(option->fields, true, option->live, out);
        }
    }
}

void cg_config_reference(struct cg_buf *out)
{
    (void)cg_buf_append_str(out, introduction);
    (void)cg_buf_append_str(out, "## At the top\n\n");
    cg_show_reference(cg_schema, false, false, out);
    put_sections(out);
    for (size_t i = 0; cg_exporters[i] != NULL; i++) {
        const struct cg_exporter_ops *ops = cg_exporters[i];
        (void)cg_buf_printf(out, "### `type: %s`\n\n%s\n\nWithout `batch`, at most ", ops->type,
                            ops->summary);
        (void)cg_buf_append_u64(out, ops->batch_events);
        (void)cg_buf_append_str(out, " events and ");
        cg_value_write_size(ops->batch_bytes, out);
        (void)cg_buf_append_str(out, " a batch.\n\n");
        cg_show_reference(ops->options, true, true, out);
    }
    if (!out->failed && out->len > 0) {
        out->len--; /* the empty line behind the last table */
    }
}
