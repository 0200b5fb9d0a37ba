/* Reading a file of targets. Everything that can be wrong in it is found here, before anything is
 * measured; only whether a variant fits is known later. */
#include "harness/measure/bench_targets.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 24, MOST_LINE = 512 };

typedef struct reader {
    const char *path;
    int line;
    char *word[MOST_WORDS];
    int n_words;
    char rest[MOST_LINE]; /* the line as it stands, for the text of a target */
    anemo_target_file *file;
    anemo_error *err;
} reader;

#define BAD(r, ...) bad_line(r, __VA_ARGS__)
__attribute__((format(printf, 2, 3))) static anemo_status bad_line(const reader *r,
                                                                   const char *format, ...) {
    char text[256];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return anemo_fail(r->err, ANEMO_E_INPUT, "%s:%d: %s", r->path, r->line, text);
}

static anemo_status read_group(reader *r) {
    if (r->n_words < 2 || r->n_words > 3 || strlen(r->word[1]) >= sizeof r->file->groups->name) {
        return BAD(r, "expected: group NAME [STOP], NAME below 32 characters");
    }
    void *groups =
        realloc(r->file->groups, (size_t)(r->file->n_groups + 1) * sizeof *r->file->groups);
    if (!groups) {
        return anemo_fail(r->err, ANEMO_E_MEMORY, "no memory for the targets");
    }
    r->file->groups = groups;
    anemo_target_group *group = &r->file->groups[r->file->n_groups];
    *group = (anemo_target_group){.stop = {.kind = ANEMO_STOP_COUNT}};
    strcpy(group->name, r->word[1]);
    for (int32_t i = 0; i < r->file->n_groups; i++) {
        if (strcmp(r->file->groups[i].name, group->name) == 0) {
            return BAD(r, "group %s exists already", group->name);
        }
    }
    r->file->n_groups++;
    anemo_error err = {{0}};
    if (r->n_words == 3 && anemo_stop_parse(r->word[2], &group->stop, &err) != ANEMO_OK) {
        return BAD(r, "%s", err.text);
    }
    return ANEMO_OK;
}

/* "any" or "act=PATTERN,name=PATTERN" into the arm's patterns. */
static bool read_selector(char *text, anemo_target_arm *arm) {
    strcpy(arm->act, "*");
    strcpy(arm->variant, "*");
    if (strcmp(text, "any") == 0) {
        return true;
    }
    char *place = NULL;
    for (char *part = strtok_r(text, ",", &place); part; part = strtok_r(NULL, ",", &place)) {
        if (strncmp(part, "act=", 4) == 0 && strlen(part + 4) < sizeof arm->act) {
            strcpy(arm->act, part + 4);
        } else if (strncmp(part, "name=", 5) == 0 && strlen(part + 5) < sizeof arm->variant) {
            strcpy(arm->variant, part + 5);
        } else {
            return false;
        }
    }
    return true;
}

/* "quantise" or "routing=LAW". */
static bool read_option(const char *word, anemo_target_arm *arm) {
    if (strcmp(word, "quantise") == 0) {
        arm->quantise = true;
        return bench_op_find(arm->op)->quantise != NULL;
    }
    bench_routing routing;
    const bool good = arm->op == ANEMO_OP_MOE_EXPERTS && strncmp(word, "routing=", 8) == 0 &&
                      strlen(word + 8) < sizeof arm->routing &&
                      bench_routing_create(word + 8, &routing, NULL) == ANEMO_OK;
    if (good) {
        strcpy(arm->routing, word + 8);
        bench_routing_free(&routing);
    }
    return good;
}

static bool shape_exists(anemo_op op, const char *name) {
    for (int32_t i = 0; i < anemo_shape_count(); i++) {
        const bench_shape *shape = anemo_shape_at(i);
        if (shape->op == op && strcmp(shape->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static anemo_status read_arm(reader *r) {
    anemo_target_group *group = r->file->n_groups ? &r->file->groups[r->file->n_groups - 1] : NULL;
    if (!group || group->n_arms == ANEMO_TARGET_ARMS) {
        return BAD(r, "an arm needs a group before it, and there are %d in one at most",
                   ANEMO_TARGET_ARMS);
    }
    anemo_target_arm *arm = &group->arms[group->n_arms];
    *arm = (anemo_target_arm){0};
    if (r->n_words < 7 || strlen(r->word[1]) >= sizeof arm->name ||
        strlen(r->word[3]) >= sizeof arm->shape || strlen(r->word[5]) >= sizeof arm->weights ||
        strncmp(r->word[4], "m=", 2) != 0) {
        return BAD(r, "expected: arm NAME OP SHAPE m=N WEIGHTS SELECTOR [quantise] [routing=LAW]");
    }
    strcpy(arm->name, r->word[1]);
    strcpy(arm->shape, r->word[3]);
    strcpy(arm->weights, strcmp(r->word[5], "-") == 0 ? "q4_0" : r->word[5]);
    anemo_weight_type type;
    anemo_custom_shape custom;
    anemo_error err = {{0}};
    if (!anemo_op_from_name(r->word[2], &arm->op) || !bench_op_find(arm->op)) {
        return BAD(r, "'%s' is no op with bench shapes", r->word[2]);
    }
    if (strchr(arm->shape, '=') ? anemo_shape_custom(arm->op, arm->shape, &custom, &err) != ANEMO_OK
                                : !shape_exists(arm->op, arm->shape)) {
        return BAD(r, "%s", err.text[0] ? err.text : "no such shape; `anemo bench` lists them");
    }
    if (anemo_shape_rows(r->word[4] + 2, &arm->m, 1) != 1) {
        return BAD(r, "%s: expected m= and a number from 1 to 65536", r->word[4]);
    }
    if (!bench_weight_type(arm->weights, &type)) {
        return BAD(r, "weights '%s': expected " BENCH_WEIGHT_TYPES ", or - for none", arm->weights);
    }
    if (!read_selector(r->word[6], arm)) {
        return BAD(r, "selector: expected any, or act=PATTERN and name=PATTERN apart by a comma");
    }
    for (int w = 7; w < r->n_words; w++) {
        if (!read_option(r->word[w], arm)) {
            return BAD(r,
                       "'%s': expected quantise where the op's bench can, or routing=LAW with "
                       "moe_experts and " BENCH_ROUTINGS,
                       r->word[w]);
        }
    }
    for (int32_t i = 0; i < group->n_arms; i++) {
        if (strcmp(group->arms[i].name, arm->name) == 0) {
            return BAD(r, "arm %s exists already in this group", arm->name);
        }
    }
    group->n_arms++;
    return ANEMO_OK;
}

static bool find_kind(const char *name, anemo_target *target) {
    static const char *const names[] = {"peak", "roof", "rate", "time", "us", "tops"};
    for (int i = 0; i < 6; i++) {
        if (strcmp(name, names[i]) == 0) {
            target->kind = (anemo_target_kind)(ANEMO_TARGET_PEAK + i);
            return true;
        }
    }
    for (int c = 0; c < ANEMO_CEILING_COUNT; c++) {
        if (strcmp(name, anemo_ceiling_name((anemo_ceiling)c)) == 0) {
            target->kind = ANEMO_TARGET_CEILING;
            target->ceiling = (anemo_ceiling)c;
            return true;
        }
    }
    return false;
}

static int32_t find_arm(const anemo_target_group *group, const char *name) {
    for (int32_t i = 0; i < group->n_arms; i++) {
        if (strcmp(group->arms[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Words [2, end) are ARM, or ARM / ARM, or ARM / ARM + ARM. */
static bool read_measure(const reader *r, const anemo_target_group *group, int end,
                         anemo_target *target) {
    const bool ratio = target->kind == ANEMO_TARGET_RATE || target->kind == ANEMO_TARGET_TIME;
    target->arm = find_arm(group, r->word[2]);
    target->against[0] = target->against[1] = -1;
    bool good = target->arm >= 0 && (ratio ? end == 5 || end == 7 : end == 3);
    if (good && ratio) {
        target->against[0] = find_arm(group, r->word[4]);
        good = strcmp(r->word[3], "/") == 0 && target->against[0] >= 0;
    }
    if (good && end == 7) {
        target->against[1] = find_arm(group, r->word[6]);
        good = strcmp(r->word[5], "+") == 0 && target->against[1] >= 0;
    }
    for (int i = 1; good && i < end; i++) {
        const size_t used = strlen(target->measure);
        snprintf(target->measure + used, sizeof target->measure - used, "%s%s", i > 1 ? " " : "",
                 r->word[i]);
    }
    return good;
}

static anemo_status read_target(reader *r) {
    anemo_target_group *group = r->file->n_groups ? &r->file->groups[r->file->n_groups - 1] : NULL;
    if (!group || group->n_targets == ANEMO_TARGETS_OF_GROUP) {
        return BAD(r, "a target needs a group before it, and there are %d in one at most",
                   ANEMO_TARGETS_OF_GROUP);
    }
    anemo_target *target = &group->targets[group->n_targets];
    *target = (anemo_target){0};
    int sign = 1;
    while (sign < r->n_words && strcmp(r->word[sign], ">=") != 0 &&
           strcmp(r->word[sign], "<=") != 0) {
        sign++;
    }
    if (sign < 3 || sign + 2 >= r->n_words || !find_kind(r->word[1], target)) {
        return BAD(r, "expected: target MEASURE >= NUMBER TEXT (or <=), MEASURE read, peak, roof, "
                      "rate, time, us, tops or the name of a ceiling, then arms");
    }
    if (!read_measure(r, group, sign, target)) {
        return BAD(r, "the measure names no arm of this group, or is not ARM, ARM / ARM or "
                      "ARM / ARM + ARM");
    }
    char *end;
    errno = 0;
    target->at_most = r->word[sign][0] == '<';
    target->bound = strtod(r->word[sign + 1], &end);
    if (errno || *end || !(target->bound > 0 && target->bound < 1e6)) {
        return BAD(r, "'%s': expected a number above 0", r->word[sign + 1]);
    }
    const size_t at = (size_t)(r->word[sign + 2] - r->word[0]);
    snprintf(target->text, sizeof target->text, "%s", r->rest + at);
    group->n_targets++;
    r->file->n_targets++;
    return ANEMO_OK;
}

static anemo_status read_line(reader *r, char *line) {
    line[strcspn(line, "#\n")] = '\0';
    line += strspn(line, " \t");
    for (size_t n = strlen(line); n && strchr(" \t\r", line[n - 1]); n--) {
        line[n - 1] = '\0';
    }
    snprintf(r->rest, sizeof r->rest, "%s", line);
    r->n_words = 0;
    char *place = NULL;
    for (char *word = strtok_r(line, " \t", &place); word && r->n_words < MOST_WORDS;
         word = strtok_r(NULL, " \t", &place)) {
        r->word[r->n_words++] = word;
    }
    if (r->n_words == 0) {
        return ANEMO_OK;
    }
    if (strcmp(r->word[0], "group") == 0) {
        return read_group(r);
    }
    if (strcmp(r->word[0], "arm") == 0) {
        return read_arm(r);
    }
    return strcmp(r->word[0], "target") == 0
               ? read_target(r)
               : BAD(r, "'%s': expected group, arm or target", r->word[0]);
}

anemo_status anemo_target_file_read(const char *path, anemo_target_file *out, anemo_error *err) {
    *out = (anemo_target_file){0};
    snprintf(out->path, sizeof out->path, "%s", path);
    FILE *stream = fopen(path, "r");
    if (!stream) {
        return anemo_fail(err, ANEMO_E_IO, "%s: %s", path, strerror(errno));
    }
    reader r = {.path = path, .file = out, .err = err};
    char line[MOST_LINE];
    anemo_status status = ANEMO_OK;
    while (!status && fgets(line, sizeof line, stream)) {
        r.line++;
        status = strlen(line) == sizeof line - 1
                     ? BAD(&r, "a line of more than %d characters", MOST_LINE - 2)
                     : read_line(&r, line);
    }
    if (!status && ferror(stream)) {
        status = anemo_fail(err, ANEMO_E_IO, "%s: cannot be read", path);
    }
    fclose(stream);
    if (!status && out->n_targets == 0) {
        status = BAD(&r, "no target in this file");
    }
    if (status) {
        anemo_target_file_free(out);
    }
    return status;
}

void anemo_target_file_free(anemo_target_file *file) {
    free(file->groups);
    *file = (anemo_target_file){0};
}
