/* The fit: seconds = sum a_i phi_i(p) + sum b_j psi_j(d) - s [p > 0 and d > 0], phi and psi the hat
 * functions of the knots, so that the coefficients are the curves' own points. The knots are
 * quantiles of the p (and d) that occurred, which gives each hat steps to rest on. A touch of ridge
 * keeps the equations solvable where two hats always occur together. */
#include "harness/serve/steps.h"

#include "harness/measure/stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KNOTS = 9, UNKNOWNS = 2 * KNOTS + 1, FEWEST = 40 };
#define RIDGE 1e-9

bool anemo_steps_add(anemo_steps *steps, const anemo_drive_step *step) {
    if (steps->n == steps->capacity) {
        const int64_t capacity = 2 * steps->capacity + 256;
        anemo_drive_step *grown = realloc(steps->step, (size_t)capacity * sizeof *grown);
        if (!grown) {
            return false;
        }
        steps->step = grown;
        steps->capacity = capacity;
    }
    steps->step[steps->n++] = *step;
    return true;
}

void anemo_steps_free(anemo_steps *steps) {
    free(steps->step);
    *steps = (anemo_steps){0};
}

/* ---------------------------------------------------------------- files */

anemo_status anemo_steps_write(const anemo_steps *steps, const char *path, anemo_error *err) {
    FILE *f = fopen(path, "w");
    bool good = f != NULL;
    if (f) {
        fprintf(f, "# read_bytes_per_s=%.6g\nbegin_s,prompt_tokens,decoding,seconds\n",
                steps->probe_bytes_per_s);
        for (int64_t i = 0; i < steps->n; i++) {
            const anemo_drive_step *s = &steps->step[i];
            fprintf(f, "%.9f,%lld,%lld,%.9f\n", s->begin_s, (long long)s->prompt_tokens,
                    (long long)s->decoding, s->seconds);
        }
        good = !ferror(f);
        good = fclose(f) == 0 && good;
    }
    return good ? ANEMO_OK : anemo_fail(err, ANEMO_E_IO, "%s: steps could not be written", path);
}

static anemo_status read_lines(FILE *f, const char *path, anemo_steps *out, anemo_error *err) {
    char line[256];
    int64_t number = 0;
    while (fgets(line, sizeof line, f)) {
        anemo_drive_step s;
        long long prompt, decoding;
        char end;
        number++;
        if (number == 1 && sscanf(line, "# read_bytes_per_s=%lf", &out->probe_bytes_per_s) == 1) {
            continue;
        }
        if (number == 2 && strcmp(line, "begin_s,prompt_tokens,decoding,seconds\n") == 0) {
            continue;
        }
        if (number < 3 ||
            sscanf(line, "%lf,%lld,%lld,%lf%c", &s.begin_s, &prompt, &decoding, &s.seconds, &end) !=
                5 ||
            end != '\n' || prompt < 0 || decoding < 0 || prompt + decoding < 1 ||
            !(s.seconds > 0 && isfinite(s.seconds))) {
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: line %lld is no step; accepted: what `anemo bench model --load "
                              "... --steps FILE` writes",
                              path, (long long)number);
        }
        s.prompt_tokens = prompt;
        s.decoding = decoding;
        if (!anemo_steps_add(out, &s)) {
            return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for its steps", path);
        }
    }
    return out->n > 0 ? ANEMO_OK : anemo_fail(err, ANEMO_E_INPUT, "%s: it has no steps", path);
}

anemo_status anemo_steps_read(const char *path, anemo_steps *out, anemo_error *err) {
    *out = (anemo_steps){0};
    FILE *f = fopen(path, "r");
    if (!f) {
        return anemo_fail(err, ANEMO_E_INPUT, "%s: cannot be opened", path);
    }
    const anemo_status status = read_lines(f, path, out, err);
    fclose(f);
    if (status) {
        anemo_steps_free(out);
    }
    return status;
}

/* ---------------------------------------------------------------- fitting */

static double amount(const anemo_drive_step *s, bool decoding) {
    return (double)(decoding ? s->decoding : s->prompt_tokens);
}

/* Distinct quantiles of what occurred, the largest included. */
static bool place_knots(const anemo_steps *steps, bool decoding, anemo_step_curve *c) {
    double *x = malloc((size_t)steps->n * sizeof *x);
    int64_t n = 0;
    c->n = 0;
    for (int64_t i = 0; x && i < steps->n; i++) {
        if (amount(&steps->step[i], decoding) > 0) {
            x[n++] = amount(&steps->step[i], decoding);
        }
    }
    if (x) {
        anemo_stats_sort(x, n);
    }
    for (int k = 0; x && n > 0 && k < KNOTS; k++) {
        const double at = x[(n - 1) * k / (KNOTS - 1)];
        if (c->n == 0 || at > c->x[c->n - 1]) {
            c->x[c->n++] = at;
        }
    }
    free(x);
    return x != NULL;
}

/* Values of the hats at x, into row; 0 at 0, flat below the first knot: as on_curve of simulate.c.
 */
static void hats(const anemo_step_curve *c, double x, double *row) {
    if (x <= 0 || c->n == 0) {
        return;
    }
    if (x <= c->x[0]) {
        row[0] = 1;
        return;
    }
    int32_t i = 1;
    while (i < c->n - 1 && x > c->x[i]) {
        i++;
    }
    const double share = (x - c->x[i - 1]) / (c->x[i] - c->x[i - 1]);
    row[i - 1] = 1 - share;
    row[i] = share;
}

static void row_of(const anemo_step_table *t, const anemo_drive_step *s, double *row) {
    memset(row, 0, UNKNOWNS * sizeof *row);
    hats(&t->prefill, (double)s->prompt_tokens, row);
    hats(&t->decode, (double)s->decoding, row + KNOTS);
    row[2 * KNOTS] = s->prompt_tokens > 0 && s->decoding > 0 ? -1 : 0;
}

/* Gaussian elimination with pivoting; a is [UNKNOWNS][UNKNOWNS + 1]. */
static void solve(double (*a)[UNKNOWNS + 1], double *x) {
    for (int c = 0; c < UNKNOWNS; c++) {
        int pivot = c;
        for (int r = c + 1; r < UNKNOWNS; r++) {
            pivot = fabs(a[r][c]) > fabs(a[pivot][c]) ? r : pivot;
        }
        for (int k = 0; k <= UNKNOWNS; k++) {
            const double swap = a[c][k];
            a[c][k] = a[pivot][k];
            a[pivot][k] = swap;
        }
        for (int r = c + 1; r < UNKNOWNS; r++) {
            const double factor = a[r][c] / a[c][c];
            for (int k = c; k <= UNKNOWNS; k++) {
                a[r][k] -= factor * a[c][k];
            }
        }
    }
    for (int r = UNKNOWNS - 1; r >= 0; r--) {
        x[r] = a[r][UNKNOWNS];
        for (int k = r + 1; k < UNKNOWNS; k++) {
            x[r] -= a[r][k] * x[k];
        }
        x[r] /= a[r][r];
    }
}

static void keep_positive(anemo_step_curve *c, const double *value, double least) {
    for (int32_t i = 0; i < c->n; i++) {
        c->seconds[i] = value[i] > least ? value[i] : least;
    }
}

anemo_status anemo_steps_fit(const anemo_steps *steps, anemo_step_table *out, anemo_error *err) {
    double normal[UNKNOWNS][UNKNOWNS + 1] = {{0}}, row[UNKNOWNS], x[UNKNOWNS], least = INFINITY;
    *out = (anemo_step_table){0};
    if (steps->n < FEWEST) {
        return anemo_fail(err, ANEMO_E_INPUT, "%lld steps: a step table needs %d or more",
                          (long long)steps->n, FEWEST);
    }
    if (!place_knots(steps, false, &out->prefill) || !place_knots(steps, true, &out->decode)) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a step table");
    }
    for (int64_t i = 0; i < steps->n; i++) {
        const double seconds = steps->step[i].seconds;
        least = seconds < least ? seconds : least;
        row_of(out, &steps->step[i], row);
        for (int r = 0; r < UNKNOWNS; r++) {
            for (int c = 0; c < UNKNOWNS; c++) {
                normal[r][c] += row[r] * row[c];
            }
            normal[r][UNKNOWNS] += row[r] * seconds;
        }
    }
    for (int r = 0; r < UNKNOWNS; r++) {
        normal[r][r] += RIDGE * (double)steps->n;
    }
    solve(normal, x);
    keep_positive(&out->prefill, x, least / 10);
    keep_positive(&out->decode, x + KNOTS, least / 10);
    out->shared_s = x[2 * KNOTS] > 0 ? x[2 * KNOTS] : 0;
    return ANEMO_OK;
}

double anemo_steps_ratio(const anemo_steps *steps, const anemo_step_table *table) {
    double told = 0, took = 0;
    for (int64_t i = 0; i < steps->n; i++) {
        const anemo_drive_step *s = &steps->step[i];
        told += anemo_step_seconds(table, (double)s->prompt_tokens, (double)s->decoding);
        took += s->seconds;
    }
    return told / took;
}
