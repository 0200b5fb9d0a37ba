/* Packed weights on the disk: what is read back gives the same logits bit for bit and takes no
 * memory of its own; whatever is not the source's any more is refused with its reason, and written
 * anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/engine.h"
#include "tests/support/bad_file.h"

#define VOCAB_MAX 1024
#define SOURCE    ANEMO_TEST_DIR "/data/models/mixtral-window/model-q4_0.gguf"

typedef struct outcome {
    anemo_status status;
    anemo_error err;
    char note[1024];
    float logits[VOCAB_MAX];
    size_t weights_held;
    double resident;
} outcome;

/* From 0 to all; it starts over where a cache is refused halfway. */
static bool count_calls(void *ctx, double done, double total) {
    double *most = ctx;
    assert_true(done > 0 && done <= total * 1.001);
    *most = done > *most ? done : *most;
    return true;
}

static bool stop_at_once(void *ctx, double done, double total) {
    (void)ctx, (void)done, (void)total;
    return false;
}

static void step_of(anemo_plan *plan, anemo_model *model, float *logits) {
    const int32_t tokens[] = {1, 17, 5, 99, 3, 40};
    anemo_error err;
    anemo_session *session;
    anemo_step_result result;
    assert_int_equal(anemo_session_create(plan, &session, &err), ANEMO_OK);
    const anemo_step_entry entry = {
        .session = session, .tokens = tokens, .n_tokens = 6, .want = ANEMO_WANT_LOGITS_LAST};
    assert_int_equal(anemo_step_submit(plan, &entry, 1, &err), ANEMO_OK);
    assert_int_equal(anemo_step_wait(plan, &result, &err), ANEMO_OK);
    const size_t vocab = (size_t)anemo_model_describe(model)->vocab;
    assert_true(vocab <= VOCAB_MAX);
    memcpy(logits, result.logits, vocab * sizeof *logits);
    anemo_session_free(session);
}

/* Opens the model with the cache in `directory`, and runs a step. */
static outcome open_with(const char *path, const char *directory, const char *with,
                         anemo_pack_progress on_pack) {
    outcome o = {.status = ANEMO_OK};
    anemo_model *model = NULL;
    anemo_device *device = NULL;
    anemo_plan *plan = NULL;
    double most = 0;
    assert_int_equal(anemo_model_open(path, NULL, &model, &o.err), ANEMO_OK);
    assert_int_equal(anemo_device_create_cpu(2, NULL, &device, &o.err), ANEMO_OK);
    const anemo_plan_options options = {
        .limits = {.tokens_per_step = 8, .sessions = 1, .context = 64},
        .with = with != NULL ? &with : NULL,
        .n_with = with != NULL,
        .on_pack = on_pack != NULL ? on_pack : count_calls,
        .on_pack_ctx = &most,
        .packed_cache = directory};
    o.status = anemo_plan_create(model, device, &options, &plan, &o.err);
    if (o.status == ANEMO_OK) {
        snprintf(o.note, sizeof o.note, "%s", anemo_plan_cache_note(plan));
        o.weights_held = anemo_device_held_bytes(device, ANEMO_MEM_WEIGHTS);
        o.resident = anemo_plan_resident_bytes(plan);
        step_of(plan, model, o.logits);
    }
    anemo_plan_free(plan);
    anemo_device_free(device);
    anemo_model_close(model);
    return o;
}

static unsigned char *slurp(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(f);
    rewind(f);
    unsigned char *data = malloc(*bytes + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

/* The model in the test's folder, an empty directory for the cache, and the file that it gets. */
typedef struct place {
    char model[512], directory[512], file[1024];
    unsigned char *bytes;
    size_t n;
} place;

static place prepare(void) {
    place p;
    snprintf(p.model, sizeof p.model, "%s/model.gguf", folder);
    snprintf(p.directory, sizeof p.directory, "%s/cache", folder);
    p.bytes = slurp(SOURCE, &p.n);
    rewrite(p.model, p.bytes, p.n);
    assert_int_equal(mkdir(p.directory, 0777), 0);
    return p;
}

static outcome write_first(place *p) {
    const outcome o = open_with(p->model, p->directory, NULL, NULL);
    if (o.status != ANEMO_OK)
        fail_msg("%s", o.err.text);
    assert_non_null(strstr(o.note, ": packed weights written"));
    assert_null(strstr(o.note, "refused"));
    snprintf(p->file, sizeof p->file, "%.*s", (int)(strchr(o.note, ':') - o.note), o.note);
    return o;
}

/* Must work all the same, say why the old file was not taken, and leave one that is. */
static void refused_and_rebuilt(const place *p, const char *why) {
    const outcome o = open_with(p->model, p->directory, NULL, NULL);
    if (o.status != ANEMO_OK)
        fail_msg("%s", o.err.text);
    if (!strstr(o.note, "written") || !strstr(o.note, why))
        fail_msg("'%s' does not say: %s", o.note, why);
    const outcome again = open_with(p->model, p->directory, NULL, NULL);
    assert_non_null(strstr(again.note, ": packed weights read"));
    assert_null(strstr(again.note, "refused"));
    assert_memory_equal(o.logits, again.logits, sizeof o.logits);
}

static void read_back_bit_for_bit(void **state) {
    (void)state;
    place p = prepare();
    const outcome plain = open_with(p.model, NULL, NULL, NULL);
    const outcome first = write_first(&p);
    const outcome second = open_with(p.model, p.directory, NULL, NULL);
    assert_string_equal(plain.note, "");
    assert_non_null(strstr(second.note, ": packed weights read"));
    assert_memory_equal(plain.logits, first.logits, sizeof plain.logits);
    assert_memory_equal(plain.logits, second.logits, sizeof plain.logits);
    assert_true(plain.logits[0] != plain.logits[1]);
    struct stat info;
    assert_int_equal(stat(p.file, &info), 0);
    if (info.st_size > 100000) { /* where nothing is packed (a baseline CPU) nothing is saved */
        assert_true(second.weights_held < first.weights_held / 4);
        assert_true(second.resident > 0.95 * first.resident &&
                    second.resident < 1.05 * first.resident);
    }
    free(p.bytes);
}

static void another_time_or_size(void **state) {
    (void)state;
    place p = prepare();
    write_first(&p);
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, p.model, times, 0), 0);
    refused_and_rebuilt(&p, "packed from other files");
    free(p.bytes);
}

static void damaged_files(void **state) {
    (void)state;
    place p = prepare();
    size_t n;
    write_first(&p);
    unsigned char *good = slurp(p.file, &n);
    rewrite(p.file, good, n - 1);
    refused_and_rebuilt(&p, "its length is not what it says");
    good[n - 9] ^= 1;
    rewrite(p.file, good, n);
    refused_and_rebuilt(&p, "its index is damaged");
    good[n - 9] ^= 1;
    good[8] = 2;
    rewrite(p.file, good, n);
    refused_and_rebuilt(&p, "it is not of this version");
    rewrite(p.file, good, 20);
    refused_and_rebuilt(&p, "it is too short");
    free(good);
    free(p.bytes);
}

/* Same length, same time, same header, other weights: only the rows can tell. */
static void other_weights_under_the_same_name(void **state) {
    (void)state;
    place p = prepare();
    struct stat info, file;
    write_first(&p);
    assert_int_equal(stat(p.file, &file), 0);
    if (file.st_size < 100000) /* nothing is packed on this processor */
        skip();
    assert_int_equal(stat(p.model, &info), 0);
    for (size_t i = p.n / 2; i < p.n - 64; i++) /* low bits of codes and scales */
        p.bytes[i] ^= 1;
    rewrite(p.model, p.bytes, p.n);
    const struct timespec times[2] = {info.st_mtim, info.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, p.model, times, 0), 0);
    refused_and_rebuilt(&p, "a row of it is not what the source holds");
    free(p.bytes);
}

static void other_layouts(void **state) {
    (void)state;
    place p = prepare();
    struct stat file;
    write_first(&p);
    assert_int_equal(stat(p.file, &file), 0);
    if (file.st_size < 100000)
        skip();
    const outcome o = open_with(p.model, p.directory, "qgemm=qgemm_ref", NULL);
    assert_int_equal(o.status, ANEMO_OK);
    assert_non_null(strstr(o.note, "written; the file that was there was refused: "));
    refused_and_rebuilt(&p, "than this plan");
    free(p.bytes);
}

/* No directory, no file to key it by, an interrupt: refused, and nothing is left behind. */
static void nothing_half_done(void **state) {
    (void)state;
    place p = prepare();
    char nowhere[600];
    snprintf(nowhere, sizeof nowhere, "%s/not-there", folder);
    outcome o = open_with(p.model, nowhere, NULL, NULL);
    assert_int_equal(o.status, ANEMO_E_IO);
    assert_non_null(strstr(o.err.text, "cannot write packed weights"));
    o = open_with("synth:tiny-moe:q4_0", p.directory, NULL, NULL);
    assert_int_equal(o.status, ANEMO_E_INPUT);
    assert_non_null(strstr(o.err.text, "a model in files"));
    o = open_with(p.model, p.directory, NULL, stop_at_once);
    struct stat info;
    if (o.status != ANEMO_OK) { /* something was packed */
        assert_int_equal(o.status, ANEMO_E_CANCELLED);
        assert_int_equal(rmdir(p.directory), 0); /* it is empty */
        assert_int_not_equal(stat(p.directory, &info), 0);
    }
    free(p.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        bad_file_test(read_back_bit_for_bit), bad_file_test(another_time_or_size),
        bad_file_test(damaged_files),         bad_file_test(other_weights_under_the_same_name),
        bad_file_test(other_layouts),         bad_file_test(nothing_half_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
