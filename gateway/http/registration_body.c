#include "http/registration_body.h"

#include "cellgate/clock.h"
#include "event/json.h"

#include <stdio.h>

enum {
    BAD_REQUEST = 400,
    UNPROCESSABLE = 422,
    NODES_MAX = 4096,
    LEVELS_MAX = 8,
    PERMISSION_BITS = 0777,
    PID_MAX = 4194304, /* the kernel's own limit */
};
#define KEEPALIVE_MS_MAX UINT64_C(86400000) /* a day, as in the configuration */

struct reading {
    struct cg_json json;
    struct cg_json_order scratch;
    struct cg_registration_body *registration;
    struct cg_registration_body_problem *problem;
};

static bool refuse(struct reading *reading, unsigned status, struct cg_bytes member,
                   const char *detail)
{
    struct cg_registration_body_problem *problem = reading->problem;
    size_t len = member.len < sizeof(problem->member) ? member.len : sizeof(problem->member) - 1;
    problem->status = status;
    memcpy(problem->member, len == 0 ? "" : member.data, len);
    problem->member[len] = '\0';
    return cg_error_set(&problem->detail, "%s", detail);
}

static bool refuse_member(struct reading *reading, const char *member, const char *detail)
{
    return refuse(reading, UNPROCESSABLE, cg_bytes_str(member), detail);
}

/* --- values --- */

/* The text of a string, terminated. */
static bool read_text(struct reading *reading, const char *member, uint32_t node,
                      const char **ret_text)
{
    const struct cg_json *json = &reading->json;
    struct cg_buf *texts = &reading->registration->texts;
    if (cg_json_type(json, node) != CG_JSON_STRING) {
        return refuse_member(reading, member, "must be a string");
    }
    if (json->nodes[node].has_nul) {
        return refuse_member(reading, member, "must not have a NUL in it");
    }
    size_t start = texts->len;
    cg_json_decode(json, node, texts);
    if (!cg_buf_append_char(texts, '\0')) {
        return refuse_member(reading, member, "out of memory");
    }
    *ret_text = texts->data + start;
    return true;
}

static bool read_u64(struct reading *reading, const char *member, uint32_t node, uint64_t min,
                     uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (cg_json_type(&reading->json, node) == CG_JSON_NUMBER &&
        cg_json_u64(&reading->json, node, &value) && value >= min && value <= max) {
        *ret_value = value;
        return true;
    }
    char detail[96];
    (void)snprintf(detail, sizeof(detail), "must be an integer from %llu to %llu",
                   (unsigned long long)min, (unsigned long long)max);
    return refuse_member(reading, member, detail);
}

/* Refuses an object that has two members of one name. */
static bool check_unique(struct reading *reading, uint32_t object)
{
    uint32_t repeated = 0;
    if (!cg_json_repeated(&reading->json, object, &reading->scratch, &repeated)) {
        return refuse(reading, UNPROCESSABLE, cg_bytes(NULL, 0), "out of memory");
    }
    return repeated == 0 || refuse(reading, BAD_REQUEST, cg_json_raw(&reading->json, repeated),
                                   "stands there twice");
}

static bool read_object(struct reading *reading, const char *member, uint32_t node)
{
    if (cg_json_type(&reading->json, node) != CG_JSON_OBJECT) {
        return refuse_member(reading, member, "must be an object");
    }
    return check_unique(reading, node);
}

/* --- members --- */

static bool read_run_id(struct reading *reading, const char *member, uint32_t node)
{
    return read_text(reading, member, node, &reading->registration->request.spec.run_id);
}

static bool read_hash(struct reading *reading, const char *member, uint32_t node)
{
    return read_text(reading, member, node,
                     &reading->registration->request.spec.spec_signature_hash);
}

static bool read_base(struct reading *reading, const char *member, uint32_t node)
{
    return read_text(reading, member, node, &reading->registration->request.spec.vsock_uds_base);
}

static bool read_traceparent(struct reading *reading, const char *member, uint32_t node)
{
    return cg_json_type(&reading->json, node) == CG_JSON_NULL ||
           read_text(reading, member, node, &reading->registration->request.spec.traceparent);
}

static bool read_keepalive(struct reading *reading, const char *member, uint32_t node)
{
    uint64_t ms = 0;
    if (!read_u64(reading, member, node, 1, KEEPALIVE_MS_MAX, &ms)) {
        return false;
    }
    reading->registration->request.spec.keepalive_window_ns = ms * CG_NS_PER_MS;
    return true;
}

static bool read_owner(struct reading *reading, const char *member, uint32_t node)
{
    const struct cg_json *json = &reading->json;
    struct cg_range *owner = &reading->registration->request.spec.owner;
    if (!read_object(reading, member, node)) {
        return false;
    }
    uint32_t uid = cg_json_find(json, node, CG_BYTES("uid"));
    uint32_t gid = cg_json_find(json, node, CG_BYTES("gid"));
    if (uid == 0 || gid == 0 || json->nodes[node].count != 2) {
        return refuse_member(reading, member, "must have uid and gid, and nothing else");
    }
    owner->present = true;
    return read_u64(reading, "owner.uid", uid, 0, UINT32_MAX - 1, &owner->first) &&
           read_u64(reading, "owner.gid", gid, 0, UINT32_MAX - 1, &owner->last);
}

static bool read_mode(struct reading *reading, const char *member, uint32_t node)
{
    const char *text = "";
    if (!read_text(reading, member, node, &text)) {
        return false;
    }
    size_t digits = strspn(text, "01234567");
    uint64_t mode = 0;
    for (size_t i = 0; i < digits && i < 5; i++) {
        mode = mode * 8 + (uint64_t)(text[i] - '0');
    }
    if (digits < 3 || digits > 4 || text[digits] != '\0' || mode == 0 || mode > PERMISSION_BITS) {
        return refuse_member(reading, member,
                             "must be a string of permissions in octal, such as 0660");
    }
    reading->registration->request.spec.socket_mode = mode;
    return true;
}

static bool read_labels(struct reading *reading, const char *member, uint32_t node)
{
    const struct cg_json *json = &reading->json;
    struct cg_registration_body *registration = reading->registration;
    if (!read_object(reading, member, node)) {
        return false;
    }
    if (json->nodes[node].count > CG_LABELS_MAX) {
        return refuse_member(reading, member, "must be 16 at most");
    }
    size_t count = 0;
    for (uint32_t key = node + 1; key < json->nodes[node].next;
         key = json->nodes[key + 1].next, count++) {
        struct cg_pair *label = &registration->labels[count];
        if (!read_text(reading, member, key, &label->key) ||
            !read_text(reading, member, key + 1, &label->value)) {
            return false;
        }
    }
    registration->request.spec.labels = (struct cg_pairs){registration->labels, count};
    return true;
}

static bool read_vmm_pid(struct reading *reading, const char *member, uint32_t node)
{
    return read_u64(reading, member, node, 1, PID_MAX, &reading->registration->request.vmm_pid);
}

static bool read_probes(struct reading *reading, const char *member, uint32_t node)
{
    struct cg_registration_body *registration = reading->registration;
    struct cg_error err = {0};
    registration->request.spec.probes = &registration->probes;
    return cg_probe_spec_read(&reading->json, node, &registration->texts, &registration->probes,
                              &err) ||
           refuse_member(reading, member, err.text);
}

static const struct member {
    const char *name;
    bool required;
    bool (*read)(struct reading *reading, const char *member, uint32_t node);
} members[] = {
    {"run_id", true, read_run_id},       {"spec_signature_hash", true, read_hash},
    {"vsock_uds_base", true, read_base}, {"keepalive_ms", false, read_keepalive},
    {"owner", false, read_owner},        {"mode", false, read_mode},
    {"labels", false, read_labels},      {"traceparent", false, read_traceparent},
    {"vmm_pid", false, read_vmm_pid},    {"probes", false, read_probes},
};

enum { MEMBERS = sizeof(members) / sizeof(members[0]) };

/* --- the whole --- */

static bool check_names(struct reading *reading)
{
    const struct cg_json *json = &reading->json;
    for (uint32_t key = 1; key < json->nodes[0].next; key = json->nodes[key + 1].next) {
        bool known = false;
        for (size_t i = 0; i < MEMBERS && !known; i++) {
            known = cg_json_is(json, key, cg_bytes_str(members[i].name));
        }
        if (!known) {
            return refuse(reading, UNPROCESSABLE, cg_json_raw(json, key), "is not a known member");
        }
    }
    return true;
}

static bool read_all(struct reading *reading, struct cg_bytes body)
{
    struct cg_error err = {0};
    if (!cg_json_parse(&reading->json, body, &err)) {
        return refuse(reading, BAD_REQUEST, cg_bytes(NULL, 0), err.text);
    }
    if (cg_json_type(&reading->json, 0) != CG_JSON_OBJECT) {
        return refuse(reading, UNPROCESSABLE, cg_bytes(NULL, 0), "a registration is an object");
    }
    if (!check_unique(reading, 0) || !check_names(reading)) {
        return false;
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        uint32_t node = cg_json_find(&reading->json, 0, cg_bytes_str(members[i].name));
        if (node == 0 && members[i].required) {
            return refuse_member(reading, members[i].name, "is required");
        }
        if (node != 0 && !members[i].read(reading, members[i].name, node)) {
            return false;
        }
    }
    return true;
}

bool cg_registration_body_parse(struct cg_registration_body *ret_registration, const char *cell_id,
                                struct cg_bytes body,
                                struct cg_registration_body_problem *ret_problem)
{
    struct reading reading = {.registration = ret_registration, .problem = ret_problem};
    *ret_registration = (struct cg_registration_body){.request.spec.cell_id = cell_id};
    cg_json_init(&reading.json, (struct cg_json_limits){.bytes_max = CG_REGISTRATION_BODY_BYTES_MAX,
                                                        .nodes_max = NODES_MAX,
                                                        .levels_max = LEVELS_MAX});
    /* All texts together are shorter than the body, their ends included: a string has two quotes.
     * So the memory never moves. */
    cg_buf_init(&ret_registration->texts, body.len + 1);
    bool good = cg_buf_reserve(&ret_registration->texts, body.len + 1) ||
                refuse(&reading, UNPROCESSABLE, cg_bytes(NULL, 0), "out of memory");
    good = good && read_all(&reading, body);
    cg_json_order_fini(&reading.scratch);
    cg_json_fini(&reading.json);
    if (!good) {
        cg_registration_body_fini(ret_registration);
    }
    return good;
}

void cg_registration_body_fini(struct cg_registration_body *registration)
{
    cg_buf_fini(&registration->texts);
}
