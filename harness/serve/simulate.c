/* See simulate.h. Time jumps from step to step; with nobody there, to the next arrival. */
#include "harness/serve/simulate.h"

#include "harness/check/random.h"
#include "harness/measure/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double on_curve(const anemo_step_curve *c, double x) {
    if (x <= 0)
        return 0;
    if (c->n == 0 || x > c->x[c->n - 1] * (1 + 1e-9))
        return NAN;
    if (x <= c->x[0])
        return c->seconds[0];
    int32_t i = 1;
    while (i < c->n - 1 && x > c->x[i])
        i++;
    double share = (x - c->x[i - 1]) / (c->x[i] - c->x[i - 1]);
    return c->seconds[i - 1] + share * (c->seconds[i] - c->seconds[i - 1]);
}

double anemo_step_seconds(const anemo_step_table *table, double prompt_tokens, double decoding) {
    const double prefill = on_curve(&table->prefill, prompt_tokens);
    const double decode = on_curve(&table->decode, decoding);
    return prefill + decode - fmin(table->shared_s, fmin(prefill, decode));
}

typedef struct request {
    double arrival_s, first_s, last_s;
    int64_t prompt, output;
    bool waited;
} request;

typedef struct queue {
    const anemo_schedule_limits *limits;
    const anemo_step_table *table;
    request *request;
    int32_t n, next; /* next: not yet arrived */
    anemo_schedule_job *job;
    int32_t *owner; /* request of each job */
    int32_t n_jobs;
    int32_t *tokens;
    bool *preempted;
    double now_s, busy_s;
} queue;

static int64_t draw_length(check_random *random, double mean, double sd, int64_t most) {
    double z = sd > 0 ? check_random_normal(random) : 0;
    double x = mean * exp(sd * z - sd * sd / 2);
    if (most > 0 && x > (double)most)
        return most;
    return x < 1 ? 1 : (int64_t)llround(x);
}

void anemo_load_draw(const anemo_load *load, anemo_load_request *out) {
    check_random random = check_random_seed(load->seed, 0x10ad, 0);
    double now = 0;
    for (int32_t i = 0; i < load->requests; i++) {
        now += -log(1 - check_random_uniform(&random)) / load->requests_per_s;
        out[i].arrival_s = now;
        out[i].prompt = draw_length(&random, load->in_mean, load->in_sd_log, load->in_max);
        out[i].output = draw_length(&random, load->out_mean, load->out_sd_log, load->out_max);
    }
}

static bool draw_requests(queue *q, const anemo_load *load) {
    anemo_load_request *drawn = malloc((size_t)q->n * sizeof *drawn);
    if (drawn)
        anemo_load_draw(load, drawn);
    for (int32_t i = 0; drawn && i < q->n; i++)
        q->request[i] = (request){
            .arrival_s = drawn[i].arrival_s, .prompt = drawn[i].prompt, .output = drawn[i].output};
    free(drawn);
    return drawn != NULL;
}

static void arrive(queue *q) {
    while (q->next < q->n && q->request[q->next].arrival_s <= q->now_s) {
        q->job[q->n_jobs] = (anemo_schedule_job){.prompt = q->request[q->next].prompt};
        q->owner[q->n_jobs++] = q->next++;
    }
}

/* After a step: tokens are held, next ones made; who is done leaves. */
static void settle(queue *q, anemo_simulation *out) {
    int32_t kept = 0;
    for (int32_t i = 0; i < q->n_jobs; i++) {
        anemo_schedule_job job = q->job[i];
        request *r = &q->request[q->owner[i]];
        if (q->preempted[i]) {
            job.running = false;
            job.held = 0;
            out->preemptions++;
        } else if (q->tokens[i] > 0) {
            job.running = true;
            job.held += q->tokens[i];
        } else if (!job.running)
            r->waited = true;
        if (q->tokens[i] > 0 && job.held == job.prompt + job.generated) {
            if (job.generated++ == 0)
                r->first_s = q->now_s;
            r->last_s = q->now_s;
        }
        if (job.generated >= r->output) {
            out->finished++;
            continue;
        }
        q->job[kept] = job;
        q->owner[kept++] = q->owner[i];
    }
    q->n_jobs = kept;
}

static anemo_status run(queue *q, anemo_simulation *out, anemo_error *err) {
    while (out->finished < q->n) {
        if (q->n_jobs == 0 && q->request[q->next].arrival_s > q->now_s)
            q->now_s = q->request[q->next].arrival_s;
        arrive(q);
        if (anemo_schedule_step(q->limits, q->job, q->n_jobs, q->tokens, q->preempted) == 0)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "a request of %lld tokens does not fit the cache of %lld pages",
                              (long long)(q->job[0].prompt + q->job[0].generated),
                              (long long)q->limits->kv_pages);
        double prompts = 0, decoding = 0;
        for (int32_t i = 0; i < q->n_jobs; i++) {
            bool decodes =
                q->job[i].running && q->job[i].prompt + q->job[i].generated - q->job[i].held == 1;
            decoding += q->tokens[i] > 0 && decodes;
            prompts += decodes ? 0 : q->tokens[i];
        }
        double seconds = anemo_step_seconds(q->table, prompts, decoding);
        if (!(seconds > 0))
            return anemo_fail(err, ANEMO_E_INPUT,
                              "a step of %.0f prompt tokens and %.0f decoding sequences lies above "
                              "what was measured (%.0f and %.0f)",
                              prompts, decoding,
                              q->table->prefill.n ? q->table->prefill.x[q->table->prefill.n - 1]
                                                  : 0,
                              q->table->decode.n ? q->table->decode.x[q->table->decode.n - 1] : 0);
        q->now_s += seconds;
        q->busy_s += seconds;
        out->steps++;
        settle(q, out);
    }
    return ANEMO_OK;
}

/* Median of the time to the first token over the requests [from, to). */
static double median_between(const queue *q, int32_t from, int32_t to, double *scratch) {
    for (int32_t i = from; i < to; i++)
        scratch[i - from] = q->request[i].first_s - q->request[i].arrival_s;
    anemo_stats_sort(scratch, to - from);
    return anemo_stats_quantile(scratch, to - from, 0.5);
}

static anemo_status summarise(const queue *q, anemo_simulation *out, anemo_error *err) {
    double *x = malloc((size_t)q->n * sizeof *x);
    int32_t n = 0, waited = 0;
    if (!x)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d requests", q->n);
    for (int32_t i = 0; i < q->n; i++)
        waited += q->request[i].waited;
    /* above capacity it grows in proportion to time: from the middle of the middle third to that of
     * the last one by 5/3 */
    double middle = median_between(q, q->n / 3, 2 * q->n / 3, x);
    double last = median_between(q, 2 * q->n / 3, q->n, x);
    out->growing =
        q->n >= 30 && last > 1.5 * middle && last - middle > 5 * q->busy_s / (double)out->steps;
    for (int32_t i = 0; i < q->n; i++)
        x[i] = q->request[i].first_s - q->request[i].arrival_s;
    anemo_stats_sort(x, q->n);
    out->ttft_p50_s = anemo_stats_quantile(x, q->n, 0.5);
    out->ttft_p95_s = anemo_stats_quantile(x, q->n, 0.95);
    for (int32_t i = 0; i < q->n; i++)
        if (q->request[i].output > 1)
            x[n++] =
                (q->request[i].last_s - q->request[i].first_s) / (double)(q->request[i].output - 1);
    anemo_stats_sort(x, n);
    out->tpot_p50_s = n ? anemo_stats_quantile(x, n, 0.5) : 0;
    out->tpot_p95_s = n ? anemo_stats_quantile(x, n, 0.95) : 0;
    out->duration_s = q->now_s - q->request[0].arrival_s;
    out->busy_share = q->busy_s / out->duration_s;
    out->waited_share = (double)waited / q->n;
    free(x);
    return ANEMO_OK;
}

anemo_status anemo_simulate(const anemo_schedule_limits *limits, const anemo_step_table *table,
                            const anemo_load *load, anemo_simulation *out, anemo_error *err) {
    size_t n = (size_t)load->requests;
    queue q = {.limits = limits, .table = table, .n = load->requests};
    anemo_status status = ANEMO_OK;
    *out = (anemo_simulation){0};
    if (load->requests < 1 || !(load->requests_per_s > 0))
        return anemo_fail(err, ANEMO_E_INPUT, "a load needs requests and a rate above 0");
    q.request = malloc(n * sizeof *q.request);
    q.job = malloc(n * sizeof *q.job);
    q.owner = malloc(n * sizeof *q.owner);
    q.tokens = malloc(n * sizeof *q.tokens);
    q.preempted = malloc(n * sizeof *q.preempted);
    if (!q.request || !q.job || !q.owner || !q.tokens || !q.preempted)
        status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for %zu requests", n);
    if (status == ANEMO_OK)
        status = draw_requests(&q, load)
                     ? run(&q, out, err)
                     : anemo_fail(err, ANEMO_E_MEMORY, "no memory for %zu requests", n);
    if (status == ANEMO_OK)
        status = summarise(&q, out, err);
    free(q.request);
    free(q.job);
    free(q.owner);
    free(q.tokens);
    free(q.preempted);
    return status;
}

/* ---------------------------------------------------------------- capacity */

static bool keeps(const anemo_simulation *s, double ttft_s, double tpot_s) {
    return (ttft_s <= 0 || s->ttft_p95_s <= ttft_s) && (tpot_s <= 0 || s->tpot_p95_s <= tpot_s) &&
           !s->growing;
}

anemo_status anemo_simulate_capacity(const anemo_schedule_limits *limits,
                                     const anemo_step_table *table, const anemo_load *load,
                                     double ttft_s, double tpot_s, double *requests_per_s,
                                     anemo_simulation *at, anemo_error *err) {
    anemo_load try = *load;
    anemo_simulation s;
    double lo = 0, hi = 0;
    *requests_per_s = 0;
    *at = (anemo_simulation){0};
    for (double rate = 1e-4; rate < 1e7 && hi == 0; rate *= 2) {
        try.requests_per_s = rate;
        anemo_status status = anemo_simulate(limits, table, &try, &s, err);
        if (status != ANEMO_OK)
            return status;
        if (keeps(&s, ttft_s, tpot_s)) {
            lo = rate;
            *at = s;
        } else
            hi = rate;
    }
    while (lo > 0 && hi > 1.01 * lo) {
        try.requests_per_s = sqrt(lo * hi);
        anemo_status status = anemo_simulate(limits, table, &try, &s, err);
        if (status != ANEMO_OK)
            return status;
        if (keeps(&s, ttft_s, tpot_s)) {
            lo = try.requests_per_s;
            *at = s;
        } else
            hi = try.requests_per_s;
    }
    *requests_per_s = lo;
    return ANEMO_OK;
}
