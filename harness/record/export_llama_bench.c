/* What `llama-bench -o json` prints (llama.cpp, tools/llama-bench/llama-bench.cpp, test::get_fields
 * and json_printer; read by its scripts/compare-llama-bench.py).
 *
 *   pp P        our prefill of one request: P prompt tokens, samples are whole prefills
 *   tg N @ d P  our decode of one session: N steps (the first of the generated tokens came with the
 *               prefill) at a depth of P tokens; a sample lasts all N steps, so ours, which are
 *               per step, are multiplied
 *
 * Several sessions in one step are `llama-batched-bench`'s, and composed runs nobody's: left out.
 * Rates are means there, and so they are in the export; elsewhere anemo quotes medians. Fields
 * about settings that exist only in llama.cpp get the value that describes what anemo does: one
 * buffer per device, memory-mapped files, threads bound to cores, no polling to tune. `use_mmap`,
 * which newer versions have renamed to `load_mode`, stays beside it: compare-llama-bench.py of
 * 2025 demands it. */
#include "harness/record/export_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The commit of "v1.2-34-gabc123" or "abc123-dirty". */
static json_t *commit_of(const char *version) {
    const char *mark = strstr(version, "-g");
    const char *commit = mark ? mark + 2 : version;
    return json_stringn(commit, strcspn(commit, "-"));
}

static json_t *model_type(const anemo_record *record) {
    return json_sprintf("%s %.3g B %s", export_text(record, "case", "architecture"),
                        anemo_record_get_number(record, "case", "parameters") * 1e-9,
                        export_text(record, "solution", "weights"));
}

/* What is known before the samples. */
static json_t *fields_of(const anemo_record *record, int64_t prompt, int64_t generated,
                         int64_t depth) {
    const bool gpu = strcmp(export_text(record, "solution", "backend"), "cuda") == 0;
    const char *device = export_text(record, "machine", "device");
    const int64_t layers = export_integer(record, "case", "layers");
    const int64_t chunk = export_integer(record, "case", "chunk_tokens");
    const int64_t batch = chunk ? chunk : export_integer(record, "case", "prompt_tokens");
    const char *kv = export_text(record, "case", "kv_type");
    return json_pack(
        "{s:o, s:i, s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:i, s:s, s:s, s:I,"
        " s:i, s:s, s:i, s:b, s:i, s:s, s:s, s:s, s:s, s:b, s:b, s:i, s:b, s:i, s:i, s:I, s:I, s:I,"
        " s:o}",
        "build_commit", commit_of(export_text(record, "build", "version")), "build_number", 0,
        "cpu_info", export_text(record, "machine", "cpu"), "gpu_info", gpu ? device : "",
        "backends", gpu ? "CUDA" : "CPU", "model_filename", export_text(record, "case", "model"),
        "model_type", model_type(record), "model_size",
        (json_int_t)anemo_record_get_number(record, "case", "weight_bytes"), "model_n_params",
        (json_int_t)anemo_record_get_number(record, "case", "parameters"), "n_batch",
        (json_int_t)batch, "n_ubatch", (json_int_t)batch, "n_threads",
        (json_int_t)export_integer(record, "machine", "device_threads"), "cpu_mask", "0x0",
        "cpu_strict", 1, "poll", 0, "type_k", kv, "type_v", kv, "n_gpu_layers",
        (json_int_t)(gpu ? layers + 1 : 0), "n_cpu_moe", 0, "split_mode", "none", "main_gpu", 0,
        "no_kv_offload", 0, "flash_attn", 1, "devices", gpu ? device : "none", "tensor_split",
        "0.00", "tensor_buft_overrides", "none", "load_mode", "mmap", "use_mmap", 1, "embeddings",
        0, "no_op_offload", 0, "no_host", 0, "fit_target", 0, "fit_min_ctx", 0, "n_prompt",
        (json_int_t)prompt, "n_gen", (json_int_t)generated, "n_depth", (json_int_t)depth,
        "test_time", json_sprintf("%.19sZ", export_text(record, NULL, "time")));
}

/* seconds[n], each behind `tokens` tokens. */
static bool set_samples(json_t *entry, const double *seconds, int64_t n, double tokens) {
    json_t *ns = json_array(), *rates = json_array();
    double *rate = malloc((size_t)n * sizeof *rate);
    double mean, deviation;
    bool good = rate != NULL;
    for (int64_t i = 0; good && i < n; i++) {
        rate[i] = tokens / seconds[i];
        good = json_array_append_new(ns, json_integer(llround(seconds[i] * 1e9))) == 0 &&
               json_array_append_new(rates, json_real(rate[i])) == 0;
    }
    if (good) {
        export_mean(seconds, n, &mean, &deviation);
        json_object_set_new(entry, "avg_ns", json_integer(llround(mean * 1e9)));
        json_object_set_new(entry, "stddev_ns", json_integer(llround(deviation * 1e9)));
        export_mean(rate, n, &mean, &deviation);
        json_object_set_new(entry, "avg_ts", json_real(mean));
        json_object_set_new(entry, "stddev_ts", json_real(deviation));
    }
    good = json_object_set_new(entry, "samples_ns", ns) == 0 && good;
    good = json_object_set_new(entry, "samples_ts", rates) == 0 && good;
    free(rate);
    return good;
}

static const char *reason_against(const anemo_record *record) {
    return strcmp(export_text(record, NULL, "kind"), "model") != 0 ? "not a model"
           : !export_passed(record)                                ? "it did not pass"
           : anemo_record_get_flag(record, "case", "composed")     ? "composed from a few layers"
           : export_integer(record, "case", "batch") != 1          ? "several sessions in one step"
                                                                   : NULL;
}

static anemo_status visit(const anemo_record *record, json_t *list, anemo_export_report *report,
                          anemo_error *err) {
    anemo_metric metric;
    const bool decode = anemo_record_find_metric(record, "tpot", &metric);
    const bool prefill = anemo_record_find_metric(record, "ttft", &metric);
    const int64_t prompt = export_integer(record, "case", "prompt_tokens");
    const int64_t steps = export_integer(record, "case", "generated_tokens") - 1;
    double *samples;
    int64_t n;
    const char *against = reason_against(record);
    if (!against && !(decode && steps > 0) && !(prefill && prompt > 0)) {
        against = "neither a prefill nor a decode";
    }
    if (against) {
        export_leave_out(report, record, against);
        return ANEMO_OK;
    }
    const anemo_status status = export_samples(record, "time", &samples, &n, err);
    if (status || n == 0) {
        export_leave_out(report, record, "its raw samples are not here");
        return status;
    }
    for (int64_t i = 0; decode && i < n; i++) {
        samples[i] *= (double)steps;
    }
    json_t *entry = decode ? fields_of(record, 0, steps, prompt) : fields_of(record, prompt, 0, 0);
    const bool good = entry && set_samples(entry, samples, n, (double)(decode ? steps : prompt)) &&
                      json_array_append(list, entry) == 0;
    json_decref(entry);
    free(samples);
    return good ? ANEMO_OK
                : anemo_fail(err, ANEMO_E_INPUT, "%.160s: lacks what llama-bench's form needs",
                             export_text(record, "case", "name"));
}

anemo_status anemo_export_llama_bench(anemo_record *const *records, int64_t n, FILE *out,
                                      anemo_export_report *report, anemo_error *err) {
    json_t *list;
    const anemo_status status = export_list(records, n, "llama-bench", visit, &list, report, err);
    return status ? status : export_write(list, out, err);
}
