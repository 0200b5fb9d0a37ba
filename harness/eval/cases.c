/* Task files: JSON Lines, one case a line, as models/default/train/generate.py writes them.
 * Untrusted input: a wrong line is refused with file, line and field. */
#include "harness/eval/eval.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/eval/internal.h"

#define FILE_BYTES_MAX (1u << 30)

/* ---------------------------------------------------------------- one line */

static void case_free(anemo_eval_case *c) {
    free(c->kind);
    free(c->prompt);
    free(c->answer);
    for (int32_t i = 0; i < c->n_choices; i++)
        free(c->choices[i]);
    memset(c, 0, sizeof *c);
}

static bool text_field(const json_t *object, const char *key, bool may_be_empty, char **out) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value) || (!may_be_empty && !json_string_length(value)) ||
        strlen(json_string_value(value)) != json_string_length(value))
        return false;
    *out = strdup(json_string_value(value));
    return *out;
}

static bool read_choices(const json_t *object, anemo_eval_case *c) {
    const json_t *choices = json_object_get(object, "choices"),
                 *gold = json_object_get(object, "gold");
    if (!choices)
        return !gold;
    const size_t n = json_array_size(choices);
    if (n < 2 || n > ANEMO_EVAL_CHOICES || !json_is_integer(gold) || json_integer_value(gold) < 0 ||
        json_integer_value(gold) >= (json_int_t)n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *text = json_array_get(choices, i);
        if (!json_is_string(text) || !json_string_length(text))
            return false;
        c->choices[i] = strdup(json_string_value(text));
        if (!c->choices[i])
            return false;
        c->n_choices++;
    }
    c->gold = (int32_t)json_integer_value(gold);
    return true;
}

static anemo_status read_case(const char *path, int64_t line, const json_t *object,
                              anemo_eval_case *c, anemo_error *err) {
    const char *wrong = NULL;
    const json_t *level = json_object_get(object, "level");
    if (!text_field(object, "kind", false, &c->kind))
        wrong = "\"kind\" must be a string that is not empty";
    else if (!json_is_integer(level) || json_integer_value(level) < 1 ||
             json_integer_value(level) > 99)
        wrong = "\"level\" must be an integer from 1 to 99";
    else if (!text_field(object, "prompt", true, &c->prompt))
        wrong = "\"prompt\" must be a string without NUL";
    else if (!text_field(object, "answer", false, &c->answer))
        wrong = "\"answer\" must be a string without NUL that is not empty";
    else if (!read_choices(object, c))
        wrong =
            "\"choices\" must be 2 to 26 strings that are not empty, with \"gold\" the number of "
            "the right one, from 0";
    if (wrong)
        return anemo_fail(err, ANEMO_E_INPUT, "%s:%lld: %s", path, (long long)line, wrong);
    c->level = (int32_t)json_integer_value(level);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- filter */

static bool kind_wanted(const char *kinds, const char *kind) {
    const size_t n = strlen(kind);
    for (const char *at = kinds; at && *at;) {
        const size_t bytes = strcspn(at, ",");
        if (bytes == n && !strncmp(at, kind, n))
            return true;
        at += bytes + (at[bytes] == ',');
    }
    return !kinds;
}

static bool wanted(const anemo_eval_filter *f, const anemo_eval_cases *cases,
                   const anemo_eval_case *c) {
    if (!f)
        return true;
    if (!kind_wanted(f->kinds, c->kind))
        return false;
    if (f->level_most && (c->level < f->level_least || c->level > f->level_most))
        return false;
    if (!f->limit)
        return true;
    int64_t same = 0;
    for (int64_t i = 0; i < cases->n; i++)
        same += cases->items[i].level == c->level && !strcmp(cases->items[i].kind, c->kind);
    return same < f->limit;
}

/* ---------------------------------------------------------------- files */

anemo_status eval_read_file(const char *path, char **text, size_t *bytes, anemo_error *err) {
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s", path, strerror(errno));
    if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode) || st.st_size > (off_t)FILE_BYTES_MAX) {
        fclose(f);
        return anemo_fail(err, ANEMO_E_INPUT, "%s: not a regular file of at most 1 GiB", path);
    }
    *bytes = (size_t)st.st_size;
    *text = malloc(*bytes + 1);
    const bool read = *text && fread(*text, 1, *bytes, f) == *bytes;
    fclose(f);
    if (!*text)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for %zu bytes", path, *bytes);
    if (!read) {
        free(*text);
        return anemo_fail(err, ANEMO_E_IO, "%s: reading failed", path);
    }
    (*text)[*bytes] = 0;
    return ANEMO_OK;
}

static anemo_status add_case(anemo_eval_cases *cases, const anemo_eval_case *c, int64_t *room) {
    if (cases->n == *room) {
        const int64_t more = *room ? 2 * *room : 256;
        anemo_eval_case *items = realloc(cases->items, (size_t)more * sizeof *items);
        if (!items)
            return ANEMO_E_MEMORY;
        cases->items = items;
        *room = more;
    }
    cases->items[cases->n++] = *c;
    return ANEMO_OK;
}

static anemo_status read_lines(const char *path, const char *text, size_t bytes,
                               const anemo_eval_filter *filter, anemo_eval_cases *cases,
                               int64_t *room, anemo_error *err) {
    int64_t number = 0;
    for (const char *line = text, *end = text + bytes; line < end; number++) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const size_t n = (size_t)((newline ? newline : end) - line);
        if (n) {
            json_error_t wrong;
            json_t *object = json_loadb(line, n, JSON_REJECT_DUPLICATES, &wrong);
            if (!json_is_object(object)) {
                json_decref(object);
                return anemo_fail(err, ANEMO_E_INPUT, "%s:%lld: not a JSON object%s%s", path,
                                  (long long)number + 1, object ? "" : ": ",
                                  object ? "" : wrong.text);
            }
            anemo_eval_case c = {0};
            anemo_status status = read_case(path, number + 1, object, &c, err);
            json_decref(object);
            const bool keep = status == ANEMO_OK && wanted(filter, cases, &c);
            if (keep && (status = add_case(cases, &c, room)) != ANEMO_OK)
                anemo_fail(err, status, "no memory for the cases of %s", path);
            if (!keep || status != ANEMO_OK)
                case_free(&c);
            if (status != ANEMO_OK)
                return status;
        }
        line += n + 1;
    }
    return ANEMO_OK;
}

static int is_task_file(const struct dirent *entry) {
    const size_t n = strlen(entry->d_name);
    return n > 6 && !strcmp(entry->d_name + n - 6, ".jsonl");
}

/* The paths that `path` stands for, sorted by name. */
static anemo_status list_files(const char *path, char ***files, int32_t *n, anemo_error *err) {
    struct stat st;
    *files = NULL, *n = 0;
    if (stat(path, &st))
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s", path, strerror(errno));
    struct dirent **entries = NULL;
    int n_entries = 0;
    if (S_ISDIR(st.st_mode) &&
        (n_entries = scandir(path, &entries, is_task_file, alphasort)) <= 0) {
        free(entries);
        return anemo_fail(err, ANEMO_E_INPUT, "%s: no file named *.jsonl in this directory", path);
    }
    const bool directory = S_ISDIR(st.st_mode);
    const int32_t count = directory ? n_entries : 1;
    bool memory = (*files = calloc((size_t)count, sizeof **files));
    for (int32_t i = 0; memory && i < count; i++) {
        if (directory ? asprintf(&(*files)[i], "%s/%s", path, entries[i]->d_name) < 0
                      : !((*files)[i] = strdup(path)))
            memory = false;
        else
            ++*n;
    }
    for (int i = 0; i < n_entries; i++)
        free(entries[i]);
    free(entries);
    return memory ? ANEMO_OK : anemo_fail(err, ANEMO_E_MEMORY, "no memory to list %s", path);
}

anemo_status anemo_eval_cases_load(const char *path, const anemo_eval_filter *filter,
                                   anemo_eval_cases *out, anemo_error *err) {
    char **files;
    int32_t n_files;
    int64_t room = 0;
    char *all = NULL;
    size_t all_bytes = 0;
    memset(out, 0, sizeof *out);
    anemo_status status = list_files(path, &files, &n_files, err);
    for (int32_t i = 0; status == ANEMO_OK && i < n_files; i++) {
        char *text;
        size_t bytes;
        if ((status = eval_read_file(files[i], &text, &bytes, err)) != ANEMO_OK)
            break;
        status = read_lines(files[i], text, bytes, filter, out, &room, err);
        char *longer = realloc(all, all_bytes + bytes + 1);
        if (longer) {
            all = longer;
            memcpy(all + all_bytes, text, bytes);
            all_bytes += bytes;
        } else if (status == ANEMO_OK) {
            status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for %s", files[i]);
        }
        free(text);
    }
    if (status == ANEMO_OK && !out->n)
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: no case of the wanted kinds and levels", path);
    if (status == ANEMO_OK)
        anemo_sha256_of(all, all_bytes, out->sha256);
    free(all);
    for (int32_t i = 0; i < n_files; i++)
        free(files[i]);
    free(files);
    if (status != ANEMO_OK)
        anemo_eval_cases_free(out);
    return status;
}

void anemo_eval_cases_free(anemo_eval_cases *cases) {
    for (int64_t i = 0; i < cases->n; i++)
        case_free(&cases->items[i]);
    free(cases->items);
    memset(cases, 0, sizeof *cases);
}
