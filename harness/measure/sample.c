/* Why rounds: on a shared machine block medians drift by a quarter within seconds. Identical code
 * measured in two sequential blocks "differs" in a fifth of all trials and more samples make that
 * worse; interleaved and paired it does in one to three of a hundred. Only the order is ours to
 * choose, so it is chosen: mirrored pairs of rounds cancel linear drift within a pair, and the
 * starting arm moves on so that no arm always follows the same neighbour.
 *
 * The ci rule looks at 10, 20, .. 100 rounds and then each time there are a tenth more. Stopping on
 * a look costs a little coverage (the interval is that of a fixed n); the comparison rules fix
 * their looks beforehand instead. */
#include "harness/measure/sample.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_LOOK = 10,
    WARM_UP_WINDOW = 5,
    CLOCK_READS_PER_SAMPLE = 1000,
};
#define MILLISECOND_NS   1000000ull
#define SECOND_NS        1000000000ull
#define STEADY_TOLERANCE 0.02

/* ---------------------------------------------------------------- names */

/* "2s", "500ms" -> ns; false unless the whole of [text, end) is that. */
static bool parse_time(const char *text, const char *end, uint64_t *out_ns) {
    char *unit;
    errno = 0;
    const double value = strtod(text, &unit);
    const size_t unit_bytes = (size_t)(end - unit);
    double scale_ns;
    if (unit == text || unit > end || errno) {
        return false;
    } else if (unit_bytes == 1 && unit[0] == 's') {
        scale_ns = 1e9;
    } else if (unit_bytes == 2 && unit[0] == 'm' && unit[1] == 's') {
        scale_ns = 1e6;
    } else {
        return false;
    }
    if (!(value > 0 && value <= 86400)) {
        return false;
    }
    *out_ns = (uint64_t)(value * scale_ns);
    return true;
}

static bool parse_rule(const char *text, const char *end, anemo_stop *stop) {
    char *rest;
    errno = 0;
    if (strncmp(text, "ci:", 3) == 0) {
        const double percent = strtod(text + 3, &rest);
        stop->kind = ANEMO_STOP_CI;
        stop->relative = percent / 100;
        stop->cap_ns = 10 * SECOND_NS;
        return rest != text + 3 && *rest == '%' && rest + 1 == end && percent > 0 && percent < 100;
    }
    if (strncmp(text, "time:", 5) == 0) {
        stop->kind = ANEMO_STOP_TIME;
        const bool good = parse_time(text + 5, end, &stop->time_ns);
        stop->cap_ns = stop->time_ns;
        return good;
    }
    if (strncmp(text, "n:", 2) == 0) {
        const long long count = strtoll(text + 2, &rest, 10);
        stop->kind = ANEMO_STOP_COUNT;
        stop->count = count;
        stop->cap_ns = 60 * SECOND_NS;
        return rest != text + 2 && rest == end && !errno && count >= 1 && count <= 10000000;
    }
    return false;
}

anemo_status anemo_stop_parse(const char *text, anemo_stop *out, anemo_error *err) {
    anemo_stop stop = {0};
    const char *comma = strchr(text, ',');
    bool good = parse_rule(text, comma ? comma : text + strlen(text), &stop);
    if (good && comma) {
        good = strncmp(comma, ",cap:", 5) == 0 &&
               parse_time(comma + 5, text + strlen(text), &stop.cap_ns);
    }
    if (!good) {
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "stop rule '%s': expected ci:PERCENT%%, time:SECONDSs (or ms) or n:COUNT, "
            "and after it ,cap:SECONDSs if wanted, for example ci:1%%,cap:20s",
            text);
    }
    *out = stop;
    return ANEMO_OK;
}

void anemo_stop_format(const anemo_stop *stop, char *text, size_t text_bytes) {
    const double cap_s = (double)stop->cap_ns / 1e9;
    if (stop->kind == ANEMO_STOP_CI) {
        snprintf(text, text_bytes, "ci:%g%%,cap:%gs", 100 * stop->relative, cap_s);
    } else if (stop->kind == ANEMO_STOP_TIME) {
        snprintf(text, text_bytes, "time:%gs", (double)stop->time_ns / 1e9);
    } else {
        snprintf(text, text_bytes, "n:%lld,cap:%gs", (long long)stop->count, cap_s);
    }
}

static const char *const caches_names[] = {"warm", "cold-weights", "cold"};

const char *anemo_caches_name(anemo_caches caches) {
    return caches_names[caches];
}

bool anemo_caches_from_name(const char *name, anemo_caches *out) {
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, caches_names[i]) == 0) {
            *out = (anemo_caches)i;
            return true;
        }
    }
    return false;
}

/* ---------------------------------------------------------------- the loop */

typedef struct sampler {
    const anemo_arm *arms;
    int32_t n_arms;
    const anemo_sampling *how;
    anemo_samples *out;
    int64_t capacity;
    int64_t *calls;   /* [n_arms] made so far */
    int32_t *order;   /* [n_arms] scratch */
    double *round_ns; /* [n_arms] of the last round, per call */
    double *round_joules, *round_switches;
    anemo_gpu_state *round_gpu; /* NULL: nobody watches */
    uint64_t spent_ns;
    int64_t next_look; /* rounds at which the ci rule looks again */
    anemo_error *err;
} sampler;

static double joules_now(const sampler *s) {
    return s->how->joules ? s->how->joules(s->how->joules_ctx) : NAN;
}

static bool interrupted(const sampler *s) {
    return s->how->interrupted && s->how->interrupted();
}

/* All that comes before the stretch. */
static anemo_status make_ready(sampler *s, int32_t a, int64_t calls) {
    const anemo_arm *arm = &s->arms[a];
    anemo_status status = arm->prepare ? arm->prepare(arm->ctx, s->err) : ANEMO_OK;
    if (!status && arm->ready) {
        status = arm->ready(arm->ctx, s->calls[a], calls, s->err);
    }
    if (!status && s->how->caches == ANEMO_CACHES_COLD) {
        status = s->how->evict(s->how->hooks_ctx, s->err);
    }
    return status;
}

static anemo_status make_calls(sampler *s, int32_t a, int64_t calls) {
    const anemo_arm *arm = &s->arms[a];
    const int64_t first = s->calls[a];
    anemo_status status = ANEMO_OK;
    s->calls[a] += calls;
    if (arm->queue) {
        return arm->queue(arm->ctx, first, calls, s->err);
    }
    for (int64_t c = 0; !status && c < calls; c++) {
        status = arm->run(arm->ctx, first + c, s->err);
    }
    return status;
}

static void watch(sampler *s, int32_t a) {
    if (s->round_gpu) {
        s->round_gpu[a] = anemo_gpu_watch_read(s->how->watch);
    }
}

/* By the clock, or by the timer: then the calls are still under way when the GPU is looked at. */
static anemo_status time_calls(sampler *s, int32_t a, int64_t calls, double *took_ns) {
    const anemo_timer *timer = s->how->timer;
    if (!timer) {
        const uint64_t start = anemo_clock_now(&s->how->clock);
        const anemo_status status = make_calls(s, a, calls);
        *took_ns = (double)(anemo_clock_now(&s->how->clock) - start);
        watch(s, a);
        return status;
    }
    anemo_status status = timer->begin(timer->ctx, s->err);
    status = status ? status : make_calls(s, a, calls);
    if (!status) {
        watch(s, a);
        status = timer->end(timer->ctx, took_ns, s->err);
    }
    return status;
}

/* One sample of every arm, into round_ns. */
static anemo_status one_round(sampler *s, int64_t round) {
    const int64_t calls = s->out->calls_per_sample;
    anemo_sample_order(round, s->n_arms, s->order);
    for (int32_t i = 0; i < s->n_arms; i++) {
        const int32_t a = s->order[i];
        double took_ns = 0;
        anemo_status status = make_ready(s, a, calls);
        const double before = joules_now(s), switches = anemo_noise_involuntary_switches();
        status = status ? status : time_calls(s, a, calls, &took_ns);
        if (status) {
            return status;
        }
        s->round_switches[a] = anemo_noise_involuntary_switches() - switches;
        s->round_joules[a] = (joules_now(s) - before) / (double)calls;
        s->round_ns[a] = took_ns / (double)calls;
        s->spent_ns += (uint64_t)took_ns;
    }
    return ANEMO_OK;
}

/* So many calls that the fastest arm's sample is 1000 clock reads long: the clock costs 0.1 %. A
 * GPU's first calls are slower than all others, so the count may grow while it warms up. */
static void choose_calls(sampler *s) {
    if (s->how->calls_per_sample > 0 || s->how->caches == ANEMO_CACHES_COLD) {
        return;
    }
    const anemo_clock_quality q = s->out->clock;
    const double least_ns = s->how->timer ? s->how->timer->least_ns : 0;
    const double wanted_ns =
        fmax(CLOCK_READS_PER_SAMPLE * fmax(q.overhead_ns, q.resolution_ns), least_ns);
    double fastest_ns = INFINITY;
    for (int32_t a = 0; a < s->n_arms; a++) {
        fastest_ns = fmin(fastest_ns, fmax(s->round_ns[a], 1));
    }
    const int64_t wanted = (int64_t)fmax(1, ceil(wanted_ns / fastest_ns));
    if (s->out->warm_up_rounds == 0 || wanted > 2 * s->out->calls_per_sample) {
        s->out->calls_per_sample = wanted;
    }
}

static double window_sum_of_medians(const double *window, int32_t n_arms) {
    double sum = 0;
    for (int32_t a = 0; a < n_arms; a++) {
        double one[WARM_UP_WINDOW];
        memcpy(one, window + (size_t)a * WARM_UP_WINDOW, sizeof one);
        anemo_stats_sort(one, WARM_UP_WINDOW);
        sum += one[WARM_UP_WINDOW / 2];
    }
    return sum;
}

/* Runs until the medians of two successive windows agree, or the cap. */
static anemo_status warm_up(sampler *s, double *window) {
    const uint64_t cap_ns = s->how->warm_up_ns ? s->how->warm_up_ns : 300 * MILLISECOND_NS;
    double before = INFINITY;
    anemo_samples *out = s->out;
    for (;;) {
        anemo_status status = one_round(s, out->warm_up_rounds);
        if (status) {
            return status;
        }
        if (out->warm_up_rounds == 0 || s->how->timer) {
            choose_calls(s);
        }
        const int64_t place = out->warm_up_rounds++ % WARM_UP_WINDOW;
        for (int32_t a = 0; a < s->n_arms; a++) {
            window[(size_t)a * WARM_UP_WINDOW + (size_t)place] = s->round_ns[a];
        }
        if (place == WARM_UP_WINDOW - 1) {
            const double now = window_sum_of_medians(window, s->n_arms);
            out->steady = fabs(now / before - 1) <= STEADY_TOLERANCE;
            before = now;
        }
        if (out->steady || s->spent_ns >= cap_ns || interrupted(s)) {
            s->spent_ns = 0;
            return ANEMO_OK;
        }
    }
}

static bool grow(double **values, int64_t capacity) {
    double *more = realloc(*values, (size_t)capacity * sizeof *more);
    *values = more ? more : *values;
    return more != NULL;
}

static bool grow_states(anemo_gpu_state **states, int64_t capacity) {
    anemo_gpu_state *more = realloc(*states, (size_t)capacity * sizeof *more);
    *states = more ? more : *states;
    return more != NULL;
}

static anemo_status keep_round(sampler *s, int64_t batch) {
    anemo_samples *out = s->out;
    if (out->n == s->capacity) {
        const int64_t capacity = s->capacity ? 2 * s->capacity : 64;
        int32_t *batches = realloc(out->batch, (size_t)capacity * sizeof *batches);
        out->batch = batches ? batches : out->batch;
        bool good = batches != NULL;
        for (int32_t a = 0; good && a < s->n_arms; a++) {
            good = grow(&out->ns[a], capacity) && grow(&out->switches[a], capacity) &&
                   (!out->joules || grow(&out->joules[a], capacity)) &&
                   (!out->gpu || grow_states(&out->gpu[a], capacity));
        }
        if (!good) {
            return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for %lld samples",
                              (long long)capacity);
        }
        s->capacity = capacity;
    }
    for (int32_t a = 0; a < s->n_arms; a++) {
        out->ns[a][out->n] = s->round_ns[a];
        out->switches[a][out->n] = s->round_switches[a];
        if (out->joules) {
            out->joules[a][out->n] = s->round_joules[a];
        }
        if (out->gpu) {
            out->gpu[a][out->n] = s->round_gpu[a];
        }
    }
    out->batch[out->n++] = (int32_t)batch;
    return ANEMO_OK;
}

static anemo_status keep_batch(sampler *s, const anemo_noise_reading *begin) {
    anemo_samples *out = s->out;
    const anemo_noise_reading end = anemo_noise_read();
    anemo_noise *more =
        realloc(out->batch_noise, (size_t)(out->n_batches + 1) * sizeof *out->batch_noise);
    if (!more) {
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for a batch's noise");
    }
    out->batch_noise = more;
    more[out->n_batches++] = anemo_noise_between(begin, &end);
    return ANEMO_OK;
}

static bool rule_met(sampler *s) {
    const anemo_stop *stop = &s->how->stop;
    const anemo_samples *out = s->out;
    if (stop->kind == ANEMO_STOP_TIME) {
        return s->spent_ns >= stop->time_ns;
    }
    if (stop->kind == ANEMO_STOP_COUNT) {
        return out->n >= stop->count;
    }
    if (out->n < s->next_look) {
        return false;
    }
    s->next_look = out->n + (out->n < 10 * FIRST_LOOK ? FIRST_LOOK : out->n / 10);
    for (int32_t a = 0; a < s->n_arms; a++) {
        const anemo_estimate e = anemo_stats_median(out->ns[a], out->n, 0.95);
        if (e.needs || !((e.hi - e.lo) / 2 <= stop->relative * e.value)) {
            return false;
        }
    }
    return true;
}

static anemo_status between(sampler *s, int64_t batch) {
    return s->how->between ? s->how->between(s->how->hooks_ctx, batch, s->err) : ANEMO_OK;
}

static anemo_status sample_batches(sampler *s) {
    const uint64_t batch_ns = s->how->batch_ns ? s->how->batch_ns : 150 * MILLISECOND_NS;
    bool done = false;
    int64_t batch = 0;
    for (; !done; batch++) {
        anemo_status status = between(s, batch);
        const anemo_noise_reading begin = anemo_noise_read();
        const uint64_t batch_end_ns = s->spent_ns + batch_ns;
        while (!status && !done && s->spent_ns < batch_end_ns) {
            status = one_round(s, s->out->n);
            if (!status) {
                status = keep_round(s, batch);
            }
            s->out->rule_met = !status && rule_met(s);
            s->out->interrupted = interrupted(s);
            done = s->out->rule_met || s->out->interrupted || s->spent_ns >= s->how->stop.cap_ns;
        }
        status = status ? status : keep_batch(s, &begin);
        if (status) {
            return status;
        }
    }
    return between(s, batch);
}

static anemo_status sample_all(sampler *s) {
    double *window = calloc((size_t)s->n_arms * WARM_UP_WINDOW, sizeof *window);
    if (!window) {
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for the sampler");
    }
    anemo_status status = warm_up(s, window);
    free(window);
    if (status) {
        return status;
    }
    const anemo_noise_reading before = anemo_noise_read();
    status = sample_batches(s);
    const anemo_noise_reading after = anemo_noise_read();
    s->out->noise = anemo_noise_between(&before, &after);
    s->out->sampling_ns = (double)s->spent_ns;
    return status;
}

/* What the loop needs beside the samples. */
static bool allocate(sampler *s) {
    const size_t n = (size_t)s->n_arms;
    anemo_samples *out = s->out;
    out->ns = calloc(n, sizeof *out->ns);
    out->switches = calloc(n, sizeof *out->switches);
    out->joules = s->how->joules ? calloc(n, sizeof *out->joules) : NULL;
    out->gpu = s->how->watch ? calloc(n, sizeof(anemo_gpu_state *)) : NULL;
    s->calls = calloc(n, sizeof *s->calls);
    s->order = calloc(n, sizeof *s->order);
    s->round_ns = calloc(n, sizeof *s->round_ns);
    s->round_joules = calloc(n, sizeof *s->round_joules);
    s->round_switches = calloc(n, sizeof *s->round_switches);
    s->round_gpu = s->how->watch ? calloc(n, sizeof *s->round_gpu) : NULL;
    return out->ns && out->switches && s->calls && s->order && s->round_ns && s->round_joules &&
           s->round_switches && (!s->how->joules || out->joules) &&
           (!s->how->watch || (out->gpu && s->round_gpu));
}

anemo_status anemo_sample(const anemo_arm *arms, int32_t n_arms, const anemo_sampling *how,
                          anemo_samples *out, anemo_error *err) {
    *out =
        (anemo_samples){.n_arms = n_arms,
                        .calls_per_sample = how->calls_per_sample > 0 ? how->calls_per_sample : 1};
    out->clock = how->timer ? how->timer->quality : anemo_clock_measure(&how->clock);
    sampler s = {.arms = arms,
                 .n_arms = n_arms,
                 .how = how,
                 .out = out,
                 .next_look = FIRST_LOOK,
                 .err = err};
    const anemo_status status = allocate(&s)
                                    ? sample_all(&s)
                                    : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the sampler");
    free(s.calls);
    free(s.order);
    free(s.round_ns);
    free(s.round_joules);
    free(s.round_switches);
    free(s.round_gpu);
    if (status) {
        anemo_samples_free(out);
    }
    return status;
}

void anemo_samples_free(anemo_samples *samples) {
    for (int32_t a = 0; a < samples->n_arms; a++) {
        free(samples->ns ? samples->ns[a] : NULL);
        free(samples->joules ? samples->joules[a] : NULL);
        free(samples->gpu ? samples->gpu[a] : NULL);
        free(samples->switches ? samples->switches[a] : NULL);
    }
    free(samples->switches);
    free(samples->batch_noise);
    free(samples->ns);
    free(samples->joules);
    free(samples->gpu);
    free(samples->batch);
    *samples = (anemo_samples){0};
}

void anemo_sample_order(int64_t round, int32_t n_arms, int32_t *order) {
    const int64_t start = round / 2;
    for (int32_t i = 0; i < n_arms; i++) {
        const int32_t place = round % 2 ? n_arms - 1 - i : i;
        order[place] = (int32_t)((start + i) % n_arms);
    }
}
