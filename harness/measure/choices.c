#include "harness/measure/choices.h"

#include "anemo_config.h"
#include "harness/gate/code_hash.h"
#include "harness/measure/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX (4u << 20)

static const char *engine_hash(void) {
    const anemo_code_entry *entry = anemo_code_entry_of("engine");
    return entry ? entry->hash : "";
}

static const char *backend_name(anemo_device *device) {
    return anemo_device_backend(device) == ANEMO_CPU ? "cpu" : "cuda";
}

void anemo_choices_rule(const anemo_choices_entry *e, char *text, size_t bytes) {
    char hi[24] = "";
    if (e->m_hi != INT64_MAX) {
        snprintf(hi, sizeof hi, "%" PRId64, e->m_hi);
    }
    snprintf(text, bytes, "%s%s%s:m=%" PRId64 "..%s=%s", anemo_op_name(e->op),
             e->role[0] ? "@" : "", e->role, e->m_lo, hi, e->variant->name);
}

/* ---------------------------------------------------------------- writing */

static void set_estimate(json_t *object, const char *name, const char *suffix,
                         const anemo_estimate *e) {
    const struct {
        const char *end;
        double value;
    } parts[] = {{"", e->value}, {"_lo", e->lo}, {"_hi", e->hi}};
    for (int i = 0; i < 3; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s%s", name, parts[i].end, suffix);
        json_object_set_new(object, key,
                            isfinite(parts[i].value) ? json_real(parts[i].value) : json_null());
    }
}

static json_t *entry_object(const anemo_choices_entry *e) {
    json_t *object = json_object();
    json_object_set_new(object, "op", json_string(anemo_op_name(e->op)));
    json_object_set_new(object, "role", json_string(e->role));
    json_object_set_new(object, "m_lo", json_integer(e->m_lo));
    json_object_set_new(object, "m_hi", e->m_hi == INT64_MAX ? json_null() : json_integer(e->m_hi));
    json_object_set_new(object, "m", json_integer(e->m));
    json_object_set_new(object, "problem", json_string(e->problem));
    json_object_set_new(object, "default", json_string(e->default_variant->name));
    json_object_set_new(object, "variant", json_string(e->variant->name));
    set_estimate(object, "time", "_s", &e->time_s);
    json_object_set_new(object, "samples", json_integer(e->time_s.n));
    set_estimate(object, "ratio", "", &e->ratio);
    json_object_set_new(object, "runner_up",
                        e->runner_up ? json_string(e->runner_up->name) : json_null());
    set_estimate(object, "runner_up_ratio", "", &e->runner_up_ratio);
    return object;
}

static json_t *head_object(const anemo_choices_head *head, anemo_device *device) {
    const anemo_model_info *i = head->info;
    return json_pack(
        "{s:i, s:s, s:{s:s, s:s, s:s, s:i}, s:{s:s, s:s},"
        " s:{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}, s:{s:s, s:s, s:I}}",
        "schema_version", ANEMO_CHOICES_SCHEMA, "kind", "choices", "machine", "id",
        anemo_machine_get()->id, "isa", anemo_isa_level(), "backend", backend_name(device),
        "threads", anemo_device_exec(device).n_threads, "build", "version", ANEMO_VERSION,
        "code_hash", engine_hash(), "model", "name", i->name, "architecture", i->architecture,
        "weights", i->weights, "kv_type", head->kv_type, "vocab", (json_int_t)i->vocab, "d",
        (json_int_t)i->d, "ffn", (json_int_t)i->ffn, "heads", (json_int_t)i->heads, "kv_heads",
        (json_int_t)i->kv_heads, "head_dim", (json_int_t)i->head_dim, "experts",
        (json_int_t)i->experts, "experts_per_token", (json_int_t)i->experts_per_token, "window",
        (json_int_t)i->window, "sampling", "stop", head->stop, "cache", head->cache, "seed",
        (json_int_t)head->seed);
}

anemo_status anemo_choices_write(const anemo_choices_head *head, anemo_device *device,
                                 const anemo_choices_entry *entries, int32_t n, FILE *out,
                                 anemo_error *err) {
    json_t *root = head_object(head, device), *list = json_array();
    for (int32_t i = 0; i < n; i++) {
        json_array_append_new(list, entry_object(&entries[i]));
    }
    bool good = root && list && json_object_set(root, "entries", list) == 0;
    good = good && json_dumpf(root, out, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0;
    good = good && fputc('\n', out) != EOF;
    json_decref(list);
    json_decref(root);
    return good ? ANEMO_OK : anemo_fail(err, ANEMO_E_IO, "the choices cannot be written");
}

/* ---------------------------------------------------------------- reading: fields */

/* One object under way: where it is, for sentences, and what of it was taken. */
typedef struct reader {
    const char *path;
    char place[48]; /* "entries[3]." */
    const json_t *object;
    const char *seen[24];
    int32_t n_seen;
    anemo_status status; /* the first complaint stays */
    anemo_error *err;
} reader;

#define COMPLAIN(r, ...)                                                                           \
    do {                                                                                           \
        if (!(r)->status) {                                                                        \
            char what_[512];                                                                       \
            snprintf(what_, sizeof what_, __VA_ARGS__);                                            \
            (r)->status =                                                                          \
                anemo_fail((r)->err, ANEMO_E_INPUT, "%s: %s%s", (r)->path, (r)->place, what_);     \
        }                                                                                          \
    } while (0)

/* A value in short. */
static const char *show(const json_t *value, char text[80]) {
    char *dump = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    snprintf(text, 80, "%s", !value ? "missing" : dump ? dump : "?");
    if (dump && strlen(dump) >= 80) {
        memcpy(text + 76, "...", 4);
    }
    free(dump);
    return text;
}

static const json_t *take(reader *r, const char *key) {
    if (r->n_seen < (int32_t)(sizeof r->seen / sizeof *r->seen)) {
        r->seen[r->n_seen++] = key;
    }
    return json_object_get(r->object, key);
}

static void take_text(reader *r, const char *key, bool may_be_empty, char *out, size_t bytes) {
    const json_t *value = take(r, key);
    const char *text = json_string_value(value);
    char shown[80];
    out[0] = '\0';
    if (!text || strlen(text) != json_string_length(value) || strlen(text) >= bytes ||
        (!text[0] && !may_be_empty)) {
        COMPLAIN(r, "%s is %s; expected a text of %d to %zu bytes", key, show(value, shown),
                 !may_be_empty, bytes - 1);
        return;
    }
    snprintf(out, bytes, "%s", text);
}

static int64_t take_integer(reader *r, const char *key, int64_t least, int64_t most) {
    const json_t *value = take(r, key);
    char shown[80];
    if (!json_is_integer(value) || json_integer_value(value) < least ||
        json_integer_value(value) > most) {
        COMPLAIN(r, "%s is %s; expected an integer from %" PRId64 " to %" PRId64, key,
                 show(value, shown), least, most);
        return least;
    }
    return json_integer_value(value);
}

/* A positive number, or null where there may be none. */
static void take_number(reader *r, const char *key, bool may_be_null) {
    const json_t *value = take(r, key);
    char shown[80];
    if (!(json_is_number(value) && json_number_value(value) > 0) &&
        !(may_be_null && json_is_null(value))) {
        COMPLAIN(r, "%s is %s; expected a number above 0%s", key, show(value, shown),
                 may_be_null ? " or null" : "");
    }
}

static void no_other_keys(reader *r) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)r->object, key, value) {
        bool known = false;
        for (int32_t i = 0; i < r->n_seen; i++) {
            known = known || strcmp(key, r->seen[i]) == 0;
        }
        if (!known) {
            COMPLAIN(r, "%.60s is not a field of choices", key);
        }
    }
}

/* Goes into an object of the file. */
static reader enter(const reader *from, const json_t *object, const char *place) {
    reader r = {.path = from->path, .object = object, .status = from->status, .err = from->err};
    snprintf(r.place, sizeof r.place, "%s.", place);
    if (!r.status && !json_is_object(object)) {
        char shown[80];
        r.status = anemo_fail(r.err, ANEMO_E_INPUT, "%s: %s is %s; expected an object", r.path,
                              place, show(object, shown));
    }
    return r;
}

/* ---------------------------------------------------------------- reading: parts */

static void warn(anemo_choices *c, const char *text) {
    const size_t used = strlen(c->warning);
    snprintf(c->warning + used, sizeof c->warning - used, "%s%s", used ? "; " : "", text);
}

static void read_machine(reader *r, anemo_device *device, anemo_choices *c) {
    char id[80], isa[16], backend[16], text[160];
    take_text(r, "id", false, id, sizeof id);
    take_text(r, "isa", false, isa, sizeof isa);
    take_text(r, "backend", false, backend, sizeof backend);
    const int64_t threads = take_integer(r, "threads", 1, 65536);
    const int32_t own = anemo_device_exec(device).n_threads;
    const char *here = anemo_machine_get()->id;
    no_other_keys(r);
    if (strcmp(id, here) != 0) {
        COMPLAIN(r, "id is %s; this machine is %s: `anemo tune` makes a file for it", id, here);
    } else if (strcmp(isa, anemo_isa_level()) != 0) {
        COMPLAIN(r, "isa is %s; this run is at level %s (--isa)", isa, anemo_isa_level());
    } else if (strcmp(backend, backend_name(device)) != 0) {
        COMPLAIN(r, "backend is %s; this run is on %s (--device)", backend, backend_name(device));
    } else if (threads != own) {
        snprintf(text, sizeof text, "it was measured with %" PRId64 " threads, this run has %d",
                 threads, own);
        warn(c, text);
    }
}

static void read_build(reader *r, anemo_choices *c) {
    char version[128], hash[80];
    take_text(r, "version", true, version, sizeof version);
    take_text(r, "code_hash", true, hash, sizeof hash);
    no_other_keys(r);
    if (strcmp(hash, engine_hash()) != 0) {
        char text[320];
        snprintf(text, sizeof text,
                 "it was measured with other kernels (%s): its variants may no longer be the "
                 "fastest, `anemo tune` measures anew",
                 version[0] ? version : "version not told");
        warn(c, text);
    }
}

static void read_model(reader *r, anemo_choices *c) {
    char name[160];
    anemo_kv_type kv;
    const int64_t most = INT64_C(1) << 40;
    take_text(r, "name", false, name, sizeof name);
    take_text(r, "architecture", false, c->architecture, sizeof c->architecture);
    take_text(r, "weights", false, c->weights, sizeof c->weights);
    take_text(r, "kv_type", false, c->kv_type, sizeof c->kv_type);
    if (!r->status && !anemo_kv_type_from_name(c->kv_type, &kv)) {
        COMPLAIN(r, "kv_type is %s; expected f32, f16, bf16 or q8", c->kv_type);
    }
    c->vocab = take_integer(r, "vocab", 1, most);
    c->d = take_integer(r, "d", 1, most);
    c->ffn = take_integer(r, "ffn", 1, most);
    c->heads = take_integer(r, "heads", 1, most);
    c->kv_heads = take_integer(r, "kv_heads", 1, most);
    c->head_dim = take_integer(r, "head_dim", 1, most);
    c->experts = take_integer(r, "experts", 0, most);
    c->experts_per_token = take_integer(r, "experts_per_token", 0, most);
    c->window = take_integer(r, "window", 0, most);
    no_other_keys(r);
}

static void read_sampling(reader *r) {
    char text[160];
    take_text(r, "stop", false, text, sizeof text);
    take_text(r, "cache", false, text, sizeof text);
    take_integer(r, "seed", INT64_MIN, INT64_MAX);
    no_other_keys(r);
}

static bool has_role(anemo_op op, const char *role) {
    for (int32_t i = 0; i < ANEMO_CALLS; i++) {
        const anemo_phase p = anemo_phase_describe(i);
        if (p.op == op && strcmp(p.role, role) == 0) {
            return true;
        }
    }
    return false;
}

static const anemo_variant *take_variant(reader *r, const char *key, anemo_op op) {
    char name[96];
    take_text(r, key, false, name, sizeof name);
    const anemo_variant *v = r->status ? NULL : anemo_variant_find(name);
    if (!r->status && !v) {
        COMPLAIN(r,
                 "%s is %s, which this program does not have; a plug-in's needs --plugin, else "
                 "`anemo tune` makes a new file",
                 key, name);
    } else if (v && v->op != op) {
        COMPLAIN(r, "%s is %s, which computes %s, not %s", key, name, anemo_op_name(v->op),
                 anemo_op_name(op));
    }
    return v;
}

static void read_figures(reader *r) {
    static const char *const always[] = {"time_s", "time_lo_s", "time_hi_s",
                                         "ratio",  "ratio_lo",  "ratio_hi"};
    static const char *const perhaps[] = {"runner_up_ratio", "runner_up_ratio_lo",
                                          "runner_up_ratio_hi"};
    for (int i = 0; i < 6; i++) {
        take_number(r, always[i], false);
    }
    for (int i = 0; i < 3; i++) {
        take_number(r, perhaps[i], true);
    }
    take_integer(r, "samples", 1, INT64_C(1) << 40);
}

static void read_entry(reader *r, anemo_choices_entry *e) {
    const int64_t most = INT64_C(1) << 40;
    char op[32], shown[80];
    *e = (anemo_choices_entry){0};
    take_text(r, "op", false, op, sizeof op);
    take_text(r, "role", true, e->role, sizeof e->role);
    if (!r->status && !anemo_op_from_name(op, &e->op)) {
        COMPLAIN(r, "op is %s; `anemo list ops` names those that are known", op);
    }
    if (!r->status && !has_role(e->op, e->role)) {
        COMPLAIN(r, "role is '%s', which %s does not have", e->role, op);
    }
    e->m_lo = take_integer(r, "m_lo", 1, most);
    const json_t *hi = json_object_get(r->object, "m_hi");
    e->m_hi =
        json_is_null(hi) ? (take(r, "m_hi"), INT64_MAX) : take_integer(r, "m_hi", e->m_lo, most);
    e->m = take_integer(r, "m", e->m_lo, most);
    if (e->m > e->m_hi) {
        COMPLAIN(r, "m is %s; expected m_lo to m_hi", show(json_object_get(r->object, "m"), shown));
    }
    take_text(r, "problem", false, e->problem, sizeof e->problem);
    e->default_variant = take_variant(r, "default", e->op);
    e->variant = take_variant(r, "variant", e->op);
    if (json_is_null(json_object_get(r->object, "runner_up"))) {
        take(r, "runner_up");
    } else {
        e->runner_up = take_variant(r, "runner_up", e->op);
    }
    read_figures(r);
    no_other_keys(r);
}

static bool touches_kv(anemo_op op) {
    return op == ANEMO_OP_SWA || op == ANEMO_OP_ROPE_APPEND;
}

/* Rules of the entries that chose; with `kv`, those of ops that touch keys and values. */
static void make_rules(anemo_choices *c, const anemo_choices_entry *entries, bool kv) {
    for (int32_t i = 0; i < c->n_entries; i++) {
        const anemo_choices_entry *e = &entries[i];
        if (e->variant != e->default_variant && touches_kv(e->op) == kv) {
            anemo_choices_rule(e, c->text[c->n_rules], sizeof *c->text);
            c->rules[c->n_rules] = c->text[c->n_rules];
            c->n_rules++;
        }
    }
}

static void read_entries(reader *r, anemo_choices *c) {
    const json_t *list = take(r, "entries");
    const size_t n = json_array_size(list);
    if (!json_is_array(list) || n > ANEMO_CHOICES_ENTRIES) {
        COMPLAIN(r, "entries is no list of at most %d", ANEMO_CHOICES_ENTRIES);
        return;
    }
    anemo_choices_entry *entries = calloc(n + 1, sizeof *entries);
    c->text = calloc(n + 1, sizeof *c->text);
    c->rules = calloc(n + 1, sizeof *c->rules);
    if (!entries || !c->text || !c->rules) {
        r->status = anemo_fail(r->err, ANEMO_E_MEMORY, "%s: no memory for it", r->path);
    }
    for (size_t i = 0; !r->status && i < n; i++) {
        char place[32];
        snprintf(place, sizeof place, "entries[%zu]", i);
        reader entry = enter(r, json_array_get(list, i), place);
        read_entry(&entry, &entries[i]);
        r->status = entry.status;
    }
    if (!r->status) {
        c->n_entries = (int32_t)n;
        make_rules(c, entries, false);
        c->n_common = c->n_rules;
        make_rules(c, entries, true);
    }
    free(entries);
}

static anemo_status read_root(const char *path, const json_t *root, anemo_device *device,
                              anemo_choices *c, anemo_error *err) {
    reader r = {.path = path, .object = root, .err = err};
    char kind[16];
    take_text(&r, "kind", false, kind, sizeof kind);
    if (!r.status && strcmp(kind, "choices") != 0) {
        COMPLAIN(&r, "kind is %s; expected choices, as `anemo tune` writes them", kind);
    }
    take_integer(&r, "schema_version", ANEMO_CHOICES_SCHEMA, ANEMO_CHOICES_SCHEMA);
    reader part = enter(&r, take(&r, "machine"), "machine");
    read_machine(&part, device, c);
    r.status = part.status;
    part = enter(&r, take(&r, "build"), "build");
    read_build(&part, c);
    r.status = part.status;
    part = enter(&r, take(&r, "model"), "model");
    read_model(&part, c);
    r.status = part.status;
    part = enter(&r, take(&r, "sampling"), "sampling");
    read_sampling(&part);
    r.status = part.status;
    read_entries(&r, c);
    no_other_keys(&r);
    return r.status;
}

/* ---------------------------------------------------------------- reading: the file */

static anemo_status read_bytes(const char *path, char **bytes, size_t *n, anemo_error *err) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        return anemo_fail(err, ANEMO_E_INPUT, "--choices %s: %s", path, strerror(errno));
    }
    anemo_status status = ANEMO_OK;
    *bytes = malloc(BYTES_MAX + 1);
    *n = *bytes ? fread(*bytes, 1, BYTES_MAX + 1, file) : 0;
    if (!*bytes) {
        status = anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for it", path);
    } else if (ferror(file)) {
        status = anemo_fail(err, ANEMO_E_INPUT, "--choices %s: %s", path, strerror(errno));
    } else if (*n > BYTES_MAX) {
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: more than %u bytes are no choices", path,
                            BYTES_MAX);
    }
    fclose(file);
    return status;
}

anemo_status anemo_choices_read(const char *path, anemo_device *device, anemo_choices **out,
                                anemo_error *err) {
    *out = NULL;
    char *bytes = NULL;
    size_t n = 0;
    json_error_t wrong;
    anemo_choices *c = calloc(1, sizeof *c);
    json_t *root = NULL;
    anemo_status status = c ? read_bytes(path, &bytes, &n, err)
                            : anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for it", path);
    if (!status) {
        root = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &wrong);
        status = root ? ANEMO_OK
                      : anemo_fail(err, ANEMO_E_INPUT, "%s:%d: no JSON: %s", path, wrong.line,
                                   wrong.text);
    }
    if (!status && !json_is_object(root)) {
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: expected one JSON object", path);
    }
    status = status ? status : read_root(path, root, device, c, err);
    if (!status) {
        snprintf(c->path, sizeof c->path, "%s", path);
        anemo_sha256_of(bytes, n, c->sha256);
        *out = c;
        c = NULL;
    }
    anemo_choices_free(c);
    json_decref(root);
    free(bytes);
    return status;
}

void anemo_choices_free(anemo_choices *choices) {
    if (choices) {
        free(choices->text);
        free(choices->rules);
        free(choices);
    }
}

void anemo_choices_record(const anemo_choices *choices, anemo_record *record) {
    if (choices) {
        const char *slash = strrchr(choices->path, '/');
        anemo_record_text(record, "solution", "choices_file", slash ? slash + 1 : choices->path);
        anemo_record_text(record, "solution", "choices_sha256", choices->sha256);
    }
}

anemo_status anemo_choices_for(const anemo_choices *c, const anemo_model_info *info,
                               const char *kv_type, const char *const **rules, int32_t *n_rules,
                               anemo_error *err) {
    *rules = NULL;
    *n_rules = 0;
    if (!c) {
        return ANEMO_OK;
    }
    const struct {
        const char *name;
        int64_t file, model;
    } numbers[] = {{"vocab", c->vocab, info->vocab},
                   {"d", c->d, info->d},
                   {"ffn", c->ffn, info->ffn},
                   {"heads", c->heads, info->heads},
                   {"kv_heads", c->kv_heads, info->kv_heads},
                   {"head_dim", c->head_dim, info->head_dim},
                   {"experts", c->experts, info->experts},
                   {"experts_per_token", c->experts_per_token, info->experts_per_token},
                   {"window", c->window, info->window}};
    const struct {
        const char *name, *file, *model;
    } texts[] = {{"architecture", c->architecture, info->architecture},
                 {"weights", c->weights, info->weights}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(texts[i].file, texts[i].model) != 0) {
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: model.%s is %s; that of %s is %s: `anemo tune` makes a file for "
                              "it",
                              c->path, texts[i].name, texts[i].file, info->name, texts[i].model);
        }
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].file != numbers[i].model) {
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: model.%s is %" PRId64 "; that of %s is %" PRId64
                              ": `anemo tune` makes a file for it",
                              c->path, numbers[i].name, numbers[i].file, info->name,
                              numbers[i].model);
        }
    }
    *rules = c->rules;
    *n_rules = strcmp(c->kv_type, kv_type) == 0 ? c->n_rules : c->n_common;
    return ANEMO_OK;
}
