/* What may be said to `anemo compare`: its options, and which kind of things A and B are. */
#include "harness/cli/bench_cli.h"
#include "harness/cli/compare.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------- options */

enum {
    KEY_SHAPE = ANEMO_CLI_KEY(0),
    KEY_M,
    KEY_WEIGHTS,
    KEY_CACHES,
    KEY_ROUTING,
    KEY_DELTA,
    KEY_LOOKS,
    KEY_SAMPLE,
    KEY_VARIANT,
    KEY_MODEL,
    KEY_PROMPT,
    KEY_TOKENS,
    KEY_BATCH,
    KEY_WITH_B,
    KEY_SERVE
};

const struct argp_option compare_argp[] = {
    {"delta", KEY_DELTA, "PERCENT", 0, "how much slower B may be (default 3)", 0},
    {"looks", KEY_LOOKS, "LIST", 0, "pairs at which it is judged (default 52,104,208)", 0},
    {"sample", KEY_SAMPLE, "MS", 0, "a sample lasts at least this long (default 1 ms)", 0},
    {"shape", KEY_SHAPE, "NAME", 0, "variants: as of bench kernel (default: the short shapes)", 0},
    {"m", KEY_M, "LIST", 0, "variants: rows, e.g. 1,16; default: the shape's own", 0},
    {"weights", KEY_WEIGHTS, "TYPE", 0, BENCH_WEIGHT_TYPES " (default q4_0); models: q8_0, q4_0",
     0},
    {"caches", KEY_CACHES, "HOW", 0, "variants: cold-weights (default) or warm", 0},
    {"routing", KEY_ROUTING, "LAW", 0, "moe_experts: " BENCH_ROUTINGS, 0},
    {"variant", KEY_VARIANT, "NAME", 0,
     "builds: the variant that both run; may be repeated (default: the model's decode)", 0},
    {"model", KEY_MODEL, "MODEL", 0, "builds: the model that both decode (default: embedded)", 0},
    {"prompt", KEY_PROMPT, "N", 0, "models: prompt tokens (default 32)", 0},
    {"tokens", KEY_TOKENS, "N", 0, "models: generated tokens, n - 1 of them timed (default 17)", 0},
    {"batch", KEY_BATCH, "N", 0, "models: sessions decoding together (default 1)", 0},
    {"with-b", KEY_WITH_B, "RULE", 0, "models: as --with, but only for B; may be repeated", 0},
    {"serve", KEY_SERVE, NULL, OPTION_HIDDEN, "serve samples of the one side that is named", 0},
    {0}};

static bool model_option(int key, const char *value, compare_choices *c) {
    if (key == KEY_MODEL) {
        c->model = value;
    } else if (key == KEY_PROMPT) {
        c->spec.prompt_tokens = anemo_cli_integer("--prompt", value, 1, 1 << 20);
    } else if (key == KEY_TOKENS) {
        c->spec.generated_tokens = anemo_cli_integer("--tokens", value, 2, 1 << 20);
    } else if (key == KEY_BATCH) {
        c->spec.batch_max = (int32_t)anemo_cli_integer("--batch", value, 1, BENCH_BATCH_MAX);
    } else if (key == KEY_WITH_B) {
        if (c->n_with_b == 16) {
            anemo_cli_usage("--with-b may be given 16 times at most");
        }
        c->with_b[c->n_with_b++] = value;
    } else {
        return false;
    }
    c->model_given = true;
    return true;
}

static bool kernel_option(int key, const char *value, compare_choices *c) {
    if (key == KEY_SHAPE) {
        c->shape = value;
    } else if (key == KEY_M) {
        c->n_m = anemo_cli_rows(value, c->m);
    } else if (key == KEY_ROUTING) {
        c->routing = value;
    } else if (key == KEY_CACHES) {
        if (!anemo_caches_from_name(value, &c->caches) || c->caches == ANEMO_CACHES_COLD) {
            anemo_cli_usage("--caches %s: expected cold-weights or warm", value);
        }
    } else if (key == KEY_VARIANT) {
        if (c->n_variants == COMPARE_VARIANTS_MAX) {
            anemo_cli_usage("--variant may be given %d times at most", COMPARE_VARIANTS_MAX);
        }
        c->variant[c->n_variants++] = value;
    } else {
        return false;
    }
    c->kernel_given = true;
    return true;
}

bool compare_option(int key, const char *value, void *context) {
    compare_choices *c = context;
    anemo_error err = {{0}};
    if (key == KEY_DELTA) {
        c->rule.delta = anemo_cli_real("--delta", value, 0, 1000) / 100;
    } else if (key == KEY_LOOKS) {
        if (anemo_compare_looks_parse(value, &c->rule, &err)) {
            anemo_cli_usage("--looks: %s", err.text);
        }
    } else if (key == KEY_SAMPLE) {
        c->sample_ns = anemo_cli_real("--sample", value, 0.001, 60000) * 1e6;
    } else if (key == KEY_WEIGHTS) {
        c->weights = value;
    } else if (key == KEY_SERVE) {
        c->serve = true;
    } else {
        return kernel_option(key, value, c) || model_option(key, value, c);
    }
    return true;
}

/* ---------------------------------------------------------------- what is compared */

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_program(const char *path) {
    struct stat there;
    return strchr(path, '/') && stat(path, &there) == 0 && S_ISREG(there.st_mode) &&
           access(path, X_OK) == 0;
}

static bool is_model(const char *text) {
    struct stat there;
    return strcmp(text, "default") == 0 || strncmp(text, "synth:", 6) == 0 ||
           (stat(text, &there) == 0 && !is_program(text));
}

static bool kind_of(const char *text, compare_kind *kind) {
    if (anemo_variant_find(text)) {
        *kind = COMPARE_VARIANTS;
    } else if (ends_with(text, ".so")) { /* before programs: it may be executable, too */
        *kind = COMPARE_PLUGINS;
    } else if (ends_with(text, ".jsonl")) {
        *kind = COMPARE_RECORDS;
    } else if (is_program(text)) {
        *kind = COMPARE_BUILDS;
    } else if (is_model(text)) {
        *kind = COMPARE_MODELS;
    } else {
        return false;
    }
    return true;
}

compare_kind compare_choose_kind(const anemo_cli *cli, const compare_choices *own) {
    static const char *const names[] = {"a variant", "a build", "a plug-in", "a model",
                                        "a file of records"};
    compare_kind kind[2] = {COMPARE_VARIANTS, COMPARE_VARIANTS};
    const int32_t n = own->serve ? 1 : 2;
    if (cli->n_arguments != n) {
        anemo_cli_usage("expected %s", own->serve ? "one side to serve" : "A and B");
    }
    for (int i = 0; i < n; i++) {
        if (!kind_of(cli->arguments[i], &kind[i])) {
            anemo_cli_usage("'%s' is no variant, no file of records (*.jsonl), no plug-in (*.so), "
                            "no program (a path with '/') and no model (a directory, a file, "
                            "synth:..., default)",
                            cli->arguments[i]);
        }
    }
    if (n == 2 && kind[0] != kind[1]) {
        anemo_cli_usage("%s is %s and %s is %s: expected two of a kind", cli->arguments[0],
                        names[kind[0]], cli->arguments[1], names[kind[1]]);
    }
    return kind[0];
}

void compare_check_options(compare_kind kind, const anemo_cli *cli, const compare_choices *own) {
    const bool children = kind == COMPARE_BUILDS || kind == COMPARE_PLUGINS;
    const bool of_kernels = kind == COMPARE_VARIANTS || kind == COMPARE_PLUGINS ||
                            (kind == COMPARE_BUILDS && own->n_variants > 0);
    if (own->kernel_given && !of_kernels) {
        anemo_cli_usage("--shape, --m, --caches, --routing%s concern variants, and models are "
                        "compared%s",
                        kind == COMPARE_BUILDS ? "" : " and --variant",
                        kind == COMPARE_BUILDS ? "; --variant names what both builds run" : "");
    }
    if ((own->model_given || cli->n_with) && of_kernels) {
        anemo_cli_usage("--model, --prompt, --tokens, --batch, --with and --with-b concern models, "
                        "and variants are compared");
    }
    if (own->n_variants && !children) {
        anemo_cli_usage("--variant concerns builds and plug-ins");
    }
    if (children && cli->backend != ANEMO_CPU) {
        anemo_cli_usage("--device: builds and plug-ins are compared on the CPU");
    }
    if ((own->model || own->n_with_b) && kind != (own->model ? COMPARE_BUILDS : COMPARE_MODELS)) {
        anemo_cli_usage("%s", own->model ? "--model concerns builds"
                                         : "--with-b concerns two models in one process");
    }
}

/* Models take two of the weight types. */
const char *compare_requantise(const char *weights) {
    static const char *const types[] = {"q8_0", "q4_0", NULL};
    return weights ? types[anemo_cli_choice("--weights", weights, types)] : NULL;
}
