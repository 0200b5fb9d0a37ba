/* sample: logits to ids; exact.
 *
 * A variant may keep its running sums in float, so a draw must not fall close to a border, nor
 * top_p close to the mass of a prefix: parameters are drawn again until both are clear by 1e-5 of
 * the mass. Exact ties are wanted, and decided by the lower index.
 *
 * Second formulation: no sort; a token's rank is the number of tokens before it, and it is kept if
 * its rank is below top_k and the mass of the ranks before it below top_p of theirs. */
#include "harness/check/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum pattern { NORMAL, TIES, EQUAL, HOLES, BROKEN, NOTHING, PATTERNS } pattern;
static const char *const pattern_names[PATTERNS] = {"normal", "ties", "all equal", "some -inf",
                                                    "NaN row"};
typedef enum form { ARGMAX, PLAIN, TOP_K, TOP_P, BOTH, MIXED, FORMS } form;
static const char *const form_names[FORMS] = {"argmax", "plain",       "top_k",
                                              "top_p",  "top_k+top_p", "mixed"};

typedef struct sample_fixture {
    anemo_sample_problem problem;
    int64_t m;
    float *logits;
    anemo_sample_params *params;
} sample_fixture;

static const int64_t vocabs[] = {1, 2, 17, 64, 301};
enum { VOCABS = sizeof vocabs / sizeof *vocabs };

static int32_t count(void) {
    return VOCABS * PATTERNS * FORMS;
}

/* ---------------------------------------------------------------- second formulation */

static bool before(const float *logits, int64_t a, int64_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

static double mass_of(const float *logits, double most, double temperature, int64_t i) {
    return exp((logits[i] - most) / temperature);
}

/* Sums over the tokens that come before i, and over the first `limit` tokens: rank, mass. */
static int64_t rank_and_mass(const float *logits, int64_t n, double most, double temperature,
                             int64_t i, double *mass) {
    int64_t rank = 0;
    *mass = 0;
    for (int64_t j = 0; j < n; j++)
        if (before(logits, j, i)) {
            rank++;
            *mass += mass_of(logits, most, temperature, j);
        }
    return rank;
}

/* The id, and the smallest distance of a decision from its border as a share of the mass. */
static int32_t draw(const anemo_sample_params *s, const float *logits, int64_t n, double *margin) {
    double most = -INFINITY, among = 0, kept_mass = 0, running = 0;
    *margin = 1;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(logits[i]))
            return -1;
        most = fmax(most, logits[i]);
    }
    if (most == -INFINITY)
        return -1;
    const double t = s->temperature;
    const int64_t limit = t == 0 ? 1 : s->top_k > 0 && s->top_k < n ? s->top_k : n;
    double *ahead = malloc((size_t)n * 2 * sizeof *ahead), *mass = ahead + n;
    int32_t id = -2;
    for (int64_t i = 0; ahead && i < n; i++) {
        mass[i] = t == 0 ? 1 : mass_of(logits, most, t, i);
        if (rank_and_mass(logits, n, most, t == 0 ? 1 : t, i, &ahead[i]) >= limit)
            mass[i] = 0;
        among += mass[i];
    }
    for (int64_t i = 0; ahead && i < n; i++) {
        const double border = (ahead[i] - s->top_p * among) / among;
        if (t > 0 && s->top_p < 1 && mass[i] > 0 && ahead[i] > 0) {
            *margin = fmin(*margin, fabs(border));
            if (border >= 0)
                mass[i] = 0;
        }
        kept_mass += mass[i];
    }
    const double u = anemo_philox_uniform(s->seed, s->counter);
    for (int64_t i = 0; ahead && i < n; i++) {
        running += mass[i];
        if (mass[i] > 0 && t > 0 && running < kept_mass)
            *margin = fmin(*margin, fabs(running / kept_mass - u));
        if (id < 0 && mass[i] > 0 && (t == 0 || running > u * kept_mass))
            id = (int32_t)i;
    }
    free(ahead);
    return id;
}

/* ---------------------------------------------------------------- fixture */

static float draw_logit(pattern p, check_random *random, int64_t row, int64_t column) {
    const double x = 2 * check_random_normal(random);
    switch (p) {
    case TIES:
        return (float)rint(x);
    case EQUAL:
        return 0.25f;
    case HOLES:
        return column % 3 == 1 ? -INFINITY : (float)x;
    case BROKEN:
        return row % 2 == 0 && column == 0 ? NAN : (float)x;
    case NOTHING:
        return row % 2 == 1 ? -INFINITY : (float)x;
    default:
        return (float)x;
    }
}

static anemo_sample_params draw_params(form how, check_random *random, int64_t row, int64_t vocab) {
    anemo_sample_params s = {.temperature = (float)(0.3 + 1.5 * check_random_uniform(random)),
                             .top_p = 1,
                             .seed = check_random_bits(random),
                             .counter = check_random_bits(random) >> (row % 2 ? 0 : 48)};
    if (how == MIXED)
        how = (form)(row % MIXED);
    if (how == ARGMAX)
        s.temperature = 0;
    if (how == TOP_K || how == BOTH)
        s.top_k = 1 + (int32_t)check_random_below(random, vocab + 1);
    if (how == TOP_P || how == BOTH)
        s.top_p = check_random_below(random, 8) == 0
                      ? 0
                      : (float)(0.05 + 0.9 * check_random_uniform(random));
    return s;
}

static void destroy(void *fixture) {
    sample_fixture *f = fixture;
    free(f->logits);
    free(f->params);
    free(f);
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    sample_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    const int64_t vocab = vocabs[index % VOCABS];
    const pattern p = (pattern)(index / VOCABS % PATTERNS);
    const form how = (form)(index / VOCABS / PATTERNS);
    f->m = 3 + index % 10;
    f->problem = (anemo_sample_problem){
        .size = sizeof f->problem, .m_max = f->m + index % 2, .vocab = vocab};
    snprintf(name, name_bytes, "m=%lld vocab=%lld %s %s", (long long)f->m, (long long)vocab,
             form_names[how], pattern_names[p]);
    f->logits = malloc((size_t)(f->m * vocab) * sizeof *f->logits);
    f->params = malloc((size_t)f->m * sizeof *f->params);
    if (!f->logits || !f->params) {
        destroy(f);
        return NULL;
    }
    for (int64_t i = 0; i < f->m * vocab; i++)
        f->logits[i] = draw_logit(p, random, i / vocab, i % vocab);
    for (int64_t r = 0; r < f->m; r++) {
        double margin = 0;
        for (int tries = 0; tries < 1000 && margin < 1e-5; tries++) {
            f->params[r] = draw_params(how, random, r, vocab);
            draw(&f->params[r], f->logits + r * vocab, vocab, &margin);
        }
    }
    return f;
}

static const void *problem(const void *fixture) {
    return &((const sample_fixture *)fixture)->problem;
}

static int64_t rows(const void *fixture) {
    return ((const sample_fixture *)fixture)->m;
}

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const sample_fixture *f = fixture;
    const int64_t m = run->end - run->begin, vocab = f->problem.vocab;
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_sample_args args = {.size = sizeof args, .m = m};
    args.logits = check_trial_in(&trial, "logits", f->logits + run->begin * vocab,
                                 (size_t)(m * vocab) * sizeof(float));
    args.params =
        check_trial_in(&trial, "params", f->params + run->begin, (size_t)m * sizeof *f->params);
    args.ids = check_trial_out(&trial, "ids", (size_t)m * sizeof(int32_t));
    anemo_status status = check_trial_run(&trial, run->variant, &f->problem, &args);
    if (status != ANEMO_OK)
        snprintf(fault, fault_bytes, "%s", trial.fault);
    else if (!check_result_copy(result, "ids", CHECK_INT32, true, m, 1,
                                check_trial_after(&trial, args.ids), sizeof(int32_t)))
        status = ANEMO_E_MEMORY;
    check_trial_end(&trial);
    return status;
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    const sample_fixture *f = fixture;
    (void)feed;
    double margin;
    int32_t *ids = check_result_add(result, "ids", CHECK_INT32, true, f->m, 1);
    for (int64_t r = 0; ids && r < f->m; r++)
        ids[r] = draw(&f->params[r], f->logits + r * f->problem.vocab, f->problem.vocab, &margin);
    return ids ? ANEMO_OK : ANEMO_E_MEMORY;
}

const check_op check_op_sample = {.op = ANEMO_OP_SAMPLE,
                                  .count = count,
                                  .create = create,
                                  .destroy = destroy,
                                  .problem = problem,
                                  .rows = rows,
                                  .execute = execute,
                                  .oracle = oracle};
