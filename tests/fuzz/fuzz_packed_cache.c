/* The packed cache of a tiny model. Behind a first byte that chooses one of them:
 *     0  the input is the file
 *     1  the input is the index: the file is a genuine one with this table of matrices
 *     2  the input is patches of a genuine file: position (4 bytes), value (1 byte), again and
 * again with, in 1 and 2, the hash of the index and the lengths made right, so that what lies
 * behind them is reached. Whatever the file holds, the plan must be made, and a step must run or
 * say NaN. */
#include "models/engine.h"
#include "tests/fuzz/read_all.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#define MODEL    ANEMO_TEST_DIR "/data/models/mistral-full/model-q4_0.gguf"
#define PREAMBLE 64 /* magic 8, version 8, index_at 8, index_bytes 8, hash 32 */

typedef struct genuine {
    uint8_t *bytes;
    size_t n, table_at; /* of the matrices, behind the key's NUL */
    uint64_t index_at;
} genuine;

static anemo_model *model;
static anemo_device *device;
static char folder[64], path[512];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void need(bool ok) {
    if (!ok)
        abort();
}

static void need_ok(anemo_status status, const anemo_error *error) {
    if (status != ANEMO_OK)
        fprintf(stderr, "%s\n", error->text);
    need(status == ANEMO_OK);
}

static void run_step(anemo_plan *plan) {
    static const int32_t tokens[] = {1, 17, 5};
    anemo_error error = {""};
    anemo_session *session = NULL;
    anemo_step_result result;
    need_ok(anemo_session_create(plan, &session, &error), &error);
    const anemo_step_entry entry = {
        .session = session, .tokens = tokens, .n_tokens = 3, .want = ANEMO_WANT_LOGITS_LAST};
    need_ok(anemo_step_submit(plan, &entry, 1, &error), &error);
    /* only one row of each matrix is compared: others may hold anything, and NaN is said */
    if (anemo_step_wait(plan, &result, &error) != ANEMO_OK)
        need(strstr(error.text, "NaN") != NULL);
    anemo_session_free(session);
}

/* Returns whether the file was read; it is written anew where not. */
static bool make_plan(void) {
    anemo_error error = {""};
    anemo_plan *plan = NULL;
    const anemo_plan_options options = {
        .limits = {.tokens_per_step = 4, .sessions = 1, .context = 8}, .packed_cache = folder};
    need_ok(anemo_plan_create(model, device, &options, &plan, &error), &error);
    const char *note = anemo_plan_cache_note(plan);
    const bool read = strstr(note, ": packed weights read") != NULL;
    need(read || strstr(note, ": packed weights written"));
    run_step(plan);
    anemo_plan_free(plan);
    return read;
}

static void find_file(void) {
    DIR *entries = opendir(folder);
    need(entries != NULL);
    for (const struct dirent *e; (e = readdir(entries));)
        if (e->d_name[0] != '.')
            snprintf(path, sizeof path, "%s/%.400s", folder, e->d_name);
    closedir(entries);
    need(path[0] != '\0');
}

static genuine make_genuine(void) {
    genuine g = {0};
    anemo_error error = {""};
    struct stat info;
    snprintf(folder, sizeof folder, "/dev/shm/anemo-fuzz-%ld", (long)getpid());
    mkdir(folder, 0700);
    need_ok(anemo_model_open(MODEL, NULL, &model, &error), &error);
    need_ok(anemo_device_create_cpu(1, NULL, &device, &error), &error);
    need(!make_plan());
    find_file();
    FILE *f = fopen(path, "rb");
    need(f && !fstat(fileno(f), &info));
    g.n = (size_t)info.st_size;
    g.bytes = malloc(g.n);
    need(g.bytes && fread(g.bytes, 1, g.n, f) == g.n);
    fclose(f);
    memcpy(&g.index_at, g.bytes + 16, sizeof g.index_at);
    g.table_at = g.index_at + strlen((char *)g.bytes + g.index_at) + 1;
    need(make_plan()); /* else nothing below is reached */
    return g;
}

/* Lengths and hash of an index that ends with the file. */
static void make_right(uint8_t *file, size_t n, uint64_t index_at) {
    char hex[65];
    const uint64_t index_bytes = n - index_at;
    memcpy(file + 16, &index_at, sizeof index_at);
    memcpy(file + 24, &index_bytes, sizeof index_bytes);
    anemo_sha256_of(file + index_at, index_bytes, hex);
    memcpy(file + 32, hex, 32);
}

/* The file that this input means: malloc'ed. */
static uint8_t *make_file(const genuine *g, int kind, const uint8_t *data, size_t bytes,
                          size_t *n) {
    *n = kind == 0 ? bytes : kind == 1 ? g->table_at + bytes : g->n;
    uint8_t *file = malloc(*n + PREAMBLE);
    need(file != NULL);
    if (kind == 0) {
        memcpy(file, data, bytes);
        return file;
    }
    memcpy(file, g->bytes, kind == 1 ? g->table_at : g->n);
    if (kind == 1)
        memcpy(file + g->table_at, data, bytes);
    for (size_t i = 0; kind == 2 && i + 5 <= bytes; i += 5) {
        uint32_t at;
        memcpy(&at, data + i, sizeof at);
        file[at % g->n] = data[i + 4];
    }
    make_right(file, *n, g->index_at);
    return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static genuine g;
    size_t n;
    if (!g.bytes)
        g = make_genuine();
    if (bytes < 1)
        return 0;
    uint8_t *file = make_file(&g, data[0] % 3, data + 1, bytes - 1, &n);
    if (fuzz_write(path, file, n))
        make_plan();
    free(file);
    return 0;
}
