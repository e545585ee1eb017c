/*
 * sandbox_needs.h - what parts of the gateway need of the machine once it is in the sandbox.
 */
#ifndef CELLGATE_SANDBOX_NEEDS_H
#define CELLGATE_SANDBOX_NEEDS_H

#include "run/config.h"
#include "run/landlock.h"

/* The directories that the configuration, its own file at `path` ("-": none) and the libraries use,
 * as rules. */
CG_MUST_USE bool cg_sandbox_allow_files(const char *path, const struct cg_config *config,
                                        const struct cg_landlock *landlock, struct cg_error *err);

/* The capabilities that stay, and the CG_SECCOMP_* that are let through; of no part but host
 * probes. */
uint64_t cg_sandbox_capabilities(const struct cg_config *config);
unsigned cg_sandbox_calls(const struct cg_config *config);

#endif
