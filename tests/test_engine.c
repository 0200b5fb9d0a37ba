/* The engine's own promises, apart from the numbers that test_golden_logits.c proves: forks share a
 * past and then live apart, a window bounds memory, a refused step changes nothing, a plan refuses
 * what it cannot do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/engine.h"
#include "models/engine/choose.h"

#define MODELS    ANEMO_TEST_DIR "/data/models/"
#define VOCAB_MAX 1024

typedef struct fixture {
    anemo_device *device;
    anemo_model *model;
    anemo_plan *plan;
} fixture;

static anemo_error err;

static void open_model(fixture *f, const char *name) {
    char path[512];
    snprintf(path, sizeof path, MODELS "%s", name);
    memset(f, 0, sizeof *f);
    if (anemo_model_open(path, NULL, &f->model, &err) != ANEMO_OK ||
        anemo_device_create_cpu(2, NULL, &f->device, &err) != ANEMO_OK) {
        fail_msg("%s", err.text);
    }
}

static anemo_status make_plan(fixture *f, anemo_limits limits, const char *with) {
    const anemo_plan_options options = {
        .limits = limits, .with = with != NULL ? &with : NULL, .n_with = with != NULL};
    return anemo_plan_create(f->model, f->device, &options, &f->plan, &err);
}

static void close_all(fixture *f) {
    anemo_plan_free(f->plan);
    anemo_model_close(f->model);
    for (int use = 0; f->device != NULL && use < ANEMO_MEM_USES; use++) {
        assert_int_equal(anemo_device_held_bytes(f->device, (anemo_memory_use)use), 0);
    }
    anemo_device_free(f->device);
}

static anemo_session *new_session(fixture *f) {
    anemo_session *s;
    if (anemo_session_create(f->plan, &s, &err) != ANEMO_OK) {
        fail_msg("%s", err.text);
    }
    return s;
}

/* One step of one entry; logits after the last token are copied to `logits` unless it is NULL. */
static anemo_status one_step(fixture *f, anemo_session *s, const int32_t *tokens, int32_t n,
                             float *logits) {
    const anemo_step_entry entry = {.session = s,
                                    .tokens = tokens,
                                    .n_tokens = n,
                                    .want =
                                        logits != NULL ? ANEMO_WANT_LOGITS_LAST : ANEMO_WANT_NONE};
    anemo_step_result result;
    anemo_status status = anemo_step_submit(f->plan, &entry, 1, &err);
    if (status == ANEMO_OK) {
        status = anemo_step_wait(f->plan, &result, &err);
    }
    if (status == ANEMO_OK && logits != NULL) {
        memcpy(logits, result.logits,
               (size_t)anemo_model_describe(f->model)->vocab * sizeof *logits);
    }
    return status;
}

static void token_stream(fixture *f, int32_t *tokens, int n) {
    uint32_t state = 12345;
    for (int i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((state >> 8) % (uint32_t)anemo_model_describe(f->model)->vocab);
    }
}

static void assert_close(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (!(fabsf(a[i] - b[i]) <= 1e-4f)) {
            fail_msg("logit %lld: %g against %g", (long long)i, (double)a[i], (double)b[i]);
        }
    }
}

/* A fork in the middle of a page: both go on differently, each as if it had been alone. */
static void forks_live_apart(void **state) {
    (void)state;
    fixture f;
    open_model(&f, "mixtral-window");
    assert_int_equal(
        make_plan(&f, (anemo_limits){.tokens_per_step = 32, .sessions = 4, .context = 128}, NULL),
        ANEMO_OK);
    const int64_t vocab = anemo_model_describe(f.model)->vocab;
    int32_t past[20], left[9], right[9];
    static float a[VOCAB_MAX], b[VOCAB_MAX], alone_a[VOCAB_MAX], alone_b[VOCAB_MAX];
    token_stream(&f, past, 20);
    token_stream(&f, left, 9);
    for (int i = 0; i < 9; i++) {
        right[i] = (left[i] + 7) % (int32_t)vocab;
    }
    anemo_session *s = new_session(&f), *t;
    assert_int_equal(one_step(&f, s, past, 20, NULL), ANEMO_OK);
    assert_int_equal(anemo_session_fork(s, &t, &err), ANEMO_OK);
    for (int i = 0; i < 9; i++) { /* interleaved writes behind the shared tail */
        assert_int_equal(one_step(&f, s, left + i, 1, a), ANEMO_OK);
        assert_int_equal(one_step(&f, t, right + i, 1, b), ANEMO_OK);
    }
    anemo_session *u = new_session(&f), *v = new_session(&f);
    assert_int_equal(one_step(&f, u, past, 20, NULL), ANEMO_OK);
    assert_int_equal(one_step(&f, u, left, 9, alone_a), ANEMO_OK);
    assert_int_equal(one_step(&f, v, past, 20, NULL), ANEMO_OK);
    assert_int_equal(one_step(&f, v, right, 9, alone_b), ANEMO_OK);
    assert_close(a, alone_a, vocab);
    assert_close(b, alone_b, vocab);
    float apart = 0.0f;
    for (int64_t i = 0; i < vocab; i++) {
        apart = fmaxf(apart, fabsf(a[i] - b[i]));
    }
    assert_true(apart > 1e-2f); /* different continuations, different logits */
    anemo_session_free(s);
    anemo_session_free(t);
    anemo_session_free(u);
    anemo_session_free(v);
    close_all(&f);
}

/* Three sessions in one step, then once more: session i has n[i] tokens a step and wants want[i].
 * logits: [3][VOCAB_MAX], those after the last token of the second step, where any are wanted. */
static void two_mixed_steps(fixture *f, const int32_t *tokens, const anemo_want *want,
                            float (*logits)[VOCAB_MAX]) {
    static const int32_t n[3] = {9, 1, 12};
    const int64_t vocab = anemo_model_describe(f->model)->vocab;
    anemo_session *s[3] = {new_session(f), new_session(f), new_session(f)};
    for (int step = 0; step < 2; step++) {
        anemo_step_entry entry[3];
        anemo_step_result result[3];
        for (int i = 0; i < 3; i++) {
            entry[i] = (anemo_step_entry){.session = s[i],
                                          .tokens = tokens + 30 * i + n[i] * step,
                                          .n_tokens = n[i],
                                          .want = want[i]};
        }
        assert_int_equal(anemo_step_submit(f->plan, entry, 3, &err), ANEMO_OK);
        assert_int_equal(anemo_step_wait(f->plan, result, &err), ANEMO_OK);
        for (int i = 0; i < 3; i++) {
            if (result[i].rows > 0) {
                memcpy(logits[i], result[i].logits + (result[i].rows - 1) * vocab,
                       (size_t)vocab * sizeof **logits);
            }
        }
    }
    for (int i = 0; i < 3; i++) {
        anemo_session_free(s[i]);
    }
}

/* The last layer leaves out the rows whose logits nobody wants; the others are the same to the
 * bit. */
static void unwanted_rows_change_nothing(void **state) {
    (void)state;
    static const char *const models[] = {"mistral-full", "mixtral-window", "qwen3-moe"};
    static const anemo_want wants[][3] = {
        {ANEMO_WANT_NONE, ANEMO_WANT_LOGITS_LAST, ANEMO_WANT_LOGITS_ALL},
        {ANEMO_WANT_LOGITS_LAST, ANEMO_WANT_NONE, ANEMO_WANT_NONE},
        {ANEMO_WANT_LOGITS_ALL, ANEMO_WANT_SAMPLE, ANEMO_WANT_LOGITS_LAST},
        {ANEMO_WANT_NONE, ANEMO_WANT_NONE, ANEMO_WANT_NONE}};
    static const anemo_want all[3] = {ANEMO_WANT_LOGITS_ALL, ANEMO_WANT_LOGITS_ALL,
                                      ANEMO_WANT_LOGITS_ALL};
    static float whole[3][VOCAB_MAX], some[3][VOCAB_MAX];
    int32_t tokens[90];
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        fixture f;
        open_model(&f, models[m]);
        assert_int_equal(
            make_plan(&f, (anemo_limits){.tokens_per_step = 32, .sessions = 3, .context = 64},
                      "batch-invariant"),
            ANEMO_OK);
        const size_t bytes = (size_t)anemo_model_describe(f.model)->vocab * sizeof(float);
        token_stream(&f, tokens, 90);
        two_mixed_steps(&f, tokens, all, whole);
        for (size_t w = 0; w < sizeof wants / sizeof *wants; w++) {
            two_mixed_steps(&f, tokens, wants[w], some);
            for (int i = 0; i < 3; i++) {
                if (wants[w][i] == ANEMO_WANT_LOGITS_LAST || wants[w][i] == ANEMO_WANT_LOGITS_ALL) {
                    assert_memory_equal(some[i], whole[i], bytes);
                }
            }
        }
        close_all(&f);
    }
}

/* With a window of 8 a session of 400 tokens fits into a pool of three pages. */
static void window_bounds_memory(void **state) {
    (void)state;
    fixture f;
    open_model(&f, "mistral-window");
    const int64_t context = anemo_model_describe(f.model)->context_max;
    assert_true(context >= 300);
    assert_int_equal(
        make_plan(&f, (anemo_limits){.tokens_per_step = 16, .sessions = 1, .kv_tokens = 3 * 64},
                  NULL),
        ANEMO_OK);
    int32_t tokens[300];
    token_stream(&f, tokens, 300);
    anemo_session *s = new_session(&f);
    for (int at = 0; at < 300; at += 15) {
        if (one_step(&f, s, tokens + at, 15, NULL) != ANEMO_OK) {
            fail_msg("at %d: %s", at, err.text);
        }
    }
    assert_int_equal(anemo_session_length(s), 300);
    anemo_session_free(s);
    close_all(&f);
}

/* Without one, the same pool is refused in a sentence, and the session stays usable. */
static void full_pool_changes_nothing(void **state) {
    (void)state;
    fixture f;
    open_model(&f, "mistral-full");
    assert_int_equal(
        make_plan(
            &f,
            (anemo_limits){.tokens_per_step = 64, .sessions = 2, .context = 256, .kv_tokens = 128},
            NULL),
        ANEMO_OK);
    const int64_t vocab = anemo_model_describe(f.model)->vocab;
    static float before[VOCAB_MAX], after[VOCAB_MAX];
    int32_t tokens[129];
    token_stream(&f, tokens, 129);
    anemo_session *s = new_session(&f), *other = new_session(&f);
    assert_int_equal(one_step(&f, s, tokens, 40, before), ANEMO_OK);
    assert_int_equal(one_step(&f, other, tokens, 60, NULL), ANEMO_OK);
    assert_int_equal(one_step(&f, s, tokens + 40, 60, NULL), ANEMO_E_MEMORY);
    assert_non_null(strstr(err.text, "KV pages"));
    assert_int_equal(anemo_session_length(s), 40);
    anemo_session_free(other);
    assert_int_equal(one_step(&f, s, tokens + 40, 60, after), ANEMO_OK);
    anemo_session *alone = new_session(&f);
    assert_int_equal(one_step(&f, alone, tokens, 1, NULL), ANEMO_E_MEMORY);
    anemo_session_free(s);
    assert_int_equal(one_step(&f, alone, tokens, 50, NULL), ANEMO_OK);
    assert_int_equal(one_step(&f, alone, tokens + 50, 50, before), ANEMO_OK);
    assert_close(before, after, vocab);
    anemo_session_free(alone);
    close_all(&f);
}

static void bad_steps_are_refused(void **state) {
    (void)state;
    fixture f;
    open_model(&f, "mistral-full");
    assert_int_equal(
        make_plan(&f, (anemo_limits){.tokens_per_step = 8, .sessions = 2, .context = 16}, NULL),
        ANEMO_OK);
    const int32_t vocab = (int32_t)anemo_model_describe(f.model)->vocab;
    anemo_session *s = new_session(&f), *t = new_session(&f), *u;
    assert_int_equal(anemo_session_create(f.plan, &u, &err), ANEMO_E_INPUT);
    const int32_t good[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, high[] = {1, vocab}, low[] = {-1};
    assert_int_equal(one_step(&f, s, high, 2, NULL), ANEMO_E_INPUT);
    assert_int_equal(one_step(&f, s, low, 1, NULL), ANEMO_E_INPUT);
    assert_int_equal(one_step(&f, s, good, 9, NULL), ANEMO_E_INPUT); /* tokens_per_step */
    assert_int_equal(one_step(&f, s, good, 0, NULL), ANEMO_E_INPUT);
    assert_int_equal(one_step(&f, s, NULL, 1, NULL), ANEMO_E_INPUT); /* nothing was sampled */
    assert_int_equal(anemo_session_length(s), 0);
    const anemo_step_entry twice[] = {{.session = s, .tokens = good, .n_tokens = 1},
                                      {.session = s, .tokens = good, .n_tokens = 1}};
    assert_int_equal(anemo_step_submit(f.plan, twice, 2, &err), ANEMO_E_INPUT);
    const anemo_step_entry hot[] = {{.session = s,
                                     .tokens = good,
                                     .n_tokens = 1,
                                     .want = ANEMO_WANT_SAMPLE,
                                     .sample = {.temperature = NAN}}};
    assert_int_equal(anemo_step_submit(f.plan, hot, 1, &err), ANEMO_E_INPUT);
    anemo_step_result none;
    assert_int_equal(anemo_step_wait(f.plan, &none, &err), ANEMO_E_INPUT);
    assert_int_equal(one_step(&f, s, good, 8, NULL), ANEMO_OK);
    assert_int_equal(one_step(&f, s, good, 8, NULL), ANEMO_OK);
    assert_int_equal(one_step(&f, s, good, 1, NULL), ANEMO_E_INPUT); /* context */
    assert_int_equal(one_step(&f, t, good, 1, NULL), ANEMO_OK);
    anemo_session_free(s);
    anemo_session_free(t);
    close_all(&f);
}

/* Greedy decoding by sampled ids fed back in the engine equals argmax of logits fed back by hand.
 */
static void previous_result_feeds_back(void **state) {
    (void)state;
    fixture f;
    open_model(&f, "mixtral-window");
    assert_int_equal(
        make_plan(&f, (anemo_limits){.tokens_per_step = 16, .sessions = 2, .context = 64}, NULL),
        ANEMO_OK);
    const int64_t vocab = anemo_model_describe(f.model)->vocab;
    static float logits[VOCAB_MAX];
    const int32_t prompt[] = {3, 1, 4, 1, 5};
    anemo_session *s = new_session(&f), *t = new_session(&f);
    int32_t by_hand[12];
    assert_int_equal(one_step(&f, t, prompt, 5, logits), ANEMO_OK);
    for (int i = 0; i < 12; i++) {
        int32_t best = 0;
        for (int32_t v = 1; v < vocab; v++) {
            best = logits[v] > logits[best] ? v : best;
        }
        by_hand[i] = best;
        assert_int_equal(one_step(&f, t, &best, 1, logits), ANEMO_OK);
    }
    for (int i = 0; i < 12; i++) {
        const anemo_step_entry entry = {.session = s,
                                        .tokens = i == 0 ? prompt : NULL,
                                        .n_tokens = i == 0 ? 5 : 1,
                                        .want = ANEMO_WANT_SAMPLE};
        anemo_step_result result;
        assert_int_equal(anemo_step_submit(f.plan, &entry, 1, &err), ANEMO_OK);
        assert_int_equal(anemo_step_wait(f.plan, &result, &err), ANEMO_OK);
        assert_int_equal(result.id, by_hand[i]);
    }
    anemo_session_free(s);
    anemo_session_free(t);
    close_all(&f);
}

static void bad_plans_are_refused(void **state) {
    (void)state;
    const struct {
        anemo_limits limits;
        const char *with, *says;
    } cases[] = {
        {{.tokens_per_step = 0, .sessions = 1}, NULL, "tokens_per_step"},
        {{.tokens_per_step = 8, .sessions = 0}, NULL, "sessions"},
        {{.tokens_per_step = 8, .sessions = 1, .context = 1 << 30}, NULL, "context"},
        {{.tokens_per_step = 8, .sessions = 1, .kv_type = 9}, NULL, "kv_type"},
        {{.tokens_per_step = 8, .sessions = 1}, "qgemm=qgemm_nothing", "qgemm_nothing"},
        {{.tokens_per_step = 8, .sessions = 1}, "nothing=qgemm_c", "nothing"},
        {{.tokens_per_step = 8, .sessions = 1}, "qgemm", "OP[@ROLE]"},
        {{.tokens_per_step = 8, .sessions = 1}, "qgemm:m=0..4=qgemm_c", "m=LO..HI"},
        {{.tokens_per_step = 8, .sessions = 1}, "qgemm@nowhere=qgemm_c", "no such call"},
        {{.tokens_per_step = 8, .sessions = 1}, "swa=qgemm_c", "qgemm_c computes qgemm"},
        {{.tokens_per_step = 8, .sessions = 1},
         "moe_route=moe_route_c",
         "no such call"}, /* a dense model */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        open_model(&f, "mistral-full");
        assert_int_equal(make_plan(&f, cases[i].limits, cases[i].with), ANEMO_E_INPUT);
        if (strstr(err.text, cases[i].says) == NULL) {
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.text, cases[i].says);
        }
        close_all(&f);
    }
}

/* A forced variant is the one that runs, and says so; with a row range the rest keeps its own. */
static void forced_variants_are_named(void **state) {
    (void)state;
    fixture f;
    open_model(&f, "mistral-full");
    assert_int_equal(make_plan(&f, (anemo_limits){.tokens_per_step = 8, .sessions = 1},
                               "qgemm@o:m=2..3=qgemm_ref"),
                     ANEMO_OK);
    bool middle = false, first = false;
    for (int i = 0; anemo_plan_choice(f.plan, i) != NULL; i++) {
        const char *text = anemo_plan_choice(f.plan, i);
        middle |= strcmp(text, "qgemm@o:m=2..3=qgemm_ref") == 0;
        first |= strncmp(text, "qgemm@o:m=1..1=", 15) == 0 && strstr(text, "qgemm_ref") == NULL;
        assert_true(strncmp(text, "qgemm@qkv", 9) != 0 || strstr(text, "_ref") == NULL);
    }
    assert_true(middle && first);
    close_all(&f);
}

/* A batch-invariant plan has only row-invariant variants, and refuses a rule that brings another.
 */
static void batch_invariant_plans_keep_bits(void **state) {
    (void)state;
    const char *const with[] = {"batch-invariant", "qgemm:m=2..=qgemm_openblas"};
    const int32_t n = anemo_variant_find("qgemm_openblas") != NULL ? 2 : 1;
    for (int32_t n_with = 1; n_with <= n; n_with++) {
        const anemo_plan_options options = {
            .limits = {.tokens_per_step = 64, .sessions = 1}, .with = with, .n_with = n_with};
        fixture f;
        open_model(&f, "mistral-full");
        const anemo_status status = anemo_plan_create(f.model, f.device, &options, &f.plan, &err);
        assert_int_equal(status, n_with == 1 ? ANEMO_OK : ANEMO_E_INPUT);
        if (n_with == 2) {
            assert_non_null(strstr(err.text, "batch-invariant: qgemm_openblas of qgemm@"));
        }
        for (int i = 0; f.plan != NULL && anemo_plan_choice(f.plan, i) != NULL; i++) {
            const char *name = strrchr(anemo_plan_choice(f.plan, i), '=') + 1;
            assert_true(anemo_variant_find(name)->traits & ANEMO_TRAIT_ROW_INVARIANT);
        }
        close_all(&f);
    }
}

static bool runs_here(const char *name) {
    const anemo_variant *v = anemo_variant_find(name);
    return v != NULL && (v->needs.cpu_features & ~anemo_cpu_features()) == 0;
}

/* Attention rounds to bf16 only beside products with the model's matrices that round, too. */
static void attention_keeps_floats_where_products_do(void **state) {
    (void)state;
    static const char *const rounding = "qgemm_w16a16_tile_avx512bf16";
    char rule[64];
    snprintf(rule, sizeof rule, "qgemm@o=%s", rounding);
    for (int forced = 0; forced <= (runs_here(rounding) ? 1 : 0); forced++) {
        fixture f;
        int swa = 0, rounds = 0;
        open_model(&f, "mistral-full");
        assert_int_equal(make_plan(&f, (anemo_limits){.tokens_per_step = 64, .sessions = 1},
                                   forced ? rule : NULL),
                         ANEMO_OK);
        for (int i = 0; anemo_plan_choice(f.plan, i) != NULL; i++) {
            const char *text = anemo_plan_choice(f.plan, i);
            const char *act = anemo_variant_find(strrchr(text, '=') + 1)->act;
            swa += strncmp(text, "swa", 3) == 0;
            rounds += strncmp(text, "swa", 3) == 0 && act != NULL && strcmp(act, "bf16") == 0;
        }
        assert_true(swa > 0);
        assert_int_equal(rounds, forced && runs_here("swa_a16_split_amxbf16"));
        close_all(&f);
    }
}

/* A variant of experts says how many rows of one expert it wants; a step's tokens are shared out
 * among them. */
static void experts_are_chosen_by_their_rows(void **state) {
    (void)state;
    static const int experts[][2] = {
        {8, 2}, {64, 4}, {5, 3}}; /* and how many of them a token has */
    const anemo_weight_type type = {
        .code = ANEMO_CODE_LINEAR, .bits = 4, .group = 32, .scale = ANEMO_SCALE_F16};
    int found = 0;
    for (int i = 0; i < 3; i++) {
        anemo_chooser chooser = {.backend = ANEMO_CPU};
        anemo_choice choice = {.op = ANEMO_OP_MOE_EXPERTS, .role = ""};
        choice.problem.moe_experts =
            (anemo_moe_experts_problem){.size = sizeof choice.problem.moe_experts,
                                        .tokens_max = 4096,
                                        .n_experts = experts[i][0],
                                        .top_k = experts[i][1],
                                        .expert_end = experts[i][0],
                                        .d = 64,
                                        .ffn = 64,
                                        .gate = type,
                                        .up = type,
                                        .down = type};
        assert_int_equal(anemo_choose(&chooser, &choice, NULL, 4096, NULL), ANEMO_OK);
        for (int32_t r = 1; r < choice.n_ranges; r++, found++) {
            const int64_t rows = choice.range[r].variant->m_from, from = choice.range[r].m_lo;
            assert_true(from * experts[i][1] >= rows * experts[i][0]);
            assert_true((from - 1) * experts[i][1] < rows * experts[i][0]);
        }
    }
    if (found == 0) {
        skip(); /* no such variant for this processor */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_are_chosen_by_their_rows),
        cmocka_unit_test(attention_keeps_floats_where_products_do),
        cmocka_unit_test(forks_live_apart),
        cmocka_unit_test(unwanted_rows_change_nothing),
        cmocka_unit_test(window_bounds_memory),
        cmocka_unit_test(full_pool_changes_nothing),
        cmocka_unit_test(bad_steps_are_refused),
        cmocka_unit_test(previous_result_feeds_back),
        cmocka_unit_test(bad_plans_are_refused),
        cmocka_unit_test(forced_variants_are_named),
        cmocka_unit_test(batch_invariant_plans_keep_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
