/* Each figure is a text that a program, or a tool run on it, prints; equal or not. The decode under
 * callgrind counts inside anemo_step_submit only: what comes before it reads /proc, whose length
 * changes from run to run. */
#include "harness/gate/gate_static.h"

#include "harness/gate/code_hash.h"
#include "harness/measure/capability.h"
#include "harness/record/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct taker {
    const anemo_gate_setting *setting;
    anemo_gate_figures *out;
    char scratch[PATH_MAX - 64]; /* a folder for what tools write */
    anemo_error *err;
} taker;

static anemo_status add(taker *t, const anemo_gate_figure *figure) {
    anemo_gate_figures *out = t->out;
    const bool differs = !figure->skipped[0] && strcmp(figure->base, figure->head) != 0;
    out->compared += !figure->skipped[0];
    out->different += differs;
    if (!differs && !figure->skipped[0]) {
        return ANEMO_OK;
    }
    anemo_gate_figure *more = realloc(out->figure, (size_t)(out->n + 1) * sizeof *more);
    if (!more) {
        return anemo_fail(t->err, ANEMO_E_MEMORY, "no memory for static figures");
    }
    out->figure = more;
    more[out->n++] = *figure;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- code size */

static anemo_status take_code_sizes(taker *t) {
    const anemo_gate_base *base = t->setting->base;
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; !status && i < base->n_hashes; i++) {
        const anemo_gate_hash *there = &base->hashes[i];
        const anemo_code_entry *here = anemo_code_entry_of(there->name);
        anemo_gate_figure f = {{0}};
        snprintf(f.what, sizeof f.what, "code bytes of %s", there->name);
        snprintf(f.base, sizeof f.base, "%lld", (long long)there->code_bytes);
        if (here) {
            snprintf(f.head, sizeof f.head, "%lld", (long long)here->code_bytes);
        } else {
            snprintf(f.head, sizeof f.head, "gone");
        }
        status = add(t, &f);
    }
    return status;
}

/* ---------------------------------------------------------------- what programs tell */

/* The figure of one program into `text`, or why not into `why`. */
typedef bool (*figure_reader)(const taker *t, const char *program, char text[100], char why[200]);

static bool ended_with(int code, const char *what, char why[200]) {
    snprintf(why, 200, code < 0 ? "%s cannot be started" : "%s ended with exit code %d", what,
             code);
    return false;
}

/* The last line of what it prints, which is the values below their keys. */
static bool read_signature(const taker *t, const char *program, char text[100], char why[200]) {
    const char *const arguments[] = {program,    "check",    "--signature", "--isa",
                                     "baseline", "--format", "csv",         NULL};
    char *out = NULL;
    (void)t;
    const int code = anemo_gate_capture(arguments, NULL, "/dev/null", &out);
    if (code == 0 && out) {
        size_t bytes = strlen(out);
        bytes -= bytes > 0 && out[bytes - 1] == '\n';
        out[bytes] = '\0';
        const char *line = strrchr(out, '\n');
        snprintf(text, 100, "%.99s", line ? line + 1 : out);
    }
    free(out);
    return code == 0 && text[0] ? true : ended_with(code, "check --signature", why);
}

static bool first_resident(void *ctx, anemo_record *record) {
    *(double *)ctx = anemo_record_get_number(record, "solution", "resident_bytes");
    return false;
}

/* Weights, KV and workspace: no step allocates, so this is the peak. */
static bool read_memory(const taker *t, const char *program, char text[100], char why[200]) {
    char records[PATH_MAX], samples[PATH_MAX];
    double bytes = -1;
    snprintf(records, sizeof records, "%s/memory.jsonl", t->scratch);
    snprintf(samples, sizeof samples, "%s/memory.samples", t->scratch);
    const char *const arguments[] = {program,     "bench", "model",    t->setting->default_model,
                                     "--prompt",  "16",    "--tokens", "2",
                                     "--batch",   "1",     "--stop",   "n:1",
                                     "--threads", "1",     "--record", records,
                                     "--quiet",   NULL};
    const int code = anemo_gate_capture(arguments, NULL, "/dev/null", NULL);
    const bool read = code == 0 && !anemo_record_read(records, first_resident, &bytes, NULL, NULL);
    unlink(records);
    unlink(samples);
    snprintf(text, 100, "%.0f", bytes);
    return read && bytes > 0 ? true : ended_with(code, "bench model", why);
}

static char *read_text(const char *path) {
    enum { MOST = 1 << 20 };
    FILE *file = fopen(path, "r");
    char *text = calloc(1, MOST);
    if (file && text) {
        text[fread(text, 1, MOST - 1, file)] = '\0';
    }
    if (file) {
        fclose(file);
    }
    return text;
}

/* "Collected : 123" on its standard error. */
static bool read_instructions(const taker *t, const char *program, char text[100], char why[200]) {
    char log[PATH_MAX];
    snprintf(log, sizeof log, "%s/callgrind.log", t->scratch);
    const char *const arguments[] = {"env", /* valgrind does not follow code that moves */
                                     "ANEMO_CODE_PAGES=small",
                                     "valgrind",
                                     "--tool=callgrind",
                                     "--callgrind-out-file=/dev/null",
                                     "--toggle-collect=anemo_step_submit",
                                     program,
                                     "run",
                                     t->setting->default_model,
                                     "--prompt",
                                     "max of 3 5 2 =",
                                     "--tokens",
                                     "4",
                                     "--isa",
                                     t->setting->callgrind_isa,
                                     "--threads",
                                     "1",
                                     NULL};
    if (!anemo_program_in_path("valgrind")) {
        snprintf(why, 200, "valgrind is not in PATH");
        return false;
    }
    unlink(log);
    const int code = anemo_gate_capture(arguments, NULL, log, NULL);
    char *told = code == 0 ? read_text(log) : NULL;
    const char *at = told ? strstr(told, "Collected : ") : NULL;
    const long long count = at ? strtoll(at + 12, NULL, 10) : 0;
    snprintf(text, 100, "%lld", count);
    free(told);
    unlink(log);
    return count > 0 ? true : ended_with(code, "run under callgrind", why);
}

static anemo_status take_from_both(taker *t, const char *what, figure_reader read) {
    anemo_gate_figure f = {{0}};
    char why[200] = "";
    if (t->setting->hooks.interrupted && t->setting->hooks.interrupted()) {
        return ANEMO_E_CANCELLED;
    }
    snprintf(f.what, sizeof f.what, "%s", what);
    if (!read(t, t->setting->base->program, f.base, why)) {
        snprintf(f.skipped, sizeof f.skipped, "base: %.180s", why);
    } else if (!read(t, t->setting->head, f.head, why)) {
        snprintf(f.skipped, sizeof f.skipped, "head: %.180s", why);
    }
    return add(t, &f);
}

/* ---------------------------------------------------------------- CUDA */

/* " Function NAME:" and on the next line "  REG:24 STACK:0 SHARED:0 LOCAL:16 ...": registers, and
 * bytes of local memory, where spills go. Finds the line after `from`; NULL: no more. */
static char *next_function(char *from, char **name, char **usage) {
    char *at = strstr(from, "Function ");
    char *end = at ? strchr(at, '\n') : NULL;
    char *reg = end ? strstr(end, "REG:") : NULL;
    if (!reg) {
        return NULL;
    }
    char *rest = reg + strcspn(reg, "\n");
    rest += *rest == '\n';
    at += strlen("Function ");
    at[strcspn(at, ":\n")] = '\0';
    reg[strcspn(reg, "\n")] = '\0';
    *name = at;
    *usage = reg;
    return rest;
}

static char *usage_of(const char *program, int *code) {
    const char *const arguments[] = {"cuobjdump", "--dump-resource-usage", program, NULL};
    char *text = NULL;
    *code = anemo_gate_capture(arguments, NULL, "/dev/null", &text);
    return text;
}

/* nvcc puts two hashes of a file's path into the names of what is local to it, and base and head
 * lie in different folders: "_GLOBAL__N__8d7de512_25_embed_block_sm80_cu_f1a312af8copy_row". */
static void forget_path(char *name) {
    static const char *const before[] = {"_GLOBAL__N__", "_cu_"};
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        char *at = strstr(name, before[i]);
        at = at ? at + strlen(before[i]) : NULL;
        if (at && strspn(at, "0123456789abcdef") >= 8) {
            memset(at, '-', 8);
        }
    }
}

enum { MOST_FUNCTIONS = 16384 };

typedef struct gpu_function {
    char *name, *usage;
    bool paired;
} gpu_function;

static int32_t functions_of(char *text, gpu_function *out) {
    int32_t n = 0;
    while (n < MOST_FUNCTIONS && (text = next_function(text, &out[n].name, &out[n].usage))) {
        out[n].paired = false;
        forget_path(out[n++].name);
    }
    return n;
}

static anemo_status add_usage(taker *t, const char *name, const char *base, const char *head) {
    anemo_gate_figure f = {{0}};
    snprintf(f.what, sizeof f.what, "registers and spills of %.120s", name);
    snprintf(f.base, sizeof f.base, "%.99s", base);
    snprintf(f.head, sizeof f.head, "%.99s", head);
    return add(t, &f);
}

/* By name; one that comes once for each architecture, in that order. */
static anemo_status compare_usages(taker *t, char *base, char *head) {
    gpu_function *a = malloc(MOST_FUNCTIONS * sizeof *a), *b = malloc(MOST_FUNCTIONS * sizeof *b);
    anemo_status status =
        a && b ? ANEMO_OK : anemo_fail(t->err, ANEMO_E_MEMORY, "no memory for functions");
    const int32_t n = status ? 0 : functions_of(base, a), m = status ? 0 : functions_of(head, b);
    for (int32_t i = 0; !status && i < n; i++) {
        int32_t j = 0;
        while (j < m && (b[j].paired || strcmp(a[i].name, b[j].name) != 0)) {
            j++;
        }
        status = add_usage(t, a[i].name, a[i].usage, j < m ? b[j].usage : "gone");
        if (j < m) {
            b[j].paired = true;
        }
    }
    for (int32_t j = 0; !status && j < m; j++) {
        status = b[j].paired ? ANEMO_OK : add_usage(t, b[j].name, "not there", b[j].usage);
    }
    free(a);
    free(b);
    return status;
}

static anemo_status take_cuda(taker *t) {
    anemo_gate_figure f = {{0}};
    snprintf(f.what, sizeof f.what, "registers and spills of CUDA code");
    if (!t->setting->has_cuda) {
        snprintf(f.skipped, sizeof f.skipped, "this build has no CUDA code");
        return add(t, &f);
    }
    if (!anemo_program_in_path("cuobjdump")) {
        snprintf(f.skipped, sizeof f.skipped, "cuobjdump is not in PATH");
        return add(t, &f);
    }
    int code[2];
    char *texts[2] = {usage_of(t->setting->base->program, &code[0]),
                      usage_of(t->setting->head, &code[1])};
    anemo_status status = ANEMO_OK;
    for (int i = 0; i < 2 && !f.skipped[0]; i++) {
        if (code[i] != 0 || !texts[i] || !strstr(texts[i], "REG:")) {
            ended_with(code[i], i ? "head: cuobjdump" : "base: cuobjdump", f.skipped);
        }
    }
    status = f.skipped[0] ? add(t, &f) : compare_usages(t, texts[0], texts[1]);
    free(texts[0]);
    free(texts[1]);
    return status;
}

/* ---------------------------------------------------------------- all of them */

anemo_status anemo_gate_figures_take(const anemo_gate_setting *setting, anemo_gate_figures *out,
                                     anemo_error *err) {
    const char *root = getenv("TMPDIR");
    taker t = {.setting = setting, .out = out, .err = err};
    *out = (anemo_gate_figures){0};
    snprintf(t.scratch, sizeof t.scratch, "%.3800s/anemo-static-XXXXXX",
             root && root[0] ? root : "/tmp");
    if (!mkdtemp(t.scratch)) {
        return anemo_fail(err, ANEMO_E_DEVICE, "no scratch folder at %.200s", t.scratch);
    }
    anemo_status status = take_code_sizes(&t);
    status = status
                 ? status
                 : take_from_both(&t, "accuracy signature of the reference path", read_signature);
    status = status
                 ? status
                 : take_from_both(&t, "bytes held by a decode of the embedded model", read_memory);
    status = status
                 ? status
                 : take_from_both(&t, "instructions of that decode (callgrind)", read_instructions);
    status = status ? status : take_cuda(&t);
    rmdir(t.scratch);
    return status;
}

void anemo_gate_figures_free(anemo_gate_figures *figures) {
    free(figures->figure);
    *figures = (anemo_gate_figures){0};
}
