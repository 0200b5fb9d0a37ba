#include "harness/measure/bench_gpu.h"

#include "harness/measure/placement.h"

#include <math.h>
#include <stdio.h>

anemo_status bench_gpu_open(anemo_device *device, const char *nvml, bench_gpu *out,
                            anemo_error *err) {
    *out = (bench_gpu){.device = device};
    if (anemo_device_backend(device) != ANEMO_CUDA) {
        return ANEMO_OK;
    }
    anemo_status status = anemo_device_create_cpu(0, NULL, &out->host, err);
    status = status ? status : anemo_event_timer_open(device, &out->timer, err);
    if (status) {
        bench_gpu_close(out);
        return status;
    }
    out->watch = anemo_gpu_watch_open(device, nvml, out->lack, sizeof out->lack);
    return ANEMO_OK;
}

void bench_gpu_close(bench_gpu *gpu) {
    anemo_event_timer_close(&gpu->timer);
    anemo_gpu_watch_close(gpu->watch);
    anemo_device_free(gpu->host);
    *gpu = (bench_gpu){0};
}

const anemo_timer *bench_gpu_timer(const bench_gpu *gpu) {
    return gpu->host ? &gpu->timer : NULL;
}

/* ---------------------------------------------------------------- what cannot be passed */

/* Dense operations that a multiprocessor starts in a cycle, a multiply-add counts 2: bf16 with
 * float sums, and int8. NVIDIA's tuning guides and data sheets: A100 312 TFLOP/s = 108 x 2048 x
 * 1.41 GHz, H100 SXM 989 = 132 x 4096 x 1.83 GHz, B200 2250 = 148 x 8192 x 1.86 GHz. */
static double per_cycle(int32_t capability, anemo_ceiling ceiling) {
    static const struct {
        int32_t capability;
        double bf16, int8;
    } known[] = {{80, 2048, 4096}, {86, 1024, 2048}, {87, 1024, 2048},
                 {89, 1024, 2048}, {90, 4096, 8192}, {100, 8192, 16384}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].capability == capability) {
            return ceiling == ANEMO_CEILING_INT8 ? known[i].int8 : known[i].bf16;
        }
    }
    return 0;
}

/* The higher of what CUDA and NVML tell: a floor must not be too high. */
static double clock_of(const bench_gpu *gpu, double told_hz, bool of_memory) {
    const double hz = gpu->watch ? anemo_gpu_watch_max_hz(gpu->watch, of_memory) : NAN;
    return fmax(told_hz, hz); /* fmax passes over NaN */
}

double bench_gpu_peak(const bench_gpu *gpu, anemo_ceiling ceiling) {
    if (!gpu->host) {
        return 0;
    }
    const anemo_gpu_facts facts = anemo_device_gpu(gpu->device);
    if (ceiling == ANEMO_CEILING_READ) {
        return 2 * clock_of(gpu, facts.memory_hz, true) * facts.bus_bits / 8;
    }
    return per_cycle(anemo_device_capability(gpu->device), ceiling) * facts.multiprocessors *
           clock_of(gpu, facts.multiprocessor_hz, false);
}

void bench_gpu_limit(const bench_gpu *gpu, bench_ceilings *ceilings) {
    for (int c = 0; c < ANEMO_CEILING_COUNT; c++) {
        ceilings->peak[c] = bench_gpu_peak(gpu, (anemo_ceiling)c);
    }
}

/* ---------------------------------------------------------------- records */

void bench_device_option(anemo_device *device, char *text, size_t text_bytes) {
    if (anemo_device_backend(device) == ANEMO_CUDA) {
        snprintf(text, text_bytes, " --device cuda");
    } else {
        snprintf(text, text_bytes, " --threads %d%s", anemo_device_exec(device).n_threads,
                 anemo_machine_option());
    }
}

static void record_known(anemo_record *record, const char *key, double value) {
    if (isfinite(value) && value > 0) {
        anemo_record_number(record, "machine", key, value);
    }
}

void bench_gpu_record(anemo_record *record, const bench_gpu *gpu) {
    char version[32] = "";
    if (!gpu->host) {
        return;
    }
    const anemo_gpu_facts facts = anemo_device_gpu(gpu->device);
    if (facts.cuda_version) {
        snprintf(version, sizeof version, "%d.%d", facts.cuda_version / 1000,
                 facts.cuda_version % 1000 / 10);
    }
    anemo_record_text(record, "machine", "gpu_cuda", version);
    anemo_record_text(record, "machine", "gpu_driver",
                      gpu->watch ? anemo_gpu_watch_driver(gpu->watch) : NULL);
    anemo_record_integer(record, "machine", "gpu_multiprocessors", facts.multiprocessors);
    record_known(record, "gpu_l2_bytes", (double)facts.l2_bytes);
    record_known(record, "gpu_memory_bytes", (double)facts.memory_bytes);
    record_known(record, "gpu_peak_bytes_per_s", bench_gpu_peak(gpu, ANEMO_CEILING_READ));
    record_known(record, "gpu_peak_bf16_per_s", bench_gpu_peak(gpu, ANEMO_CEILING_BF16));
    if (gpu->watch) {
        record_known(record, "gpu_multiprocessor_max_hz",
                     anemo_gpu_watch_max_hz(gpu->watch, false));
        record_known(record, "gpu_memory_max_hz", anemo_gpu_watch_max_hz(gpu->watch, true));
        record_known(record, "gpu_limit_watts", anemo_gpu_watch_limit_watts(gpu->watch));
    } else {
        anemo_record_text(record, "machine", "gpu_not_watched", gpu->lack);
    }
}
