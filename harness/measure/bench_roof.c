#include "harness/measure/bench_roof.h"

#include "harness/measure/nvml.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ABOVE_CEILING_LIMIT 1.05 /* the record is invalid beyond this */
#define NOISY_HALF_WIDTH    0.05
#define STEAL_LIMIT         0.01

bench_ceilings bench_ceilings_of(anemo_probe *probe) {
    return (bench_ceilings){.probe = probe, .wanted = 1u << ANEMO_CEILING_READ};
}

void bench_ceilings_want(bench_ceilings *ceilings, anemo_ceiling ceiling) {
    ceilings->wanted |= 1u << ceiling;
}

void bench_ceilings_reset(bench_ceilings *ceilings) {
    ceilings->n = 0;
    ceilings->wanted = 1u << ANEMO_CEILING_READ;
}

void bench_ceilings_free(bench_ceilings *ceilings) {
    free(ceilings->value);
    *ceilings = (bench_ceilings){0};
}

anemo_status bench_ceilings_measure(void *ctx, int64_t batch, anemo_error *err) {
    bench_ceilings *c = ctx;
    if (batch >= c->capacity) {
        const int64_t capacity = 2 * batch + 8;
        void *value = realloc(c->value, (size_t)capacity * sizeof *c->value);
        if (!value) {
            return anemo_fail(err, ANEMO_E_MEMORY, "no memory for probe values");
        }
        c->value = value;
        c->capacity = capacity;
    }
    anemo_status status = ANEMO_OK;
    for (int i = 0; i < ANEMO_CEILING_COUNT; i++) {
        c->value[batch][i] = (anemo_probe_value){0};
        if (!status && (c->wanted >> i & 1)) {
            status = anemo_probe_measure(c->probe, (anemo_ceiling)i, &c->value[batch][i], err);
        }
    }
    c->n = batch + 1;
    return status;
}

anemo_status bench_ceilings_evict(void *ctx, anemo_error *err) {
    return anemo_probe_evict(((bench_ceilings *)ctx)->probe, err);
}

double bench_ceiling_beside(const bench_ceilings *ceilings, anemo_ceiling ceiling, int64_t batch) {
    double best = 0, sum = 0;
    int n = 0;
    for (int64_t b = batch; b <= batch + 1 && b < ceilings->n; b++, n++) {
        best = fmax(best, ceilings->value[b][ceiling].per_second);
        sum += ceilings->value[b][ceiling].per_second;
    }
    return ceiling == ANEMO_CEILING_READ && n > 0 ? sum / n : best;
}

/* Seconds that the call needs at least under the ceilings beside this batch. */
static double roof_seconds(const bench_ceilings *ceilings, const bench_roof *roof, int64_t batch,
                           anemo_ceiling *binding) {
    const double read = bench_ceiling_beside(ceilings, ANEMO_CEILING_READ, batch);
    const double peak = bench_ceiling_beside(ceilings, roof->arithmetic, batch);
    const double bytes_s = roof->bytes > 0 && read > 0 ? roof->bytes / read : 0;
    const double ops_s = roof->ops > 0 && peak > 0 ? roof->ops / peak : 0;
    *binding = bytes_s >= ops_s ? ANEMO_CEILING_READ : roof->arithmetic;
    return fmax(bytes_s, ops_s);
}

static double median_ceiling(const bench_ceilings *ceilings, anemo_ceiling ceiling,
                             double *scratch) {
    for (int64_t b = 0; b < ceilings->n; b++) {
        scratch[b] = ceilings->value[b][ceiling].per_second;
    }
    anemo_stats_sort(scratch, ceilings->n);
    return ceilings->n > 0 ? anemo_stats_quantile(scratch, ceilings->n, 0.5) : 0;
}

/* Is any sample faster than hardware can be? */
static void look_for_defect(const anemo_samples *samples, int32_t arm,
                            const bench_ceilings *ceilings, const bench_roof *roof,
                            bench_result *out) {
    const double read = ceilings->peak[ANEMO_CEILING_READ], peak = ceilings->peak[roof->arithmetic];
    const double bytes_s = read > 0 ? roof->certain_bytes / read : 0;
    const double ops_s = peak > 0 ? roof->ops / peak : 0;
    const double least_s = fmax(bytes_s, ops_s);
    double fastest_s = INFINITY;
    for (int64_t i = 0; i < samples->n; i++) {
        const double took_s = samples->ns[arm][i] * 1e-9;
        out->impossible += !(took_s >= least_s);
        fastest_s = fmin(fastest_s, took_s);
    }
    if (out->impossible) {
        const bool memory = bytes_s >= ops_s;
        snprintf(out->defect, sizeof out->defect,
                 "%lld of %lld samples cannot be: %.4g us, and the hardware needs %.4g us for %.4g "
                 "%s at its peak of %.4g %s",
                 (long long)out->impossible, (long long)samples->n, fastest_s * 1e6, least_s * 1e6,
                 (memory ? roof->certain_bytes : roof->ops) * (memory ? 1e-6 : 1e-9),
                 memory ? "MB" : "GOP", (memory ? read : peak) * 1e-9, memory ? "GB/s" : "GOP/s");
    }
}

/* Median of a field over the samples that told it; NaN: none did. */
static double median_state(const anemo_gpu_state *states, int64_t n, size_t at, double *scratch,
                           double *lowest) {
    int64_t told = 0;
    for (int64_t i = 0; i < n; i++) {
        double value;
        memcpy(&value, (const char *)&states[i] + at, sizeof value);
        if (isfinite(value)) {
            scratch[told++] = value;
        }
    }
    anemo_stats_sort(scratch, told);
    *lowest = told ? scratch[0] : NAN;
    return told ? anemo_stats_quantile(scratch, told, 0.5) : NAN;
}

static bench_gpu_state gpu_state_of(const anemo_samples *samples, int32_t arm, double *scratch) {
    bench_gpu_state s = {.watched = samples->gpu != NULL};
    double unused;
    if (!s.watched) {
        return s;
    }
    const anemo_gpu_state *states = samples->gpu[arm];
    s.multiprocessor_hz = median_state(
        states, samples->n, offsetof(anemo_gpu_state, multiprocessor_hz), scratch, &s.lowest_hz);
    s.memory_hz =
        median_state(states, samples->n, offsetof(anemo_gpu_state, memory_hz), scratch, &unused);
    s.watts = median_state(states, samples->n, offsetof(anemo_gpu_state, watts), scratch, &unused);
    for (int64_t i = 0; i < samples->n; i++) {
        s.throttle_told = s.throttle_told || states[i].throttle_told;
        s.throttled += states[i].throttle != 0;
        s.throttle |= states[i].throttle;
    }
    return s;
}

anemo_status bench_evaluate(const anemo_samples *samples, int32_t arm,
                            const bench_ceilings *ceilings, const bench_roof *roof,
                            bench_result *out, anemo_error *err) {
    *out = (bench_result){0};
    const int64_t n = samples->n, size = n > ceilings->n ? n : ceilings->n;
    double *value = malloc((size_t)(size > 0 ? size : 1) * sizeof *value);
    if (!value) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %lld samples", (long long)n);
    }
    int64_t bound_by_arithmetic = 0;
    for (int64_t i = 0; i < n; i++) {
        anemo_ceiling binding;
        const double least_s = roof_seconds(ceilings, roof, samples->batch[i], &binding);
        value[i] = least_s / (samples->ns[arm][i] * 1e-9);
        out->above_ceiling += value[i] > 1;
        bound_by_arithmetic += binding != ANEMO_CEILING_READ;
    }
    out->binding = 2 * bound_by_arithmetic > n ? roof->arithmetic : ANEMO_CEILING_READ;
    anemo_stats_sort(value, n);
    out->roof = anemo_stats_median_sorted(value, n, 0.95);
    out->invalid = out->roof.lo > ABOVE_CEILING_LIMIT;
    out->small_probe = ceilings->probe && anemo_probe_buffer_bytes(ceilings->probe) <
                                              2 * anemo_probe_cache_bytes(ceilings->probe);
    look_for_defect(samples, arm, ceilings, roof, out);
    out->invalid = out->invalid || out->impossible;
    out->gpu = gpu_state_of(samples, arm, value);
    if (out->roof.value == 0) {
        out->roof.value = out->roof.lo = out->roof.hi = NAN;
    }
    for (int64_t i = 0; i < n; i++) {
        value[i] = samples->ns[arm][i] * 1e-9;
    }
    anemo_stats_sort(value, n);
    out->time_s = anemo_stats_median_sorted(value, n, 0.95);
    out->outliers = anemo_stats_outliers(value, n);
    for (int c = 0; c < ANEMO_CEILING_COUNT; c++) {
        out->ceiling[c] = median_ceiling(ceilings, (anemo_ceiling)c, value);
    }
    free(value);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- records */

static void record_reasons(anemo_record *record, const anemo_samples *samples,
                           const bench_result *result) {
    const anemo_estimate *t = &result->time_s;
    anemo_record_reason(record, "one-occasion", false);
    if (result->impossible) {
        anemo_record_reason(record, "faster-than-hardware", true);
    } else if (result->invalid) {
        anemo_record_reason(record, "above-ceiling", true);
    }
    if (result->gpu.throttled) {
        anemo_record_reason(record, "throttled", false);
    }
    if (result->small_probe) {
        anemo_record_reason(record, "small-probe-buffer", false);
    }
    if (t->needs) {
        anemo_record_reason(record, "too-few-samples", false);
    }
    if (!samples->rule_met) {
        anemo_record_reason(record, samples->interrupted ? "interrupted" : "stopped-by-cap", false);
    }
    if (!samples->steady) {
        anemo_record_reason(record, "not-steady", false);
    }
    if (!((t->hi - t->lo) / 2 <= NOISY_HALF_WIDTH * t->value)) {
        anemo_record_reason(record, "noisy", false);
    }
    if (samples->noise.steal_fraction > STEAL_LIMIT) {
        anemo_record_reason(record, "steal", false);
    }
}

/* What disturbed each sample: its own involuntary switches, and what its batch says of the rest. */
static void record_sample_noise(anemo_record *record, const anemo_samples *samples, int32_t arm,
                                double *scratch) {
    static const struct {
        const char *key;
        size_t at;
        double unit;
    } of_batch[] = {{"steal_fraction", offsetof(anemo_noise, steal_fraction), 1},
                    {"pressure_fraction", offsetof(anemo_noise, pressure_fraction), 1},
                    {"frequency_hz", offsetof(anemo_noise, frequency_khz), 1e3}};
    const size_t n = (size_t)samples->n;
    if (!samples->switches || !samples->batch_noise) {
        return;
    }
    anemo_record_sample_noise(record, "involuntary_switches", samples->switches[arm], n);
    for (size_t k = 0; k < sizeof of_batch / sizeof *of_batch; k++) {
        for (size_t i = 0; i < n; i++) {
            const char *noise = (const char *)&samples->batch_noise[samples->batch[i]];
            double value;
            memcpy(&value, noise + of_batch[k].at, sizeof value);
            scratch[i] = value * of_batch[k].unit;
        }
        anemo_record_sample_noise(record, of_batch[k].key, scratch, n);
    }
}

/* The GPU's state beside each sample. */
static void record_gpu_samples(anemo_record *record, const anemo_samples *samples, int32_t arm,
                               double *scratch) {
    static const struct {
        const char *key;
        size_t at;
    } told[] = {{"multiprocessor_hz", offsetof(anemo_gpu_state, multiprocessor_hz)},
                {"gpu_memory_hz", offsetof(anemo_gpu_state, memory_hz)},
                {"gpu_watts", offsetof(anemo_gpu_state, watts)}};
    const size_t n = (size_t)samples->n;
    if (!samples->gpu) {
        return;
    }
    for (size_t k = 0; k < sizeof told / sizeof *told; k++) {
        for (size_t i = 0; i < n; i++) {
            memcpy(&scratch[i], (const char *)&samples->gpu[arm][i] + told[k].at, sizeof *scratch);
        }
        anemo_record_sample_noise(record, told[k].key, scratch, n);
    }
    for (size_t i = 0; i < n; i++) {
        const anemo_gpu_state *s = &samples->gpu[arm][i];
        scratch[i] = s->throttle_told ? (double)s->throttle : NAN;
    }
    anemo_record_sample_noise(record, "throttle", scratch, n);
}

static void record_time(anemo_record *record, const anemo_samples *samples, int32_t arm,
                        const anemo_estimate *t) {
    anemo_record_metric(record, "time", "s", true, t->value, t->lo, t->hi, t->n);
    double *raw = malloc((size_t)samples->n * sizeof *raw);
    for (int64_t i = 0; raw && i < samples->n; i++) {
        raw[i] = samples->ns[arm][i] * 1e-9;
    }
    if (raw) { /* without memory for the copy the record still holds the result */
        anemo_record_samples(record, raw, (size_t)samples->n);
        record_sample_noise(record, samples, arm, raw);
        record_gpu_samples(record, samples, arm, raw);
    }
    free(raw);
}

static void record_known(anemo_record *record, const char *key, double value) {
    if (isfinite(value)) {
        anemo_record_number(record, "sampling", key, value);
    }
}

void bench_record_noise(anemo_record *record, const anemo_noise *noise) {
    if (noise->involuntary_switches >= 0) {
        anemo_record_integer(record, "sampling", "involuntary_switches",
                             noise->involuntary_switches);
    }
    record_known(record, "steal_fraction", noise->steal_fraction);
    record_known(record, "busy_fraction", noise->busy_fraction);
    record_known(record, "pressure_fraction", noise->pressure_fraction);
    record_known(record, "frequency_hz", noise->frequency_khz * 1e3);
}

static void record_gpu(anemo_record *record, const bench_gpu_state *gpu) {
    char reasons[160];
    if (!gpu->watched) {
        return;
    }
    record_known(record, "multiprocessor_hz", gpu->multiprocessor_hz);
    record_known(record, "multiprocessor_low_hz", gpu->lowest_hz);
    record_known(record, "gpu_memory_hz", gpu->memory_hz);
    record_known(record, "gpu_watts", gpu->watts);
    if (gpu->throttle_told) {
        anemo_record_integer(record, "sampling", "throttled", gpu->throttled);
        anemo_nvml_throttle_names(gpu->throttle, reasons, sizeof reasons);
        anemo_record_text(record, "sampling", "throttle_reasons", reasons);
    }
}

void bench_record_result(anemo_record *record, const anemo_samples *samples, int32_t arm,
                         const anemo_sampling *how, const bench_result *result) {
    char stop[48], name[32];
    anemo_stop_format(&how->stop, stop, sizeof stop);
    anemo_record_text(record, "sampling", "stop", stop);
    anemo_record_text(record, "sampling", "interval",
                      "median, exact binomial order statistics, at least 95 %");
    anemo_record_text(record, "sampling", "clock", how->timer ? how->timer->name : how->clock.name);
    record_gpu(record, &result->gpu);
    anemo_record_number(record, "sampling", "clock_overhead_ns", samples->clock.overhead_ns);
    anemo_record_number(record, "sampling", "clock_resolution_ns", samples->clock.resolution_ns);
    anemo_record_integer(record, "sampling", "warmup", samples->warm_up_rounds);
    anemo_record_integer(record, "sampling", "calls_per_sample", samples->calls_per_sample);
    anemo_record_integer(record, "sampling", "outliers", result->outliers);
    anemo_record_integer(record, "sampling", "above_ceiling", result->above_ceiling);
    anemo_record_flag(record, "sampling", "interleaved", samples->n_arms > 1);
    bench_record_noise(record, &samples->noise);
    record_time(record, samples, arm, &result->time_s);
    if (isfinite(result->roof.value)) {
        const anemo_estimate *r = &result->roof;
        anemo_record_metric(record, "roof_fraction", "1", false, r->value, r->lo, r->hi, r->n);
        anemo_record_text(record, "sampling", "binding_ceiling",
                          anemo_ceiling_name(result->binding));
    }
    for (int c = 0; c < ANEMO_CEILING_COUNT; c++) {
        if (result->ceiling[c] > 0) {
            const double v = result->ceiling[c];
            snprintf(name, sizeof name, "ceiling_%s", anemo_ceiling_name((anemo_ceiling)c));
            anemo_record_metric(record, name, c == ANEMO_CEILING_READ ? "byte/s" : "op/s", false, v,
                                v, v, 1);
        }
    }
    record_reasons(record, samples, result);
}
