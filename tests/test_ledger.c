/* The time ledger on a clock that the test moves: what is in no phase is unattributed, and nothing
 * else is; its arithmetic; what-if on a real plan; marks of every step nest and close. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/measure/bench_ledger.h"
#include "tests/support/random_model.h"
#include "tests/support/run_program.h"

static anemo_error err;

/* ---------------------------------------------------------------- a clock of our own */

enum { TICK_NS = 10 };
static uint64_t time_ns;

/* Every read takes a tick, so that each phase lasts at least one. */
static uint64_t fake_now(void *ctx) {
    (void)ctx;
    return time_ns += TICK_NS;
}

static const anemo_clock fake = {.name = "fake", .now_ns = fake_now};

/* Called by the plan between the router and the experts, outside all phases. */
static uint64_t busy_ns;
static int64_t observed;

static void busy_loop(void *ctx, int32_t layer, int64_t tokens, int32_t top_k,
                      const int32_t *experts, const float *weights) {
    (void)ctx, (void)layer, (void)tokens, (void)top_k, (void)experts, (void)weights;
    time_ns += busy_ns;
    observed++;
}

typedef struct fixture {
    char *folder;
    anemo_device *device;
    anemo_model *model;
    anemo_plan *plan;
    anemo_session *session;
} fixture;

static void open_all(fixture *f) {
    f->folder = test_folder_create();
    random_model_write(f->folder, 3);
    const anemo_plan_options options = {
        .limits = {.tokens_per_step = 8, .sessions = 1, .context = 64}, .on_route = busy_loop};
    if (anemo_device_create_cpu(2, NULL, &f->device, &err) ||
        anemo_model_open(f->folder, NULL, &f->model, &err) ||
        anemo_plan_create(f->model, f->device, &options, &f->plan, &err) ||
        anemo_session_create(f->plan, &f->session, &err)) {
        fail_msg("%s", err.text);
    }
}

static void close_all(fixture *f) {
    anemo_session_free(f->session);
    anemo_plan_free(f->plan);
    anemo_model_close(f->model);
    anemo_device_free(f->device);
    test_folder_remove(f->folder);
}

static void step(fixture *f) {
    static const int32_t tokens[] = {5, 6, 7};
    const anemo_step_entry entry = {
        .session = f->session, .tokens = tokens, .n_tokens = 3, .want = ANEMO_WANT_SAMPLE};
    anemo_step_result result;
    if (anemo_step_submit(f->plan, &entry, 1, &err) || anemo_step_wait(f->plan, &result, &err)) {
        fail_msg("%s", err.text);
    }
}

static double watched_step(fixture *f, anemo_ledger *ledger) {
    observed = 0;
    anemo_ledger_begin(ledger, &fake, f->plan, 1);
    step(f);
    anemo_ledger_end(ledger, f->plan);
    return anemo_ledger_unattributed(ledger->ns, ledger->total_ns);
}

/* A loop of 10 % of the step between two calls is 10 % unattributed, to the tick. */
static void busy_loop_is_unattributed(void **state) {
    (void)state;
    fixture f = {0};
    anemo_ledger quiet, busy;
    open_all(&f);
    busy_ns = 0;
    const double before = watched_step(&f, &quiet);
    assert_true(observed > 0);
    busy_ns = (uint64_t)(quiet.total_ns / 9) / (uint64_t)observed;
    const double after = watched_step(&f, &busy);
    for (int32_t p = 0; p < ANEMO_PHASES; p++) {
        assert_true(quiet.ns[p] == busy.ns[p]); /* no phase took the blame */
    }
    const double added = (double)busy_ns * (double)observed;
    assert_true(fabs(busy.total_ns - quiet.total_ns - added) < 0.5);
    const double expected = (before * quiet.total_ns + added) / busy.total_ns;
    assert_true(fabs(after - expected) < 1e-12);
    assert_true(added / busy.total_ns > 0.09 && added / busy.total_ns < 0.101);
    assert_true(after - before * quiet.total_ns / busy.total_ns > ANEMO_LEDGER_OPEN);
    close_all(&f);
}

static void watched_steps(fixture *f, anemo_ledger *ledger, int64_t n, int64_t every) {
    observed = 0;
    anemo_ledger_begin(ledger, &fake, f->plan, every);
    for (int64_t i = 0; i < n; i++) {
        step(f);
    }
    anemo_ledger_end(ledger, f->plan);
}

/* One step in three: a third of the reads, and the same shares, what no phase has among them. */
static void some_steps_stand_for_all(void **state) {
    (void)state;
    enum { STEPS = 10, EVERY = 3 };
    fixture f = {0};
    anemo_ledger all, some;
    open_all(&f);
    busy_ns = 0;
    watched_steps(&f, &all, 1, 1);
    busy_ns = (uint64_t)(all.total_ns / 9) / (uint64_t)observed;
    watched_steps(&f, &all, STEPS, 1);
    assert_int_equal(all.steps, STEPS);
    watched_steps(&f, &some, STEPS, EVERY);
    assert_int_equal(some.steps, STEPS);
    assert_int_equal(some.seen, 3); /* the second, fifth and eighth */
    const double third = (double)some.reads / (double)all.reads;
    assert_true(third > 0.28 && third < 0.33);
    assert_true(fabs(some.total_ns / all.total_ns - 1) < 0.01);
    for (int32_t p = 0; p < ANEMO_PHASES; p++) {
        assert_true(fabs(some.ns[p] - all.ns[p]) <= 0.01 * all.total_ns);
        assert_true((some.ns[p] > 0) == (all.ns[p] > 0));
    }
    const double open = anemo_ledger_unattributed(all.ns, all.total_ns);
    assert_true(open > ANEMO_LEDGER_OPEN);
    assert_true(fabs(anemo_ledger_unattributed(some.ns, some.total_ns) - open) < 0.01);
    close_all(&f);
}

/* As many are watched as a hundredth of the time pays for, and never fewer than four or so. */
static void reads_are_paid_for(void **state) {
    (void)state;
    const anemo_ledger l = {.reads = 5700, .steps = 63, .total_ns = 63 * 68e3};
    assert_int_equal(anemo_ledger_every(&l, 37), 5); /* 4.9 % */
    assert_int_equal(anemo_ledger_every(&l, 3), 1);
    assert_int_equal(anemo_ledger_every(&l, 500), 12);
    const anemo_ledger few = {.reads = 900, .steps = 9, .total_ns = 9 * 68e3};
    assert_int_equal(anemo_ledger_every(&few, 37), 1);
}

/* Each call of the forward pass had a phase; and after the ledger no mark is called any more. */
static void every_call_is_seen(void **state) {
    (void)state;
    fixture f = {0};
    anemo_ledger ledger;
    bool seen[ANEMO_PHASE_CLASS_COUNT] = {false};
    open_all(&f);
    busy_ns = 0;
    watched_step(&f, &ledger);
    assert_int_equal(ledger.phase, ANEMO_PHASE_NONE);
    for (int32_t p = 0; p < ANEMO_PHASES; p++) {
        seen[anemo_phase_describe(p).class] |= ledger.ns[p] > 0;
    }
    for (int c = 0; c < ANEMO_PHASE_CLASS_COUNT; c++) {
        if (!seen[c]) {
            fail_msg("no time in class %s", anemo_phase_class_name((anemo_phase_class)c));
        }
    }
    const uint64_t then_ns = time_ns;
    step(&f);
    assert_true(time_ns == then_ns);
    close_all(&f);
}

static bool meets(const char *phase, const char *rule) {
    char name[64];
    for (int32_t p = 0; p < ANEMO_PHASES; p++) {
        if (strcmp(anemo_ledger_name(p, name, sizeof name), phase) == 0) {
            return anemo_ledger_meets(p, rule);
        }
    }
    fail_msg("no phase %s", phase);
    return false;
}

static void rules_name_phases(void **state) {
    (void)state;
    assert_true(meets("qgemm@qkv", "qgemm=qgemm_c"));
    assert_true(meets("qgemm@qkv", "qgemm@qkv:m=1..4=qgemm_c"));
    assert_true(meets("quantize_act > qgemm@qkv", "qgemm@qkv=qgemm_c"));
    assert_true(meets("quantize_act > moe_experts", "quantize_act=quantize_act_c"));
    assert_true(meets("quantize_act > moe_experts", "quantize_act@a8_g32=quantize_act_c"));
    assert_true(meets("swa", "swa=swa_c"));
    assert_false(meets("qgemm@qkv", "qgemm@o=qgemm_c"));
    assert_false(meets("qgemm@qkv", "qgemm@qk=qgemm_c"));
    assert_false(meets("moe_experts", "moe_route=moe_route_c"));
    assert_false(meets("qgemm@qkv", "quantize_act=quantize_act_c"));
    assert_false(meets("host", "qgemm=qgemm_c"));
    assert_true(isnan(anemo_ledger_unattributed((double[ANEMO_PHASES]){0}, 0)));
}

/* ---------------------------------------------------------------- a whole run */

static bool look(void *ctx, anemo_record *record) {
    anemo_metric m;
    ++*(int32_t *)ctx;
    assert_true(anemo_record_find_metric(record, "ledger/norms", &m));
    assert_true(m.value > 0);
    assert_true(anemo_record_find_metric(record, "unattributed", &m));
    assert_true(anemo_record_find_metric(record, "ledger_ratio", &m));
    assert_true(anemo_record_find_metric(record, "what_if_error", &m));
    assert_string_equal(anemo_record_get_text(record, "solution", "what_if"), "swa=swa_ref");
    return true;
}

/* Shares and what is left over add up to 1; a swap is foretold for the calls that it names. */
static void run_adds_up(void **state) {
    (void)state;
    char *folder = test_folder_create(), path[512];
    random_model_write(folder, 3);
    snprintf(path, sizeof path, "%s/records.jsonl", folder);
    anemo_device *device;
    anemo_record_sink *sink;
    anemo_ledger_report report;
    anemo_bench_model_options options = {
        .spec = {.path = folder, .prompt_tokens = 20, .generated_tokens = 5, .seed = 4},
        .batch = {2},
        .n_batch = 1};
    assert_int_equal(anemo_stop_parse("n:6,cap:60s", &options.stop, NULL), ANEMO_OK);
    assert_int_equal(anemo_device_create_cpu(2, NULL, &device, &err), ANEMO_OK);
    assert_int_equal(anemo_record_sink_open(path, &sink, &err), ANEMO_OK);
    if (anemo_bench_ledger(device, &options, "swa=swa_ref", sink, &report, &err)) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(report.n_lines, 2);
    for (int32_t l = 0; l < 2; l++) {
        const anemo_ledger_line *line = &report.line[l];
        double sum = 0;
        for (int32_t p = 0; p < ANEMO_PHASES; p++) {
            assert_true(line->share[p] >= 0 && line->share[p] < 1);
            sum += line->share[p];
        }
        assert_true(sum > 0.2 && sum <= 1 + 1e-9);
        assert_true(line->plain_s.value > 0 && line->ratio.value > 0);
        const anemo_what_if_line *w = &report.what_if[l];
        assert_true(w->calls.value > 0 && w->foretold.value > 0 && w->measured.value > 0);
        assert_true(w->error.value > -1 && isfinite(w->error.value));
    }
    assert_null(strstr(report.choices[0], "swa_ref"));
    assert_non_null(strstr(report.choices[1], "swa_ref"));
    anemo_ledger_report_free(&report);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    int32_t n = 0;
    assert_int_equal(anemo_record_read(path, look, &n, NULL, &err), ANEMO_OK);
    assert_int_equal(n, 2);
    assert_int_equal(anemo_bench_ledger(device, &options, "swa=swa_nope", NULL, &report, &err),
                     ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "swa_nope"));
    anemo_ledger_report_free(&report);
    options.spec.kv_type = "f64";
    assert_int_equal(anemo_bench_ledger(device, &options, NULL, NULL, &report, &err),
                     ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "f64"));
    anemo_ledger_report_free(&report);
    anemo_device_free(device);
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(busy_loop_is_unattributed), cmocka_unit_test(some_steps_stand_for_all),
        cmocka_unit_test(reads_are_paid_for),        cmocka_unit_test(every_call_is_seen),
        cmocka_unit_test(rules_name_phases),         cmocka_unit_test(run_adds_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
