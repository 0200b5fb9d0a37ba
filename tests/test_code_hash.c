/* The code hash: what changes it and what does not, on a tiny set of kernels that is really
 * compiled, once for each edit; and the table of this build. */
#include "harness/gate/code_hash.h"
#include "harness/gate/code_object.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *folder;

static int set_up(void **state) {
    (void)state;
    folder = test_folder_create();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

/* ---------------------------------------------------------------- a tiny set of kernels */

enum { HEADER, ONE, TWO, HELPER, FILES };
static const char *const file_names[FILES] = {"shared.h", "one.c", "two.c", "helper.c"};

/* one_a uses the shared header and a pooled constant, one_b neither; two calls helper. All in the
 * manner of a variant: a table with a description and a function. */
static const char *const original[FILES] = {
    [HEADER] = "/* shared */\n"
               "typedef struct kernel { const char *idea; void (*run)(float *, int); } kernel;\n"
               "static inline float twice(float x) { return x * 2.0f + 0.125f; }\n",
    [ONE] = "#include \"shared.h\"\n"
            "extern int puts(const char *);\nextern void perror(const char *);\n"
            "static __attribute__((noinline)) void inner(float *x, int n)"
            " { for (int i = 0; i < n; i++) x[i] = twice(x[i]) * 0.3125f; }\n"
            "static void run_a(float *x, int n) { inner(x, n); }\n"
            "static void run_b(float *x, int n)"
            " { if (n < 0) puts(\"negative\"); for (int i = 0; i < n; i++) x[i] += 0.7f; }\n"
            "const kernel one_a = {\"doubles\", run_a};\n"
            "const kernel one_b = {\"adds\", run_b};\n",
    [TWO] =
        "#include \"shared.h\"\n"
        "float helper(float x);\n"
        "static void run(float *x, int n) { for (int i = 0; i < n; i++) x[i] = helper(x[i]); }\n"
        "const kernel two = {\"calls\", run};\n",
    [HELPER] = "static const float table[4] = {1, 2, 3, 5};\n"
               "float helper(float x);\n"
               "float helper(float x) { return x * table[(int)x & 3]; }\n"};

static const char *const kernels[] = {"one_a", "one_b", "two"};
enum { KERNELS = 3 };

typedef struct hashes {
    char hex[KERNELS][65];
} hashes;

/* Compiles the set with `file` changed by putting `to` in the place of `from`, inside `place`. */
static hashes hashes_with(const char *place, const char *flags, int file, const char *from,
                          const char *to) {
    char command[4096], name[1024];
    hashes out;
    snprintf(command, sizeof command, "mkdir -p %s/%s", folder, place);
    assert_int_equal(system(command), 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "%s/%s/%s", folder, place, file_names[i]);
        FILE *f = fopen(name, "w");
        assert_non_null(f);
        const char *at = i == file ? strstr(original[i], from) : NULL;
        if (i == file) {
            assert_non_null(at); /* the edit must happen */
            fprintf(f, "%.*s%s%s", (int)(at - original[i]), original[i], to, at + strlen(from));
        } else {
            fputs(original[i], f);
        }
        fclose(f);
    }
    snprintf(command, sizeof command,
             "cd %s/%s && for f in one two helper; do " ANEMO_TEST_CC
             " -O2 -fPIC -ffunction-sections -fdata-sections %s -c \"$PWD/$f.c\" -o $f.o || exit 1;"
             " done && rm -f set.a && ar rcs set.a helper.o two.o one.o",
             folder, place, flags);
    assert_int_equal(system(command), 0);
    snprintf(name, sizeof name, "%s/%s/set.a", folder, place);
    anemo_code_objects *code;
    anemo_error err = {{0}};
    assert_int_equal(anemo_code_open(&(const char *){name}, 1, &code, &err), ANEMO_OK);
    for (int i = 0; i < KERNELS; i++) {
        anemo_code_answer answer;
        assert_int_equal(anemo_code_hash(code, &kernels[i], 1, 0, "flags", &answer, &err),
                         ANEMO_OK);
        assert_true(answer.code_bytes > 10 && answer.sections >= 2);
        memcpy(out.hex[i], answer.hex, sizeof answer.hex);
    }
    anemo_code_close(code);
    return out;
}

/* expected: a digit for each kernel, 1 = changes */
static void expect(const char *what, const hashes *before, const hashes *after,
                   const char *expected) {
    for (int i = 0; i < KERNELS; i++) {
        const bool changed = strcmp(before->hex[i], after->hex[i]) != 0;
        if (changed != (expected[i] == '1')) {
            print_error("%s: %s %s\n", what, kernels[i], changed ? "changed" : "did not change");
        }
        assert_int_equal(changed, expected[i] == '1');
    }
}

static const struct edit {
    const char *what, *flags;
    int file;
    const char *from, *to, *changes;
} edits[] = {
    {"a comment and empty lines", "-g", HEADER, "/* shared */\n", "/* no longer\n\n */\n\n", "000"},
    {"debug sections", "-g3", HELPER, "static", "static", "000"},
    {"another name of a function", "-g", HELPER,
     "static const float table[4] = {1, 2, 3, 5};\n"
     "float helper(float x);\n"
     "float helper(float x) { return x * table[",
     "static const float numbers[4] = {1, 2, 3, 5};\n"
     "float helper(float x);\n"
     "float helper(float x) { return x * numbers[",
     "000"},
    {"a description", "-g", ONE, "\"doubles\"", "\"multiplies\"", "000"},
    {"a shared header", "-g", HEADER, "0.125f", "0.0625f", "100"},
    {"a constant of one kernel beside others", "-g", ONE, "0.7f", "0.8f", "010"},
    {"a constant that is used through a call", "-g", ONE, "0.3125f", "0.4375f", "100"},
    {"a string", "-g", ONE, "\"negative\"", "\"below 0\"", "010"},
    {"what is called outside", "-g", ONE, "puts(\"neg", "perror(\"neg", "010"},
    {"a table of another file", "-g", HELPER, "3, 5}", "3, 4}", "001"},
    {"code of another file", "-g", HELPER, "x * table", "x + table", "001"},
    {"a compiler's flag that changes no code", "-g -DUNUSED", HELPER, "static", "static", "000"},
    {"a compiler's flag that does", "-g -fno-inline -fcf-protection=none -falign-functions=64",
     HELPER, "static", "static", "111"},
};

static void hashes_change_with_the_code_and_only_with_it(void **state) {
    (void)state;
    const hashes before = hashes_with("here", "-g", HELPER, "static", "static");
    expect("another folder", &before,
           &(hashes[]){hashes_with("there/deeper", "-g", HELPER, "static", "static")}[0], "000");
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        const struct edit *e = &edits[i];
        const hashes after = hashes_with("edited", e->flags, e->file, e->from, e->to);
        expect(e->what, &before, &after, e->changes);
    }
}

/* ---------------------------------------------------------------- the note, bad files */

static void the_note_and_unknown_symbols(void **state) {
    (void)state;
    char name[1024];
    const char *unknown = "no_such_kernel";
    anemo_code_objects *code;
    anemo_code_answer one, other;
    anemo_error err = {{0}};
    hashes_with("here", "-g", HELPER, "static", "static");
    snprintf(name, sizeof name, "%s/here/set.a", folder);
    assert_int_equal(anemo_code_open(&(const char *){name}, 1, &code, &err), ANEMO_OK);
    assert_int_equal(anemo_code_hash(code, kernels, 1, SIZE_MAX, "-O2", &one, &err), ANEMO_OK);
    assert_int_equal(anemo_code_hash(code, kernels, 1, SIZE_MAX, "-O3", &other, &err), ANEMO_OK);
    assert_string_not_equal(one.hex, other.hex);
    assert_false(one.calls_blas);
    assert_int_equal(anemo_code_hash(code, &unknown, 1, SIZE_MAX, "", &one, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "no_such_kernel"));
    anemo_code_close(code);
    assert_int_equal(anemo_code_open(&(const char *){"/nowhere/at.a"}, 1, &code, &err),
                     ANEMO_E_INPUT);
    assert_null(code);
}

/* Cut off anywhere, or with any byte changed, it is refused or read, never a crash. */
static void damaged_objects_are_survived(void **state) {
    (void)state;
    char name[1024];
    anemo_error err = {{0}};
    int refused = 0;
    hashes_with("here", "", HELPER, "static", "static");
    snprintf(name, sizeof name, "%s/here/one.o", folder);
    FILE *f = fopen(name, "rb");
    assert_non_null(f);
    static uint8_t bytes[1 << 16], damaged[1 << 16];
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(n > 500 && n < sizeof bytes);
    snprintf(name, sizeof name, "%s/damaged.o", folder);
    for (size_t i = 0; i < 2 * n; i += 7) {
        const bool cut = i >= n;
        memcpy(damaged, bytes, n);
        damaged[i % n] ^= cut ? 0 : 0xff;
        remove(name);
        f = fopen(name, "wb");
        assert_int_equal(fwrite(damaged, 1, cut ? i - n : n, f), cut ? i - n : n);
        fclose(f);
        anemo_code_objects *code;
        anemo_code_answer answer;
        if (anemo_code_open(&(const char *){name}, 1, &code, &err)) {
            refused++;
            continue;
        }
        anemo_code_hash(code, kernels, 1, 0, "", &answer, &err);
        anemo_code_close(code);
    }
    assert_true(refused > (int)(n / 7) * 9 / 10); /* at least those that are cut */
}

/* ---------------------------------------------------------------- this build */

static void every_built_in_variant_has_a_hash_of_its_own(void **state) {
    (void)state;
    assert_string_equal(anemo_code_table_why, "");
    assert_int_equal(anemo_code_table_size, anemo_variant_builtin_count() + 1);
    assert_non_null(anemo_code_entry_of("engine"));
    assert_true(anemo_code_table_size > 20);
    for (int32_t i = 0; i < anemo_code_table_size; i++) {
        const anemo_code_entry *entry = anemo_code_entry_of(
            i < anemo_variant_builtin_count() ? anemo_variant_at(i)->name : "engine");
        assert_non_null(entry);
        assert_int_equal(strlen(entry->hash), 64);
        assert_true(entry->code_bytes > 100);
        for (int32_t j = 0; j < i; j++) {
            assert_string_not_equal(entry->hash, anemo_code_table[j].hash);
        }
    }
    assert_null(anemo_code_entry_of("no_such_variant"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hashes_change_with_the_code_and_only_with_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_note_and_unknown_symbols, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_objects_are_survived, set_up, tear_down),
        cmocka_unit_test(every_built_in_variant_has_a_hash_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
