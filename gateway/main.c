/* main.c - argv to subcommand to exit code. */
#include "cmd/cmd.h"

#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"run", cg_cmd_run, "run the gateway"},
    {"check", cg_cmd_check, "check a configuration and name every problem"},
    {"status", cg_cmd_status, "show how a running gateway is"},
    {"top", cg_cmd_top, "watch cells and exporters on the terminal"},
    {"tap", cg_cmd_tap, "print events as they are appended"},
    {"cell", cg_cmd_cell, "register cells, end their runs, show them"},
    {"dead-letter", cg_cmd_dead_letter,
     "show what could not be delivered, send it again or drop it"},
    {"spool", cg_cmd_spool, "look into a spool, and set an exporter back"},
    {"decode", cg_cmd_decode, "show what frames say, or why they are refused"},
    {"sign", cg_cmd_sign, "sign CloudEvents"},
    {"verify", cg_cmd_verify, "verify signed CloudEvents, and find gaps"},
    {"send", cg_cmd_send, "play guests against a gateway"},
    {"keygen", cg_cmd_keygen, "make a signing key"},
    {"version", cg_cmd_version, "show the version and what is built in"},
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *out)
{
    (void)fputs("usage: cellgate COMMAND [OPTION]...\n"
                "The host-side telemetry gateway for microVM cells.\n\n",
                out);
    for (size_t i = 0; i < COMMANDS; i++) {
        (void)fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].summary);
    }
    (void)fputs("\n`cellgate COMMAND --help` says more.\n", out);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CG_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return CG_EXIT_OK;
    }
    const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    (void)fprintf(stderr, "cellgate: no command '%s'; `cellgate --help` lists them\n", argv[1]);
    return CG_EXIT_USAGE;
}
