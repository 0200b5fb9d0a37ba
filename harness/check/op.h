/* What the checker needs to know of one op: its grid of cases, how to run it, and a second
 * formulation of it. One file op_<name>.c each, one line in ops.inc. */
#ifndef ANEMO_CHECK_OP_H
#define ANEMO_CHECK_OP_H

#include "harness/check/random.h"
#include "harness/check/trial.h"
#include "kernels/kernel.h"

/* ---------------------------------------------------------------- results */

typedef enum check_kind { CHECK_FLOAT, CHECK_INT32, CHECK_BYTES } check_kind;

/* How wrong an element may be: see tolerance.inc. */
typedef struct check_scale {
    double magnitude; /* what float rounding errors of this element scale with */
    double terms;     /* how many roundings add up, at random */
    double spread;    /* standard deviation of the element: what coarse inputs scale with */
} check_scale;

/* One output in a normal form: dense rows, whatever stride or order the op gave it. */
typedef struct check_field {
    const char *name;
    check_kind kind;
    bool per_row; /* row i belongs to row i of the problem; else it belongs to the whole */
    int64_t rows, columns;
    void *data;         /* float, int32_t or bytes [rows, columns] */
    check_scale *scale; /* [rows, columns], from oracle(); NULL: compared bit for bit */
} check_field;

enum { CHECK_FIELDS = 6 };
typedef struct check_result {
    int32_t n_fields;
    check_field fields[CHECK_FIELDS];
} check_result;

/* Adds a field with its memory (zeroed); NULL when there is none. */
void *check_result_add(check_result *result, const char *name, check_kind kind, bool per_row,
                       int64_t rows, int64_t columns);
/* Gives the newest field its scales (zeroed); NULL when there is no memory. */
check_scale *check_result_scale(check_result *result);
/* Adds a field that is a copy of rows `stride_bytes` apart. */
bool check_result_copy(check_result *result, const char *name, check_kind kind, bool per_row,
                       int64_t rows, int64_t columns, const void *from, size_t stride_bytes);
void check_result_free(check_result *result);

/* ---------------------------------------------------------------- outcomes */

/* Of one case and variant; the first failure's sentence stays. */
typedef struct check_outcome {
    bool failed;
    double error; /* as a fraction of the bound */
    char detail[256];
} check_outcome;

void check_outcome_fail(check_outcome *outcome, double error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---------------------------------------------------------------- tolerances */

typedef enum check_class {
    CHECK_CLASS_REFERENCE,
    CHECK_CLASS_F32,
    CHECK_CLASS_F16,
    CHECK_CLASS_BF16,
    CHECK_CLASS_A8
} check_class;

typedef struct check_tolerance {
    double a, b, c;    /* bound = 2^-24 (a + b sqrt(terms)) magnitude + c spread */
    double mean;       /* bound of mean |d| / mean spread, all elements; 0 = not asked */
    double end_to_end; /* the same against the op on unquantised input; 0 = not asked */
} check_tolerance;

check_class check_class_of(const anemo_variant *variant);
check_tolerance check_tolerance_of(anemo_op op, check_class class);

/* ---------------------------------------------------------------- ops */

/* One run: rows [begin, end) of the case by `variant`, the input having passed through the
 * activation format `feed` (the variant's own, or, for a reference, that of the variant that it is
 * the measure of). */
typedef struct check_run {
    const anemo_variant *variant;
    anemo_device *device;
    const char *feed;
    int64_t begin, end;
    void (*mark)(const anemo_exec *exec, int32_t phase);
} check_run;

typedef struct check_op {
    anemo_op op;
    int32_t (*count)(void);
    /* The case `index`, its inputs drawn from `random`; NULL: no memory. */
    void *(*create)(int32_t index, check_random *random, char *name, size_t name_bytes);
    void (*destroy)(void *fixture);
    const void *(*problem)(const void *fixture);
    int64_t (*rows)(const void *fixture);
    /* Fills `result`; else `fault` says what went wrong. */
    anemo_status (*execute)(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes);
    /* All rows, by another formulation than the reference's, rounded to float once, with the scales
     * that bounds are made of. */
    anemo_status (*oracle)(void *fixture, const char *feed, check_result *result);
    /* Must a run end with ANEMO_E_NUMERIC, because the inputs say nothing? NULL: never. */
    bool (*must_refuse)(const void *fixture);
} check_op;

#define CHECK_OP(name) extern const check_op check_op_##name;
#include "harness/check/ops.inc"
#undef CHECK_OP

/* ---------------------------------------------------------------- helpers for op_*.c */

/* Rows of x[rows, k] as records of the format, written from kernel.h's description and not by a
 * kernel. NULL: unknown format or no memory. *bytes: of all records. Free it. */
void *check_act_encode(const char *format, const float *x, int64_t rows, int64_t k, size_t *bytes);
/* What a consumer of the records sees; for "f32" a copy. False: unknown format. */
bool check_act_decode(const char *format, const void *records, int64_t rows, int64_t k, float *x);
/* x after it passed through the format. NULL: unknown format or no memory. Free it. */
float *check_act_through(const char *format, const float *x, int64_t rows, int64_t k);
/* The input of a run: records for a variant that reads the feed, else the values they stand for.
 * NULL: unknown format or no memory. *bytes: of all rows. Free it. */
void *check_act_input(const check_run *run, const float *x, int64_t rows, int64_t k, size_t *bytes);

#endif
