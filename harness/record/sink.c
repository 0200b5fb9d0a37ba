/* Appending records. See record.h.
 *
 * One record is one write(2) of one line to a file opened with O_APPEND, under flock(2), so that
 * several processes may share a file. A write that comes back short (disk full, file-size limit)
 * is undone by truncation to the length before it; nothing is buffered in the process, so a killed
 * run has lost nothing that was finished. The data reaches the disk at close (fsync): one fsync
 * per record would disturb what is being measured. */
#include "harness/record/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct anemo_record_sink {
    char *path; /* NULL: nowhere */
    int file;
    int64_t count;
};

static anemo_status fail_errno(const anemo_record_sink *sink, const char *what, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_IO, "%s: %s: %s", sink->path, what, strerror(errno));
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
static anemo_status check_file(anemo_record_sink *sink, anemo_error *err) {
    struct stat info;
    char last = '\n';
    if (fstat(sink->file, &info) != 0)
        return fail_errno(sink, "cannot be examined", err);
    if (!S_ISREG(info.st_mode) || info.st_size == 0)
        return ANEMO_OK;
    if (!opens_record(sink->file, 0) || pread(sink->file, &last, 1, info.st_size - 1) != 1)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: is not a file of records (its first line does not begin with %s); "
                          "nothing was written",
                          sink->path, OPENING);
    if (last == '\n')
        return ANEMO_OK;
    off_t start = torn_line_start(sink->file, info.st_size);
    if (ftruncate(sink->file, start) != 0)
        return fail_errno(sink, "cannot cut off an unfinished last line", err);
    return ANEMO_OK;
}

anemo_status anemo_record_sink_open(const char *path, anemo_record_sink **out, anemo_error *err) {
    anemo_record_sink *sink = calloc(1, sizeof *sink);
    if (!sink || (path && !(sink->path = strdup(path)))) {
        free(sink);
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the record file");
    }
    sink->file = -1;
    anemo_status status = ANEMO_OK;
    if (path) {
        if (!make_parents(path) ||
            (sink->file = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0) {
            status = fail_errno(sink, "cannot be opened for records", err);
        } else {
            flock(sink->file, LOCK_EX);
            status = check_file(sink, err);
            flock(sink->file, LOCK_UN);
        }
    }
    if (status == ANEMO_OK) {
        *out = sink;
        return ANEMO_OK;
    }
    if (sink->file >= 0)
        close(sink->file);
    free(sink->path);
    free(sink);
    return status;
}

anemo_status anemo_record_sink_close(anemo_record_sink *sink, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    if (!sink)
        return ANEMO_OK;
    if (sink->path) {
        /* a pipe or /dev/null cannot be synced, and need not */
        if (fsync(sink->file) != 0 && errno != EINVAL && errno != EROFS)
            status = fail_errno(sink, "the last records may not have reached the disk", err);
        if (close(sink->file) != 0 && status == ANEMO_OK)
            status = fail_errno(sink, "the last records may not have reached the disk", err);
    }
    free(sink->path);
    free(sink);
    return status;
}

const char *anemo_record_sink_path(const anemo_record_sink *sink) {
    return sink->path;
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

/* The whole line or nothing. */
static anemo_status append(anemo_record_sink *sink, const char *line, size_t bytes,
                           anemo_error *err) {
    struct stat before;
    ssize_t written;
    anemo_status status = ANEMO_OK;
    flock(sink->file, LOCK_EX);
    bool regular = fstat(sink->file, &before) == 0 && S_ISREG(before.st_mode);
    do
        written = write(sink->file, line, bytes);
    while (written < 0 && errno == EINTR);
    if (written != (ssize_t)bytes) {
        const char *reason = written < 0 ? strerror(errno) : "no room for the whole line";
        bool undone = !regular || written <= 0 || ftruncate(sink->file, before.st_size) == 0;
        status = anemo_fail(
            err, ANEMO_E_IO, "%s: a record could not be written: %s; %s", sink->path, reason,
            undone ? "the records before it are kept" : "its beginning could not be cut off again");
    }
    flock(sink->file, LOCK_UN);
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
    json_t *root = ordered(record->root);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a record's line");
    size_t bytes = strlen(text);
    text[bytes] = '\n'; /* in the place of the terminator */
    anemo_status status = sink->path ? append(sink, text, bytes + 1, err) : ANEMO_OK;
    free(text);
    if (status == ANEMO_OK)
        sink->count++;
    return status;
}
