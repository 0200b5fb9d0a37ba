/* The rule by which `anemo tune` chooses: see tune.h. No clock, no kernels. */
#include "harness/measure/tune.h"

#include <math.h>
#include <string.h>

enum { STAY = -1, MOST_CELLS = 64 };

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

static int32_t find_line(const anemo_tune_cell *cell, const anemo_variant *variant) {
    for (int32_t i = 0; i < cell->n_lines; i++) {
        if (cell->lines[i].variant == variant) {
            return i;
        }
    }
    return STAY;
}

/* What `variant` does to the cells [from, to), which share their rows. */
typedef struct effect {
    bool everywhere;     /* measured in all of them */
    bool slower, faster; /* beyond the interval, in one of them */
    double log_ratio;    /* summed */
} effect;

static effect effect_of(const anemo_tune_cell *cells, int32_t from, int32_t to,
                        const anemo_variant *variant) {
    effect e = {.everywhere = true};
    for (int32_t i = from; i < to; i++) {
        const int32_t line = find_line(&cells[i], variant);
        if (line == STAY) {
            e.everywhere = false;
            return e;
        }
        const anemo_estimate *r = &cells[i].lines[line].ratio;
        e.slower = e.slower || !(r->lo <= 1);
        e.faster = e.faster || (r->hi < 1 && r->needs == 0);
        e.log_ratio += log(r->value);
    }
    return e;
}

/* The best variant of this layout for the cells [from, to); NULL: the default stays, which needs
 * the default's layout, or there is none. */
static const anemo_variant *best_of(const anemo_tune_cell *cells, int32_t from, int32_t to,
                                    const char *layout, bool of_default, effect *out) {
    const anemo_variant *best = NULL;
    *out = (effect){.everywhere = of_default};
    for (int32_t i = 0; i < cells[from].n_lines; i++) {
        const anemo_variant *v = cells[from].lines[i].variant;
        const effect e = effect_of(cells, from, to, v);
        if (!same_text(v->layout, layout) || !e.everywhere || e.slower ||
            (of_default && !e.faster)) {
            continue;
        }
        if (!out->everywhere || e.log_ratio < out->log_ratio) {
            *out = e;
            best = v;
        }
    }
    return best;
}

/* Chooses with this layout; false: it is no choice. */
static bool try_layout(const anemo_tune_cell *cells, int32_t n, const char *layout, bool of_default,
                       int32_t *chosen, double *score) {
    bool faster = of_default;
    *score = 0;
    for (int32_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && cells[to].m_lo == cells[from].m_lo; to++) {
        }
        effect e;
        const anemo_variant *v = best_of(cells, from, to, layout, of_default, &e);
        if (!v && !of_default) {
            return false;
        }
        for (int32_t i = from; i < to; i++) {
            chosen[i] = find_line(&cells[i], v ? v : cells[i].default_variant);
        }
        faster = faster || e.faster;
        *score += e.log_ratio;
    }
    return faster;
}

void anemo_tune_decide(const anemo_tune_cell *cells, int32_t n, int32_t *chosen) {
    const char *layout = n > 0 ? cells[0].default_variant->layout : NULL;
    int32_t trial[MOST_CELLS];
    double best = INFINITY;
    for (int32_t i = 0; i < n; i++) {
        chosen[i] = find_line(&cells[i], cells[i].default_variant);
        if (!same_text(cells[i].default_variant->layout, layout) || n > MOST_CELLS) {
            best = -INFINITY; /* layers of several types: no one layout is the default */
        }
    }
    for (int32_t i = 0; n > 0 && i < cells[0].n_lines && best > -INFINITY; i++) {
        const char *of_line = cells[0].lines[i].variant->layout;
        double score;
        if (try_layout(cells, n, of_line, same_text(of_line, layout), trial, &score) &&
            score < best) {
            best = score;
            memcpy(chosen, trial, (size_t)n * sizeof *chosen);
        }
    }
}
