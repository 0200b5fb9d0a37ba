/* Reading a file of peer targets; whatever can be wrong in it is found before anything runs. */
#include "harness/peers/peers.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 24, MOST_LINE = 512 };

typedef struct reader {
    anemo_peer_file *file;
    int line;
    char *word[MOST_WORDS];
    int n_words;
    anemo_error *err;
} reader;

__attribute__((format(printf, 2, 3))) static anemo_status bad(const reader *r, const char *format,
                                                              ...) {
    char text[256];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return anemo_fail(r->err, ANEMO_E_INPUT, "%s:%d: %s", r->file->path, r->line, text);
}

static int32_t find_peer(const anemo_peer_file *file, const char *name) {
    for (int32_t i = 0; i < file->n_peers; i++) {
        if (strcmp(file->peers[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int32_t find_model(const anemo_peer_file *file, const char *name) {
    for (int32_t i = 0; i < file->n_models; i++) {
        if (strcmp(file->models[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Words from `at` on with blanks between; false: they do not fit. */
static bool join_words(const reader *r, int at, char *text, size_t bytes) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = at; i < r->n_words; i++) {
        const int more = snprintf(text + used, bytes - used, "%s%s", i > at ? " " : "", r->word[i]);
        used += (size_t)more;
        if (used >= bytes) {
            return false;
        }
    }
    return true;
}

static anemo_status read_peer(reader *r) {
    anemo_peer_file *f = r->file;
    const bool is_new = strcmp(r->word[0], "peer") == 0;
    const int32_t found = r->n_words > 1 ? find_peer(f, r->word[1]) : -1;
    if (r->n_words < 2 || strlen(r->word[1]) >= sizeof f->peers->name) {
        return bad(r, "expected: %s NAME FLAGS..., NAME below 24 characters", r->word[0]);
    }
    if (is_new ? found >= 0 || f->n_peers == ANEMO_PEERS : found < 0) {
        return bad(r, "%s %s", r->word[1],
                   is_new ? "is there already, or there are 4 peers" : "is no peer of this file");
    }
    anemo_peer *peer = &f->peers[is_new ? f->n_peers : found];
    if (is_new) {
        *peer = (anemo_peer){0};
        strcpy(peer->name, r->word[1]);
        f->n_peers++;
    }
    char *flags = is_new ? peer->bench_flags : peer->common_flags;
    return join_words(r, 2, flags, sizeof peer->bench_flags)
               ? ANEMO_OK
               : bad(r, "the flags are longer than %zu bytes", sizeof peer->bench_flags - 1);
}

static anemo_status read_model(reader *r) {
    anemo_peer_file *f = r->file;
    if (r->n_words < 3 || strlen(r->word[1]) >= sizeof f->models->name || strchr(r->word[1], '/')) {
        return bad(r, "expected: model NAME SOURCE, NAME below 32 characters without '/'");
    }
    if (find_model(f, r->word[1]) >= 0 || f->n_models == ANEMO_PEER_MODELS) {
        return bad(r, "model %s is there already, or there are %d", r->word[1], ANEMO_PEER_MODELS);
    }
    anemo_peer_model *model = &f->models[f->n_models++];
    strcpy(model->name, r->word[1]);
    return join_words(r, 2, model->source, sizeof model->source)
               ? ANEMO_OK
               : bad(r, "the source is longer than %zu bytes", sizeof model->source - 1);
}

/* "KEY=N" into *value; false: another key or no number. */
static bool read_number(const char *word, const char *key, int64_t least, int64_t most,
                        int64_t *value) {
    char *end;
    const size_t bytes = strlen(key);
    if (strncmp(word, key, bytes) != 0 || word[bytes] != '=' || word[bytes + 1] < '0' ||
        word[bytes + 1] > '9') {
        return false;
    }
    errno = 0;
    *value = strtoll(word + bytes + 1, &end, 10);
    return !errno && *end == '\0' && *value >= least && *value <= most;
}

static bool read_what(const char *word, anemo_peer_case *c) {
    if (strcmp(word, "start") == 0) {
        c->what = ANEMO_PEER_START;
        return true;
    }
    if (strncmp(word, "with=", 5) == 0 && strlen(word + 5) < sizeof c->with) {
        strcpy(c->with, word + 5);
        return true;
    }
    if (read_number(word, "prompt", 1, 1 << 20, &c->tokens)) {
        c->what = ANEMO_PEER_PROMPT;
        return true;
    }
    if (read_number(word, "tokens", 1, 1 << 16, &c->tokens)) {
        c->what = ANEMO_PEER_DECODE;
        return true;
    }
    return read_number(word, "depth", 0, 1 << 20, &c->depth) ||
           read_number(word, "batch", 1, BENCH_BATCH_MAX, &c->batch);
}

static anemo_status read_case(reader *r) {
    anemo_peer_file *f = r->file;
    if (r->n_words < 4 || strlen(r->word[1]) >= sizeof f->cases->name ||
        f->n_cases == ANEMO_PEER_CASES) {
        return bad(r, "expected: case NAME MODEL WHAT..., NAME below 48 characters, at most %d",
                   ANEMO_PEER_CASES);
    }
    anemo_peer_case *c = &f->cases[f->n_cases];
    *c = (anemo_peer_case){.model = find_model(f, r->word[2]), .batch = 1};
    strcpy(c->name, r->word[1]);
    if (c->model < 0) {
        return bad(r, "'%s' is no model of this file", r->word[2]);
    }
    bool start = false;
    for (int i = 3; i < r->n_words; i++) {
        if (!read_what(r->word[i], c)) {
            return bad(r, "'%s': expected prompt=N, tokens=N depth=N batch=N, start, or with=RULE",
                       r->word[i]);
        }
        start = start || c->what == ANEMO_PEER_START;
    }
    if (!start && c->tokens < 1) {
        return bad(r, "case %s has neither prompt=N, tokens=N nor start", c->name);
    }
    f->n_cases++;
    return ANEMO_OK;
}

static bool find_ceiling(const char *name, anemo_ceiling *out) {
    for (int c = 0; c < ANEMO_CEILING_COUNT; c++) {
        if (strcmp(name, anemo_ceiling_name((anemo_ceiling)c)) == 0) {
            *out = (anemo_ceiling)c;
            return true;
        }
    }
    return false;
}

static anemo_status read_target(reader *r) {
    anemo_peer_file *f = r->file;
    anemo_peer_case *c = f->n_cases ? &f->cases[f->n_cases - 1] : NULL;
    if (!c || c->n_targets == ANEMO_PEER_TARGETS) {
        return bad(r, "a target needs a case before it, and a case has %d at most",
                   ANEMO_PEER_TARGETS);
    }
    if ((r->n_words != 4 && (r->n_words != 8 || strcmp(r->word[4], "or") != 0))) {
        return bad(r, "expected: target WHO >= N [or WHO >= N]");
    }
    anemo_peer_target *target = &c->targets[c->n_targets];
    *target = (anemo_peer_target){.n_terms = r->n_words / 4};
    for (int32_t i = 0; i < target->n_terms; i++) {
        char **word = r->word + 1 + 4 * i, *end;
        target->term[i].peer = find_peer(f, word[0]);
        if (target->term[i].peer < 0 && !find_ceiling(word[0], &target->term[i].ceiling)) {
            return bad(r, "'%s' is no peer of this file and no ceiling", word[0]);
        }
        errno = 0;
        target->term[i].bound = strtod(word[2], &end);
        if (strcmp(word[1], ">=") != 0 || errno || *end ||
            !(target->term[i].bound > 0 && target->term[i].bound < 1e6)) {
            return bad(r, "'%s %s': expected >= and a number above 0", word[1], word[2]);
        }
    }
    c->n_targets++;
    return ANEMO_OK;
}

static anemo_status read_line(reader *r, char *line) {
    static const struct {
        const char *name;
        anemo_status (*read)(reader *r);
    } kinds[] = {{"peer", read_peer},
                 {"common", read_peer},
                 {"model", read_model},
                 {"case", read_case},
                 {"target", read_target}};
    line[strcspn(line, "#\n")] = '\0';
    r->n_words = 0;
    char *place = NULL;
    for (char *word = strtok_r(line, " \t\r", &place); word;
         word = strtok_r(NULL, " \t\r", &place)) {
        if (r->n_words == MOST_WORDS) {
            return bad(r, "more than %d words", MOST_WORDS);
        }
        r->word[r->n_words++] = word;
    }
    for (size_t i = 0; r->n_words && i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(r->word[0], kinds[i].name) == 0) {
            return kinds[i].read(r);
        }
    }
    return r->n_words == 0
               ? ANEMO_OK
               : bad(r, "'%s': expected peer, common, model, case or target", r->word[0]);
}

anemo_status anemo_peer_file_read(const char *path, anemo_peer_file *out, anemo_error *err) {
    memset(out, 0, sizeof *out);
    snprintf(out->path, sizeof out->path, "%s", path);
    FILE *stream = fopen(path, "r");
    if (!stream) {
        return anemo_fail(err, ANEMO_E_IO, "%s: %s", path, strerror(errno));
    }
    reader r = {.file = out, .err = err};
    char line[MOST_LINE];
    anemo_status status = ANEMO_OK;
    while (!status && fgets(line, sizeof line, stream)) {
        r.line++;
        status = strlen(line) == sizeof line - 1
                     ? bad(&r, "a line of more than %d characters", MOST_LINE - 2)
                     : read_line(&r, line);
    }
    if (!status && ferror(stream)) {
        status = anemo_fail(err, ANEMO_E_IO, "%s: cannot be read", path);
    }
    fclose(stream);
    return !status && out->n_cases == 0 ? bad(&r, "no case in this file") : status;
}
