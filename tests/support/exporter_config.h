/*
 * exporter_config.h - fills an exporter's configuration by the keys of its option table, for C
 * tests.
 *
 * What a configuration file fills, a test fills by hand.
 */
#ifndef TESTS_SUPPORT_EXPORTER_CONFIG_H
#define TESTS_SUPPORT_EXPORTER_CONFIG_H

#include "cellgate/exporter.h"

#include <check.h>
#include <string.h>

static const struct cg_option *exporter_option(const struct cg_exporter_ops *ops, const char *key)
{
    for (const struct cg_option *option = ops->options; option->key != NULL; option++) {
        if (strcmp(option->key, key) == 0) {
            return option;
        }
    }
    ck_abort_msg("no option %s", key);
    return NULL;
}

static void *exporter_member(const struct cg_exporter_ops *ops, void *config, const char *key)
{
    return (char *)config + exporter_option(ops, key)->offset;
}

static int exporter_name(const struct cg_exporter_ops *ops, const char *key, const char *name)
{
    const struct cg_option_name *at = exporter_option(ops, key)->names;
    while (at->name != NULL && strcmp(at->name, name) != 0) {
        at++;
    }
    ck_assert_msg(at->name != NULL, "no %s for %s", name, key);
    return at->value;
}

#endif
