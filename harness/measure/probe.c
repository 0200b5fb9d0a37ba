/* A probe owns one buffer, filled with known words, cut into one slice per thread. A read form must
 * return the sum of its slice; a compute form knows its own sums. Both run on the device's threads
 * through exec->parallel, like the kernels they judge, and pay for the same fork and join. */
#include "harness/measure/probe.h"

#include "anemo_config.h"
#include "harness/measure/machine.h"
#include "harness/measure/probe_form.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MIB              ((size_t)1 << 20)
#define DEFAULT_BYTES    (256 * MIB)
#define COMPUTE_FORM_NS  1500000u
#define FIRST_ITERATIONS 4096
#define COMPUTE_ROUNDS   3
#define HUGE_PAGE_BYTES  (2 * MIB)
#define FALLBACK_CACHE   (32 * MIB)
#define MEMORY_SHARE     8 /* at most an eighth of what is available */
#define CACHES_IN_BUFFER 4
#define SMALLEST_BUFFER  (1 * MIB)
#define SLICE_GRANULE_BYTES                                                                        \
    ((size_t)ANEMO_PROBE_BLOCK_BYTES * 4) /* four streams of whole blocks                          \
                                           */

static const char *const ceiling_names[] = {"read", "fp32", "bf16", "int8"};

const char *anemo_ceiling_name(anemo_ceiling ceiling) {
    return ceiling_names[ceiling];
}

const char *anemo_ceiling_unit(anemo_ceiling ceiling) {
    return ceiling == ANEMO_CEILING_READ ? "B/s" : "op/s";
}

/* ---------------------------------------------------------------- what the system says */

size_t anemo_last_cache_bytes(void) {
    const anemo_machine *machine = anemo_machine_get();
    if (machine->caches == 0) {
        return FALLBACK_CACHE;
    }
    const anemo_cache *last = &machine->cache[machine->caches - 1];
    return (size_t)last->bytes * (size_t)(last->count > 0 ? last->count : 1);
}

size_t anemo_available_memory_bytes(void) {
    const anemo_machine *machine = anemo_machine_get();
    const int64_t limit = machine->memory_limit_bytes, free_bytes = machine->memory_available_bytes;
    return (size_t)(limit > 0 && limit < free_bytes ? limit : free_bytes);
}

/* ---------------------------------------------------------------- the buffer */

struct anemo_probe {
    anemo_exec exec;
    anemo_clock clock;
    uint64_t *buffer; /* [n_threads][slice_bytes / 8] */
    size_t mapped_bytes, slice_bytes;
    uint64_t *expected; /* [n_threads] sum of each slice */
    uint64_t *result;   /* [n_threads] of the form running: the sum, or 1 = right */
    int64_t iterations[ANEMO_CEILING_COUNT][8]; /* of each compute form, once calibrated */
};

static uint64_t word_at(uint64_t i) { /* splitmix64 */
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* Each thread fills, and so places, its own slice. */
static void fill_slices(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    anemo_probe *probe = ctx;
    const size_t words = probe->slice_bytes / 8;
    for (int64_t s = begin; s < end; s++) {
        uint64_t sum = 0;
        for (size_t i = 0; i < words; i++) {
            const uint64_t word = word_at((uint64_t)s * words + i);
            probe->buffer[(size_t)s * words + i] = word;
            sum += word;
        }
        probe->expected[s] = sum;
    }
}

static size_t choose_buffer_bytes(size_t asked_bytes) {
    const size_t caches = CACHES_IN_BUFFER * anemo_last_cache_bytes();
    const size_t share = anemo_available_memory_bytes() / MEMORY_SHARE;
    size_t bytes = asked_bytes ? asked_bytes : DEFAULT_BYTES;
    if (!asked_bytes && bytes < caches) {
        bytes = caches;
    }
    if (!asked_bytes && share && bytes > share) {
        bytes = share;
    }
    return bytes < SMALLEST_BUFFER ? SMALLEST_BUFFER : bytes;
}

anemo_status anemo_probe_create(anemo_device *device, const anemo_clock *clock, size_t buffer_bytes,
                                anemo_probe **out, anemo_error *err) {
    *out = NULL;
    if (anemo_device_backend(device) != ANEMO_CPU) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "probes of %s are not there yet: only CPUs",
                          anemo_device_name(device));
    }
    anemo_probe *probe = calloc(1, sizeof *probe);
    if (!probe) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a probe");
    }
    probe->exec = anemo_device_exec(device);
    probe->clock = *clock;
    const size_t threads = (size_t)probe->exec.n_threads;
    const size_t bytes = choose_buffer_bytes(buffer_bytes);
    probe->slice_bytes = bytes / threads / SLICE_GRANULE_BYTES * SLICE_GRANULE_BYTES;
    if (!probe->slice_bytes) {
        probe->slice_bytes = SLICE_GRANULE_BYTES;
    }
    probe->mapped_bytes = threads * probe->slice_bytes;
    probe->expected = calloc(threads, sizeof *probe->expected);
    probe->result = calloc(threads, sizeof *probe->result);
    void *buffer =
        mmap(NULL, probe->mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    probe->buffer = buffer == MAP_FAILED ? NULL : buffer;
    if (!probe->expected || !probe->result || !probe->buffer) {
        anemo_probe_free(probe);
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a probe buffer of %zu MiB",
                          bytes / MIB);
    }
    (void)madvise(buffer, probe->mapped_bytes, MADV_HUGEPAGE); /* a hint; small pages work too */
    probe->exec.parallel(&probe->exec, (int64_t)threads, 0, fill_slices, probe);
    *out = probe;
    return ANEMO_OK;
}

void anemo_probe_free(anemo_probe *probe) {
    if (!probe) {
        return;
    }
    if (probe->buffer) {
        munmap(probe->buffer, probe->mapped_bytes);
    }
    free(probe->expected);
    free(probe->result);
    free(probe);
}

size_t anemo_probe_buffer_bytes(const anemo_probe *probe) {
    return probe->mapped_bytes;
}

/* ---------------------------------------------------------------- running forms */

typedef struct form_run {
    anemo_probe *probe;
    const anemo_probe_form *form;
    int64_t iterations;
} form_run;

static void run_slices(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const form_run *run = ctx;
    anemo_probe *probe = run->probe;
    for (int64_t s = begin; s < end; s++) {
        const char *slice = (const char *)probe->buffer + (size_t)s * probe->slice_bytes;
        probe->result[s] = run->form->read ? run->form->read(slice, probe->slice_bytes)
                                           : run->form->compute(run->iterations);
    }
}

/* Nanoseconds of one run on all threads; results are checked. */
static anemo_status time_form(form_run *run, double *ns, anemo_error *err) {
    anemo_probe *probe = run->probe;
    const int32_t threads = probe->exec.n_threads;
    memset(probe->result, 0, (size_t)threads * sizeof *probe->result);
    const uint64_t start = anemo_clock_now(&probe->clock);
    probe->exec.parallel(&probe->exec, threads, 0, run_slices, run);
    *ns = (double)(anemo_clock_now(&probe->clock) - start);
    for (int32_t t = 0; t < threads; t++) {
        const uint64_t must = run->form->read ? probe->expected[t] : 1;
        if (probe->result[t] != must) {
            return anemo_fail(err, ANEMO_E_NUMERIC,
                              "probe %s computed %#llx on slice %d where %#llx was expected",
                              run->form->name, (unsigned long long)probe->result[t], t,
                              (unsigned long long)must);
        }
    }
    return ANEMO_OK;
}

/* Iterations that keep one undisturbed thread busy long enough to time: the best of three runs here
 * decides, so that a moment's disturbance does not leave all later probes too short. */
static int64_t calibrate(const anemo_probe *probe, const anemo_probe_form *form) {
    int64_t iterations = FIRST_ITERATIONS;
    for (;;) {
        uint64_t best_ns = UINT64_MAX;
        for (int i = 0; i < 3; i++) {
            const uint64_t start = anemo_clock_now(&probe->clock);
            (void)form->compute(iterations); /* its result is checked when it is measured */
            const uint64_t ns = anemo_clock_now(&probe->clock) - start;
            best_ns = ns < best_ns ? ns : best_ns;
        }
        if (best_ns >= COMPUTE_FORM_NS || 2 * iterations > ANEMO_PROBE_ITERATIONS) {
            return iterations;
        }
        iterations *= 2;
    }
}

static anemo_status measure_form(anemo_probe *probe, const anemo_probe_form *form, int index,
                                 double *per_second, anemo_error *err) {
    form_run run = {.probe = probe, .form = form};
    double amount = (double)probe->mapped_bytes, ns;
    if (!form->read) {
        int64_t *iterations = &probe->iterations[form->ceiling][index];
        *iterations = *iterations ? *iterations : calibrate(probe, form);
        run.iterations = *iterations;
        amount = form->ops_per_iteration * (double)*iterations * probe->exec.n_threads;
    }
    const anemo_status status = time_form(&run, &ns, err);
    *per_second = ns > 0 ? amount / (ns * 1e-9) : 0;
    return status;
}

/* Widest first. */
static const anemo_probe_form *const tables[] = {
#if ANEMO_X86
    anemo_probe_forms_avx512,     anemo_probe_forms_avx512vnni,
    anemo_probe_forms_avx512bf16, anemo_probe_forms_avx2,
#endif
    anemo_probe_forms_c,
};

/* Every form once; *out keeps the best seen so far. */
static anemo_status measure_forms(anemo_probe *probe, anemo_ceiling ceiling, anemo_probe_value *out,
                                  anemo_error *err) {
    const uint32_t have = anemo_cpu_features();
    int index = 0;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        if (index > 0 && ceiling == ANEMO_CEILING_READ) {
            break; /* the widest vectors are enough for reading, and a probe is to be short */
        }
        for (const anemo_probe_form *form = tables[t]; form->name; form++) {
            if (form->ceiling != ceiling || (form->needs & ~have)) {
                continue;
            }
            double per_second;
            const anemo_status status = measure_form(probe, form, index++, &per_second, err);
            if (status) {
                return status;
            }
            if (per_second > out->per_second) {
                *out = (anemo_probe_value){.per_second = per_second, .form = form->name};
            }
        }
    }
    return ANEMO_OK;
}

anemo_status anemo_probe_measure(anemo_probe *probe, anemo_ceiling ceiling, anemo_probe_value *out,
                                 anemo_error *err) {
    *out = (anemo_probe_value){0};
    /* Arithmetic forms are as short as a time slice of another process: try them apart in time. */
    const int rounds = ceiling == ANEMO_CEILING_READ ? 1 : COMPUTE_ROUNDS;
    anemo_status status = ANEMO_OK;
    for (int r = 0; !status && r < rounds; r++) {
        status = measure_forms(probe, ceiling, out, err);
    }
    return status;
}

anemo_status anemo_probe_evict(anemo_probe *probe, anemo_error *err) {
    form_run run = {.probe = probe, .form = &anemo_probe_forms_c[0]};
    double ns;
    return time_form(&run, &ns, err);
}
