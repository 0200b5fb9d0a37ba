/* anemo tune: the rule by which it chooses, on figures made by hand; a tiny model tuned from end to
 * end; the file of choices it writes, and what is refused of one. No test asks which variant is
 * fast. */
#include "harness/measure/tune.h"
#include "tests/support/asserts.h"
#include "tests/support/random_model.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static anemo_error err;

/* ---------------------------------------------------------------- the rule */

static const anemo_variant a = {.name = "a", .layout = "one"}, b = {.name = "b", .layout = "one"},
                           c = {.name = "c", .layout = "one"}, p = {.name = "p", .layout = "two"},
                           q = {.name = "q", .layout = "two"};

static anemo_tune_line line(const anemo_variant *v, double lo, double value, double hi) {
    return (anemo_tune_line){.variant = v, .ratio = {.value = value, .lo = lo, .hi = hi, .n = 20}};
}

static anemo_tune_cell cell(int64_t m_lo, const anemo_variant *by_default) {
    anemo_tune_cell made = {.m_lo = m_lo, .default_variant = by_default};
    made.lines[made.n_lines++] = line(by_default, 1, 1, 1);
    return made;
}

static void add(anemo_tune_cell *to, const anemo_variant *v, double lo, double value, double hi) {
    to->lines[to->n_lines++] = line(v, lo, value, hi);
}

static const anemo_variant *chosen(const anemo_tune_cell *cells, int32_t n, int32_t of) {
    int32_t index[8];
    anemo_tune_decide(cells, n, index);
    return cells[of].lines[index[of]].variant;
}

static void test_only_beyond_the_interval(void **state) {
    (void)state;
    anemo_tune_cell x = cell(1, &a);
    assert_ptr_equal(chosen(&x, 1, 0), &a);
    add(&x, &b, 0.5, 0.8, 1.0);
    assert_ptr_equal(chosen(&x, 1, 0), &a);
    add(&x, &c, 0.8, 0.9, 0.999);
    assert_ptr_equal(chosen(&x, 1, 0), &c);
    x.lines[2].ratio.needs = 6; /* too few samples for an interval */
    assert_ptr_equal(chosen(&x, 1, 0), &a);
    x.lines[1].ratio.hi = 0.95; /* the smaller ratio of two that are faster */
    x.lines[2].ratio.needs = 0;
    assert_ptr_equal(chosen(&x, 1, 0), &b);
}

/* Ranges of rows choose for themselves within a layout. */
static void test_ranges(void **state) {
    (void)state;
    anemo_tune_cell x[2] = {cell(1, &a), cell(2, &a)};
    add(&x[0], &b, 1.1, 1.2, 1.3);
    add(&x[1], &b, 0.6, 0.7, 0.8);
    assert_ptr_equal(chosen(x, 2, 0), &a);
    assert_ptr_equal(chosen(x, 2, 1), &b);
}

/* Another layout serves all rows or none. */
static void test_layouts(void **state) {
    (void)state;
    anemo_tune_cell x[2] = {cell(1, &a), cell(2, &a)};
    add(&x[0], &p, 1.01, 1.05, 1.1);
    add(&x[1], &p, 0.3, 0.4, 0.5);
    assert_ptr_equal(chosen(x, 2, 0), &a); /* slower at one row */
    assert_ptr_equal(chosen(x, 2, 1), &a);
    add(&x[0], &q, 0.98, 1.01, 1.03); /* not slower, not faster */
    assert_ptr_equal(chosen(x, 2, 0), &q);
    assert_ptr_equal(chosen(x, 2, 1), &p);
    add(&x[1], &b, 0.1, 0.2, 0.3); /* the first layout has something better still */
    assert_ptr_equal(chosen(x, 2, 0), &a);
    assert_ptr_equal(chosen(x, 2, 1), &b);
}

static void test_layout_that_is_not_everywhere(void **state) {
    (void)state;
    anemo_tune_cell x[2] = {cell(1, &a), cell(2, &a)};
    add(&x[0], &p, 0.3, 0.4, 0.5);
    assert_ptr_equal(chosen(x, 2, 0), &a);
    add(&x[1], &q, 0.9, 1.0, 1.1);
    assert_ptr_equal(chosen(x, 2, 0), &p);
    assert_ptr_equal(chosen(x, 2, 1), &q);
}

/* Two layers of one role and the same rows: one variant for both. */
static void test_two_problems(void **state) {
    (void)state;
    anemo_tune_cell x[2] = {cell(1, &a), cell(1, &a)};
    add(&x[0], &b, 0.6, 0.7, 0.8);
    assert_ptr_equal(chosen(x, 2, 0), &a); /* not measured in the other */
    add(&x[1], &b, 0.9, 1.0, 1.1);
    assert_ptr_equal(chosen(x, 2, 0), &b);
    assert_ptr_equal(chosen(x, 2, 1), &b);
    x[1].lines[1].ratio = (anemo_estimate){.value = 1.2, .lo = 1.1, .hi = 1.3, .n = 20};
    assert_ptr_equal(chosen(x, 2, 0), &a); /* slower in the other */
    anemo_tune_cell y[2] = {cell(1, &a), cell(1, &p)};
    add(&y[0], &b, 0.1, 0.2, 0.3);
    add(&y[1], &b, 0.1, 0.2, 0.3);
    assert_ptr_equal(chosen(y, 2, 0), &a); /* no layout is the default of both */
    assert_ptr_equal(chosen(y, 2, 1), &p);
}

/* ---------------------------------------------------------------- a model */

typedef struct fixture {
    char *folder;
    anemo_device *device;
    anemo_tune_report report;
    char file[512], *text; /* the choices as written */
} fixture;

static anemo_tune_options quick(const char *path) {
    anemo_tune_options o = {.path = path, .seed = 2};
    assert_int_equal(anemo_stop_parse("n:6,cap:20ms", &o.stop, NULL), ANEMO_OK);
    return o;
}

static void write_choices(fixture *f) {
    const anemo_choices_head head = {
        .info = &f->report.info, .kv_type = "f16", .stop = "n:6", .cache = "warm", .seed = 2};
    snprintf(f->file, sizeof f->file, "%s/choices.json", f->folder);
    FILE *out = fopen(f->file, "w");
    assert_int_equal(
        anemo_choices_write(&head, f->device, f->report.entries, f->report.n_entries, out, &err),
        ANEMO_OK);
    fclose(out);
    free(f->text);
    f->text = test_read_file(f->file, NULL);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    f->folder = test_folder_create();
    random_model_write(f->folder, 3);
    if (anemo_device_create_cpu(1, NULL, &f->device, &err))
        fail_msg("%s", err.text);
    const anemo_tune_options options = quick(f->folder);
    if (anemo_tune(f->device, &options, &f->report, &err))
        fail_msg("%s", err.text);
    write_choices(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    anemo_tune_report_free(&f->report);
    anemo_device_free(f->device);
    test_folder_remove(f->folder);
    free(f->text);
    free(f);
    return 0;
}

/* Every call of the plan but quantize_act is there, from one row without gap and without end. */
static void test_covers_the_plan(void **state) {
    fixture *f = *state;
    const anemo_tune_report *r = &f->report;
    static const char *const calls[] = {"add_rmsnorm", "qgemm",       "rope_append", "swa",
                                        "moe_route",   "moe_experts", "moe_combine", "sample"};
    assert_int_equal(r->n_incorrect, 0);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int32_t found = 0;
        for (int32_t e = 0; e < r->n_entries; e++)
            found += strcmp(anemo_op_name(r->entries[e].op), calls[i]) == 0;
        /* Without vectors a product reads what the file holds. */
        for (int32_t k = 0; k < r->n_remarks; k++)
            found += 3 * (strncmp(r->remarks[k], calls[i], strlen(calls[i])) == 0);
        if (found < 3)
            fail_msg("%s has %d entries", calls[i], found);
    }
    for (int32_t i = 0; i < r->n_entries; i++) {
        const anemo_choices_entry *e = &r->entries[i], *before = e - 1;
        const bool first = i == 0 || before->m_hi == INT64_MAX;
        assert_int_equal(e->m_lo, first ? 1 : before->m_hi + 1);
        assert_true(e->m_lo <= e->m && e->m <= e->m_hi);
        assert_true(e->time_s.lo <= e->time_s.value && e->time_s.value <= e->time_s.hi);
        assert_true(e->time_s.lo > 0 && e->time_s.n >= 1);
        assert_int_equal(e->variant->op, e->op);
        if (e->variant == e->default_variant)
            assert_true(e->ratio.value == 1);
        else /* what a layout brings with it may be equally fast */
            assert_true(e->ratio.lo <= 1);
        assert_true(e->problem[0] != '\0');
        if (e->op == ANEMO_OP_QGEMM) /* weights in bf16 are multiplied with floats by default */
            assert_true(!e->variant->act || strcmp(e->variant->act, "f32") == 0);
    }
    assert_int_equal(r->entries[r->n_entries - 1].m_hi, INT64_MAX);
    assert_true(r->n_remarks >= 1); /* what reads the file's own form cannot be benched */
    assert_contains(r->remarks[0], "embed: keeps its default");
}

static void test_written_and_read(void **state) {
    fixture *f = *state;
    anemo_choices *read;
    const char *const *rules;
    int32_t n;
    if (anemo_choices_read(f->file, f->device, &read, &err))
        fail_msg("%s", err.text);
    assert_string_equal(read->warning, "");
    assert_int_equal(strlen(read->sha256), 64);
    assert_int_equal(read->n_entries, f->report.n_entries);
    assert_int_equal(read->n_rules, f->report.n_chosen);
    assert_int_equal(anemo_choices_for(read, &f->report.info, "f16", &rules, &n, &err), ANEMO_OK);
    assert_int_equal(n, read->n_rules);
    assert_int_equal(anemo_choices_for(read, &f->report.info, "f32", &rules, &n, &err), ANEMO_OK);
    assert_int_equal(n, read->n_common);
    for (int32_t i = 0; i < n; i++)
        assert_true(strncmp(rules[i], "swa", 3) != 0 && strncmp(rules[i], "rope", 4) != 0);
    assert_int_equal(anemo_choices_for(NULL, &f->report.info, "f32", &rules, &n, &err), ANEMO_OK);
    assert_int_equal(n, 0);
    anemo_model_info other = f->report.info;
    other.d = 7;
    assert_int_equal(anemo_choices_for(read, &other, "f16", &rules, &n, &err), ANEMO_E_INPUT);
    assert_contains(err.text, "model.d is ");
    other = f->report.info;
    snprintf(other.weights, sizeof other.weights, "q4_0");
    assert_int_equal(anemo_choices_for(read, &other, "f16", &rules, &n, &err), ANEMO_E_INPUT);
    assert_contains(err.text, "model.weights is ");
    anemo_choices_free(read);
}

static int64_t polls, most_polls;

static bool soon(void) {
    return polls++ >= most_polls;
}

static bool never_but_count(void) {
    polls++;
    return false;
}

static void test_filter_and_interrupt(void **state) {
    fixture *f = *state;
    anemo_tune_options options = quick(f->folder);
    anemo_tune_report report;
    options.filter = "rmsnorm@out";
    assert_int_equal(anemo_tune(f->device, &options, &report, &err), ANEMO_OK);
    assert_true(report.n_entries >= 3);
    for (int32_t i = 0; i < report.n_entries; i++)
        assert_string_equal(report.entries[i].role, "output");
    anemo_tune_report_free(&report);
    options.filter = "nothing";
    assert_int_equal(anemo_tune(f->device, &options, &report, &err), ANEMO_E_INPUT);
    assert_contains(err.text, "--filter nothing");
    anemo_tune_report_free(&report);
    /* Interrupted after some cells: whole roles are kept. */
    options.filter = "add_rmsnorm";
    options.interrupted = soon;
    polls = 0;
    most_polls = 0;
    assert_int_equal(anemo_tune(f->device, &options, &report, &err), ANEMO_E_CANCELLED);
    assert_int_equal(report.n_entries, 0);
    anemo_tune_report_free(&report);
    options.interrupted = never_but_count;
    polls = 0;
    assert_int_equal(anemo_tune(f->device, &options, &report, &err), ANEMO_OK);
    const int32_t all = report.n_entries;
    anemo_tune_report_free(&report);
    assert_true(polls > all);
}

/* ---------------------------------------------------------------- plans that follow */

static anemo_status make_plan(const fixture *f, const char *const *choices, int32_t n_choices,
                              const char *const *with, int32_t n_with, char *text, size_t bytes) {
    anemo_model *model;
    anemo_plan *plan = NULL;
    assert_int_equal(anemo_model_open(f->folder, NULL, &model, &err), ANEMO_OK);
    const anemo_plan_options options = {
        .limits = {.tokens_per_step = 8, .sessions = 2, .context = 64},
        .choices = choices,
        .n_choices = n_choices,
        .with = with,
        .n_with = n_with};
    const anemo_status status = anemo_plan_create(model, f->device, &options, &plan, &err);
    text[0] = '\0';
    const char *choice;
    for (int32_t i = 0; !status && (choice = anemo_plan_choice(plan, i)); i++) {
        const size_t used = strlen(text);
        snprintf(text + used, bytes - used, "%s\n", choice);
    }
    anemo_plan_free(plan);
    anemo_model_close(model);
    return status;
}

static void test_plans_follow(void **state) {
    const fixture *f = *state;
    char text[8192];
    /* Followed; beyond the plan's rows or of another model's call: no error. */
    static const char *const some[] = {"add_rmsnorm@layer:m=2..4=add_rmsnorm_c",
                                       "add_rmsnorm@layer:m=65..=add_rmsnorm_c",
                                       "qgemm@gate_up:m=1..=qgemm_c"};
    assert_int_equal(make_plan(f, NULL, 0, NULL, 0, text, sizeof text), ANEMO_OK);
    if (strstr(text, "add_rmsnorm@layer:m=1..8=add_rmsnorm_c\n")) {
        skip(); /* plain C is all there is here: nothing to choose */
    }
    assert_int_equal(make_plan(f, some, 3, NULL, 0, text, sizeof text), ANEMO_OK);
    assert_contains(text, "add_rmsnorm@layer:m=2..4=add_rmsnorm_c\n");
    /* The same as a person's rules are refused. */
    assert_int_equal(make_plan(f, NULL, 0, some + 1, 2, text, sizeof text), ANEMO_E_INPUT);
    assert_contains(err.text, "has no such call");
    /* What a person forces goes before, rows by rows... */
    static const char *const forced[] = {"add_rmsnorm@layer:m=3=add_rmsnorm_ref"};
    assert_int_equal(make_plan(f, some, 1, forced, 1, text, sizeof text), ANEMO_OK);
    assert_contains(text, "add_rmsnorm@layer:m=2..2=add_rmsnorm_c\n");
    assert_contains(text, "add_rmsnorm@layer:m=3..3=add_rmsnorm_ref\n");
    assert_contains(text, "add_rmsnorm@layer:m=4..4=add_rmsnorm_c\n");
    /* ... and a call that the choice refuses is no silent fallback. */
    static const char *const wrong[] = {"quantize_act@bf16:m=1..=quantize_act_bf16_c",
                                        "qgemm@o:m=1..=qgemm_w4a8_tile_c"};
    if (anemo_variant_find("qgemm_w4a8_tile_c")) {
        assert_int_equal(make_plan(f, wrong, 2, NULL, 0, text, sizeof text), ANEMO_E_INPUT);
        assert_contains(err.text, "--choices qgemm@o");
    }
}

/* A forced variant of another layout leaves the choices of that call without effect. */
static void test_forced_layout(void **state) {
    const fixture *f = *state;
    const anemo_variant *packed = NULL, *plain = anemo_variant_find("qgemm_c");
    char text[8192], choice[128], force[128];
    for (int32_t i = 0; i < anemo_variant_count() && !packed; i++) {
        const anemo_variant *v = anemo_variant_at(i);
        const char *const rule[] = {force};
        snprintf(force, sizeof force, "qgemm@o=%s", v->name);
        if (v->op == ANEMO_OP_QGEMM && v->layout && !(v->traits & ANEMO_TRAIT_REFERENCE) &&
            make_plan(f, NULL, 0, rule, 1, text, sizeof text) == ANEMO_OK)
            packed = v;
    }
    if (!packed || !plain || plain->layout)
        skip();
    snprintf(choice, sizeof choice, "qgemm@o:m=2..=%s", packed->name);
    const char *const choices[] = {choice}, *const with[] = {"qgemm@o:m=1=qgemm_c"};
    assert_int_equal(make_plan(f, choices, 1, with, 1, text, sizeof text), ANEMO_OK);
    assert_contains(text, "qgemm@o:m=1..");
    for (const char *at = text; (at = strstr(at, "qgemm@o:")); at++) { /* others may well use it */
        const char *name = strstr(at, packed->name), *end = strchr(at, '\n');
        assert_true(!name || (end && name > end));
    }
}

/* ---------------------------------------------------------------- bad files */

/* The file with the first `from` replaced, read: must fail with `says`. */
static void refuse(fixture *f, const char *from, const char *to, const char *says) {
    const char *at = strstr(f->text, from);
    if (!at)
        fail_msg("'%s' is not in the file", from);
    const size_t before = (size_t)(at - f->text);
    const size_t bytes = strlen(f->text) + strlen(to) + 1;
    char *text = malloc(bytes), path[600];
    snprintf(text, bytes, "%.*s%s%s", (int)before, f->text, to, at + strlen(from));
    snprintf(path, sizeof path, "%s/bad.json", f->folder);
    test_write_file(path, text, strlen(text));
    anemo_choices *read;
    if (anemo_choices_read(path, f->device, &read, &err) != ANEMO_E_INPUT)
        fail_msg("'%s' for '%s' is accepted", to, from);
    assert_null(read);
    assert_contains(err.text, "bad.json");
    assert_contains(err.text, says);
    free(text);
}

static void test_bad_files(void **state) {
    fixture *f = *state;
    refuse(f, "{", "", "no JSON");
    refuse(f, "{", "[", "no JSON");
    refuse(f, "\"kind\": \"choices\"", "\"kind\": \"record\"", "kind is record");
    refuse(f, "\"kind\": \"choices\",", "", "kind is missing");
    refuse(f, "\"kind\": \"choices\"", "\"kind\": \"choices\", \"kind\": \"choices\"", "duplicate");
    refuse(f, "\"schema_version\": 1", "\"schema_version\": 2", "schema_version is 2");
    refuse(f, "\"schema_version\": 1", "\"schema_version\": 1, \"x\": 1", "x is not a field");
    refuse(f, "\"id\": \"", "\"id\": \"another-", "machine.id is another-");
    refuse(f, "\"isa\": \"native\"", "\"isa\": \"avx2\"", "machine.isa is avx2");
    refuse(f, "\"backend\": \"cpu\"", "\"backend\": \"cuda\"", "machine.backend is cuda");
    refuse(f, "\"threads\": 1", "\"threads\": 0", "machine.threads is 0");
    refuse(f, "\"kv_type\": \"f16\"", "\"kv_type\": \"f17\"", "model.kv_type is f17");
    refuse(f, "\"vocab\": ", "\"vocab\": -", "model.vocab is -");
    refuse(f, "\"d\": ", "\"d\": 1e", "model.d is 1");
    refuse(f, "\"op\": \"rope_append\"", "\"op\": \"rope\"", "entries[0].op is rope");
    refuse(f, "\"role\": \"\"", "\"role\": \"k\"", "entries[0].role is 'k'");
    refuse(f, "\"m_lo\": 1", "\"m_lo\": 0", "entries[0].m_lo is 0");
    refuse(f, "\"m_hi\": 1", "\"m_hi\": \"1\"", "entries[0].m_hi is \"1\"");
    refuse(f, "\"m\": 1,", "\"m\": 3,", "entries[0].m is 3");
    refuse(f, "\"variant\": \"rope_", "\"variant\": \"no_", "which this program does not have");
    refuse(f, "\"variant\": \"", "\"variant\": \"qgemm_c\", \"problem\": \"", "duplicate");
    refuse(f, "\"ratio\": ", "\"ratio\": -", "entries[0].ratio is -");
    refuse(f, "\"time_s\": ", "\"time_s\": null, \"z\": ", "entries[0].time_s is null");
    refuse(f, "\"entries\": [", "\"entries\": 3, \"y\": [", "entries is no list");
    refuse(f, "\"entries\": [", "\"entries\": [7, ", "entries[0] is 7");
    anemo_choices *read;
    assert_int_equal(anemo_choices_read("/nowhere/c", f->device, &read, &err), ANEMO_E_INPUT);
    assert_contains(err.text, "--choices /nowhere/c");
}

/* Of another op: named as such. */
static void test_variant_of_another_op(void **state) {
    fixture *f = *state;
    char from[160], to[64];
    snprintf(from, sizeof from, "\"variant\": \"%s\"", f->report.entries[0].variant->name);
    snprintf(to, sizeof to, "\"variant\": \"qgemm_c\"");
    refuse(f, from, to, "which computes qgemm, not rope_append");
}

/* Another build or number of threads: taken, with a warning. */
static void test_warnings(void **state) {
    fixture *f = *state;
    static const char *const edits[][3] = {
        {"\"code_hash\": \"", "\"code_hash\": \"0", "other kernels"},
        {"\"threads\": 1", "\"threads\": 3", "3 threads, this run has 1"}};
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(f->text, edits[i][0]);
        assert_non_null(at);
        char *text = malloc(strlen(f->text) + 64), path[600];
        sprintf(text, "%.*s%s%s", (int)(at - f->text), f->text, edits[i][1],
                at + strlen(edits[i][0]));
        snprintf(path, sizeof path, "%s/old.json", f->folder);
        test_write_file(path, text, strlen(text));
        anemo_choices *read;
        if (anemo_choices_read(path, f->device, &read, &err))
            fail_msg("%s", err.text);
        assert_contains(read->warning, edits[i][2]);
        anemo_choices_free(read);
        free(text);
    }
}

/* ---------------------------------------------------------------- the commands */

static void test_commands(void **state) {
    fixture *f = *state;
    char file[512], records[512];
    snprintf(file, sizeof file, "%s/norm.json", f->folder);
    snprintf(records, sizeof records, "%s/r.jsonl", f->folder);
    program_result r =
        program_run("tune", f->folder, "--filter", "add_rmsnorm", "--stop", "n:6,cap:20ms",
                    "--threads", "1", "--kv", "f32", "--output", file);
    if (r.code)
        fail_msg("%s%s", r.out, r.err);
    assert_contains(r.out, "add_rmsnorm@layer");
    program_result_free(&r);
    r = program_run("run", f->folder, "--prompt", "x", "--tokens", "2", "--threads", "1",
                    "--choices", file);
    if (r.code)
        fail_msg("%s", r.err);
    program_result_free(&r);
    r = program_run("bench", "model", f->folder, "--prompt", "4", "--tokens", "3", "--batch", "1",
                    "--stop", "n:2", "--threads", "1", "--choices", file, "--record", records);
    if (r.code != 0 && r.code != 5)
        fail_msg("%s", r.err);
    program_result_free(&r);
    size_t bytes;
    char *written = test_read_file(file, &bytes), *text = test_read_file(records, NULL), hash[65];
    anemo_sha256_of(written, bytes, hash);
    assert_contains(text, hash);
    assert_contains(text, "\"choices_file\":");
    assert_contains(text, "norm.json");
    free(written);
    free(text);
    r = program_run("run", f->folder, "--prompt", "x", "--weights", "q8_0", "--choices", file);
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "model.weights is ");
    program_result_free(&r);
    r = program_run("bench", "model", f->folder, "--isa", "baseline", "--threads", "1", "--choices",
                    file);
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "isa is native; this run is at level baseline");
    program_result_free(&r);
    r = program_run("eval", "--limit", "1", "--choices", file);
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "model.");
    program_result_free(&r);
}

/* Nothing is written where nothing was measured, and an older file stays. */
static void test_refused(void **state) {
    fixture *f = *state;
    char file[512];
    snprintf(file, sizeof file, "%s/old", f->folder);
    test_write_file(file, "old", 3);
    program_result r = program_run("tune", f->folder, "--filter", "nothing", "--output", file);
    assert_int_equal(r.code, 2);
    program_result_free(&r);
    char *text = test_read_file(file, NULL);
    assert_string_equal(text, "old");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_beyond_the_interval),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_layout_that_is_not_everywhere),
        cmocka_unit_test(test_two_problems),
        cmocka_unit_test(test_covers_the_plan),
        cmocka_unit_test(test_written_and_read),
        cmocka_unit_test(test_filter_and_interrupt),
        cmocka_unit_test(test_plans_follow),
        cmocka_unit_test(test_forced_layout),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_variant_of_another_op),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
