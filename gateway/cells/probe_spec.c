#include "cells/probe_spec.h"

#include "base/utf8.h"
#include "cellgate/clock.h"
#include "event/json_write.h"

#include <limits.h>

enum member_kind {
    MEMBER_INTERVAL,
    MEMBER_FLUSH,
    MEMBER_PATH,
    MEMBER_FAMILY,
    MEMBER_TABLE,
    MEMBER_INTERFACE,
};

/* The members of all probes, in the order of their names. */
static const struct member {
    enum cg_probe probe;
    const char *name;
    enum member_kind kind;
    enum cg_probe_text text; /* of those that are one */
} members[] = {
    {CG_PROBE_CGROUP, "interval_ms", MEMBER_INTERVAL, 0},
    {CG_PROBE_CGROUP, "path", MEMBER_PATH, CG_PROBE_CGROUP_PATH},
    {CG_PROBE_FC_METRICS, "api_socket", MEMBER_PATH, CG_PROBE_FC_API_SOCKET},
    {CG_PROBE_FC_METRICS, "flush", MEMBER_FLUSH, 0},
    {CG_PROBE_FC_METRICS, "interval_ms", MEMBER_INTERVAL, 0},
    {CG_PROBE_FC_METRICS, "path", MEMBER_PATH, CG_PROBE_FC_PATH},
    {CG_PROBE_NFTABLES, "family", MEMBER_FAMILY, CG_PROBE_NFT_FAMILY},
    {CG_PROBE_NFTABLES, "interval_ms", MEMBER_INTERVAL, 0},
    {CG_PROBE_NFTABLES, "netns", MEMBER_PATH, CG_PROBE_NFT_NETNS},
    {CG_PROBE_NFTABLES, "table", MEMBER_TABLE, CG_PROBE_NFT_TABLE},
    {CG_PROBE_TAP_LINK, "interface", MEMBER_INTERFACE, CG_PROBE_TAP_INTERFACE},
    {CG_PROBE_TAP_LINK, "interval_ms", MEMBER_INTERVAL, 0},
    {CG_PROBE_TAP_LINK, "netns", MEMBER_PATH, CG_PROBE_TAP_NETNS},
};
enum { MEMBERS = sizeof(members) / sizeof(members[0]) };

static const struct {
    const char *name;
    const char *source;
    enum cg_probe_text subject;
} probes[CG_PROBE_COUNT] = {
    [CG_PROBE_CGROUP] = {"cgroup", "host.cgroup", CG_PROBE_CGROUP_PATH},
    [CG_PROBE_FC_METRICS] = {"fc_metrics", "host.fc_metrics", CG_PROBE_FC_PATH},
    [CG_PROBE_NFTABLES] = {"nftables", "host.nftables", CG_PROBE_NFT_TABLE},
    [CG_PROBE_TAP_LINK] = {"tap_link", "host.tap_link", CG_PROBE_TAP_INTERFACE},
};

const char *cg_probe_name(enum cg_probe probe)
{
    CG_ASSERT(probe < CG_PROBE_COUNT);
    return probes[probe].name;
}

const char *cg_probe_source(enum cg_probe probe)
{
    CG_ASSERT(probe < CG_PROBE_COUNT);
    return probes[probe].source;
}

enum cg_probe_text cg_probe_subject(enum cg_probe probe)
{
    CG_ASSERT(probe < CG_PROBE_COUNT);
    return probes[probe].subject;
}

static bool is_text(const struct member *member)
{
    return member->kind != MEMBER_INTERVAL && member->kind != MEMBER_FLUSH;
}

static bool says(const struct cg_probe_spec *spec, const struct member *member)
{
    switch (member->kind) {
    case MEMBER_INTERVAL:
        return spec->interval_ns[member->probe] != 0;
    case MEMBER_FLUSH:
        return spec->flush;
    default:
        return spec->text[member->text] != NULL;
    }
}

bool cg_probe_spec_is_empty(const struct cg_probe_spec *spec)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        if (says(spec, &members[i])) {
            return false;
        }
    }
    return true;
}

/* --- checking --- */

/* Absolute, and with one spelling only, so that a root that it begins with is one it lies beneath.
 */
static bool is_path(const char *text)
{
    size_t len = strlen(text);
    if (text[0] != '/' || len >= PATH_MAX || len < 2) {
        return false;
    }
    for (const char *part = text; part != NULL;) {
        part++;
        const char *end = strchr(part, '/');
        struct cg_bytes name = cg_bytes(part, end == NULL ? strlen(part) : (size_t)(end - part));
        if (name.len == 0 || cg_bytes_equal(name, CG_BYTES(".")) ||
            cg_bytes_equal(name, CG_BYTES(".."))) {
            return false;
        }
        part = end;
    }
    return true;
}

static bool is_family(const char *text)
{
    static const char *const families[] = {"arp", "bridge", "inet", "ip", "ip6", "netdev"};
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        if (strcmp(families[i], text) == 0) {
            return true;
        }
    }
    return false;
}

/* What the kernel takes as an interface's name, but for the spaces of other alphabets. */
static bool is_interface(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && len <= CG_PROBE_INTERFACE_BYTES_MAX && strcmp(text, ".") != 0 &&
           strcmp(text, "..") != 0 && strpbrk(text, "/: \t\n\v\f\r") == NULL;
}

static bool has_control(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            return true;
        }
    }
    return false;
}

/* NULL if the text is allowed, and else what it must be. */
static const char *judge(const struct member *member, const char *text)
{
    if (!cg_utf8_valid(cg_bytes_str(text)) || has_control(text)) {
        return "must be UTF-8 without control characters";
    }
    switch (member->kind) {
    case MEMBER_PATH:
        return is_path(text) ? NULL : "must be an absolute path without '.', '..' and '//'";
    case MEMBER_FAMILY:
        return is_family(text) ? NULL : "must be inet, ip, ip6, arp, bridge or netdev";
    case MEMBER_TABLE:
        return text[0] != '\0' && strlen(text) <= CG_PROBE_TABLE_BYTES_MAX
                   ? NULL
                   : "must have 1 to 63 bytes";
    case MEMBER_INTERFACE:
        return is_interface(text) ? NULL : "must be an interface's name of 1 to 15 bytes";
    default:
        return NULL;
    }
}

bool cg_probe_spec_check(const struct cg_probe_spec *spec, struct cg_error *err)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        const struct member *member = &members[i];
        if (!says(spec, member) || !is_text(member)) {
            continue;
        }
        const char *wrong = judge(member, spec->text[member->text]);
        if (wrong != NULL) {
            return cg_error_set(err, "probes: %s.%s %s", cg_probe_name(member->probe), member->name,
                                wrong);
        }
    }
    for (enum cg_probe probe = 0; probe < CG_PROBE_COUNT; probe++) {
        uint64_t interval_ns = spec->interval_ns[probe];
        if (interval_ns != 0 && (interval_ns < CG_PROBE_INTERVAL_MS_MIN * CG_NS_PER_MS ||
                                 interval_ns > CG_PROBE_INTERVAL_MS_MAX * CG_NS_PER_MS)) {
            return cg_error_set(err, "probes: %s must be read every %d ms to %d ms",
                                cg_probe_name(probe), CG_PROBE_INTERVAL_MS_MIN,
                                CG_PROBE_INTERVAL_MS_MAX);
        }
    }
    return true;
}

static bool lies_beneath(const char *path, const char *root)
{
    size_t len = strlen(root);
    while (len > 0 && root[len - 1] == '/') {
        len--;
    }
    return strncmp(path, root, len) == 0 && path[len] == '/';
}

bool cg_probe_spec_within(const struct cg_probe_spec *spec, struct cg_strings roots,
                          struct cg_error *err)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        const struct member *member = &members[i];
        if (member->kind != MEMBER_PATH || !says(spec, member)) {
            continue;
        }
        bool found = false;
        for (size_t k = 0; k < roots.count && !found; k++) {
            found = lies_beneath(spec->text[member->text], roots.items[k]);
        }
        if (!found) {
            return cg_error_set(err, "%s.%s is not beneath one of probes.roots",
                                cg_probe_name(member->probe), member->name);
        }
    }
    return true;
}

bool cg_probe_spec_equal(const struct cg_probe_spec *a, const struct cg_probe_spec *b)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        const struct member *member = &members[i];
        if (says(a, member) != says(b, member)) {
            return false;
        }
        if (says(a, member) && is_text(member) &&
            strcmp(a->text[member->text], b->text[member->text]) != 0) {
            return false;
        }
    }
    return memcmp(a->interval_ns, b->interval_ns, sizeof(a->interval_ns)) == 0;
}

/* --- as JSON --- */

static void render_value(const struct cg_probe_spec *spec, const struct member *member,
                         struct cg_buf *out)
{
    switch (member->kind) {
    case MEMBER_INTERVAL:
        cg_buf_append_u64(out, spec->interval_ns[member->probe] / CG_NS_PER_MS);
        break;
    case MEMBER_FLUSH:
        cg_buf_append_str(out, "true");
        break;
    default:
        cg_json_append_string(out, cg_bytes_str(spec->text[member->text]));
        break;
    }
}

bool cg_probe_spec_render(const struct cg_probe_spec *spec, struct cg_buf *out)
{
    int open = -1;
    cg_buf_append_char(out, '{');
    for (size_t i = 0; i < MEMBERS; i++) {
        const struct member *member = &members[i];
        if (!says(spec, member)) {
            continue;
        }
        if (open == (int)member->probe) {
            cg_buf_append_char(out, ',');
        } else {
            cg_buf_append_str(out, open < 0 ? "" : "},");
            cg_json_append_string(out, cg_bytes_str(cg_probe_name(member->probe)));
            cg_buf_append_str(out, ":{");
            open = (int)member->probe;
        }
        cg_json_append_string(out, cg_bytes_str(member->name));
        cg_buf_append_char(out, ':');
        render_value(spec, member, out);
    }
    return cg_buf_append_str(out, open < 0 ? "}" : "}}");
}

static bool read_value(const struct cg_json *json, uint32_t node, const struct member *member,
                       struct cg_buf *texts, struct cg_probe_spec *spec, struct cg_error *err)
{
    const char *probe = cg_probe_name(member->probe);
    if (member->kind == MEMBER_INTERVAL) {
        uint64_t ms = 0;
        if (cg_json_type(json, node) != CG_JSON_NUMBER || !cg_json_u64(json, node, &ms) ||
            ms < CG_PROBE_INTERVAL_MS_MIN || ms > CG_PROBE_INTERVAL_MS_MAX) {
            return cg_error_set(err, "%s.%s must be an integer from %d to %d", probe, member->name,
                                CG_PROBE_INTERVAL_MS_MIN, CG_PROBE_INTERVAL_MS_MAX);
        }
        spec->interval_ns[member->probe] = ms * CG_NS_PER_MS;
        return true;
    }
    if (member->kind == MEMBER_FLUSH) {
        enum cg_json_type type = cg_json_type(json, node);
        spec->flush = type == CG_JSON_TRUE;
        return type == CG_JSON_TRUE || type == CG_JSON_FALSE ||
               cg_error_set(err, "%s.%s must be true or false", probe, member->name);
    }
    if (cg_json_type(json, node) != CG_JSON_STRING || json->nodes[node].has_nul) {
        return cg_error_set(err, "%s.%s must be a string without NUL", probe, member->name);
    }
    size_t start = texts->len;
    if (!cg_json_decode(json, node, texts) || !cg_buf_append_char(texts, '\0')) {
        return cg_error_set(err, "out of memory");
    }
    spec->text[member->text] = texts->data + start;
    return true;
}

/* The member of that probe with the key's name, or NULL. */
static const struct member *find_member(const struct cg_json *json, uint32_t key,
                                        enum cg_probe probe)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        if (members[i].probe == probe && cg_json_is(json, key, cg_bytes_str(members[i].name))) {
            return &members[i];
        }
    }
    return NULL;
}

static bool read_probe(const struct cg_json *json, uint32_t object, enum cg_probe probe,
                       struct cg_buf *texts, struct cg_probe_spec *spec, struct cg_error *err)
{
    unsigned seen = 0;
    if (cg_json_type(json, object) != CG_JSON_OBJECT) {
        return cg_error_set(err, "%s must be an object", cg_probe_name(probe));
    }
    for (uint32_t key = object + 1; key < json->nodes[object].next;
         key = json->nodes[key + 1].next) {
        const struct member *member = find_member(json, key, probe);
        if (member == NULL) {
            return cg_error_set(err, "%s has a member that is not known", cg_probe_name(probe));
        }
        unsigned bit = 1U << (unsigned)(member - members);
        if ((seen & bit) != 0) {
            return cg_error_set(err, "%s.%s stands there twice", cg_probe_name(probe),
                                member->name);
        }
        seen |= bit;
        if (!read_value(json, key + 1, member, texts, spec, err)) {
            return false;
        }
    }
    return true;
}

bool cg_probe_spec_read(const struct cg_json *json, uint32_t object, struct cg_buf *texts,
                        struct cg_probe_spec *ret_spec, struct cg_error *err)
{
    struct cg_probe_spec spec = {0};
    unsigned seen = 0;
    if (cg_json_type(json, object) != CG_JSON_OBJECT) {
        return cg_error_set(err, "must be an object");
    }
    for (uint32_t key = object + 1; key < json->nodes[object].next;
         key = json->nodes[key + 1].next) {
        enum cg_probe probe = 0;
        while (probe < CG_PROBE_COUNT && !cg_json_is(json, key, cg_bytes_str(probes[probe].name))) {
            probe++;
        }
        if (probe == CG_PROBE_COUNT) {
            return cg_error_set(err, "has a member that is no probe (cgroup, fc_metrics, nftables, "
                                     "tap_link)");
        }
        if ((seen & 1U << probe) != 0) {
            return cg_error_set(err, "%s stands there twice", probes[probe].name);
        }
        seen |= 1U << probe;
        if (!read_probe(json, key + 1, probe, texts, &spec, err)) {
            return false;
        }
    }
    *ret_spec = spec;
    return true;
}

/* --- copies --- */

size_t cg_probe_spec_bytes(const struct cg_probe_spec *spec)
{
    size_t bytes = 0;
    for (size_t i = 0; i < CG_PROBE_TEXT_COUNT; i++) {
        bytes += spec->text[i] == NULL ? 0 : strlen(spec->text[i]) + 1;
    }
    return bytes;
}

struct cg_probe_spec cg_probe_spec_place(const struct cg_probe_spec *spec, char *memory)
{
    struct cg_probe_spec copy = *spec;
    for (size_t i = 0; i < CG_PROBE_TEXT_COUNT; i++) {
        if (spec->text[i] != NULL) {
            size_t len = strlen(spec->text[i]) + 1;
            copy.text[i] = memcpy(memory, spec->text[i], len);
            memory += len;
        }
    }
    return copy;
}

/* The default with each {cell_id} replaced. Ids have no slash and are not '..', so a path stays one
 * of the same depth. */
static void expand(const char *template, struct cg_bytes cell_id, struct cg_buf *out)
{
    static const struct cg_bytes mark = CG_BYTES("{cell_id}");
    const char *at = template;
    const char *found;
    while ((found = strstr(at, mark.data)) != NULL) {
        cg_buf_append(out, cg_bytes(at, (size_t)(found - at)));
        cg_buf_append(out, cell_id);
        at = found + mark.len;
    }
    cg_buf_append_str(out, at);
    cg_buf_append_char(out, '\0');
}

bool cg_probe_spec_resolve(const struct cg_probe_policy *policy, const struct cg_probe_spec *own,
                           struct cg_bytes cell_id, struct cg_buf *texts,
                           struct cg_probe_spec *ret_spec)
{
    static const struct cg_probe_spec nothing = {0};
    own = own == NULL ? &nothing : own;
    struct cg_probe_spec spec = {.flush = own->flush || policy->defaults.flush};
    size_t starts[CG_PROBE_TEXT_COUNT];
    for (size_t i = 0; i < MEMBERS; i++) {
        const struct member *member = &members[i];
        enum cg_probe_text subject = cg_probe_subject(member->probe);
        bool has_subject = own->text[subject] != NULL || policy->defaults.text[subject] != NULL;
        if (!is_text(member) || !policy->enabled[member->probe] || !has_subject) {
            continue;
        }
        const char *text = own->text[member->text];
        const char *fallback = policy->defaults.text[member->text];
        starts[member->text] = texts->len;
        if (text != NULL) {
            cg_buf_append(texts, cg_bytes(text, strlen(text) + 1));
        } else if (fallback != NULL) {
            expand(fallback, cell_id, texts);
        } else {
            continue;
        }
        spec.text[member->text] = ""; /* its place is known when nothing moves any more */
    }
    if (texts->failed) {
        return false;
    }
    for (size_t i = 0; i < CG_PROBE_TEXT_COUNT; i++) {
        spec.text[i] = spec.text[i] == NULL ? NULL : texts->data + starts[i];
    }
    for (enum cg_probe probe = 0; probe < CG_PROBE_COUNT; probe++) {
        uint64_t fallback = policy->defaults.interval_ns[probe];
        fallback = fallback == 0 ? policy->interval_ns : fallback;
        spec.interval_ns[probe] = own->interval_ns[probe] == 0 ? fallback : own->interval_ns[probe];
    }
    *ret_spec = spec;
    return true;
}
