/* Each form is calibrated once: its size doubles until a run lasts a quarter of a millisecond (of
 * reading there is one size, the buffer). Then, whenever its ceiling is asked for, it runs once
 * untimed, which keeps the queue full while the rest is launched, and TURNS times a millisecond
 * between events. What it computed is compared afterwards. As on a CPU (probe.c), a form's rate is
 * the median of the turns for reading and the best of them for arithmetic, and the best form is the
 * ceiling. */
#include "harness/measure/probe_gpu.h"

#include "harness/measure/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 5, MOST_FORMS = 16, CACHES_IN_BUFFER = 16, MEMORY_SHARE = 8 };
#define RUN_NS          250e3
#define TURN_NS         1e6
#define WORTH_RUNNING   0.7 /* of the best form's rate when it was calibrated */
#define CHUNK_BYTES     ((size_t)16 << 20)
#define SMALLEST_BUFFER ((size_t)1 << 20)

typedef struct form_state {
    const anemo_exercise *exercise;
    anemo_exercise_args args; /* size 0 and not reading: not calibrated yet */
    size_t scratch_bytes;
    double run_ns; /* of one run, when it was calibrated; 0: not yet */
} form_state;

struct gpu_probe {
    anemo_device *device;
    char *data;
    size_t bytes;
    uint64_t sum; /* of the words of data */
    uint64_t *result;
    anemo_event *event[TURNS + 1];
    form_state form[MOST_FORMS];
    int n_forms;
};

static const anemo_exercise_kind kind_of[ANEMO_CEILING_COUNT] = {
    [ANEMO_CEILING_READ] = ANEMO_EXERCISE_READ,
    [ANEMO_CEILING_FP32] = ANEMO_EXERCISE_FP32,
    [ANEMO_CEILING_BF16] = ANEMO_EXERCISE_BF16,
    [ANEMO_CEILING_INT8] = ANEMO_EXERCISE_INT8};

/* ---------------------------------------------------------------- making it */

static uint64_t word_at(uint64_t i) { /* splitmix64 */
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static size_t choose_bytes(const anemo_device *device, size_t asked_bytes) {
    const anemo_gpu_facts facts = anemo_device_gpu(device);
    size_t bytes = asked_bytes ? asked_bytes : CACHES_IN_BUFFER * facts.l2_bytes;
    const size_t share = facts.memory_bytes / MEMORY_SHARE;
    bytes = !asked_bytes && share && share < bytes ? share : bytes;
    bytes = bytes < SMALLEST_BUFFER ? SMALLEST_BUFFER : bytes;
    return bytes / ANEMO_EXERCISE_GRANULE * ANEMO_EXERCISE_GRANULE;
}

/* The same random chunk over and over: no GPU finds that out. */
static anemo_status fill(gpu_probe *probe, anemo_error *err) {
    const size_t chunk = probe->bytes < CHUNK_BYTES ? probe->bytes : CHUNK_BYTES;
    uint64_t *words = malloc(chunk);
    if (!words) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a probe's words");
    }
    for (size_t i = 0; i < chunk / 8; i++) {
        words[i] = word_at(i);
    }
    anemo_status status = ANEMO_OK;
    for (size_t at = 0; !status && at < probe->bytes; at += chunk) {
        const size_t bytes = probe->bytes - at < chunk ? probe->bytes - at : chunk;
        for (size_t i = 0; i < bytes / 8; i++) {
            probe->sum += words[i];
        }
        status = anemo_device_upload(probe->device, probe->data + at, words, bytes);
    }
    const anemo_status waited = anemo_device_synchronise(probe->device, err);
    free(words);
    return waited   ? waited
           : status ? anemo_fail(err, status, "a probe's words did not reach %s",
                                 anemo_device_name(probe->device))
                    : ANEMO_OK;
}

static void find_forms(gpu_probe *probe) {
    const anemo_exercise *e;
    for (int32_t i = 0; (e = anemo_exercise_at(i)) && probe->n_forms < MOST_FORMS; i++) {
        if (e->min_capability <= anemo_device_capability(probe->device)) {
            probe->form[probe->n_forms++] = (form_state){
                .exercise = e,
                .args = {.data = probe->data,
                         .bytes = probe->bytes,
                         .multiprocessors = anemo_device_gpu(probe->device).multiprocessors,
                         .result = probe->result}};
        }
    }
}

anemo_status gpu_probe_create(anemo_device *device, size_t buffer_bytes, gpu_probe **out,
                              anemo_error *err) {
    gpu_probe *probe = calloc(1, sizeof *probe);
    *out = NULL;
    if (!probe) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a probe");
    }
    probe->device = device;
    probe->bytes = choose_bytes(device, buffer_bytes);
    probe->data = anemo_device_alloc(device, ANEMO_MEM_WORKSPACE, probe->bytes);
    probe->result = anemo_device_alloc(device, ANEMO_MEM_WORKSPACE,
                                       ANEMO_EXERCISE_RESULTS * sizeof *probe->result);
    bool good = probe->data && probe->result;
    for (int i = 0; i <= TURNS; i++) {
        probe->event[i] = anemo_event_create(device);
        good = good && probe->event[i];
    }
    const anemo_status status =
        good ? fill(probe, err)
             : anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for a probe's buffer of %zu bytes",
                          anemo_device_name(device), probe->bytes);
    if (status) {
        gpu_probe_free(probe);
        return status;
    }
    find_forms(probe);
    *out = probe;
    return ANEMO_OK;
}

static void release_scratch(const gpu_probe *probe, form_state *form) {
    if (form->args.scratch) {
        anemo_device_dealloc(probe->device, ANEMO_MEM_WORKSPACE, form->args.scratch,
                             form->scratch_bytes);
        form->args.scratch = NULL;
    }
}

void gpu_probe_free(gpu_probe *probe) {
    if (!probe) {
        return;
    }
    for (int i = 0; i < probe->n_forms; i++) {
        release_scratch(probe, &probe->form[i]);
    }
    for (int i = 0; i <= TURNS; i++) {
        anemo_event_free(probe->event[i]);
    }
    if (probe->data) {
        anemo_device_dealloc(probe->device, ANEMO_MEM_WORKSPACE, probe->data, probe->bytes);
    }
    if (probe->result) {
        anemo_device_dealloc(probe->device, ANEMO_MEM_WORKSPACE, probe->result,
                             ANEMO_EXERCISE_RESULTS * sizeof *probe->result);
    }
    free(probe);
}

size_t gpu_probe_buffer_bytes(const gpu_probe *probe) {
    return probe->bytes;
}

/* ---------------------------------------------------------------- running a form */

static anemo_status failed(const gpu_probe *probe, const form_state *form, anemo_status status,
                           anemo_error *err) {
    const anemo_status waited = anemo_device_synchronise(probe->device, err);
    return waited ? waited
                  : anemo_fail(err, status, "probe %s on %s: %s", form->exercise->name,
                               anemo_device_name(probe->device), anemo_status_name(status));
}

static double amount_of(const form_state *form) {
    return form->exercise->ops ? form->exercise->ops(&form->args) : (double)form->args.bytes;
}

/* n_turns of `runs` each, between events; all of them in the queue before the first has ended. */
static anemo_status take_turns(gpu_probe *probe, const form_state *form, int n_turns, int64_t runs,
                               double *ns, anemo_error *err) {
    const anemo_exercise *e = form->exercise;
    const anemo_exec exec = anemo_device_exec(probe->device);
    anemo_status status = e->run(&exec, &form->args);
    for (int t = 0; !status && t <= n_turns; t++) {
        status = anemo_event_record(probe->device, probe->event[t]);
        for (int64_t i = 0; t < n_turns && !status && i < runs; i++) {
            status = e->run(&exec, &form->args);
        }
    }
    for (int t = n_turns; !status && t > 0; t--) { /* the last first: it waits for all */
        status = anemo_event_elapsed_ns(probe->event[t - 1], probe->event[t], &ns[t - 1]);
    }
    return status ? failed(probe, form, status, err) : anemo_device_synchronise(probe->device, err);
}

static anemo_status clear_results(gpu_probe *probe, uint64_t *results, anemo_error *err) {
    const size_t bytes = ANEMO_EXERCISE_RESULTS * sizeof *results;
    memset(results, 0, bytes);
    const anemo_status status = anemo_device_upload(probe->device, probe->result, results, bytes);
    const anemo_status waited = anemo_device_synchronise(probe->device, err);
    return status ? status : waited;
}

/* Compares what the form computed last. */
static anemo_status check_results(gpu_probe *probe, const form_state *form, uint64_t *results,
                                  anemo_error *err) {
    const anemo_exercise *e = form->exercise;
    const anemo_exec exec = anemo_device_exec(probe->device);
    anemo_status status = e->verify ? e->verify(&exec, &form->args) : ANEMO_OK;
    status = status ? status
                    : anemo_device_download(probe->device, results, probe->result,
                                            ANEMO_EXERCISE_RESULTS * sizeof *results);
    if (status) {
        return failed(probe, form, status, err);
    }
    status = anemo_device_synchronise(probe->device, err);
    uint64_t sum = 0;
    for (int i = 0; i < ANEMO_EXERCISE_RESULTS; i++) {
        sum += results[i];
    }
    if (!status && sum != (e->right ? e->right(&form->args) : probe->sum)) {
        return anemo_fail(err, ANEMO_E_NUMERIC, "probe %s did not compute what it must on %s",
                          e->name, anemo_device_name(probe->device));
    }
    return status;
}

/* Scratch memory and operands of this size. */
static anemo_status set_size(gpu_probe *probe, form_state *form, int64_t size, anemo_error *err) {
    const anemo_exercise *e = form->exercise;
    const anemo_exec exec = anemo_device_exec(probe->device);
    release_scratch(probe, form);
    form->args.size = size;
    form->scratch_bytes = e->scratch_bytes ? e->scratch_bytes(size) : 0;
    if (form->scratch_bytes) {
        form->args.scratch =
            anemo_device_alloc(probe->device, ANEMO_MEM_WORKSPACE, form->scratch_bytes);
        if (!form->args.scratch) {
            return anemo_fail(err, ANEMO_E_MEMORY, "probe %s: no memory for %zu bytes", e->name,
                              form->scratch_bytes);
        }
    }
    const anemo_status status = e->prepare ? e->prepare(&exec, &form->args) : ANEMO_OK;
    return status ? failed(probe, form, status, err) : ANEMO_OK;
}

static anemo_status calibrate(gpu_probe *probe, form_state *form, anemo_error *err) {
    const anemo_exercise *e = form->exercise;
    for (int64_t size = e->least;; size *= 2) {
        double ns = 0;
        anemo_status status = set_size(probe, form, size, err);
        status = status ? status : take_turns(probe, form, 1, 1, &ns, err);
        if (status) {
            return status;
        }
        if (!e->ops || ns >= RUN_NS || 2 * size > e->most) {
            form->run_ns = fmax(ns, 1);
            return ANEMO_OK;
        }
    }
}

static anemo_status run_form(gpu_probe *probe, const form_state *form, double *per_second,
                             anemo_error *err) {
    double ns[TURNS];
    const int64_t runs = (int64_t)ceil(TURN_NS / form->run_ns);
    uint64_t *results = malloc(ANEMO_EXERCISE_RESULTS * sizeof *results);
    if (!results) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a probe's results");
    }
    anemo_status status = clear_results(probe, results, err);
    status = status ? status : take_turns(probe, form, TURNS, runs, ns, err);
    status = status ? status : check_results(probe, form, results, err);
    free(results);
    if (!status) {
        anemo_stats_sort(ns, TURNS);
        const double chosen_ns = form->exercise->ops ? ns[0] : ns[TURNS / 2];
        *per_second = amount_of(form) * (double)runs / (chosen_ns * 1e-9);
    }
    return status;
}

anemo_status gpu_probe_measure(gpu_probe *probe, anemo_ceiling ceiling, anemo_probe_value *out,
                               anemo_error *err) {
    double best_once = 0;
    *out = (anemo_probe_value){0};
    if (ceiling > ANEMO_CEILING_INT8) {
        return ANEMO_OK; /* of certain CPUs */
    }
    for (int i = 0; i < probe->n_forms; i++) {
        form_state *form = &probe->form[i];
        if (form->exercise->kind == kind_of[ceiling]) {
            const anemo_status status = form->run_ns > 0 ? ANEMO_OK : calibrate(probe, form, err);
            if (status) {
                return status;
            }
            best_once = fmax(best_once, amount_of(form) / form->run_ns);
        }
    }
    for (int i = 0; i < probe->n_forms; i++) {
        const form_state *form = &probe->form[i];
        double per_second = 0;
        if (form->exercise->kind != kind_of[ceiling] ||
            amount_of(form) / form->run_ns < WORTH_RUNNING * best_once) {
            continue;
        }
        const anemo_status status = run_form(probe, form, &per_second, err);
        if (status) {
            return status;
        }
        if (per_second > out->per_second) {
            *out = (anemo_probe_value){.per_second = per_second, .form = form->exercise->name};
        }
    }
    return ANEMO_OK;
}

/* Queued, not waited for: what is timed next is queued behind it meanwhile. */
anemo_status gpu_probe_evict(gpu_probe *probe, anemo_error *err) {
    const anemo_exec exec = anemo_device_exec(probe->device);
    for (int i = 0; i < probe->n_forms; i++) {
        const form_state *form = &probe->form[i];
        if (form->exercise->kind == ANEMO_EXERCISE_READ) {
            const anemo_status status = form->exercise->run(&exec, &form->args);
            return status ? failed(probe, form, status, err) : ANEMO_OK;
        }
    }
    return anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s: no exercise reads memory",
                      anemo_device_name(probe->device));
}
