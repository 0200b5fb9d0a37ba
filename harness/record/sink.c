/* Appending records and, beside them, their raw samples. See record.h.
 *
 * One record is one write(2) of one line to a file opened with O_APPEND, under flock(2), so that
 * several processes may share a file. A write that comes back short (disk full, file-size limit)
 * is undone by truncation to the length before it; nothing is buffered in the process, so a killed
 * run has lost nothing that was finished. The data reaches the disk at close (fsync): one fsync
 * per record would disturb what is being measured.
 *
 * Samples are nine tenths of a record's bytes and nobody reads them by eye, so they go to a file of
 * their own, a line for each metric, before the record that names the line by file and hash: what a
 * record promises is there. Where the records go to something else than a file (a pipe), samples
 * stay in the record. */
#include "harness/record/internal.h"

#include "models/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct record_file {
    char *path; /* NULL: not opened */
    int file;
} record_file;

struct anemo_record_sink {
    record_file records; /* path NULL: nowhere */
    record_file samples;
    int64_t count;
};

static anemo_status fail_errno(const record_file *file, const char *what, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_IO, "%s: %s: %s", file->path, what, strerror(errno));
}

/* mkdir -p of everything before the last '/'. */
static bool make_parents(const char *path) {
    char *copy = strdup(path);
    bool ok = copy != NULL;
    for (char *slash = copy ? strchr(copy + 1, '/') : NULL; ok && slash;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        ok = mkdir(copy, 0777) == 0 || errno == EEXIST;
        *slash = '/';
    }
    free(copy);
    return ok;
}

#define OPENING "{\"schema_version\""

/* Does the file hold `OPENING` at this offset? */
static bool opens_record(int file, off_t at) {
    char text[sizeof OPENING - 1];
    return pread(file, text, sizeof text, at) == (ssize_t)sizeof text &&
           memcmp(text, OPENING, sizeof text) == 0;
}

/* First byte of the last line of a file of `size` > 0 bytes that does not end in '\n'. */
static off_t torn_line_start(int file, off_t size) {
    char block[4096];
    while (size > 0) {
        off_t from = size > (off_t)sizeof block ? size - (off_t)sizeof block : 0;
        ssize_t n = pread(file, block, (size_t)(size - from), from);
        for (ssize_t i = n; i > 0; i--)
            if (block[i - 1] == '\n')
                return from + i;
        if (n <= 0)
            return 0;
        size = from;
    }
    return 0;
}

/* A file that is there must be one of records; what a crash tore off its end goes. */
static anemo_status check_file(const record_file *f, anemo_error *err) {
    struct stat info;
    char last = '\n';
    if (fstat(f->file, &info) != 0)
        return fail_errno(f, "cannot be examined", err);
    if (!S_ISREG(info.st_mode) || info.st_size == 0)
        return ANEMO_OK;
    if (!opens_record(f->file, 0) || pread(f->file, &last, 1, info.st_size - 1) != 1)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: is not a file of records (its first line does not begin with %s); "
                          "nothing was written",
                          f->path, OPENING);
    if (last == '\n')
        return ANEMO_OK;
    off_t start = torn_line_start(f->file, info.st_size);
    if (ftruncate(f->file, start) != 0)
        return fail_errno(f, "cannot cut off an unfinished last line", err);
    return ANEMO_OK;
}

static anemo_status open_file(record_file *f, anemo_error *err) {
    if (!make_parents(f->path) ||
        (f->file = open(f->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0)
        return fail_errno(f, "cannot be opened for records", err);
    flock(f->file, LOCK_EX);
    const anemo_status status = check_file(f, err);
    flock(f->file, LOCK_UN);
    return status;
}

static anemo_status close_file(record_file *f, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    if (f->path && f->file >= 0) {
        /* a pipe or /dev/null cannot be synced, and need not */
        if (fsync(f->file) != 0 && errno != EINVAL && errno != EROFS)
            status = fail_errno(f, "the last records may not have reached the disk", err);
        if (close(f->file) != 0 && status == ANEMO_OK)
            status = fail_errno(f, "the last records may not have reached the disk", err);
    }
    free(f->path);
    *f = (record_file){NULL, -1};
    return status;
}

anemo_status anemo_record_sink_open(const char *path, anemo_record_sink **out, anemo_error *err) {
    anemo_record_sink *sink = calloc(1, sizeof *sink);
    if (!sink || (path && !(sink->records.path = strdup(path)))) {
        free(sink);
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the record file");
    }
    sink->records.file = sink->samples.file = -1;
    const anemo_status status = path ? open_file(&sink->records, err) : ANEMO_OK;
    if (status == ANEMO_OK) {
        *out = sink;
        return ANEMO_OK;
    }
    close_file(&sink->records, NULL);
    free(sink);
    return status;
}

anemo_status anemo_record_sink_close(anemo_record_sink *sink, anemo_error *err) {
    if (!sink)
        return ANEMO_OK;
    const anemo_status samples = close_file(&sink->samples, err);
    const anemo_status status = close_file(&sink->records, err);
    free(sink);
    return status ? status : samples;
}

const char *anemo_record_sink_path(const anemo_record_sink *sink) {
    return sink->records.path;
}

int64_t anemo_record_sink_count(const anemo_record_sink *sink) {
    return sink->count;
}

/* Keys in the order in which a person wants to read them. */
static json_t *ordered(const json_t *root) {
    static const char *const order[] = {
        "schema_version", "id",      "time",     "kind",    "suite", "demo",
        "status",         "why",     "judged",   "verdict", "case",  "solution",
        "sampling",       "metrics", "validity", "machine", "build", "repro"};
    json_t *copy = json_object();
    for (size_t i = 0; copy && i < sizeof order / sizeof *order; i++) {
        json_t *value = json_object_get(root, order[i]);
        if (value)
            json_object_set(copy, order[i], value);
    }
    if (copy) { /* a field of fields.inc that has no place above */
        json_object_update_missing(copy, (json_t *)root);
    }
    return copy;
}

/* The whole line or nothing. text[bytes] is its terminator, in whose place goes the newline. */
static anemo_status append(const record_file *f, char *text, size_t bytes, anemo_error *err) {
    struct stat before;
    ssize_t written;
    anemo_status status = ANEMO_OK;
    text[bytes++] = '\n';
    flock(f->file, LOCK_EX);
    bool regular = fstat(f->file, &before) == 0 && S_ISREG(before.st_mode);
    do
        written = write(f->file, text, bytes);
    while (written < 0 && errno == EINTR);
    if (written != (ssize_t)bytes) {
        const char *reason = written < 0 ? strerror(errno) : "no room for the whole line";
        bool undone = !regular || written <= 0 || ftruncate(f->file, before.st_size) == 0;
        status = anemo_fail(
            err, ANEMO_E_IO, "%s: a record could not be written: %s; %s", f->path, reason,
            undone ? "the records before it are kept" : "its beginning could not be cut off again");
    }
    flock(f->file, LOCK_UN);
    return status;
}

/* ---------------------------------------------------------------- raw samples */

/* "DIR/NAME.samples" beside DIR/NAME.jsonl; opened at the first record that has some. */
static anemo_status open_samples(anemo_record_sink *sink, anemo_error *err) {
    if (sink->samples.path)
        return ANEMO_OK;
    const char *path = sink->records.path;
    size_t stem = strlen(path);
    if (stem > 6 && strcmp(path + stem - 6, ".jsonl") == 0)
        stem -= 6;
    sink->samples.path = malloc(stem + sizeof ".samples");
    if (!sink->samples.path)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the file of samples");
    memcpy(sink->samples.path, path, stem);
    memcpy(sink->samples.path + stem, ".samples", sizeof ".samples");
    return open_file(&sink->samples, err);
}

/* One metric's samples to their own file; the metric then names the line. */
static anemo_status move_samples(anemo_record_sink *sink, json_t *root, json_t *metric,
                                 anemo_error *err) {
    char hash[65];
    anemo_status status = open_samples(sink, err);
    if (status != ANEMO_OK)
        return status;
    json_t *line =
        json_pack("{s:i, s:O, s:O, s:O, s:O}", "schema_version", ANEMO_RECORD_SCHEMA, "id",
                  json_object_get(root, "id"), "metric", json_object_get(metric, "name"), "unit",
                  json_object_get(metric, "unit"), "samples", json_object_get(metric, "samples"));
    json_t *noise = json_object_get(metric, "sample_noise");
    if (line && noise && json_object_set(line, "noise", noise) != 0) {
        json_decref(line);
        line = NULL;
    }
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(line);
    if (!text)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a record's samples");
    const char *slash = strrchr(sink->samples.path, '/');
    const size_t bytes = strlen(text);
    anemo_sha256_of(text, bytes, hash);
    status = append(&sink->samples, text, bytes, err);
    free(text);
    json_object_del(metric, "samples");
    json_object_del(metric, "sample_noise");
    json_object_set_new(metric, "samples_file",
                        json_string(slash ? slash + 1 : sink->samples.path));
    json_object_set_new(metric, "samples_sha256", json_string(hash));
    return status;
}

static anemo_status move_all_samples(anemo_record_sink *sink, json_t *root, anemo_error *err) {
    struct stat info;
    size_t i;
    json_t *metric;
    anemo_status status = ANEMO_OK;
    if (fstat(sink->records.file, &info) != 0 || !S_ISREG(info.st_mode))
        return ANEMO_OK;
    json_array_foreach(json_object_get(root, "metrics"), i, metric) {
        if (status == ANEMO_OK && json_object_get(metric, "samples"))
            status = move_samples(sink, root, metric, err);
    }
    return status;
}

/* ---------------------------------------------------------------- writing */

static anemo_status write_line(anemo_record_sink *sink, const anemo_record *record,
                               anemo_error *err) {
    json_t *copy = json_deep_copy(record->root);
    anemo_status status = copy ? move_all_samples(sink, copy, err)
                               : anemo_fail(err, ANEMO_E_MEMORY, "no memory for a record's line");
    json_t *root = copy ? ordered(copy) : NULL;
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    json_decref(copy);
    if (!text && status == ANEMO_OK)
        status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for a record's line");
    if (status == ANEMO_OK)
        status = append(&sink->records, text, strlen(text), err);
    free(text);
    return status;
}

anemo_status anemo_record_write(anemo_record_sink *sink, const anemo_record *record,
                                anemo_error *err) {
    char why[256];
    if (!record)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a record");
    if (record->problem.text[0])
        return anemo_fail(err, ANEMO_E_INPUT, "record refused: %s", record->problem.text);
    if (!record_valid(record->root, why, sizeof why))
        return anemo_fail(err, ANEMO_E_INPUT, "record refused: %s", why);
    const anemo_status status = sink->records.path ? write_line(sink, record, err) : ANEMO_OK;
    if (status == ANEMO_OK)
        sink->count++;
    return status;
}
