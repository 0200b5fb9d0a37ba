/* anemo_code_hash OUT.c FLAGS BLAS LIBRARY...: a tool of the build. It knows the registry, because
 * it is linked with the kernels, and reads what they are made of from their library. A library that
 * it cannot read is no reason to fail a build: then the table is empty and says why, and the gate
 * measures everything. */
#include "harness/gate/code_object.h"

#include <stdio.h>
#include <string.h>

enum { ROOTS = 5 };

/* The symbols behind one variant; how many. */
static int32_t roots_of(const anemo_variant *v, char text[ROOTS][128], const char *roots[ROOTS]) {
    int32_t n = 0;
    snprintf(text[n++], sizeof *text, "anemo_%s", v->name);
    if (v->layout) {
        snprintf(text[n++], sizeof *text, "anemo_layout_%s", v->layout);
    }
    if (v->act) {
        snprintf(text[n++], sizeof *text, "anemo_act_%s", v->act);
    }
    if (v->backend == ANEMO_CPU) {
        snprintf(text[n++], sizeof *text, "anemo_team_create");
    }
    for (int32_t i = 0; i < n; i++) {
        roots[i] = text[i];
    }
    return n;
}

/* The flags count for all, the BLAS only where it is called. */
static anemo_status hash_of(anemo_code_objects *code, const anemo_variant *v, const char *flags,
                            const char *blas, anemo_code_answer *answer, anemo_error *err) {
    char text[ROOTS][128], note[1024];
    const char *roots[ROOTS];
    const int32_t n = roots_of(v, text, roots);
    anemo_status status =
        anemo_code_hash(code, roots, n, offsetof(anemo_variant, idea), flags, answer, err);
    if (!status && answer->calls_blas) {
        snprintf(note, sizeof note, "%s\n%s", flags, blas);
        status = anemo_code_hash(code, roots, n, offsetof(anemo_variant, idea), note, answer, err);
    }
    return status;
}

static void write_entry(FILE *out, const char *name, const anemo_code_answer *answer) {
    fprintf(out, "    {\"%s\",\n     \"%s\",\n     %lld, %lld},\n", name, answer->hex,
            (long long)answer->code_bytes, (long long)answer->constant_bytes);
}

/* What a model runs through: the doors of the engine, and with the registry every kernel. */
static const char *const engine_roots[] = {
    "anemo_model_open",  "anemo_plan_create", "anemo_session_create", "anemo_session_fork",
    "anemo_step_submit", "anemo_step_wait",   "anemo_team_create"};

static void write_entries(FILE *out, anemo_code_objects *code, const char *flags, const char *blas,
                          anemo_error *err) {
    for (int32_t i = 0; i < anemo_variant_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        anemo_code_answer answer;
        if (hash_of(code, v, flags, blas, &answer, err)) {
            continue; /* this one has no hash, and err says why */
        }
        write_entry(out, v->name, &answer);
    }
    anemo_code_answer answer;
    char note[1024];
    snprintf(note, sizeof note, "%s\n%s", flags, blas);
    if (!anemo_code_hash(code, engine_roots, sizeof engine_roots / sizeof *engine_roots, SIZE_MAX,
                         note, &answer, err)) {
        write_entry(out, "engine", &answer);
    }
}

static void write_text(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        fputc(*text < ' ' && *text > 0 ? ' ' : *text, out);
    }
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fputs("usage: anemo_code_hash OUT.c FLAGS BLAS LIBRARY...\n", stderr);
        return 2;
    }
    FILE *out = fopen(argv[1], "w");
    if (!out) {
        perror(argv[1]);
        return 6;
    }
    anemo_code_objects *code;
    anemo_error err = {{0}};
    const anemo_status status =
        anemo_code_open((const char *const *)argv + 4, argc - 4, &code, &err);
    fputs(
        "/* Made by anemo_code_hash from the objects of this build. */\n"
        "#include \"harness/gate/code_hash.h\"\n\nconst anemo_code_entry anemo_code_table[] = {\n",
        out);
    if (!status) {
        write_entries(out, code, argv[2], argv[3], &err);
        anemo_code_close(code);
    }
    fputs("    {0}};\nconst int32_t anemo_code_table_size =\n"
          "    (int32_t)(sizeof anemo_code_table / sizeof *anemo_code_table) - 1;\n"
          "const char anemo_code_table_why[] = \"",
          out);
    write_text(out, err.text);
    fputs("\";\n", out);
    if (err.text[0]) {
        fprintf(stderr, "anemo_code_hash: warning: %s\n", err.text);
    }
    if (fclose(out) != 0) {
        perror(argv[1]);
        return 6;
    }
    return 0;
}
