/* Reading records. See record.h. A file of records is untrusted input: lines are bounded, duplicate
 * keys refused, known fields type-checked, and another schema version is refused before anything
 * else of the line is believed. */
#include "harness/record/internal.h"

#include "models/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LINE_BYTES_MAX (64 << 20)

static anemo_status parse_line(const char *path, int64_t number, const char *line, size_t bytes,
                               anemo_record **out, anemo_error *err) {
    json_error_t where;
    char why[256];
    json_t *root = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return anemo_fail(err, ANEMO_E_INPUT, "%s:%" PRId64 ": is not a record: %s", path, number,
                          where.text);
    const json_t *version = json_object_get(root, "schema_version");
    anemo_status status = ANEMO_OK;
    if (!json_is_integer(version))
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "%s:%" PRId64 ": schema_version is missing or not a whole number", path,
                            number);
    else if (json_integer_value(version) != ANEMO_RECORD_SCHEMA)
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "%s:%" PRId64 ": schema_version %" JSON_INTEGER_FORMAT
                            "; this program reads %d",
                            path, number, json_integer_value(version), ANEMO_RECORD_SCHEMA);
    else if (!record_valid(root, why, sizeof why))
        status = anemo_fail(err, ANEMO_E_INPUT, "%s:%" PRId64 ": %s", path, number, why);
    else if (!(*out = calloc(1, sizeof **out)))
        status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for a record");
    if (status != ANEMO_OK) {
        json_decref(root);
        return status;
    }
    const char *slash = strrchr(path, '/');
    **out = (anemo_record){.root = root,
                           .references = 1,
                           .folder = strndup(path, slash ? (size_t)(slash - path) + 1 : 0)};
    return ANEMO_OK;
}

/* Reads line by line; *line is getline's buffer. */
static anemo_status read_lines(FILE *file, const char *path, char **line,
                               anemo_record_visitor visit, void *ctx,
                               anemo_record_read_report *report, anemo_error *err) {
    size_t capacity = 0;
    ssize_t bytes;
    for (int64_t number = 1; (bytes = getline(line, &capacity, file)) > 0; number++) {
        if (bytes > LINE_BYTES_MAX)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s:%" PRId64 ": line of %zd bytes; at most %d are read", path,
                              number, bytes, LINE_BYTES_MAX);
        if ((*line)[bytes - 1] != '\n') {
            report->torn_line = number;
            return ANEMO_OK;
        }
        anemo_record *record = NULL;
        anemo_status status = parse_line(path, number, *line, (size_t)bytes - 1, &record, err);
        if (status != ANEMO_OK)
            return status;
        report->records++;
        bool more = visit(ctx, record);
        anemo_record_free(record);
        if (!more)
            return ANEMO_OK;
    }
    if (ferror(file))
        return anemo_fail(err, ANEMO_E_IO, "%s: %s", path, strerror(errno));
    return ANEMO_OK;
}

anemo_status anemo_record_read(const char *path, anemo_record_visitor visit, void *ctx,
                               anemo_record_read_report *report, anemo_error *err) {
    anemo_record_read_report own;
    struct stat info;
    char *line = NULL;
    report = report ? report : &own;
    *report = (anemo_record_read_report){0};
    FILE *file = fopen(path, "re");
    if (!file)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s", path, strerror(errno));
    anemo_status status;
    if (fstat(fileno(file), &info) == 0 && S_ISDIR(info.st_mode))
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: is a directory, not a file of records", path);
    else
        status = read_lines(file, path, &line, visit, ctx, report, err);
    free(line);
    fclose(file);
    return status;
}

/* ---------------------------------------------------------------- reading a record's fields */

static const json_t *get(const anemo_record *record, const char *section, const char *key) {
    const json_t *object = record->root;
    if (section && *section)
        object = json_object_get(object, section);
    return json_object_get(object, key);
}

const char *anemo_record_get_text(const anemo_record *record, const char *section,
                                  const char *key) {
    return json_string_value(get(record, section, key));
}

double anemo_record_get_number(const anemo_record *record, const char *section, const char *key) {
    const json_t *value = get(record, section, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

int64_t anemo_record_get_integer(const anemo_record *record, const char *section, const char *key) {
    const json_t *value = get(record, section, key);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

bool anemo_record_get_flag(const anemo_record *record, const char *section, const char *key) {
    return json_is_true(get(record, section, key));
}

const char *anemo_record_get_reason(const anemo_record *record, size_t index) {
    return json_string_value(json_array_get(get(record, "validity", "reasons"), index));
}

bool anemo_record_get_metric(const anemo_record *record, size_t index, anemo_metric *metric) {
    const json_t *from = json_array_get(json_object_get(record->root, "metrics"), index);
    if (!from)
        return false;
    *metric = (anemo_metric){
        .name = json_string_value(json_object_get(from, "name")),
        .unit = json_string_value(json_object_get(from, "unit")),
        .lower_is_better = strcmp(json_string_value(json_object_get(from, "better")), "lower") == 0,
        .value = json_number_value(json_object_get(from, "value")),
        .lo = json_number_value(json_object_get(from, "lo")),
        .hi = json_number_value(json_object_get(from, "hi")),
        .n = json_integer_value(json_object_get(from, "n"))};
    return true;
}

bool anemo_record_find_metric(const anemo_record *record, const char *name, anemo_metric *metric) {
    for (size_t i = 0; anemo_record_get_metric(record, i, metric); i++)
        if (strcmp(metric->name, name) == 0)
            return true;
    return false;
}

/* ---------------------------------------------------------------- raw samples */

/* The line of a file of samples that begins like this; NULL: not there, or no such file. */
static char *find_line(const char *path, const char *opening) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t bytes;
    FILE *file = fopen(path, "re");
    while (file && (bytes = getline(&line, &capacity, file)) > 0 && bytes <= LINE_BYTES_MAX) {
        if (line[bytes - 1] == '\n' && strncmp(line, opening, strlen(opening)) == 0) {
            line[bytes - 1] = 0;
            fclose(file);
            return line;
        }
    }
    if (file)
        fclose(file);
    free(line);
    return NULL;
}

/* A new reference to the list that a metric's samples are in; NULL without an error: not here. */
static json_t *samples_beside(const anemo_record *record, const json_t *metric, anemo_error *err) {
    const char *id = json_string_value(json_object_get(record->root, "id"));
    const char *name = json_string_value(json_object_get(metric, "samples_file"));
    const char *wanted = json_string_value(json_object_get(metric, "samples_sha256"));
    char path[4096], opening[256], hash[65];
    if (!name || !record->folder)
        return NULL;
    if (!*name || strchr(name, '/') || !wanted) {
        anemo_fail(err, ANEMO_E_INPUT,
                   "record %s: samples_file '%.80s': expected a file's name, "
                   "and samples_sha256 beside it",
                   id, name);
        return NULL;
    }
    snprintf(path, sizeof path, "%.3800s%.200s", record->folder, name);
    snprintf(opening, sizeof opening,
             "{\"schema_version\":%d,\"id\":\"%.40s\",\"metric\":\"%.80s\",", ANEMO_RECORD_SCHEMA,
             id, json_string_value(json_object_get(metric, "name")));
    char *line = find_line(path, opening);
    if (!line)
        return NULL;
    anemo_sha256_of(line, strlen(line), hash);
    json_t *root =
        strcmp(hash, wanted) == 0 ? json_loads(line, JSON_REJECT_DUPLICATES, NULL) : NULL;
    json_t *list = json_incref(json_object_get(root, "samples"));
    if (!list)
        anemo_fail(err, ANEMO_E_INPUT, "%s: the samples of record %s are not those of its hash",
                   path, id);
    json_decref(root);
    free(line);
    return list;
}

anemo_status anemo_record_get_samples(const anemo_record *record, size_t index, double **samples,
                                      int64_t *n, anemo_error *err) {
    const json_t *metric = json_array_get(json_object_get(record->root, "metrics"), index);
    json_t *list = json_incref(json_object_get(metric, "samples"));
    anemo_error why = {{0}};
    anemo_status status = ANEMO_OK;
    *samples = NULL;
    *n = 0;
    if (!list && !(list = samples_beside(record, metric, &why)))
        return why.text[0] ? anemo_fail(err, ANEMO_E_INPUT, "%s", why.text) : ANEMO_OK;
    const size_t found = json_array_size(list);
    double *values = found ? malloc(found * sizeof *values) : NULL;
    if (found && !values)
        status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for %zu samples", found);
    for (size_t i = 0; status == ANEMO_OK && i < found; i++) {
        const json_t *value = json_array_get(list, i);
        values[i] = json_number_value(value);
        if (!json_is_number(value))
            status = anemo_fail(err, ANEMO_E_INPUT, "record %s: sample %zu is no number",
                                json_string_value(json_object_get(record->root, "id")), i);
    }
    json_decref(list);
    if (status == ANEMO_OK && found) {
        *samples = values;
        *n = (int64_t)found;
        return ANEMO_OK;
    }
    free(values);
    return status;
}
