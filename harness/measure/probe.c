/* A probe owns one buffer of known words, cut into stretches of 16 MiB or more and these into one
 * piece per thread:
 *
 *     buffer[stretch][thread][piece_bytes]
 *
 * A form runs once through exec->parallel, like the kernels it judges. Within that each thread
 * takes many short turns (a read form: one piece each; a compute form: a quarter of a millisecond
 * of arithmetic), notes when each began and ended, and checks its result: a read form must return
 * the sum of the piece, a compute form knows its own sums. What all threads together got done while
 * one of them took a turn, over the time it took, is a rate. Of arithmetic the best rate is the
 * ceiling: no luck makes a processor faster. Of reading it is the median, and the best form's
 * counts: single pieces are read 15 to 25 % faster than memory delivers for longer (what is left of
 * them in the last cache, what the other tenants of the machine happen to do), so that the best of
 * many turns is a rate which nobody can keep, an independent loop over the same memory neither.
 *
 * Why not one long reading: on a busy machine that always meets somebody else's time slices while a
 * short kernel slips through between them and would seem to beat the ceiling. Why not a barrier
 * between short readings: each would wait for the thread that was sent to sleep.
 *
 * By the time a piece is read again the rest of the buffer has passed through the caches. */
#include "harness/measure/probe.h"

#include "anemo_config.h"
#include "harness/measure/machine.h"
#include "harness/measure/probe_form.h"
#include "harness/measure/probe_gpu.h"
#include "harness/measure/stats.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MIB              ((size_t)1 << 20)
#define DEFAULT_BYTES    (512 * MIB) /* 256 read 3 % faster: a 32 MiB cache keeps some of it */
#define STRETCH_BYTES    (16 * MIB)  /* or a MiB per thread, if that is more */
#define COMPUTE_TURN_NS  250000u
#define COMPUTE_TURNS    32
#define FIRST_ITERATIONS 1024
#define WORTH_RUNNING    0.7 /* of the best form's rate on one thread; the others cannot win */
#define FALLBACK_CACHE   (32 * MIB)
#define MEMORY_SHARE     8 /* at most an eighth of what is available */
#define CACHES_IN_BUFFER 8
#define SMALLEST_BUFFER  (1 * MIB)
#define PIECE_GRANULE    ((size_t)ANEMO_PROBE_BLOCK_BYTES * 4) /* four streams of whole blocks */

static const char *const ceiling_names[] = {"read",         "fp32",         "bf16",     "int8",
                                            "int8_avx2_u4", "int8_avx2_u8", "int8_amx", "bf16_amx"};

const char *anemo_ceiling_name(anemo_ceiling ceiling) {
    return ceiling_names[ceiling];
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

size_t anemo_device_cache_bytes(const anemo_device *device) {
    const size_t l2_bytes = anemo_device_gpu(device).l2_bytes;
    return anemo_device_backend(device) == ANEMO_CPU ? anemo_last_cache_bytes()
           : l2_bytes                                ? l2_bytes
                                                     : FALLBACK_CACHE;
}

size_t anemo_available_memory_bytes(void) {
    const anemo_machine *machine = anemo_machine_get();
    const int64_t limit = machine->memory_limit_bytes, free_bytes = machine->memory_available_bytes;
    return (size_t)(limit > 0 && limit < free_bytes ? limit : free_bytes);
}

/* ---------------------------------------------------------------- the buffer */

enum { MOST_FORMS = 8, MOST_WINDOWS = 512 };

struct anemo_probe {
    gpu_probe *gpu; /* NULL: a CPU's, and all below is used */
    size_t cache_bytes;
    anemo_exec exec;
    anemo_clock clock;
    uint64_t *buffer;
    size_t mapped_bytes, piece_bytes, n_stretches;
    uint64_t *expected;      /* [n_stretches][n_threads] sum of each piece */
    anemo_probe_turn *turns; /* [n_threads][most_turns] of the form that ran last */
    size_t most_turns;
    struct {
        int64_t iterations; /* of one turn; 0: not calibrated yet */
        double alone;       /* op/s of one thread */
    } compute[ANEMO_CEILING_COUNT][MOST_FORMS];
};

static uint64_t word_at(uint64_t i) { /* splitmix64 */
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static char *piece_at(const anemo_probe *probe, size_t stretch, int64_t thread) {
    const size_t index = stretch * (size_t)probe->exec.n_threads + (size_t)thread;
    return (char *)probe->buffer + index * probe->piece_bytes;
}

/* Each thread fills, and so places, its own pieces. */
static void fill_pieces(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    anemo_probe *probe = ctx;
    const size_t words = probe->piece_bytes / 8, threads = (size_t)probe->exec.n_threads;
    for (int64_t t = begin; t < end; t++) {
        for (size_t stretch = 0; stretch < probe->n_stretches; stretch++) {
            uint64_t *piece = (uint64_t *)(void *)piece_at(probe, stretch, t);
            const uint64_t first = (stretch * threads + (size_t)t) * words;
            uint64_t sum = 0;
            for (size_t i = 0; i < words; i++) {
                piece[i] = word_at(first + i);
                sum += piece[i];
            }
            probe->expected[stretch * threads + (size_t)t] = sum;
        }
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
    anemo_probe *probe = calloc(1, sizeof *probe);
    if (!probe) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a probe");
    }
    probe->cache_bytes = anemo_device_cache_bytes(device);
    if (anemo_device_backend(device) == ANEMO_CUDA) {
        const anemo_status status = gpu_probe_create(device, buffer_bytes, &probe->gpu, err);
        *out = probe;
        if (status) {
            free(probe);
            *out = NULL;
        }
        return status;
    }
    probe->exec = anemo_device_exec(device);
    probe->clock = *clock;
    const size_t threads = (size_t)probe->exec.n_threads;
    const size_t bytes = choose_buffer_bytes(buffer_bytes);
    const size_t stretch = threads * MIB > STRETCH_BYTES ? threads * MIB : STRETCH_BYTES;
    probe->n_stretches = bytes / stretch > 0 ? bytes / stretch : 1;
    probe->piece_bytes = bytes / probe->n_stretches / threads / PIECE_GRANULE * PIECE_GRANULE;
    if (!probe->piece_bytes) {
        probe->piece_bytes = PIECE_GRANULE;
    }
    probe->mapped_bytes = probe->n_stretches * threads * probe->piece_bytes;
    probe->expected = calloc(probe->n_stretches * threads, sizeof *probe->expected);
    probe->most_turns = probe->n_stretches > COMPUTE_TURNS ? probe->n_stretches : COMPUTE_TURNS;
    probe->turns = calloc(threads * probe->most_turns, sizeof *probe->turns);
    void *buffer =
        mmap(NULL, probe->mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    probe->buffer = buffer == MAP_FAILED ? NULL : buffer;
    if (!probe->expected || !probe->turns || !probe->buffer) {
        anemo_probe_free(probe);
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a probe buffer of %zu MiB",
                          bytes / MIB);
    }
    (void)madvise(buffer, probe->mapped_bytes, MADV_HUGEPAGE); /* a hint; small pages work too */
    probe->exec.parallel(&probe->exec, (int64_t)threads, 0, fill_pieces, probe);
    *out = probe;
    return ANEMO_OK;
}

void anemo_probe_free(anemo_probe *probe) {
    if (!probe) {
        return;
    }
    gpu_probe_free(probe->gpu);
    if (probe->buffer) {
        munmap(probe->buffer, probe->mapped_bytes);
    }
    free(probe->expected);
    free(probe->turns);
    free(probe);
}

size_t anemo_probe_buffer_bytes(const anemo_probe *probe) {
    return probe->gpu ? gpu_probe_buffer_bytes(probe->gpu) : probe->mapped_bytes;
}

size_t anemo_probe_cache_bytes(const anemo_probe *probe) {
    return probe->cache_bytes;
}

/* ---------------------------------------------------------------- running forms */

typedef struct form_run {
    anemo_probe *probe;
    const anemo_probe_form *form;
    size_t n_turns;
    double amount;      /* bytes or operations of one turn of one thread */
    int64_t iterations; /* of a compute form */
} form_run;

static void take_turns(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const form_run *run = ctx;
    const anemo_probe *probe = run->probe;
    for (int64_t t = begin; t < end; t++) {
        anemo_probe_turn *turns = probe->turns + (size_t)t * probe->most_turns;
        for (size_t i = 0; i < run->n_turns; i++) {
            turns[i].begin_ns = anemo_clock_now(&probe->clock);
            if (run->form->read) {
                const uint64_t sum = run->form->read(piece_at(probe, i, t), probe->piece_bytes);
                turns[i].right =
                    sum == probe->expected[i * (size_t)probe->exec.n_threads + (size_t)t];
            } else {
                turns[i].right = run->form->compute(run->iterations);
            }
            turns[i].end_ns = anemo_clock_now(&probe->clock);
        }
    }
}

/* How much of a turn lies in [begin, end]: 0 .. 1. */
static double share_in(const anemo_probe_turn *t, uint64_t begin_ns, uint64_t end_ns) {
    const uint64_t from = t->begin_ns > begin_ns ? t->begin_ns : begin_ns;
    const uint64_t to = t->end_ns < end_ns ? t->end_ns : end_ns;
    return to > from ? (double)(to - from) / (double)(t->end_ns - t->begin_ns) : 0;
}

/* What all threads got done during a turn of one of them, over the time it took. */
static double rate_during(const anemo_probe_turn *window, const anemo_probe_turn *turns,
                          int32_t n_threads, size_t n_turns, size_t stride, double amount) {
    double done = 0;
    for (int32_t t = 0; t < n_threads; t++) {
        for (size_t j = 0; j < n_turns; j++) {
            done += share_in(&turns[(size_t)t * stride + j], window->begin_ns, window->end_ns);
        }
    }
    const double seconds = (double)(window->end_ns - window->begin_ns) * 1e-9;
    return seconds > 0 ? done * amount / seconds : 0;
}

double anemo_probe_rate(const anemo_probe_turn *turns, int32_t n_threads, size_t n_turns,
                        size_t stride, double amount, double quantile) {
    double rates[MOST_WINDOWS];
    int32_t n = 0;
    for (size_t i = 0; i < n_turns; i++) {
        for (int32_t w = 0; w < n_threads && n < MOST_WINDOWS; w++) {
            rates[n++] = rate_during(&turns[(size_t)w * stride + i], turns, n_threads, n_turns,
                                     stride, amount);
        }
    }
    anemo_stats_sort(rates, n);
    return n ? rates[(int32_t)(quantile * (n - 1))] : 0;
}

static anemo_status run_form(form_run *run, double *per_second, anemo_error *err) {
    const anemo_probe *probe = run->probe;
    probe->exec.parallel(&probe->exec, probe->exec.n_threads, 0, take_turns, run);
    for (int32_t t = 0; t < probe->exec.n_threads; t++) {
        for (size_t i = 0; i < run->n_turns; i++) {
            if (!probe->turns[(size_t)t * probe->most_turns + i].right) {
                return anemo_fail(err, ANEMO_E_NUMERIC,
                                  "probe %s: thread %d, turn %zu did not compute what it must",
                                  run->form->name, t, i);
            }
        }
    }
    *per_second = anemo_probe_rate(probe->turns, probe->exec.n_threads, run->n_turns,
                                   probe->most_turns, run->amount, run->form->read ? 0.5 : 1);
    return ANEMO_OK;
}

/* Iterations that keep one undisturbed thread busy for a turn, and its rate: the best of three runs
 * decides, so that a moment's disturbance does not leave all later turns too short. */
static int64_t fill_turn(const anemo_probe *probe, const anemo_probe_form *form, double *alone) {
    int64_t iterations = FIRST_ITERATIONS;
    for (;; iterations *= 2) {
        uint64_t best_ns = UINT64_MAX;
        for (int i = 0; i < 3; i++) {
            const uint64_t start = anemo_clock_now(&probe->clock);
            (void)form->compute(iterations); /* its result is checked when it is measured */
            const uint64_t ns = anemo_clock_now(&probe->clock) - start;
            best_ns = ns < best_ns ? ns : best_ns;
        }
        if (best_ns >= COMPUTE_TURN_NS || 2 * iterations > ANEMO_PROBE_ITERATIONS) {
            *alone = form->ops_per_iteration * (double)iterations / ((double)best_ns * 1e-9);
            return iterations;
        }
    }
}

/* Widest first. */
static const anemo_probe_form *const tables[] = {
#if ANEMO_X86
    anemo_probe_forms_avx512,  anemo_probe_forms_avx512vnni, anemo_probe_forms_avx512bf16,
    anemo_probe_forms_amxint8, anemo_probe_forms_amxbf16,    anemo_probe_forms_avx2,
#elif ANEMO_AARCH64
    anemo_probe_forms_neoni8mm,
    anemo_probe_forms_neondot,
    anemo_probe_forms_neon,
#endif
    anemo_probe_forms_c,
};

/* What runs here. One vector width is enough for reading, and a probe is to be short. */
static int find_forms(anemo_ceiling ceiling, const anemo_probe_form **forms) {
    const uint32_t have = anemo_cpu_features();
    int n = 0;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        if (n > 0 && ceiling == ANEMO_CEILING_READ) {
            break;
        }
        for (const anemo_probe_form *form = tables[t]; form->name && n < MOST_FORMS; form++) {
            if (form->ceiling == ceiling && !(form->needs & ~have)) {
                forms[n++] = form;
            }
        }
    }
    return n;
}

static form_run read_run(anemo_probe *probe, const anemo_probe_form *form) {
    return (form_run){.probe = probe,
                      .form = form,
                      .n_turns = probe->n_stretches,
                      .amount = (double)probe->piece_bytes};
}

/* Calibrates at the first call; then runs the forms that are worth it. */
static anemo_status measure_arithmetic(anemo_probe *probe, const anemo_probe_form **forms, int n,
                                       double *per_second, anemo_error *err) {
    double best_alone = 0;
    for (int i = 0; i < n; i++) {
        if (!probe->compute[forms[i]->ceiling][i].iterations) {
            probe->compute[forms[i]->ceiling][i].iterations =
                fill_turn(probe, forms[i], &probe->compute[forms[i]->ceiling][i].alone);
        }
        best_alone = fmax(best_alone, probe->compute[forms[i]->ceiling][i].alone);
    }
    anemo_status status = ANEMO_OK;
    for (int i = 0; !status && i < n; i++) {
        form_run run = {.probe = probe, .form = forms[i], .n_turns = COMPUTE_TURNS};
        run.iterations = probe->compute[forms[i]->ceiling][i].iterations;
        run.amount = forms[i]->ops_per_iteration * (double)run.iterations;
        per_second[i] = 0;
        if (probe->compute[forms[i]->ceiling][i].alone >= WORTH_RUNNING * best_alone) {
            status = run_form(&run, &per_second[i], err);
        }
    }
    return status;
}

anemo_status anemo_probe_measure(anemo_probe *probe, anemo_ceiling ceiling, anemo_probe_value *out,
                                 anemo_error *err) {
    *out = (anemo_probe_value){0};
    if (probe->gpu) {
        return gpu_probe_measure(probe->gpu, ceiling, out, err);
    }
    const anemo_probe_form *forms[MOST_FORMS];
    double per_second[MOST_FORMS];
    const int n = find_forms(ceiling, forms);
    anemo_status status = ANEMO_OK;
    if (ceiling != ANEMO_CEILING_READ) {
        status = measure_arithmetic(probe, forms, n, per_second, err);
    }
    for (int i = 0; !status && i < n && ceiling == ANEMO_CEILING_READ; i++) {
        form_run run = read_run(probe, forms[i]);
        status = run_form(&run, &per_second[i], err);
    }
    for (int i = 0; !status && i < n; i++) {
        if (per_second[i] > out->per_second) {
            *out = (anemo_probe_value){.per_second = per_second[i], .form = forms[i]->name};
        }
    }
    return status;
}

/* ---------------------------------------------------------------- instructions per cycle */

typedef struct pace_run {
    const anemo_probe *probe;
    const anemo_probe_form *form[2]; /* what counts cycles, what is counted */
    int64_t iterations[2];
} pace_run;

/* Turns of the two alternate, so that the clock is that of the form's own time: a processor that
 * slows down for wide vectors keeps that clock for longer than a turn. */
static void take_paced_turns(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pace_run *run = ctx;
    const anemo_probe *probe = run->probe;
    for (int64_t t = begin; t < end; t++) {
        anemo_probe_turn *turns = probe->turns + (size_t)t * probe->most_turns;
        for (int i = 0; i < COMPUTE_TURNS; i++) {
            turns[i].begin_ns = anemo_clock_now(&probe->clock);
            turns[i].right = run->form[i % 2]->compute(run->iterations[i % 2]);
            turns[i].end_ns = anemo_clock_now(&probe->clock);
        }
    }
}

/* Instructions per second in the best turn of form `which` on this thread, without the first, whose
 * clock is still that of what ran before; 0: it went wrong. */
static double pace_of(const pace_run *run, int64_t thread, int which) {
    const anemo_probe_turn *turns = run->probe->turns + (size_t)thread * run->probe->most_turns;
    const double amount = run->form[which]->vectors_per_iteration * (double)run->iterations[which];
    double best = 0;
    for (int i = which; i < COMPUTE_TURNS; i += 2) {
        if (!turns[i].right) {
            return 0;
        }
        if (i < 2) {
            continue;
        }
        best = fmax(best, amount / ((double)(turns[i].end_ns - turns[i].begin_ns) * 1e-9));
    }
    return best;
}

anemo_status anemo_probe_measure_pace(anemo_probe *probe, anemo_ceiling ceiling,
                                      anemo_probe_pace *out, anemo_error *err) {
    const anemo_probe_form *forms[MOST_FORMS];
    const bool counted = ceiling != ANEMO_CEILING_READ && !probe->gpu;
    const int n = counted ? find_forms(ceiling, forms) : 0;
    pace_run run = {.probe = probe, .form = {&anemo_probe_adds, NULL}};
    double best = 0, alone;
    *out = (anemo_probe_pace){0};
    for (int i = 0; i < n; i++) {
        const int64_t iterations = fill_turn(probe, forms[i], &alone);
        if (forms[i]->vectors_per_iteration > 0 && alone > best) {
            best = alone;
            run.form[1] = forms[i];
            run.iterations[1] = iterations;
        }
    }
    if (!run.form[1]) {
        return ANEMO_OK;
    }
    run.iterations[0] = fill_turn(probe, &anemo_probe_adds, &alone);
    probe->exec.parallel(&probe->exec, probe->exec.n_threads, 0, take_paced_turns, &run);
    out->form = run.form[1]->name;
    for (int32_t t = 0; t < probe->exec.n_threads; t++) {
        const double hz = pace_of(&run, t, 0), rate = pace_of(&run, t, 1);
        if (!(hz > 0 && rate > 0)) {
            return anemo_fail(err, ANEMO_E_NUMERIC, "probe %s did not compute what it must",
                              out->form);
        }
        if (t == 0 || rate / hz < out->per_cycle) {
            *out = (anemo_probe_pace){.hz = hz, .per_cycle = rate / hz, .form = out->form};
        }
    }
    return ANEMO_OK;
}

anemo_status anemo_probe_evict(anemo_probe *probe, anemo_error *err) {
    if (probe->gpu) {
        return gpu_probe_evict(probe->gpu, err);
    }
    double per_second;
    form_run run = read_run(probe, &anemo_probe_forms_c[0]);
    return run_form(&run, &per_second, err);
}
