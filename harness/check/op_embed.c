/* embed: token ids to rows of a weight of any type. Second formulation: the dense double weight. */
#include "harness/check/op.h"
#include "harness/check/weight.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct embed_fixture {
    anemo_embed_problem problem;
    int64_t m;
    int32_t *ids;
    check_weight *weight;
} embed_fixture;

static const int64_t ds[] = {256, 33, 1};
enum { DS = sizeof ds / sizeof *ds };

static int32_t count(void) {
    return DS * check_weight_type_count();
}

static void destroy(void *fixture) {
    embed_fixture *f = fixture;
    check_weight_free(f->weight);
    free(f->ids);
    free(f);
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    static const int64_t ms[] = {1, 2, 5, 23};
    embed_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->m = ms[index % 4];
    f->problem = (anemo_embed_problem){.size = sizeof f->problem,
                                       .m_max = f->m + index % 3,
                                       .vocab = 1 + index % 37,
                                       .d = ds[index % DS],
                                       .type = check_weight_type_at(index / DS)};
    const int64_t vocab = f->problem.vocab;
    char type[48];
    snprintf(name, name_bytes, "m=%lld vocab=%lld d=%lld %s", (long long)f->m, (long long)vocab,
             (long long)f->problem.d, anemo_weight_type_name(&f->problem.type, type, sizeof type));
    f->weight = check_weight_create(random, &f->problem.type, vocab, f->problem.d, 1);
    f->ids = malloc((size_t)f->m * sizeof *f->ids);
    if (!f->weight || !f->ids) {
        destroy(f);
        return NULL;
    }
    for (int64_t i = 0; i < f->m; i++) /* the last and the first among them */
        f->ids[i] = (int32_t)(i == 0 ? vocab - 1 : i == 1 ? 0 : check_random_below(random, vocab));
    return f;
}

static const void *problem(const void *fixture) {
    return &((const embed_fixture *)fixture)->problem;
}

static int64_t rows(const void *fixture) {
    return ((const embed_fixture *)fixture)->m;
}

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const embed_fixture *f = fixture;
    const int64_t m = run->end - run->begin, d = f->problem.d;
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_embed_args args = {.size = sizeof args, .m = m};
    args.ids = check_trial_in(&trial, "ids", f->ids + run->begin, (size_t)m * sizeof(int32_t));
    args.weight = check_trial_weight(&trial, run->variant->layout, &f->weight->canonical);
    args.y = check_trial_out(&trial, "y", (size_t)(m * d) * sizeof(float));
    anemo_status status = check_trial_run(&trial, run->variant, &f->problem, &args);
    if (status != ANEMO_OK)
        snprintf(fault, fault_bytes, "%s", trial.fault);
    else if (!check_result_copy(result, "y", CHECK_FLOAT, true, m, d,
                                check_trial_after(&trial, args.y), (size_t)d * sizeof(float)))
        status = ANEMO_E_MEMORY;
    check_trial_end(&trial);
    return status;
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    const embed_fixture *f = fixture;
    const int64_t d = f->problem.d;
    (void)feed;
    float *y = check_result_add(result, "y", CHECK_FLOAT, true, f->m, d);
    check_scale *scale = y ? check_result_scale(result) : NULL;
    for (int64_t i = 0; scale && i < f->m * d; i++) {
        const int64_t at = f->ids[i / d] * d + i % d;
        const double parts = f->weight->parts[at];
        y[i] = (float)f->weight->dense[at];
        /* float codes are copied: exact */
        scale[i] = (check_scale){f->weight->values ? 0 : parts, 1, parts};
    }
    return scale ? ANEMO_OK : ANEMO_E_MEMORY;
}

const check_op check_op_embed = {.op = ANEMO_OP_EMBED,
                                 .count = count,
                                 .create = create,
                                 .destroy = destroy,
                                 .problem = problem,
                                 .rows = rows,
                                 .execute = execute,
                                 .oracle = oracle};
