/*
 * cmd.h - a subcommand: argv to exit code. One file each; main.c has the table.
 *
 * argv[0] is the subcommand's name. Every command knows --help. Results go to stdout, words about
 * them to stderr.
 */
#ifndef CELLGATE_CMD_H
#define CELLGATE_CMD_H

/* docs/contract.md section 8 (64 and 78 as in sysexits.h). */
enum { CG_EXIT_OK = 0, CG_EXIT_FAILED = 1, CG_EXIT_USAGE = 64, CG_EXIT_CONFIG = 78 };

int cg_cmd_cell(int argc, char **argv);
int cg_cmd_check(int argc, char **argv);
int cg_cmd_dead_letter(int argc, char **argv);
int cg_cmd_decode(int argc, char **argv);
int cg_cmd_keygen(int argc, char **argv);
int cg_cmd_run(int argc, char **argv);
int cg_cmd_send(int argc, char **argv);
int cg_cmd_sign(int argc, char **argv);
int cg_cmd_spool(int argc, char **argv);
int cg_cmd_status(int argc, char **argv);
int cg_cmd_tap(int argc, char **argv);
int cg_cmd_top(int argc, char **argv);
int cg_cmd_verify(int argc, char **argv);
int cg_cmd_version(int argc, char **argv);

#endif
