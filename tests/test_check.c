/* The checker: everything built in is right, every wrong kernel is found by a wide margin, and
 * plug-ins that are none are refused with a sentence. */
#include "anemo_config.h"
#include "harness/check/check.h"
#include "harness/check/number.h"
#include "harness/cli/plugin.h"
#include "kernels/internal.h"
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"

#include <jansson.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if ANEMO_X86
#include "kernels/prefetch.h"
#endif

#define PLUGIN(name) ANEMO_PLUGIN_DIR "/" name ".so"

static anemo_device *cpu(void) {
    anemo_device *device = NULL;
    anemo_error err = {{0}};
    if (anemo_device_create_cpu(2, NULL, &device, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return device;
}

static anemo_check_report check(const anemo_check_options *options) {
    anemo_device *device = cpu();
    anemo_check_report report;
    anemo_error err = {{0}};
    if (anemo_check_run(device, options, NULL, NULL, &report, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    anemo_device_free(device);
    return report;
}

static const anemo_check_line *find(const anemo_check_report *report, const char *name) {
    for (int32_t i = 0; i < report->n_lines; i++)
        if (strcmp(report->lines[i].name, name) == 0)
            return &report->lines[i];
    fail_msg("no line for %s", name);
    abort(); /* not reached, which the compiler does not know */
}

/* ---------------------------------------------------------------- number formats */

/* Every 16-bit pattern comes back, and every value half way between two neighbours goes to the even
 * one. */
static void narrow_formats_round_to_even(void **state) {
    (void)state;
    for (unsigned bits = 0; bits < 0x7C00; bits++) {
        const double x = check_from_f16((uint16_t)bits);
        assert_int_equal(check_to_f16(x), bits);
        assert_int_equal(check_to_f16(-x), bits | 0x8000);
        if (bits < 0x7BFF) {
            const double middle = (x + check_from_f16((uint16_t)(bits + 1))) / 2;
            assert_int_equal(check_to_f16(middle), bits + (bits & 1));
        }
    }
    for (unsigned bits = 0; bits < 0x7F80; bits++) {
        const double x = check_from_bf16((uint16_t)bits);
        const uint32_t wide = bits << 16;
        float same;
        memcpy(&same, &wide, sizeof same);
        assert_true(x == (double)same);
        assert_int_equal(check_to_bf16(x), bits);
    }
    assert_true(check_from_f16(0x3C00) == 1 && check_from_f16(0x7BFF) == 65504);
    assert_true(check_from_f16(1) == 0x1p-24 && check_to_f16(65520) == 0x7C00);
    assert_true(isnan(check_from_f16(check_to_f16(NAN))) && isnan(check_from_bf16(0x7FC0)));
}

/* ---------------------------------------------------------------- what is built in */

static void all_that_is_built_in_is_right(void **state) {
    (void)state;
    anemo_check_report report = check(&(anemo_check_options){.seed = 1});
    assert_int_equal(report.n_lines, anemo_variant_count() + anemo_layout_count());
    assert_int_equal(report.passed + report.skipped, report.n_lines);
    for (int32_t i = 0; i < report.n_lines; i++) {
        const anemo_check_line *line = &report.lines[i];
        if (line->verdict == ANEMO_CHECK_FAIL)
            fail_msg("%s: %s", line->name, line->detail);
        if (line->verdict == ANEMO_CHECK_SKIPPED)
            assert_true(line->detail[0] != 0);
        else
            assert_true(line->run >= 16); /* not just a corner of the grid */
        assert_true(line->error <= 1);
    }
    for (int op = 0; op < ANEMO_OP_COUNT; op++) { /* every op has its definition, and it was run */
        const anemo_variant *reference = anemo_variant_reference((anemo_op)op);
        assert_non_null(reference);
        const anemo_check_line *line = find(&report, reference->name);
        assert_true(line->reference && line->run >= 90 && line->refused == 0);
    }
    assert_int_equal(report.cases_failed, 0);
    anemo_check_report_free(&report);
}

#if ANEMO_X86
/* Where lines are asked for to, and how few rows read W, depends on the processor: here as on those
 * of the other kinds. */
static void the_other_ways_to_read_are_right(void **state) {
    (void)state;
    static const char *const filters[] = {"avx512vnni", "swa_f32_split"};
    const int here = (int)anemo_cpu_reads();
    for (int i = 0; i < 2 * (ANEMO_READINGS - 1); i++) {
        anemo_cpu_pretend_reading((here + 1 + i / 2) % ANEMO_READINGS);
        /* The sanitizers saw the whole grid read the first way, and everybody two ways. */
        anemo_check_report report = check(&(anemo_check_options){
            .seed = 5, .filter = filters[i % 2], .quick = ANEMO_SANITIZE || i >= 2});
        assert_true(report.n_lines > 0);
        assert_int_equal(report.failed, 0);
        assert_int_equal(report.cases_failed, 0);
        anemo_check_report_free(&report);
    }
    anemo_cpu_pretend_reading(-1);
}
#endif

static void quick_leaves_nobody_out(void **state) {
    (void)state;
    anemo_check_report report = check(&(anemo_check_options){
        .seed = 3, .quick = true, .filter = ANEMO_SANITIZE ? "moe" : NULL}); /* they saw the grid */
    assert_true(report.n_lines > 0);
    assert_int_equal(report.failed, 0);
    for (int32_t i = 0; i < report.n_lines; i++)
        assert_true(report.lines[i].run > 0 || report.lines[i].verdict == ANEMO_CHECK_SKIPPED);
    anemo_check_report_free(&report);
}

static void seeds_decide_the_inputs(void **state) {
    (void)state;
    double error[3];
    for (int i = 0; i < 3; i++) {
        anemo_check_report report =
            check(&(anemo_check_options){.seed = i == 2 ? 8 : 7, .filter = "qgemm_c"});
        error[i] = find(&report, "qgemm_c")->error;
        assert_true(error[i] > 0.01); /* float is not exact: the inputs matter */
        anemo_check_report_free(&report);
    }
    assert_true(error[0] == error[1]);
    assert_true(error[0] != error[2]);
}

static bool stop_after_ten(void *ctx, const anemo_check_case *result) {
    (void)result;
    return ++*(int *)ctx < 10;
}

static void can_be_stopped(void **state) {
    (void)state;
    anemo_device *device = cpu();
    anemo_check_report report;
    anemo_error err = {{0}};
    int seen = 0;
    const anemo_check_options options = {.seed = 1, .filter = "qgemm"};
    assert_int_equal(anemo_check_run(device, &options, stop_after_ten, &seen, &report, &err),
                     ANEMO_E_CANCELLED);
    assert_int_equal(seen, 10);
    assert_int_equal(report.cases_run + report.cases_refused, 10);
    anemo_check_report_free(&report);
    anemo_device_free(device);
}

static void every_tolerance_has_a_derivation(void **state) {
    (void)state;
    bool reference[ANEMO_OP_COUNT] = {false};
    for (int32_t i = 0; i < anemo_check_tolerance_count(); i++) {
        const anemo_check_tolerance t = anemo_check_tolerance_at(i);
        assert_true(strlen(t.why) > 10 && t.a > 0 && t.a <= 16 && t.b <= 2 && t.c < 0.1);
        reference[t.op] |= strcmp(t.class_name, "REFERENCE") == 0;
    }
    for (int op = 0; op < ANEMO_OP_COUNT; op++) /* the others are exact */
        assert_true(reference[op] || op == ANEMO_OP_QUANTIZE_ACT || op == ANEMO_OP_SAMPLE);
}

/* ---------------------------------------------------------------- plug-ins */

static void refused(const char *path, const char *sentence) {
    anemo_error err = {{0}};
    const int32_t variants = anemo_variant_count(), layouts = anemo_layout_count();
    assert_int_equal(anemo_plugin_load(path, &err), ANEMO_E_INPUT);
    assert_contains(err.text, path);
    assert_contains(err.text, sentence);
    assert_null(strchr(err.text, '\n'));
    assert_int_equal(anemo_variant_count(), variants);
    assert_int_equal(anemo_layout_count(), layouts);
}

static void what_is_no_plugin_is_refused(void **state) {
    (void)state;
    char *folder = test_folder_create(), text[512];
    snprintf(text, sizeof text, "%s/text.so", folder);
    test_write_file(text, "this is no shared object", 24);
    refused(text, "cannot be loaded as a shared object");
    refused(folder, "not a file");
    test_folder_remove(folder);
    refused("/no/such/file.so", "No such file");
    refused(PLUGIN("refused_symbol"), "has no symbol anemo_plugin_entry");
    refused(PLUGIN("refused_undefined"), "somewhere_else");
    refused(PLUGIN("refused_null"), "returned NULL");
    refused(PLUGIN("refused_abi"), "ABI");
    refused(PLUGIN("refused_name"), "qgemm_ref");
    refused(PLUGIN("refused_short"), "16 bytes");
}

static void load(const char *path) {
    anemo_error err = {{0}};
    if (anemo_plugin_load(path, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
}

static void the_example_plugin_is_right(void **state) {
    (void)state;
    load(PLUGIN("right"));
    refused(PLUGIN("right"), "exists already"); /* twice: its name is taken now */
    anemo_check_report report = check(&(anemo_check_options){.seed = 1, .filter = "example"});
    assert_int_equal(report.n_lines, 1);
    assert_int_equal(report.lines[0].verdict, ANEMO_CHECK_PASS);
    assert_true(report.lines[0].run > 400 && report.lines[0].refused == 0);
    anemo_check_report_free(&report);
}

/* The words that the first failure of a variant must be told in: the checker has to find the fault
 * that is there, not another one. */
static const struct {
    const char *name, *words;
} sentences[] = {
    {"qgemm_wrong_nan", "= nan"},
    {"qgemm_wrong_past_the_end", "wrote past the end of y0"},
    {"qgemm_wrong_between_rows", "wrote between the rows of y0"},
    {"qgemm_wrong_reads_poison", "nan"},
    {"qgemm_wrong_reads_past_x", "nan"},
    {"qgemm_wrong_no_bias", "bias"},
    {"qgemm_wrong_rows_depend", "ROW_INVARIANT"},
    {"qgemm_wrong_threads_depend", "on 3 threads"},
    {"qgemm_wrong_runs_depend", "once more: row"},
    {"qgemm_wrong_changes_x", "changed its input x"},
    {"qgemm_wrong_little_workspace", "wrote past the end of workspace (64 bytes)"},
    {"qgemm_wrong_returns_error", "run returned"},
    {"qgemm_wrong_refuses", "refuses all"},
    {"qgemm_wrong_as_reference", "must be"},
    {"qgemm_wrong_format", "not one the checker knows"},
    {"moe_route_wrong_higher_index", "expert["},
    {"moe_route_wrong_unstable_sort", "row_token["},
    {"moe_route_wrong_wrong_count", "count["},
    {"moe_route_wrong_unnormalised", "weight["},
    {"moe_route_wrong_hides_nan", "must return numeric"},
    {"moe_experts_wrong_outside_range", "not in its range"},
    {"moe_experts_wrong_last_row_forgotten", "was not written"},
    {"swa_wrong_sees_next", "nan"},
    {"swa_wrong_first_ignored", "nan"},
    {"swa_wrong_no_max", "sharp"},
    {"rope_append_wrong_stores_unrotated", "the page does not hold the rotated k"},
    {"rope_append_wrong_next_slot", "beside the slots of this step"},
    {"rope_append_wrong_no_temperature", "temperature: q["},
    {"rope_append_wrong_heats_k", "temperature: k["},
    {"add_rmsnorm_wrong_x_not_updated", "exactly"},
    {"sample_wrong_nan_ignored", "must be -1"},
    {"quantize_act_wrong_half_up", "ties: codes["},
    {"quantize_act_wrong_sum_forgotten", "sums["},
    {"quantize_act_wrong_nan_hidden", "broken"},
    {"layout_wrong_loses_a_bit", "comes back with other codes"},
    {"layout_wrong_wrong_scale", "comes back with other scales"},
    {"layout_wrong_past_the_end", "wrote past packed_bytes"},
    {"layout_wrong_needs_all_rows", "packing block by block gives other bytes"},
};

static void every_wrong_kernel_is_found(void **state) {
    (void)state;
    static const char *const plugins[] = {PLUGIN("wrong_qgemm"), PLUGIN("wrong_moe"),
                                          PLUGIN("wrong_swa"),   PLUGIN("wrong_dense"),
                                          PLUGIN("wrong_a8"),    PLUGIN("wrong_layout")};
    for (size_t i = 0; i < sizeof plugins / sizeof *plugins; i++)
        load(plugins[i]);
    /* The quarter of the grid that the sanitizers see has no score large enough for one fault, and
     * others show there, but by less. */
    anemo_check_report report =
        check(&(anemo_check_options){.seed = 1, .filter = "_wrong_", .quick = ANEMO_SANITIZE});
    int32_t controls = 0, wrong = 0, skipped = 0, unseen = 0;
    for (int32_t i = 0; i < report.n_lines; i++) {
        const anemo_check_line *line = &report.lines[i];
        if (strstr(line->name, "nothing")) {
            if (line->verdict != ANEMO_CHECK_PASS)
                fail_msg("%s: %s", line->name, line->detail);
            controls++;
        } else if (strstr(line->name, "elsewhere")) {
            assert_int_equal(line->verdict, ANEMO_CHECK_SKIPPED);
            assert_contains(line->detail, "CUDA");
            skipped++;
        } else {
            const bool found = line->verdict == ANEMO_CHECK_FAIL;
            if (ANEMO_SANITIZE && strstr(line->name, "swa_wrong_no_max")) {
                unseen += !found;
            } else if (!found || (!ANEMO_SANITIZE && line->run > 0 && !(line->error >= 10)))
                fail_msg("%s: verdict %d, error %g", line->name, line->verdict, line->error);
            wrong++;
        }
    }
    assert_int_equal(report.passed + report.failed, controls + wrong);
    assert_int_equal(report.failed, wrong - unseen);
    assert_int_equal(report.skipped, skipped);
    assert_true(controls >= 13 && wrong >= 81 && skipped == 1);
    for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++) {
        const anemo_check_line *line = find(&report, sentences[i].name);
        if (line->verdict != ANEMO_CHECK_PASS && !strstr(line->detail, sentences[i].words))
            fail_msg("%s: '%s' does not say '%s'", line->name, line->detail, sentences[i].words);
    }
    anemo_check_report_free(&report);
}

/* ---------------------------------------------------------------- the commands */

static void check_command_exit_codes(void **state) {
    (void)state;
    program_result r = program_run("check", "--filter", "rmsnorm_c");
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "add_rmsnorm_c");
    assert_contains(r.out,
                    "check: 1 variants and layouts right, 0 wrong, 0 skipped; 120 cases run");
    program_result_free(&r);
    r = program_run("check", "--filter", "no_such_thing");
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "'no_such_thing' matches no variant");
    program_result_free(&r);
    r = program_run("check", "--filter", "rmsnorm_c", "--case", "no such case");
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "'no such case' matches no case");
    program_result_free(&r);
    r = program_run("check", "--plugin", PLUGIN("refused_abi"));
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "ABI");
    program_result_free(&r);
    r = program_run("check", "--plugin", PLUGIN("wrong_qgemm"), "--filter", "qgemm_wrong_zeros",
                    "--quick", "--seed", "5");
    assert_int_equal(r.code, 3);
    assert_contains(r.out, "WRONG qgemm_wrong_zeros");
    assert_contains(r.out, "again: anemo check --filter qgemm_wrong_zeros --case '");
    assert_contains(r.out, "--seed 5");
    program_result_free(&r);
}

/* The default model's answer must not change with a right plug-in, and must with a wrong one: it
 * really ran. */
static void a_plugin_runs_in_a_whole_model(void **state) {
    (void)state;
    program_result own =
        program_run("run", "--prompt", "sort 6075983=", "--with", "qgemm=qgemm_ref");
    program_result right = program_run("run", "--prompt", "sort 6075983=", "--plugin",
                                       PLUGIN("right"), "--with", "qgemm=qgemm_wxa32_example_c");
    program_result wrong = program_run("run", "--prompt", "sort 6075983=", "--plugin",
                                       PLUGIN("wrong_qgemm"), "--with", "qgemm=qgemm_wrong_zeros");
    assert_int_equal(own.code, 0);
    assert_int_equal(right.code, 0);
    assert_true(strlen(own.out) > 5);
    assert_string_equal(right.out, own.out);
    assert_string_not_equal(wrong.out, own.out);
    program_result_free(&own);
    program_result_free(&right);
    program_result_free(&wrong);
}

static void check_command_in_json(void **state) {
    (void)state;
    program_result r = program_run("check", "--filter", "rmsnorm", "--case", "gather", "--verbose",
                                   "--format", "json");
    assert_int_equal(r.code, 0);
    json_t *root = json_loads(r.out, 0, NULL);
    assert_non_null(root);
    const json_t *summary = json_array_get(json_object_get(root, "summary"), 0);
    const json_t *line = json_array_get(json_object_get(root, "checks"), 1);
    const size_t cases = json_array_size(json_object_get(root, "cases"));
    assert_int_equal(json_number_value(json_object_get(summary, "wrong")), 0);
    assert_int_equal(json_number_value(json_object_get(summary, "cases_run")), cases);
    size_t variants = 0;
    for (int32_t i = 0; i < anemo_variant_builtin_count(); i++)
        variants += anemo_variant_at(i)->op == ANEMO_OP_ADD_RMSNORM &&
                    anemo_variant_runs_here(anemo_variant_at(i), 0, NULL, 0);
    assert_int_equal(cases, 40 * variants); /* a third of 120 cases each */
    assert_string_equal(json_string_value(json_object_get(line, "name")), "add_rmsnorm_c");
    assert_string_equal(json_string_value(json_object_get(line, "verdict")), "ok");
    json_decref(root);
    program_result_free(&r);
}

static void list_command(void **state) {
    (void)state;
    program_result r = program_run("list", "variants", "--plugin", PLUGIN("right"), "--filter",
                                   "qgemm", "--format", "json");
    assert_int_equal(r.code, 0);
    json_t *root = json_loads(r.out, 0, NULL);
    const json_t *variants = json_object_get(root, "variants");
    const json_t *last = json_array_get(variants, json_array_size(variants) - 1);
    const json_t *first = json_array_get(variants, 0);
    assert_string_equal(json_string_value(json_object_get(first, "variant")), "qgemm_ref");
    assert_string_equal(json_string_value(json_object_get(first, "origin")), "built-in");
    assert_string_equal(json_string_value(json_object_get(last, "variant")),
                        "qgemm_wxa32_example_c");
    assert_string_equal(json_string_value(json_object_get(last, "origin")), "plug-in");
    assert_string_equal(json_string_value(json_object_get(last, "here")), "yes");
    json_decref(root);
    program_result_free(&r);
    static const char *const kinds[] = {"ops", "layouts", "acts", "models", "tolerances"};
    static const char *const words[] = {"moe_route", "rows", "a8_g128", "synth:mixtral-8x7b:q4_0",
                                        "REFERENCE"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        r = program_run("list", kinds[i]);
        assert_int_equal(r.code, 0);
        assert_contains(r.out, words[i]);
        program_result_free(&r);
    }
    r = program_run("list", "everything");
    assert_int_equal(r.code, 2);
    program_result_free(&r);
    r = program_run("list", "--filter", "no_such_thing");
    assert_int_equal(r.code, 2);
    program_result_free(&r);
}

/* In this order: what is loaded stays loaded. */
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(narrow_formats_round_to_even),
        cmocka_unit_test(all_that_is_built_in_is_right),
#if ANEMO_X86
        cmocka_unit_test(the_other_ways_to_read_are_right),
#endif
        cmocka_unit_test(quick_leaves_nobody_out),
        cmocka_unit_test(seeds_decide_the_inputs),
        cmocka_unit_test(can_be_stopped),
        cmocka_unit_test(every_tolerance_has_a_derivation),
        cmocka_unit_test(what_is_no_plugin_is_refused),
        cmocka_unit_test(the_example_plugin_is_right),
        cmocka_unit_test(every_wrong_kernel_is_found),
        cmocka_unit_test(check_command_exit_codes),
        cmocka_unit_test(a_plugin_runs_in_a_whole_model),
        cmocka_unit_test(check_command_in_json),
        cmocka_unit_test(list_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
