/* Building a record. See record.h. The JSON tree is the record: setters check against fields.inc
 * and put the value in; the first mistake is kept and refuses the write. */
#include "harness/record/internal.h"

#include "anemo_config.h"
#include "harness/measure/machine.h"
#include "harness/measure/placement.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if ANEMO_HAVE_PAPI
#include <papi.h>
#endif

static const struct {
    const char *section, *key;
    field_type type;
} fields[] = {
#define ANEMO_FIELD(section, key, type, what) {section, key, FIELD_##type},
#include "harness/record/fields.inc"
#undef ANEMO_FIELD
};

bool record_field(const char *section, const char *key, field_type *type) {
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(section, fields[i].section) == 0 && strcmp(key, fields[i].key) == 0) {
            *type = fields[i].type;
            return true;
        }
    return false;
}

bool record_type_is(field_type type, const json_t *value) {
    switch (type) {
    case FIELD_TEXT:
        return json_is_string(value);
    case FIELD_NUMBER:
        return json_is_number(value);
    case FIELD_INTEGER:
        return json_is_integer(value);
    case FIELD_FLAG:
        break;
    }
    return json_is_boolean(value);
}

const char *record_type_name(field_type type) {
    static const char *const names[] = {"a text", "a number", "a whole number", "true or false"};
    return names[type];
}

const char *anemo_record_kind_name(anemo_record_kind kind) {
    static const char *const names[] = {"kernel", "model", "endpoint", "eval", "probe"};
    return names[kind];
}

/* ---------------------------------------------------------------- setting fields */

static void problem(anemo_record *record, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void problem(anemo_record *record, const char *format, ...) {
    va_list list;
    if (record->problem.text[0])
        return;
    va_start(list, format);
    vsnprintf(record->problem.text, sizeof record->problem.text, format, list);
    va_end(list);
}

static json_t *section_object(anemo_record *record, const char *section) {
    if (!*section)
        return record->root;
    json_t *object = json_object_get(record->root, section);
    if (!object) {
        object = json_object();
        json_object_set_new(record->root, section, object);
    }
    return object;
}

/* Takes `value` over; NULL (no memory, NaN, not UTF-8) is a problem of its own. */
static void set(anemo_record *record, const char *section, const char *key, field_type type,
                json_t *value) {
    field_type expected;
    section = section ? section : "";
    if (!record) {
        json_decref(value);
        return;
    }
    if (!record_field(section, key, &expected) ||
        (expected != type && !(expected == FIELD_NUMBER && type == FIELD_INTEGER))) {
        problem(record, "field %s%s%s is not in harness/record/fields.inc as %s", section,
                *section ? "." : "", key, record_type_name(type));
        json_decref(value);
    } else if (!value || json_object_set_new(section_object(record, section), key, value) != 0) {
        problem(record, "field %s%s%s has no value that JSON can hold", section,
                *section ? "." : "", key);
    }
}

void anemo_record_text(anemo_record *record, const char *section, const char *key,
                       const char *value) {
    if (value && *value)
        set(record, section, key, FIELD_TEXT, json_string(value));
}

void anemo_record_number(anemo_record *record, const char *section, const char *key, double value) {
    set(record, section, key, FIELD_NUMBER, json_real(value));
}

void anemo_record_integer(anemo_record *record, const char *section, const char *key,
                          int64_t value) {
    set(record, section, key, FIELD_INTEGER, json_integer(value));
}

void anemo_record_flag(anemo_record *record, const char *section, const char *key, bool value) {
    set(record, section, key, FIELD_FLAG, json_boolean(value));
}

/* ---------------------------------------------------------------- identity, machine, build */

/* Time, process and a counter, mixed (splitmix64's finaliser). */
static void set_identity(json_t *root) {
    static atomic_uint_fast64_t counter;
    struct timespec now;
    struct tm utc;
    char text[40], id[20];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, sizeof text - n, ".%03ldZ", now.tv_nsec / 1000000);
    uint64_t x = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    x ^= (uint64_t)getpid() << 40;
    x += 0x9e3779b97f4a7c15u * (atomic_fetch_add(&counter, 1) + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    snprintf(id, sizeof id, "%016" PRIx64, x ^ (x >> 31));
    json_object_set_new(root, "id", json_string(id));
    json_object_set_new(root, "time", json_string(text));
}

static void set_caches(anemo_record *record, const anemo_machine *m) {
    char text[200] = "";
    for (int32_t i = 0; i < m->caches; i++) {
        const anemo_cache *c = &m->cache[i];
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%sL%d%s %" PRId64 " KiB x%d", used ? "; " : "",
                 c->level, c->level == 1 ? "d" : "", c->bytes >> 10, c->count);
    }
    anemo_record_text(record, "machine", "caches", text);
}

static void set_machine(anemo_record *record) {
    const anemo_machine *m = anemo_machine_get();
    char isa[200];
    const char *const s = "machine";
    anemo_machine_feature_names(m->cpu_features, isa, sizeof isa);
    anemo_record_text(record, s, "id", m->id);
    anemo_record_text(record, s, "cpu", m->cpu);
    anemo_record_text(record, s, "arch", m->arch);
    if (m->family >= 0) {
        anemo_record_integer(record, s, "family", m->family);
        anemo_record_integer(record, s, "model", m->model);
        anemo_record_integer(record, s, "stepping", m->stepping);
    }
    anemo_record_text(record, s, "microcode", m->microcode);
    anemo_record_text(record, s, "isa", isa);
    if (strcmp(anemo_isa_level(), "native") != 0)
        anemo_record_text(record, "solution", "isa", anemo_isa_level());
    anemo_record_integer(record, s, "sockets", m->sockets);
    anemo_record_integer(record, s, "cores", m->cores);
    anemo_record_integer(record, s, "threads", m->threads);
    anemo_record_integer(record, s, "threads_allowed", m->threads_allowed);
    if (m->cpu_quota > 0)
        anemo_record_number(record, s, "cpu_quota", m->cpu_quota);
    anemo_record_integer(record, s, "numa_nodes", m->numa_nodes);
    set_caches(record, m);
    anemo_record_text(record, s, "topology", m->topology);
    anemo_record_number(record, s, "memory_bytes", (double)m->memory_bytes);
    if (m->memory_limit_bytes > 0)
        anemo_record_number(record, s, "memory_limit_bytes", (double)m->memory_limit_bytes);
    anemo_record_text(record, s, "huge_pages", m->huge_pages);
    anemo_record_text(record, s, "governor", m->governor);
    anemo_record_text(record, s, "boost", m->boost);
    anemo_record_text(record, s, "virtualisation", m->virtualisation);
    anemo_record_text(record, s, "container", m->container);
    anemo_record_flag(record, s, "on_battery", m->on_battery);
    anemo_record_text(record, s, "kernel", m->kernel);
    anemo_record_text(record, s, "os", m->os);
}

static void set_build(anemo_record *record) {
    char libraries[512];
    int n = snprintf(libraries, sizeof libraries, "jansson %s", JANSSON_VERSION);
    /* OpenBLAS tells its version and threading itself, if this program has it. */
    char *(*blas_config)(void);
    *(void **)&blas_config = dlsym(RTLD_DEFAULT, "openblas_get_config");
    if (blas_config)
        n += snprintf(libraries + n, sizeof libraries - (size_t)n, "; %.160s", blas_config());
#if ANEMO_HAVE_PAPI
    n += snprintf(libraries + n, sizeof libraries - (size_t)n, "; PAPI %d.%d",
                  PAPI_VERSION_MAJOR(PAPI_VERSION), PAPI_VERSION_MINOR(PAPI_VERSION));
#endif
    if (strncmp(anemo_machine_get()->topology, "hwloc", 5) == 0)
        snprintf(libraries + n, sizeof libraries - (size_t)n, "; %s",
                 anemo_machine_get()->topology);
    const char *const s = "build";
    anemo_record_text(record, s, "version", ANEMO_VERSION);
    anemo_record_text(record, s, "compiler", ANEMO_COMPILER);
    anemo_record_text(record, s, "flags", &ANEMO_FLAGS[strspn(ANEMO_FLAGS, " ")]);
    anemo_record_text(record, s, "type", ANEMO_BUILD_TYPE);
    anemo_record_text(record, s, "libraries", libraries);
}

anemo_record *anemo_record_create(anemo_record_kind kind) {
    anemo_record *record = calloc(1, sizeof *record);
    if (!record)
        return NULL;
    record->references = 1;
    record->root = json_object();
    if (!record->root) {
        free(record);
        return NULL;
    }
    json_object_set_new(record->root, "schema_version", json_integer(ANEMO_RECORD_SCHEMA));
    set_identity(record->root);
    json_object_set_new(record->root, "kind", json_string(anemo_record_kind_name(kind)));
    json_object_set_new(record->root, "metrics", json_array());
    json_object_set_new(record->root, "validity",
                        json_pack("{s:s, s:[]}", "verdict", "VALID", "reasons"));
    set_machine(record);
    set_build(record);
    return record;
}

void anemo_record_free(anemo_record *record) {
    if (!record || --record->references > 0)
        return;
    json_decref(record->root);
    free(record->folder);
    free(record);
}

anemo_record *anemo_record_keep(anemo_record *record) {
    record->references++;
    return record;
}

void anemo_record_device(anemo_record *record, anemo_device *device) {
    bool gpu = anemo_device_backend(device) == ANEMO_CUDA;
    anemo_record_text(record, "solution", "backend", gpu ? "cuda" : "cpu");
    anemo_record_text(record, "machine", "device", anemo_device_name(device));
    if (gpu) {
        anemo_record_integer(record, "machine", "gpu_capability", anemo_device_capability(device));
    } else {
        anemo_record_integer(record, "machine", "device_threads",
                             anemo_device_exec(device).n_threads);
        anemo_record_text(record, "machine", "placement", anemo_placement_chosen());
    }
    if (anemo_machine_huge_bytes() >= 0)
        anemo_record_number(record, "solution", "huge_page_bytes",
                            (double)anemo_machine_huge_bytes());
}

/* ---------------------------------------------------------------- metrics and validity */

void anemo_record_metric(anemo_record *record, const char *name, const char *unit,
                         bool lower_is_better, double value, double lo, double hi, int64_t n) {
    if (!record)
        return;
    if (!isfinite(value) || !isfinite(lo) || !isfinite(hi) || n < 0 || !(lo <= hi)) {
        problem(record, "metric %s: value %g, interval %g to %g, n %" PRId64 " is no measurement",
                name, value, lo, hi, n);
        return;
    }
    json_t *metric = json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:I}", "name", name, "unit", unit,
                               "better", lower_is_better ? "lower" : "higher", "value", value, "lo",
                               lo, "hi", hi, "n", (json_int_t)n);
    if (!metric || json_array_append_new(json_object_get(record->root, "metrics"), metric) != 0)
        problem(record, "metric %s has no name or unit that JSON can hold", name ? name : "(none)");
}

void anemo_record_samples(anemo_record *record, const double *samples, size_t n) {
    if (!record)
        return;
    json_t *metrics = json_object_get(record->root, "metrics");
    json_t *last = json_array_get(metrics, json_array_size(metrics) - 1);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(list, json_real(samples[i])) != 0)
            problem(record, "sample %zu is no number", i);
    if (!last || json_object_set_new(last, "samples", list) != 0)
        problem(record, "samples come after their metric");
}

void anemo_record_sample_noise(anemo_record *record, const char *key, const double *values,
                               size_t n) {
    if (!record)
        return;
    json_t *metrics = json_object_get(record->root, "metrics");
    json_t *last = json_array_get(metrics, json_array_size(metrics) - 1);
    json_t *noise = json_object_get(last, "sample_noise"), *list = json_array();
    if (last && !noise && json_object_set_new(last, "sample_noise", json_object()) == 0)
        noise = json_object_get(last, "sample_noise");
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, isfinite(values[i]) ? json_real(values[i]) : json_null());
    if (json_array_size(list) != n || json_object_set_new(noise, key, list) != 0 ||
        json_array_size(json_object_get(last, "samples")) != n)
        problem(record, "noise %s comes after as many samples of a metric", key);
}

void anemo_record_reason(anemo_record *record, const char *code, bool invalidates) {
    if (!record)
        return;
    json_t *validity = json_object_get(record->root, "validity");
    json_t *reasons = json_object_get(validity, "reasons"), *reason;
    const char *verdict = json_string_value(json_object_get(validity, "verdict"));
    bool invalid = invalidates || strcmp(verdict, "INVALID") == 0, known = false;
    size_t i;
    json_object_set_new(validity, "verdict", json_string(invalid ? "INVALID" : "WEAK"));
    json_array_foreach(reasons, i, reason) {
        known = known || strcmp(json_string_value(reason), code) == 0;
    }
    if (!known && json_array_append_new(reasons, json_string(code)) != 0)
        problem(record, "a reason is no text");
}

/* ---------------------------------------------------------------- checking */

static bool valid_fields(const json_t *object, const char *section, char *why, size_t why_bytes) {
    const char *key;
    json_t *value;
    field_type type;
    json_object_foreach((json_t *)object, key, value) {
        if (record_field(section, key, &type) && !record_type_is(type, value)) {
            snprintf(why, why_bytes, "field %s%s%.60s is not %s", section, *section ? "." : "", key,
                     record_type_name(type));
            return false;
        }
    }
    return true;
}

static bool valid_metrics(const json_t *metrics, char *why, size_t why_bytes) {
    size_t i;
    json_t *metric;
    json_array_foreach(metrics, i, metric) {
        const char *better = json_string_value(json_object_get(metric, "better"));
        if (!json_is_string(json_object_get(metric, "name")) ||
            !json_is_string(json_object_get(metric, "unit")) ||
            !json_is_number(json_object_get(metric, "value")) ||
            !json_is_number(json_object_get(metric, "lo")) ||
            !json_is_number(json_object_get(metric, "hi")) ||
            !json_is_integer(json_object_get(metric, "n")) || !better ||
            (strcmp(better, "lower") != 0 && strcmp(better, "higher") != 0)) {
            snprintf(why, why_bytes,
                     "metrics[%zu] lacks one of name, unit, better (lower or higher), value, lo, "
                     "hi, n",
                     i);
            return false;
        }
    }
    return true;
}

static bool one_of(const char *text, const char *const *names) {
    for (; text && *names; names++)
        if (strcmp(text, *names) == 0)
            return true;
    return false;
}

bool record_valid(const json_t *root, char *why, size_t why_bytes) {
    static const char *const kinds[] = {"kernel", "model", "endpoint", "eval", "probe", NULL};
    static const char *const statuses[] = {"passed",  "incorrect", "unsupported",
                                           "skipped", "failed",    NULL};
    static const char *const verdicts[] = {"VALID", "WEAK", "INVALID", NULL};
    static const char *const sections[] = {"case",    "solution", "sampling",
                                           "machine", "build",    NULL};
    const char *status = json_string_value(json_object_get(root, "status"));
    const json_t *metrics = json_object_get(root, "metrics");
    const json_t *validity = json_object_get(root, "validity");
    const json_t *reasons = json_object_get(validity, "reasons");
    bool passed = status && strcmp(status, "passed") == 0;
    if (!one_of(json_string_value(json_object_get(root, "kind")), kinds))
        return snprintf(why, why_bytes, "kind is not kernel, model, endpoint, eval or probe"),
               false;
    if (!one_of(status, statuses))
        return snprintf(why, why_bytes,
                        "status is not passed, incorrect, unsupported, skipped or failed"),
               false;
    if (!json_is_string(json_object_get(root, "id")) ||
        !json_is_string(json_object_get(root, "time")))
        return snprintf(why, why_bytes, "id or time is missing"), false;
    if (!json_is_array(metrics) || !json_is_array(reasons) ||
        !one_of(json_string_value(json_object_get(validity, "verdict")), verdicts))
        return snprintf(why, why_bytes, "metrics or validity {verdict, reasons[]} is missing"),
               false;
    if (!passed && json_array_size(metrics) > 0)
        return snprintf(why, why_bytes, "status %s, but it has metrics", status), false;
    if (!passed && !json_is_string(json_object_get(root, "why")))
        return snprintf(why, why_bytes, "status %s without a why", status), false;
    for (const char *const *s = sections; *s; s++) {
        const json_t *object = json_object_get(root, *s);
        if (object && !json_is_object(object))
            return snprintf(why, why_bytes, "%s is not an object", *s), false;
        if (object && !valid_fields(object, *s, why, why_bytes))
            return false;
    }
    for (size_t i = 0; i < json_array_size(reasons); i++)
        if (!json_is_string(json_array_get(reasons, i)))
            return snprintf(why, why_bytes, "validity.reasons[%zu] is not a text", i), false;
    return valid_fields(root, "", why, why_bytes) && valid_metrics(metrics, why, why_bytes);
}
