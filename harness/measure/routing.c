#include "harness/measure/routing.h"

#include "harness/measure/bench_weight.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRACE_TOP_K = 64, TRACE_EXPERTS = 65536 };
#define FAVOUR 40.0f /* logit that no noise reaches */

/* ---------------------------------------------------------------- reading a trace */

/* The ids of one line, "3 5", "3,5" or "[3, 5]"; how many, -1 when it is none of these. */
static int32_t read_line(const char *at, int32_t ids[TRACE_TOP_K]) {
    int32_t n = 0;
    at += strspn(at, " \t");
    const bool bracket = *at == '[';
    at += bracket;
    for (;;) {
        char *end;
        at += strspn(at, " \t");
        const long id = strtol(at, &end, 10);
        if (!isdigit((unsigned char)*at) || id >= TRACE_EXPERTS || n == TRACE_TOP_K) {
            return -1;
        }
        for (int32_t i = 0; i < n; i++) {
            if (ids[i] == id) {
                return -1;
            }
        }
        ids[n++] = (int32_t)id;
        const size_t blanks = strspn(end, " \t\r\n");
        at = end + blanks;
        if (*at == (bracket ? ']' : '\0')) {
            at += bracket;
            return at[strspn(at, " \t\r\n")] == '\0' ? n : -1;
        }
        if (*at == ',') {
            at++;
        } else if (blanks == 0) {
            return -1;
        }
    }
}

static bool append(bench_routing *r, const int32_t *ids, int64_t *room) {
    if (r->tokens == *room) {
        *room = *room ? 2 * *room : 1024;
        int32_t *more = realloc(r->expert, (size_t)(*room * r->per_token) * sizeof *more);
        if (!more) {
            return false;
        }
        r->expert = more;
    }
    memcpy(r->expert + r->tokens++ * r->per_token, ids, (size_t)r->per_token * sizeof *ids);
    return true;
}

static anemo_status read_lines(bench_routing *r, FILE *file, const char *path, anemo_error *err) {
    char *line = NULL;
    size_t line_bytes = 0;
    int64_t number = 0, room = 0;
    anemo_status status = ANEMO_OK;
    while (!status && getline(&line, &line_bytes, file) >= 0) {
        int32_t ids[TRACE_TOP_K];
        number++;
        const char *first = line + strspn(line, " \t\r\n");
        if (*first == '\0' || *first == '#') {
            continue;
        }
        const int32_t n = read_line(line, ids);
        r->per_token = r->per_token ? r->per_token : n;
        if (n < 1 || n != r->per_token) {
            status = anemo_fail(err, ANEMO_E_INPUT,
                                "%s:%lld: expected the experts of one token, different numbers "
                                "from 0 such as '3 5' or '[3, 5]', as many in every line",
                                path, (long long)number);
        } else if (!append(r, ids, &room)) {
            status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for the trace %s", path);
        }
    }
    free(line);
    if (!status && ferror(file)) {
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: %s", path, strerror(errno));
    }
    if (!status && r->tokens == 0) {
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "%s: holds no token; expected a line of expert numbers for each", path);
    }
    return status;
}

static anemo_status read_trace(bench_routing *r, const char *path, anemo_error *err) {
    const char *slash = strrchr(path, '/');
    snprintf(r->name, sizeof r->name, "trace:%s", slash ? slash + 1 : path);
    FILE *file = fopen(path, "r");
    if (!file) {
        return anemo_fail(err, ANEMO_E_INPUT, "--routing trace:%s: %s", path, strerror(errno));
    }
    const anemo_status status = read_lines(r, file, path, err);
    fclose(file);
    return status;
}

/* ---------------------------------------------------------------- the option */

/* "NAME:NUMBER" with the number in [least, most] */
static bool read_law(const char *text, const char *name, double least, double most, double *out) {
    const size_t bytes = strlen(name);
    if (strncmp(text, name, bytes) != 0 || text[bytes] != ':') {
        return false;
    }
    char *end;
    *out = strtod(text + bytes + 1, &end);
    return end != text + bytes + 1 && *end == '\0' && *out >= least && *out <= most;
}

anemo_status bench_routing_create(const char *text, bench_routing *out, anemo_error *err) {
    *out = (bench_routing){0};
    if (strncmp(text, "trace:", 6) == 0) {
        out->kind = BENCH_ROUTING_TRACE;
        const anemo_status status = read_trace(out, text + 6, err);
        if (status) {
            bench_routing_free(out);
        }
        return status;
    }
    if (strcmp(text, "uniform") == 0) {
        out->kind = BENCH_ROUTING_UNIFORM;
    } else if (strcmp(text, "single") == 0) {
        out->kind = BENCH_ROUTING_SINGLE;
    } else if (read_law(text, "zipf", 0, 8, &out->number)) {
        out->kind = BENCH_ROUTING_ZIPF;
    } else if (read_law(text, "skew", 1, 1000, &out->number)) {
        out->kind = BENCH_ROUTING_SKEW;
    } else {
        return anemo_fail(err, ANEMO_E_INPUT, "--routing %s: expected " BENCH_ROUTINGS, text);
    }
    snprintf(out->name, sizeof out->name, "%s", text);
    return ANEMO_OK;
}

void bench_routing_free(bench_routing *routing) {
    free(routing->expert);
    routing->expert = NULL;
}

/* ---------------------------------------------------------------- logits */

/* Log popularity plus Gumbel noise: top-k of that is drawing without replacement. */
static void draw(const bench_routing *r, int64_t tokens, int32_t n_experts, uint64_t seed,
                 float *logits) {
    const double exponent = r->kind == BENCH_ROUTING_ZIPF ? r->number : 0;
    for (int64_t t = 0; t < tokens; t++) {
        for (int32_t e = 0; e < n_experts; e++) {
            const double u = bench_uniform(seed + (uint64_t)(t * n_experts + e)) + 0x1p-60;
            logits[t * n_experts + e] = (float)(-exponent * log(e + 1) - log(-log(u)));
        }
    }
}

/* Drawing without replacement would flatten a skew, so that its experts are taken by a comb: in
 * random order they lie end to end, each as long as the share of tokens it is to get, and top_k
 * teeth one apart fall on different ones. Exact in the mean for every expert. */
static anemo_status draw_skewed(const bench_routing *r, int64_t tokens, int32_t n, int32_t top_k,
                                uint64_t seed, float *logits, anemo_error *err) {
    const int32_t hot = (n + 1) / 2;
    const double cold_share = top_k / (hot * r->number + (n - hot));
    int32_t order[TRACE_TOP_K];
    if (n > TRACE_TOP_K || cold_share * r->number > 1) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--routing %s: half of %d experts cannot get that much more when each "
                          "token takes %d of them; expected less, and %d experts at most",
                          r->name, n, top_k, TRACE_TOP_K);
    }
    for (int64_t t = 0; t < tokens; t++) {
        const uint64_t of_token = seed + (uint64_t)(t * (n + 1));
        double at = 0, tooth = bench_uniform(of_token);
        for (int32_t i = 0; i < n; i++) { /* Fisher and Yates, inside out */
            const int32_t j = (int32_t)(bench_uniform(of_token + 1 + (uint64_t)i) * (i + 1));
            order[i] = order[j];
            order[j] = i;
        }
        for (int32_t i = 0; i < n; i++) {
            at += order[i] < hot ? cold_share * r->number : cold_share;
            const bool taken = tooth < at || (i == n - 1 && tooth < top_k);
            logits[t * n + order[i]] = taken ? FAVOUR : 0;
            tooth += taken;
        }
    }
    return ANEMO_OK;
}

static anemo_status follow(const bench_routing *r, int64_t tokens, int32_t n_experts, int32_t top_k,
                           int plan, float *logits, anemo_error *err) {
    if (r->per_token != top_k) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--routing %s: %d experts per token, but the shape has %d", r->name,
                          r->per_token, top_k);
    }
    for (int64_t t = 0; t < tokens; t++) {
        const int64_t from = (plan * tokens + t) % r->tokens;
        memset(logits + t * n_experts, 0, (size_t)n_experts * sizeof *logits);
        for (int32_t j = 0; j < top_k; j++) {
            const int32_t e = r->expert[from * top_k + j];
            if (e >= n_experts) {
                return anemo_fail(err, ANEMO_E_INPUT,
                                  "--routing %s: token %lld goes to expert %d, but the shape has "
                                  "0 to %d",
                                  r->name, (long long)from + 1, e, n_experts - 1);
            }
            logits[t * n_experts + e] = FAVOUR + (float)(top_k - j);
        }
    }
    return ANEMO_OK;
}

anemo_status bench_routing_logits(const bench_routing *r, int64_t tokens, int32_t n_experts,
                                  int32_t top_k, int plan, bool in_turn, uint64_t seed,
                                  float *logits, anemo_error *err) {
    seed = bench_hash(seed + 1000 + (uint64_t)plan);
    if (r->kind == BENCH_ROUTING_TRACE) {
        return follow(r, tokens, n_experts, top_k, plan, logits, err);
    }
    if (r->kind == BENCH_ROUTING_SKEW) {
        return draw_skewed(r, tokens, n_experts, top_k, seed, logits, err);
    }
    draw(r, tokens, n_experts, seed, logits);
    for (int64_t t = 0; in_turn && t < tokens; t++) {
        for (int32_t j = 0; j < top_k; j++) {
            logits[t * n_experts + (plan * top_k + j) % n_experts] += FAVOUR;
        }
    }
    return ANEMO_OK;
}
