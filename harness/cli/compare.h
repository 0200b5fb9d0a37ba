/* What the files of `anemo compare` share. */
#ifndef ANEMO_CLI_COMPARE_H
#define ANEMO_CLI_COMPARE_H

#include "harness/cli/common.h"
#include "harness/compare/side.h"

typedef enum compare_kind {
    COMPARE_VARIANTS, /* two variants in this process */
    COMPARE_BUILDS,   /* two programs, as children in turns */
    COMPARE_PLUGINS,  /* two plug-ins with variants of the same names, each in a child of its own */
    COMPARE_MODELS,   /* two models in this process */
    COMPARE_RECORDS   /* two files, measured whenever that was */
} compare_kind;

enum { COMPARE_VARIANTS_MAX = 16 };

typedef struct compare_choices {
    const char *shape, *weights, *routing, *model, *requantise;
    int64_t m[ANEMO_SHAPE_ROWS];
    int32_t n_m;
    anemo_caches caches;
    const char *variant[COMPARE_VARIANTS_MAX]; /* of children: what both run */
    int32_t n_variants;
    anemo_compare_rule rule;
    double sample_ns;
    bench_engine_spec spec; /* of models; path, with and n_with are each side's own */
    const char *with_b[16];
    int32_t n_with_b;
    bool serve, kernel_given, model_given; /* an option of kernels, of models, was used */
} compare_choices;

/* compare_options.c. What compare_option takes goes into a compare_choices. */
extern const struct argp_option compare_argp[];
bool compare_option(int key, const char *value, void *choices);
/* What A and B are; usage errors end the program. */
compare_kind compare_choose_kind(const anemo_cli *cli, const compare_choices *own);
void compare_check_options(compare_kind kind, const anemo_cli *cli, const compare_choices *own);
/* What weights are quantised to when models are loaded; NULL: as they are. */
const char *compare_requantise(const char *weights);

/* Prints the table of `results`, what was compared how, and says no verdict that the rule did not
 * give. names[n]; a, b: the sides. */
void compare_print(const anemo_cli *cli, const anemo_compare_rule *rule, const char *a,
                   const char *b, char (*names)[256], const bool *steady, int32_t n,
                   const anemo_compare_result *results, const anemo_noise *noise);
/* Two files of records; returns the exit code. */
int compare_records(const anemo_cli *cli, const char *a, const char *b);

#endif
