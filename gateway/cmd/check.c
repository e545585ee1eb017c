/* check.c - judges a configuration without starting anything. docs/contract.md section 8. */
#include "cmd/cmd.h"
#include "run/config.h"

#include <getopt.h>
#include <stdio.h>

enum { OUTPUT_BYTES_MAX = 64 * 1024 * 1024, SETTINGS_MAX = 1024 };

struct request {
    const char *path;
    const char *settings[SETTINGS_MAX];
    size_t settings_count;
    bool print;
};

static void print_help(FILE *out)
{
    (void)fputs(
        "usage: cellgate check --config FILE [--set PATH=VALUE]... [--print]\n"
        "       cellgate check --reference\n"
        "Checks a configuration and names every problem as FILE:LINE:COLUMN on stderr; what\n"
        "concerns the whole file (it cannot be opened, a key is missing) stands at 1:1, and what\n"
        "--set brought is named by its path.\n"
        "\n"
        "  -c, --config FILE      the configuration, YAML or JSON; - is stdin\n"
        "  -s, --set PATH=VALUE   set a key beside the file: spool.max_bytes=2GiB,\n"
        "                         exporters.NAME.url=..., ingress.cells.ID.mode='\"0660\"'\n"
        "  -p, --print            show what is in force, defaults included, as YAML; secrets "
        "hidden\n"
        "      --reference        show every key with type, default and meaning, as Markdown\n"
        "  -h, --help             show this\n"
        "\n"
        "Nothing is started, connected or opened but FILE: whether key files can be read, "
        "addresses\n"
        "are free and directories are there is for `cellgate run` to say.\n"
        "Exit codes: 0 the configuration is good, 64 usage, 78 it is not.\n",
        out);
}

static int write_out(struct cg_buf *text)
{
    if (text->failed || fwrite(text->data, 1, text->len, stdout) != text->len ||
        fflush(stdout) != 0) {
        (void)fputs("cellgate check: cannot write the answer\n", stderr);
        return CG_EXIT_FAILED;
    }
    return CG_EXIT_OK;
}

static int show_reference(void)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, OUTPUT_BYTES_MAX);
    cg_config_reference(&text);
    return write_out(&text);
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static int show_config(const struct cg_config *config, bool print)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, OUTPUT_BYTES_MAX);
    if (print) {
        cg_config_print(config, &text);
    } else {
        (void)cg_buf_printf(&text, "ok: %zu cell%s, %zu exporter%s\n", config->ingress.cells.count,
                            plural(config->ingress.cells.count), config->exporters_count,
                            plural(config->exporters_count));
    }
    return write_out(&text);
}

static int check(const struct request *request)
{
    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&problems, OUTPUT_BYTES_MAX);
    struct cg_config *config = NULL;
    if (!cg_config_load(request->path, request->settings, request->settings_count, &config,
                        &problems)) {
        (void)fwrite(problems.data, 1, problems.len, stderr);
        return CG_EXIT_CONFIG;
    }
    int status = show_config(config, request->print);
    cg_config_free(config);
    return status;
}

int cg_cmd_check(int argc, char **argv)
{
    enum { OPTION_REFERENCE = 256 };
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"set", required_argument, NULL, 's'},
        {"print", no_argument, NULL, 'p'},
        {"reference", no_argument, NULL, OPTION_REFERENCE},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct request request = {.path = NULL};
    for (;;) {
        switch (getopt_long(argc, argv, "c:s:ph", options, NULL)) {
        case 'c':
            request.path = optarg;
            continue;
        case 's':
            if (request.settings_count == SETTINGS_MAX) {
                (void)fprintf(stderr, "cellgate check: at most %d --set\n", SETTINGS_MAX);
                return CG_EXIT_USAGE;
            }
            request.settings[request.settings_count++] = optarg;
            continue;
        case 'p':
            request.print = true;
            continue;
        case OPTION_REFERENCE:
            return show_reference();
        case 'h':
            print_help(stdout);
            return CG_EXIT_OK;
        case -1:
            break;
        default:
            return CG_EXIT_USAGE;
        }
        break;
    }
    if (request.path == NULL || optind != argc) {
        print_help(stderr);
        return CG_EXIT_USAGE;
    }
    return check(&request);
}
