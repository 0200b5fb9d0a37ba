/* Many sessions at once: what a mixed step of sessions gives is what each session gives alone, bit
 * by bit where the plan is batch-invariant, else nearly; whatever the chunks and the threads;
 * memory is bounded by the window, shared by forks, and does not grow while sessions come and go.
 * ANEMO_SCALE=full: the same at full size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/serve/drive.h"
#include "models/engine/plan.h"
#include "tests/support/random_model.h"
#include "tests/support/run_program.h"

enum { VOCAB = 485, SESSIONS = 16, PROMPT_MOST = 160, OUTPUT_MOST = 100 };

static anemo_error err;
static char *folder, *dense_folder;

static bool full_size(void) {
    const char *asked = getenv("ANEMO_SCALE");
    return asked != NULL && strcmp(asked, "full") == 0;
}

/* ---------------------------------------------------------------- time that the test moves */

/* A step lasts a second; nobody sleeps. */
static uint64_t steps_ns;

static uint64_t now_ns(void *ctx) {
    (void)ctx;
    return steps_ns;
}

static void jump(void *ctx, double seconds) {
    (void)ctx;
    steps_ns = (uint64_t)ceil(seconds * 1e9) + 1;
}

/* ---------------------------------------------------------------- a plan and its requests */

typedef struct bed {
    anemo_device *device;
    anemo_model *model;
    anemo_plan *plan;
    bool row_invariant; /* all variants of the plan say so */
} bed;

typedef struct setting {
    const char *requantise;
    const char *with; /* a rule, or NULL */
    bool dense, batch_invariant, blas;
    anemo_kv_type kv_type;
    int64_t window; /* as anemo_model_options.window */
    int32_t threads, sessions;
    int64_t context, step_tokens, kv_tokens;
} setting;

static void open_bed(bed *b, const setting *s) {
    const anemo_model_options model = {.requantise = s->requantise, .window = s->window};
    const char *const with[] = {s->batch_invariant ? "batch-invariant" : s->with, s->with};
    const anemo_plan_options options = {.limits = {.tokens_per_step = s->step_tokens,
                                                   .sessions = s->sessions,
                                                   .context = s->context,
                                                   .kv_tokens = s->kv_tokens,
                                                   .kv_type = s->kv_type,
                                                   .logits_rows = s->sessions},
                                        .with = with,
                                        .n_with = s->batch_invariant + (s->with != NULL)};
    *b = (bed){.row_invariant = true};
    if (anemo_device_create_cpu(s->threads, NULL, &b->device, &err) ||
        anemo_model_open(s->dense ? dense_folder : folder, &model, &b->model, &err) ||
        anemo_plan_create(b->model, b->device, &options, &b->plan, &err)) {
        fail_msg("%s", err.text);
    }
    const char *choice;
    for (int32_t i = 0; (choice = anemo_plan_choice(b->plan, i)) != NULL; i++) {
        const anemo_variant *v = anemo_variant_find(strrchr(choice, '=') + 1);
        b->row_invariant &= (v->traits & ANEMO_TRAIT_ROW_INVARIANT) != 0;
    }
}

static void close_bed(bed *b) {
    assert_int_equal(b->plan->pages.n_free, b->plan->pages.n_pages);
    anemo_plan_free(b->plan);
    anemo_model_close(b->model);
    for (int use = 0; use < ANEMO_MEM_USES; use++) {
        assert_int_equal(anemo_device_held_bytes(b->device, (anemo_memory_use)use), 0);
    }
    anemo_device_free(b->device);
}

static int32_t token_of(uint64_t seed, int64_t i) {
    return (int32_t)(3 + anemo_philox_uniform(seed, (uint64_t)i) * (VOCAB - 3));
}

typedef struct workload {
    anemo_request request[SESSIONS];
    int32_t prompt[SESSIONS][PROMPT_MOST], output[SESSIONS][OUTPUT_MOST];
    double token_s[SESSIONS][OUTPUT_MOST];
    float (*logits)[OUTPUT_MOST][VOCAB]; /* [SESSIONS], what each output was chosen from */
    int32_t only;                        /* the session that runs alone; -1: all */
} workload;

/* Lengths differ; arrivals are some steps apart, so that chunks meet decoding. */
static void fill_workload(workload *w, int32_t only) {
    w->only = only;
    w->logits = calloc(SESSIONS, sizeof *w->logits);
    assert_non_null(w->logits);
    for (int32_t s = 0; s < SESSIONS; s++) {
        anemo_request *r = &w->request[s];
        *r = (anemo_request){.arrival_s = 3.0 * s,
                             .prompt = w->prompt[s],
                             .n_prompt = 1 + (s * 53 + 90) % PROMPT_MOST,
                             .n_output = 20 + (s * 29) % (OUTPUT_MOST - 20),
                             .output = w->output[s],
                             .token_s = w->token_s[s]};
        for (int64_t i = 0; i < r->n_prompt; i++) {
            w->prompt[s][i] = token_of((uint64_t)s, i);
        }
    }
}

static int32_t greedy(const float *logits) {
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

static int32_t keep_logits(void *ctx, int32_t request, int64_t position, const float *logits) {
    workload *w = ctx;
    const int32_t s = w->only < 0 ? request : w->only;
    memcpy(w->logits[s][position], logits, sizeof w->logits[s][position]);
    return greedy(logits);
}

static void next_second(void *ctx, const anemo_drive_step *step) {
    (void)ctx, (void)step;
    steps_ns += 1000000000;
}

static anemo_drive_totals drive(const bed *b, const setting *s, workload *w, int64_t chunk,
                                bool sampler) {
    anemo_drive_totals totals;
    const anemo_drive how = {.plan = b->plan,
                             .limits = {.step_tokens = (int32_t)s->step_tokens,
                                        .sessions = s->sessions,
                                        .kv_pages = b->plan->pages.n_pages,
                                        .page_tokens = ANEMO_PAGE_TOKENS,
                                        .window = s->window > 0 ? s->window : 0},
                             .chunk_tokens = chunk,
                             .clock = {.name = "steps", .now_ns = now_ns},
                             .wait_until = jump,
                             .choose = sampler ? NULL : keep_logits,
                             .on_step = next_second,
                             .ctx = w};
    anemo_request *first = w->only < 0 ? w->request : &w->request[w->only];
    const int32_t n = w->only < 0 ? SESSIONS : 1;
    steps_ns = 0;
    if (anemo_drive_run(&how, first, n, &totals, &err)) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(totals.finished, n);
    return totals;
}

/* ---------------------------------------------------------------- mixed against alone */

/* Each session by itself: its prompt in one step, on one thread. */
static void run_alone(setting s, workload *w, bool sampler) {
    bed b;
    s.threads = 1;
    open_bed(&b, &s);
    for (int32_t i = 0; i < SESSIONS; i++) {
        w->only = i;
        w->request[i].arrival_s = 0;
        drive(&b, &s, w, 0, sampler);
    }
    close_bed(&b);
}

typedef struct agreement {
    int64_t tokens, different, divergences;
    double worst; /* largest difference of logits over the spread of the logits */
    double mean;  /* root mean square of the differences over the spread, mean of all outputs */
} agreement;

static double spread(const float *x) {
    double sum = 0, squares = 0;
    for (int32_t i = 0; i < VOCAB; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
    }
    return sqrt(squares / VOCAB - sum / VOCAB * (sum / VOCAB));
}

static double top_two_margin(const float *x) {
    const int32_t best = greedy(x);
    double second = -INFINITY;
    for (int32_t i = 0; i < VOCAB; i++) {
        second = i != best && x[i] > second ? x[i] : second;
    }
    return x[best] - second;
}

/* Where a row's bits depend on its neighbours: how far logits may be off, as a part of their
 * spread, up to the first divergence, and that only where the reference could not tell its first
 * from its second. */
typedef struct tolerance {
    double worst, mean; /* as in `agreement`; 0: equal to the bit */
} tolerance;

static const tolerance to_the_bit = {0, 0};

/* Another order of adding up. */
static const tolerance other_order = {1e-4, 1e-5};

/* Activations in 8 bits or in bf16. A value rounded to 8 bits in a group of 32 is off by a step /
 * sqrt(12), a step being max|x| / 127, and the largest of 32 normal values is 2.07 on average:
 * 0.0047 of x. bf16 rounds x and w to 8 bits of mantissa, each off by 0.0016 of itself: 0.0023. The
 * two forms of a product are therefore apart by 0.0052 of it. A token's logits have 9 products
 * behind them here (2 layers of qkv, o, gate and up, down; the output), added up as independent
 * errors 0.0157. What is between them amplifies: scores of a standard deviation of 2.25 (1.5 x 1.5)
 * pass the softmax, so that a weight is off by 2.25 sqrt(2) 0.0052 of itself and what attention
 * gives by up to sqrt(1 + 2 2.25^2) times a product's own error, 3.3, in 2 of the 9:
 * 0.0052 sqrt(7 + 2 3.3^2) = 0.028. Twice that is the mean's tolerance, for the past's keys and
 * values, which were made in the other form, too. The worst of 485 logits of 900
 * outputs lies at 4.7 standard deviations, and an output whose attention is peaked may be off by
 * twice the mean: 4.7 x 2 x 0.056 = 0.52. Attention of the prompt in bf16 rounds queries and
 * weights by the 0.0016 above, which adds nothing to 0.028 that shows. */
static const tolerance other_activations = {0.52, 0.056};

static void compare(const workload *a, const workload *b, tolerance bound, agreement *out) {
    *out = (agreement){0};
    for (int32_t s = 0; s < SESSIONS; s++) {
        for (int64_t t = 0; t < a->request[s].n_output; t++) {
            const float *x = a->logits[s][t], *y = b->logits[s][t];
            out->tokens++;
            if (bound.worst == 0) {
                if (memcmp(x, y, sizeof a->logits[s][t]) != 0) {
                    fail_msg("session %d, output %lld: logits differ", s, (long long)t);
                }
                continue;
            }
            double worst = 0, squares = 0;
            for (int32_t i = 0; i < VOCAB; i++) {
                const double difference = fabs((double)x[i] - y[i]);
                worst = difference > worst || isnan(difference) ? difference : worst;
                squares += difference * difference;
            }
            out->different += worst > 0;
            worst /= spread(x);
            assert_true(worst <= bound.worst);
            out->worst = fmax(out->worst, worst);
            out->mean += sqrt(squares / VOCAB) / spread(x);
            if (a->output[s][t] != b->output[s][t]) {
                assert_true(top_two_margin(x) <= 2 * bound.worst * spread(x));
                out->divergences++;
                break; /* from here on they are different texts */
            }
        }
    }
    out->mean /= (double)out->tokens;
    assert_true(out->mean <= bound.mean);
}

static int64_t tokens_of(const workload *w) {
    int64_t n = 0;
    for (int32_t s = 0; s < SESSIONS; s++) {
        n += w->request[s].n_prompt + w->request[s].n_output;
    }
    return n;
}

static const int64_t chunks[] = {1, 7, 64, 0}; /* 0: all */

/* Returns the outputs that were not equal to the bit. */
static int64_t mixed_against_alone(setting s, tolerance bound) {
    int64_t different = 0;
    workload *alone = calloc(1, sizeof *alone), *mixed = calloc(1, sizeof *mixed);
    assert_non_null(alone);
    assert_non_null(mixed);
    fill_workload(alone, 0);
    assert_true(tokens_of(alone) >= 2000);
    run_alone(s, alone, false);
    for (int c = 0; c < 4; c++) {
        for (s.threads = 1; s.threads <= 2; s.threads++) {
            bed b;
            agreement found;
            open_bed(&b, &s);
            assert_true(b.row_invariant || !s.batch_invariant);
            assert_true(!b.row_invariant || !s.blas);
            fill_workload(mixed, -1);
            const anemo_drive_totals totals = drive(&b, &s, mixed, chunks[c], false);
            assert_true(totals.steps < tokens_of(mixed) / 2); /* steps were shared */
            compare(alone, mixed, bound, &found);
            /* A text that diverged is not compared further. */
            assert_true(found.tokens > (found.divergences > 0 ? 6 * SESSIONS : 500));
            different += found.different;
            if (bound.worst > 0) {
                print_message("chunk %lld, %d threads: %lld outputs, %lld not equal to the bit, "
                              "worst %.1e of the spread, mean %.1e, %lld divergences\n",
                              (long long)chunks[c], s.threads, (long long)found.tokens,
                              (long long)found.different, found.worst, found.mean,
                              (long long)found.divergences);
            }
            close_bed(&b);
            free(mixed->logits);
        }
    }
    free(alone->logits);
    free(alone);
    free(mixed);
    return different;
}

static const setting plain = {.batch_invariant = true,
                              .window = 0,
                              .sessions = SESSIONS,
                              .context = PROMPT_MOST + OUTPUT_MOST,
                              .step_tokens = 200};

static void mixed_is_alone(void **state) {
    (void)state;
    mixed_against_alone(plain, to_the_bit);
}

static void mixed_is_alone_q4_window(void **state) {
    (void)state;
    setting s = plain;
    s.requantise = "q4_0";
    s.kv_type = ANEMO_KV_Q8;
    s.window = 40;
    mixed_against_alone(s, to_the_bit);
}

/* Where a plan may, it multiplies the many rows of a prompt with activations that are not rounded
 * to 8 bits: what it does by itself, and the same forced with instructions that more machines have.
 */
static void mixed_is_near_alone_with_other_activations(void **state) {
    (void)state;
    setting s = plain;
    s.dense = true;
    s.requantise = "q4_0";
    s.batch_invariant = false;
    mixed_against_alone(s, other_activations); /* without such instructions they are the same */
    s.with = "qgemm:m=64..=qgemm_w4a16_tile_avx512bf16";
    const anemo_variant *v = anemo_variant_find("qgemm_w4a16_tile_avx512bf16");
    if (v == NULL || (v->needs.cpu_features & ~anemo_cpu_features()) != 0) {
        skip();
    }
    assert_true(mixed_against_alone(s, other_activations) > 0);
}

/* A BLAS adds up in an order of its own for each number of rows. */
static void mixed_is_near_alone_with_blas(void **state) {
    (void)state;
    setting s = plain;
    s.batch_invariant = false;
    s.blas = true;
    s.with = "qgemm=qgemm_openblas";
    if (anemo_variant_find("qgemm_openblas") == NULL) {
        skip();
    }
    assert_true(mixed_against_alone(s, other_order) > 0);
}

/* The engine's own sampler: the same ids whoever else is in the step, also after a preemption. */
static void sampled_ids_are_the_same(void **state) {
    (void)state;
    workload *alone = calloc(1, sizeof *alone), *mixed = calloc(1, sizeof *mixed);
    assert_non_null(alone);
    assert_non_null(mixed);
    fill_workload(alone, 0);
    fill_workload(mixed, -1);
    for (int32_t i = 0; i < SESSIONS; i++) {
        alone->request[i].sample = (anemo_sample_params){
            .temperature = 0.9f, .top_p = 0.95f, .seed = 7, .counter = (uint64_t)i << 32};
        mixed->request[i].sample = alone->request[i].sample;
    }
    run_alone(plain, alone, true);
    setting s = plain;
    s.threads = 2;
    s.kv_tokens = 10 * ANEMO_PAGE_TOKENS; /* too few for all: some have to give way */
    bed b;
    open_bed(&b, &s);
    const anemo_drive_totals totals = drive(&b, &s, mixed, 0, true);
    assert_true(totals.preemptions > 0);
    for (int32_t i = 0; i < SESSIONS; i++) {
        assert_memory_equal(alone->output[i], mixed->output[i],
                            (size_t)alone->request[i].n_output * sizeof(int32_t));
    }
    close_bed(&b);
    free(alone->logits);
    free(mixed->logits);
    free(alone);
    free(mixed);
}

/* ---------------------------------------------------------------- long prompts */

static anemo_session *new_session(const bed *b) {
    anemo_session *s;
    if (anemo_session_create(b->plan, &s, &err)) {
        fail_msg("%s", err.text);
    }
    return s;
}

/* Tokens [from, to) of a stream in chunks; logits after the last, unless NULL. Returns the most
 * pages in use after a step. */
static int32_t feed(const bed *b, anemo_session *s, int64_t from, int64_t to, int64_t chunk,
                    float *logits) {
    int32_t most = 0, tokens[512];
    for (int64_t at = from; at < to; at += chunk) {
        const int64_t n = to - at < chunk ? to - at : chunk;
        for (int64_t i = 0; i < n; i++) {
            tokens[i] = token_of(99, at + i);
        }
        const bool last = at + n == to && logits != NULL;
        const anemo_step_entry entry = {.session = s,
                                        .tokens = tokens,
                                        .n_tokens = (int32_t)n,
                                        .want = last ? ANEMO_WANT_LOGITS_LAST : ANEMO_WANT_NONE};
        anemo_step_result result;
        if (anemo_step_submit(b->plan, &entry, 1, &err) ||
            anemo_step_wait(b->plan, &result, &err)) {
            fail_msg("%s", err.text);
        }
        if (last) {
            memcpy(logits, result.logits, VOCAB * sizeof *logits);
        }
        const int32_t used = b->plan->pages.n_pages - b->plan->pages.n_free;
        most = used > most ? used : most;
    }
    return most;
}

/* 32768 tokens through a window of 4096 (or an eighth of both): the pool holds no more than the
 * window and one step. */
static void long_prompt_through_a_window(void **state) {
    (void)state;
    const int64_t window = full_size() ? 4096 : 512, prompt = 8 * window, chunk = 256;
    const int64_t pages = (window + chunk) / ANEMO_PAGE_TOKENS + 1;
    setting s = {.window = window,
                 .threads = 2,
                 .sessions = 1,
                 .context = prompt + 1,
                 .step_tokens = chunk,
                 .kv_type = ANEMO_KV_F16,
                 .kv_tokens = pages * ANEMO_PAGE_TOKENS};
    float logits[VOCAB];
    bed b;
    open_bed(&b, &s);
    anemo_session *session = new_session(&b);
    const int32_t most = feed(&b, session, 0, prompt, chunk, logits);
    print_message("%lld tokens through a window of %lld: at most %d pages of %d tokens\n",
                  (long long)prompt, (long long)window, most, ANEMO_PAGE_TOKENS);
    assert_int_equal(anemo_session_length(session), prompt);
    assert_true(most <= pages && most >= window / ANEMO_PAGE_TOKENS);
    assert_true(spread(logits) > 0);
    anemo_session_free(session);
    close_bed(&b);
}

/* The smaller case against the definition, which keeps everything in float32. */
static void windowed_prompt_is_right(void **state) {
    (void)state;
    setting s = {.window = 100, .threads = 2, .sessions = 1, .context = 700, .step_tokens = 128};
    float got[VOCAB], want[VOCAB], other[VOCAB];
    bed b;
    for (int i = 0; i < 3; i++) {
        open_bed(&b, &s);
        anemo_session *session = new_session(&b);
        feed(&b, session, 0, 650, 128, i == 0 ? got : i == 1 ? want : other);
        anemo_session_free(session);
        close_bed(&b);
        s.with = "swa=swa_ref";
        s.window = i == 1 ? 101 : s.window;
    }
    double worst = 0, apart = 0;
    for (int32_t i = 0; i < VOCAB; i++) {
        const double difference = fabs((double)got[i] - want[i]);
        worst = difference > worst || isnan(difference) ? difference : worst;
        apart = fmax(apart, fabs((double)got[i] - other[i]));
    }
    assert_true(worst <= other_order.worst * spread(want));
    assert_true(apart > 10 * other_order.worst * spread(want)); /* one key more would have shown */
}

/* 8 sessions behind one prefix of 2000 tokens: its pages exist once, its tokens were computed once,
 * and each continues as if it were alone. */
static void forks_share_a_prefix(void **state) {
    (void)state;
    enum { FORKS = 8, PREFIX = 2000, OWN = 30 };
    setting s = {.batch_invariant = true,
                 .window = 0,
                 .threads = 2,
                 .sessions = FORKS + 2,
                 .context = PREFIX + OWN,
                 .step_tokens = 250};
    float shared[VOCAB], alone[VOCAB];
    bed b;
    open_bed(&b, &s);
    anemo_session *base = new_session(&b), *fork[FORKS];
    const int32_t whole = feed(&b, base, 0, PREFIX, 250, NULL);
    assert_int_equal(whole, (PREFIX + ANEMO_PAGE_TOKENS - 1) / ANEMO_PAGE_TOKENS);
    int32_t most = 0;
    for (int32_t i = 0; i < FORKS; i++) {
        assert_int_equal(anemo_session_fork(base, &fork[i], &err), ANEMO_OK);
        most = feed(&b, fork[i], PREFIX, PREFIX + 1 + 3 * i, OWN, i == 7 ? shared : NULL);
    }
    print_message("prefix of %d tokens: %d pages; with %d sessions behind it: %d pages instead of "
                  "%d; %d instead of %d tokens computed before the first answers\n",
                  PREFIX, whole, FORKS, most, FORKS * whole, PREFIX + FORKS, FORKS * (PREFIX + 1));
    assert_true(most <= whole + FORKS * 2); /* each its own copy of the tail page and growth */
    anemo_session *single = new_session(&b);
    for (int32_t i = 0; i < FORKS - 1; i++) {
        anemo_session_free(fork[i]);
    }
    feed(&b, single, 0, PREFIX + 1 + 3 * 7, 250, alone);
    assert_memory_equal(shared, alone, sizeof alone);
    anemo_session_free(single);
    anemo_session_free(fork[FORKS - 1]);
    anemo_session_free(base);
    close_bed(&b);
}

/* ---------------------------------------------------------------- coming and going */

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 }; /* the sanitizer's own memory grows */
#else
enum { SANITIZED = 0 };
#endif

static int64_t resident_pages(void) {
    long long total, resident;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lld %lld", &total, &resident), 2);
    fclose(f);
    return resident;
}

typedef struct crowd {
    int64_t steps, after_warm_up;
} crowd;

static void watch_memory(void *ctx, const anemo_drive_step *step) {
    crowd *c = ctx;
    next_second(NULL, step);
    if (++c->steps == 1000) {
        c->after_warm_up = resident_pages();
    }
}

/* 10,000 steps (a tenth under a sanitizer) in which sessions come and go all the time. */
static void memory_does_not_grow(void **state) {
    (void)state;
    const int64_t steps = SANITIZED && !full_size() ? 1500 : 10000;
    enum { OUTPUTS = 12, PROMPT = 20 };
    const int32_t n = (int32_t)(steps * 6 / OUTPUTS);
    setting s = plain;
    s.threads = 2;
    s.sessions = 8;
    bed b;
    crowd c = {0};
    anemo_drive_totals totals;
    open_bed(&b, &s);
    int32_t(*output)[OUTPUTS] = calloc((size_t)n, sizeof *output), prompt[PROMPT];
    double(*token_s)[OUTPUTS] = calloc((size_t)n, sizeof *token_s);
    anemo_request *request = calloc((size_t)n, sizeof *request);
    assert_true(output && token_s && request);
    for (int32_t i = 0; i < PROMPT; i++) {
        prompt[i] = token_of(5, i);
    }
    for (int32_t i = 0; i < n; i++) {
        request[i] = (anemo_request){.arrival_s = 2.05 * i,
                                     .prompt = prompt,
                                     .n_prompt = 1 + i % PROMPT,
                                     .n_output = 1 + (i * 7) % OUTPUTS,
                                     .output = output[i],
                                     .token_s = token_s[i]};
        memset(output[i], 0x7f, sizeof output[i]); /* touched before anything is counted */
        memset(token_s[i], 0x7f, sizeof token_s[i]);
    }
    const anemo_drive how = {
        .plan = b.plan,
        .limits = {.step_tokens = 16, .sessions = s.sessions, .page_tokens = ANEMO_PAGE_TOKENS},
        .clock = {.name = "steps", .now_ns = now_ns},
        .wait_until = jump,
        .on_step = watch_memory,
        .ctx = &c};
    steps_ns = 0;
    if (anemo_drive_run(&how, request, n, &totals, &err)) {
        fail_msg("%s", err.text);
    }
    const int64_t grown = resident_pages() - c.after_warm_up;
    print_message("%lld steps, %d sessions: %lld pages of memory more than after 1000 steps\n",
                  (long long)totals.steps, n, (long long)grown);
    assert_true(totals.steps >= steps);
    assert_true(SANITIZED || grown * sysconf(_SC_PAGESIZE) < 1 << 18);
    free(request);
    free(output);
    free(token_s);
    close_bed(&b);
}

static int make_model(void **state) {
    (void)state;
    folder = test_folder_create();
    random_model_write_context(folder, 3, 1 << 16);
    dense_folder = test_folder_create();
    random_model_write_dense(dense_folder, 3, 1 << 16);
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    test_folder_remove(folder);
    test_folder_remove(dense_folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixed_is_alone),
        cmocka_unit_test(mixed_is_alone_q4_window),
        cmocka_unit_test(mixed_is_near_alone_with_other_activations),
        cmocka_unit_test(mixed_is_near_alone_with_blas),
        cmocka_unit_test(sampled_ids_are_the_same),
        cmocka_unit_test(long_prompt_through_a_window),
        cmocka_unit_test(windowed_prompt_is_right),
        cmocka_unit_test(forks_share_a_prefix),
        cmocka_unit_test(memory_does_not_grow),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
