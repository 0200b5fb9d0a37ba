/* anemo list: what there is. One table per kind of thing. */
#include "harness/check/check.h"
#include "harness/cli/common.h"
#include "harness/cli/table.h"
#include "harness/gate/code_hash.h"
#include "models/engine.h"

#include <stdio.h>
#include <string.h>

typedef struct listing {
    const anemo_cli *cli;
    int32_t capability; /* of the GPU that was asked for; 0: none */
} listing;

static bool wanted(const listing *l, const char *name) {
    return !l->cli->filter || strstr(name, l->cli->filter);
}

static void columns(anemo_table *table, const char *const *key_and_heading) {
    for (; *key_and_heading; key_and_heading += 2)
        anemo_table_column(table, key_and_heading[0], key_and_heading[1]);
}

static void text_or_absent(anemo_table *table, const char *text) {
    if (text && *text)
        anemo_table_text(table, "%s", text);
    else
        anemo_table_absent(table);
}

/* ---------------------------------------------------------------- ops */

static anemo_table *list_ops(const listing *l) {
    anemo_table *table = anemo_table_create("ops", "Ops");
    columns(table, (const char *const[]){"op", "op", "variants", "variants", "run_here", "run here",
                                         "what", "what", NULL});
    for (int op = 0; op < ANEMO_OP_COUNT; op++) {
        int32_t n = 0, here = 0;
        char why[160];
        for (int32_t i = 0; i < anemo_variant_count(); i++) {
            const anemo_variant *v = anemo_variant_at(i);
            n += v->op == (anemo_op)op;
            here +=
                v->op == (anemo_op)op && anemo_variant_runs_here(v, l->capability, why, sizeof why);
        }
        if (!wanted(l, anemo_op_name((anemo_op)op)))
            continue;
        anemo_table_text(table, "%s", anemo_op_name((anemo_op)op));
        anemo_table_number(table, n, "%.0f");
        anemo_table_number(table, here, "%.0f");
        anemo_table_text(table, "%s", anemo_op_summary((anemo_op)op));
    }
    return table;
}

/* ---------------------------------------------------------------- variants */

static void needs_text(const anemo_needs *needs, char *text, size_t bytes) {
    text[0] = 0;
    for (int bit = 0; bit < 32; bit++) {
        const uint32_t one = needs->cpu_features & (1u << bit);
        const size_t at = strlen(text);
        if (one)
            snprintf(text + at, bytes - at, "%s%s", at ? " " : "", anemo_cpu_feature_name(one));
    }
    if (needs->exact_capability)
        snprintf(text, bytes, "sm_%da", needs->exact_capability);
    else if (needs->min_capability)
        snprintf(text, bytes, "sm_%d or later", needs->min_capability);
}

static void traits_text(uint32_t traits, char *text, size_t bytes) {
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {{ANEMO_TRAIT_REFERENCE, "reference"},
                 {ANEMO_TRAIT_CAPTURABLE, "capturable"},
                 {ANEMO_TRAIT_ROW_INVARIANT, "row-invariant"}};
    text[0] = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const size_t at = strlen(text);
        if (traits & names[i].bit)
            snprintf(text + at, bytes - at, "%s%s", at ? " " : "", names[i].name);
    }
}

static anemo_table *list_variants(const listing *l) {
    anemo_table *table = anemo_table_create("variants", "Variants");
    columns(table,
            (const char *const[]){"variant", "variant",   "op",     "op",     "backend", "backend",
                                  "needs",   "needs",     "layout", "layout", "act",     "act",
                                  "m_from",  "from m",    "traits", "traits", "origin",  "origin",
                                  "here",    "runs here", "idea",   "idea",   NULL});
    for (int32_t i = 0; i < anemo_variant_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        char needs[96], traits[64], why[160] = "";
        if (!wanted(l, v->name))
            continue;
        needs_text(&v->needs, needs, sizeof needs);
        traits_text(v->traits, traits, sizeof traits);
        anemo_table_text(table, "%s", v->name);
        anemo_table_text(table, "%s", anemo_op_name(v->op));
        anemo_table_text(table, "%s", v->backend == ANEMO_CUDA ? "cuda" : "cpu");
        text_or_absent(table, needs);
        text_or_absent(table, v->layout);
        text_or_absent(table, v->act);
        anemo_table_number(table, v->m_from, "%.0f");
        text_or_absent(table, traits);
        anemo_table_text(table, "%s", i < anemo_variant_builtin_count() ? "built-in" : "plug-in");
        const bool unproved = v->backend == ANEMO_CUDA && i < anemo_variant_builtin_count();
        const bool here = anemo_variant_runs_here(v, l->capability, why, sizeof why);
        anemo_table_text(table, "%s%s%s", here ? "yes" : "no: ", why,
                         unproved ? "; not yet run on hardware" : "");
        anemo_table_text(table, "%s", v->idea);
    }
    return table;
}

/* ---------------------------------------------------------------- code */

static anemo_table *list_code(const listing *l) {
    anemo_table *table = anemo_table_create("code", "What variants are made of");
    columns(table, (const char *const[]){"variant", "variant", "code_hash",
                                         "hash of all it reaches", "code_bytes", "code, bytes",
                                         "constant_bytes", "constants, bytes", NULL});
    for (int32_t i = 0; i < anemo_code_table_size; i++) {
        const anemo_code_entry *entry = &anemo_code_table[i];
        if (!wanted(l, entry->variant))
            continue;
        anemo_table_text(table, "%s", entry->variant);
        anemo_table_text(table, "%s", entry->hash);
        anemo_table_number(table, (double)entry->code_bytes, "%.0f");
        anemo_table_number(table, (double)entry->constant_bytes, "%.0f");
    }
    return table;
}

/* ---------------------------------------------------------------- layouts, activation formats */

static anemo_table *list_layouts(const listing *l) {
    anemo_table *table = anemo_table_create("layouts", "Weight layouts");
    columns(table, (const char *const[]){"layout", "layout", "row_block", "rows packed together",
                                         "read_by", "read by", NULL});
    for (int32_t i = 0; i < anemo_layout_count(); i++) {
        const anemo_layout *layout = anemo_layout_at(i);
        char readers[512] = "";
        for (int32_t j = 0; j < anemo_variant_count(); j++) {
            const anemo_variant *v = anemo_variant_at(j);
            const size_t at = strlen(readers);
            if (v->layout && strcmp(v->layout, layout->name) == 0)
                snprintf(readers + at, sizeof readers - at, "%s%s", at ? " " : "", v->name);
        }
        if (!wanted(l, layout->name))
            continue;
        anemo_table_text(table, "%s", layout->name);
        anemo_table_number(table, layout->row_block, "%.0f");
        text_or_absent(table, readers);
    }
    return table;
}

static anemo_table *list_acts(const listing *l) {
    anemo_table *table = anemo_table_create("acts", "Activation formats");
    columns(table,
            (const char *const[]){"act", "act", "code_bits", "bits", "scales", "one scale for",
                                  "row_bytes_4096", "bytes of a row of 4096", NULL});
    for (int32_t i = 0; i < anemo_act_count(); i++) {
        const anemo_act *act = anemo_act_at(i);
        if (!wanted(l, act->name))
            continue;
        anemo_table_text(table, "%s", act->name);
        anemo_table_number(table, act->code_bits, "%.0f");
        if (act->group < 0)
            anemo_table_absent(table);
        else if (act->group == 0)
            anemo_table_text(table, "a row");
        else
            anemo_table_text(table, "%d columns", act->group);
        anemo_table_number(table, (double)act->row_bytes(4096), "%.0f");
    }
    return table;
}

/* ---------------------------------------------------------------- models */

static void model_row(const listing *l, anemo_table *table, const char *name, const char *path) {
    anemo_model *model = NULL;
    anemo_error err = {{0}};
    if (!wanted(l, name))
        return;
    if (anemo_model_open(path, NULL, &model, &err) != ANEMO_OK) {
        anemo_cli_warn("%s", err.text);
        return;
    }
    const anemo_model_info *info = anemo_model_describe(model);
    anemo_table_text(table, "%s", name);
    anemo_table_text(table, "%s", info->architecture);
    anemo_table_both(table, info->parameters, "%.3g", info->parameters);
    anemo_table_both(table, info->active_parameters, "%.3g", info->active_parameters);
    anemo_table_number(table, (double)info->layers, "%.0f");
    anemo_table_number(table, (double)info->d, "%.0f");
    anemo_table_number(table, (double)info->experts, "%.0f");
    anemo_table_number(table, (double)info->window, "%.0f");
    anemo_table_number(table, (double)info->context_max, "%.0f");
    anemo_table_text(table, "%s", info->weights);
    anemo_table_both(table, info->weight_bytes, "%.3g GB", info->weight_bytes / 1e9);
    anemo_model_close(model);
}

static anemo_table *list_models(const listing *l) {
    char title[320] = "Models (besides any Hugging Face directory or .gguf file, by its path, of "
                      "architecture";
    for (int32_t i = 0; anemo_model_architecture(i); i++)
        snprintf(title + strlen(title), sizeof title - strlen(title), "%s %s", i ? "," : "",
                 anemo_model_architecture(i));
    snprintf(title + strlen(title), sizeof title - strlen(title), ")");
    anemo_table *table = anemo_table_create("models", title);
    columns(table, (const char *const[]){"model",
                                         "model",
                                         "architecture",
                                         "architecture",
                                         "parameters",
                                         "parameters",
                                         "active_parameters",
                                         "active",
                                         "layers",
                                         "layers",
                                         "d",
                                         "d",
                                         "experts",
                                         "experts",
                                         "window",
                                         "window",
                                         "context",
                                         "context",
                                         "weights",
                                         "weights",
                                         "weight_bytes",
                                         "weight bytes",
                                         NULL});
    char path[4096];
    anemo_error err = {{0}};
    if (anemo_cli_default_model(path, sizeof path, &err) == ANEMO_OK)
        model_row(l, table, "default", path);
    else
        anemo_cli_warn("%s", err.text);
    for (int32_t i = 0; anemo_model_preset(i); i++) {
        snprintf(path, sizeof path, "synth:%s:q4_0", anemo_model_preset(i));
        model_row(l, table, path, path);
    }
    return table;
}

/* ---------------------------------------------------------------- tolerances */

static anemo_table *list_tolerances(const listing *l) {
    anemo_table *table = anemo_table_create(
        "tolerances",
        "Tolerances: |error| <= 2^-24 (a + b sqrt(terms)) magnitude + c spread, and of "
        "the mean error; what they scale with: harness/check/tolerance.inc");
    columns(table,
            (const char *const[]){"op", "op", "class", "class", "a", "a", "b", "b", "c", "c",
                                  "mean", "mean", "end_to_end", "end to end", "why", "why", NULL});
    for (int32_t i = 0; i < anemo_check_tolerance_count(); i++) {
        const anemo_check_tolerance t = anemo_check_tolerance_at(i);
        const double numbers[] = {t.a, t.b, t.c, t.mean, t.end_to_end};
        if (!wanted(l, anemo_op_name(t.op)))
            continue;
        anemo_table_text(table, "%s", anemo_op_name(t.op));
        anemo_table_text(table, "%s", t.class_name);
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++)
            anemo_table_number(table, numbers[j], "%g");
        anemo_table_text(table, "%s", t.why);
    }
    return table;
}

/* ---------------------------------------------------------------- the command */

static const struct {
    const char *name;
    anemo_table *(*make)(const listing *l);
} kinds[] = {{"ops", list_ops},   {"variants", list_variants}, {"layouts", list_layouts},
             {"acts", list_acts}, {"models", list_models},     {"tolerances", list_tolerances},
             {"code", list_code}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static int capability_of(const anemo_cli *cli, int32_t *capability) {
    anemo_device *device = NULL;
    anemo_error err = {{0}};
    if (cli->backend != ANEMO_CUDA)
        return ANEMO_EXIT_OK;
    const anemo_status status = anemo_cli_open_device(cli, &device, &err);
    if (status != ANEMO_OK)
        return anemo_cli_fail(status, &err);
    *capability = anemo_device_capability(device);
    anemo_device_free(device);
    return ANEMO_EXIT_OK;
}

int anemo_cmd_list(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "[ops|variants|layouts|acts|models|tolerances|code]",
        .max_arguments = 1,
        .about =
            "Lists what there is: ops, their variants and whether those run here, weight "
            "layouts, activation formats, models that need no download, and the checker's "
            "tolerances; or what each built-in variant is made of, as a hash that changes with its "
            "code (what `anemo gate` goes by). Without a word, all but the last two.",
        .example = "anemo list variants --filter qgemm\nanemo list models --format json",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_DEVICE | ANEMO_CLI_FILTER |
                  ANEMO_CLI_PLUGIN};
    static const char *const names[] = {"ops",    "variants",   "layouts", "acts",
                                        "models", "tolerances", "code",    NULL};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, NULL, &cli);
    const int only = cli.n_arguments ? anemo_cli_choice("list", cli.arguments[0], names) : -1;
    listing l = {.cli = &cli};
    const int code = capability_of(&cli, &l.capability);
    if (code != ANEMO_EXIT_OK)
        return anemo_cli_close(&cli, code);
    anemo_table *tables[KINDS];
    int32_t n = 0;
    for (int i = 0; i < KINDS; i++)
        if (only == i ||
            (only < 0 && kinds[i].make != list_tolerances && kinds[i].make != list_code))
            tables[n++] = kinds[i].make(&l);
    int32_t rows = 0;
    for (int32_t i = 0; i < n; i++)
        rows += anemo_table_rows(tables[i]);
    if (cli.filter && rows == 0)
        anemo_cli_usage("--filter '%s' matches nothing", cli.filter);
    anemo_table_print((const anemo_table *const *)tables, n, cli.format, cli.out);
    for (int32_t i = 0; i < n; i++)
        anemo_table_free(tables[i]);
    return anemo_cli_close(&cli, ANEMO_EXIT_OK);
}
