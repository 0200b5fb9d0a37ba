/* anemo verify: the embedded model is identified by its hash and agrees with transformers and
 * tokenizers in everything published about it here; a copy with one weight changed is told apart,
 * the same with a fact changed; what nobody knows is called unknown; wrong facts are refused with
 * file and line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/bad_file.h"

#define SOURCE  ANEMO_TEST_DIR "/.."
#define DEFAULT SOURCE "/models/default"
#define FACTS   SOURCE "/results/reference/checkpoints.jsonl"

/* The verdicts of one kind, as "agrees", "DIFFERS" or "not run"; "" when there is no such line. */
static const char *verdict(const json_t *out, const char *what) {
    size_t i;
    json_t *line;
    json_array_foreach(
        json_object_get(out, "verify"), i,
        line) if (!strcmp(json_string_value(json_object_get(line, "what")),
                          what)) return json_string_value(json_object_get(line, "verdict"));
    return "";
}

static json_t *verify(const char *model, const char *facts, int code, char *said, size_t room) {
    program_result r = program_run("verify", model, "--facts", facts, "--format", "json");
    if (r.code != code)
        fail_msg("exit %d, not %d: %s%s", r.code, code, r.out, r.err);
    snprintf(said, room, "%s", r.err);
    json_t *out = json_loads(r.out, 0, NULL);
    program_result_free(&r);
    return out;
}

static void the_embedded_model(void **state) {
    (void)state;
    char said[1024];
    json_t *out = verify(DEFAULT, FACTS, 0, said, sizeof said);
    assert_non_null(strstr(said, "is anemo-default; 5 agree, 0 differ, 0 not run"));
    static const char *const kinds[] = {"shape", "file", "tokens", "logits", "continuation"};
    for (size_t i = 0; i < COUNT(kinds); i++)
        assert_string_equal(verdict(out, kinds[i]), "agrees");
    json_decref(out);
}

static void copy_default(void) {
    static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors"};
    for (size_t i = 0; i < COUNT(files); i++) {
        char from[512], to[512];
        size_t bytes;
        snprintf(from, sizeof from, DEFAULT "/%s", files[i]);
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        char *data = test_read_file(from, &bytes);
        assert_non_null(data);
        if (!strcmp(files[i], "model.safetensors")) /* a stretch of weights, doubled or halved */
            for (size_t at = bytes / 2; at < bytes / 2 + 100000; at += 2)
                data[at] = (char)(data[at] ^ 0x80);
        test_write_file(to, data, bytes);
        free(data);
    }
}

/* Only its shape is known then, so the difference is not called a mistake. */
static void other_weights_of_that_shape(void **state) {
    (void)state;
    char said[1024];
    copy_default();
    json_t *out = verify(folder, FACTS, 4, said, sizeof said);
    assert_non_null(strstr(said, "has the shape of anemo-default"));
    assert_non_null(strstr(said, "fine-tuned?"));
    assert_string_equal(verdict(out, "file"), "DIFFERS");
    assert_string_equal(verdict(out, "tokens"), "agrees");
    assert_string_equal(verdict(out, "logits"), "DIFFERS");
    json_decref(out);
}

/* The true file and one wrong fact: exit 3, whichever it is. */
static void wrong_facts_are_noticed(void **state) {
    (void)state;
    static const struct {
        const char *what, *key;
        int index; /* of an array that holds numbers, or of its first row */
    } changes[] = {{"tokens", "ids", 3}, {"logits", "rows", 2}, {"continuation", "next", 1}};
    char path[512], said[1024];
    snprintf(path, sizeof path, "%s/facts.jsonl", folder);
    for (size_t c = 0; c < COUNT(changes); c++) {
        FILE *in = fopen(FACTS, "r"), *to = fopen(path, "w");
        char *line = NULL;
        size_t room = 0;
        assert_true(in && to);
        while (getline(&line, &room, in) >= 0) {
            json_t *fact = json_loads(line, 0, NULL);
            const char *name = json_string_value(json_object_get(fact, "checkpoint"));
            if (!strcmp(name, "anemo-default") &&
                !strcmp(json_string_value(json_object_get(fact, "what")), changes[c].what)) {
                json_t *list = json_object_get(fact, changes[c].key);
                if (json_is_array(json_array_get(list, 0)))
                    list = json_array_get(list, 0);
                json_t *item = json_array_get(list, (size_t)changes[c].index);
                if (json_is_integer(item))
                    json_integer_set(item, json_integer_value(item) ^ 1);
                else
                    json_real_set(item, json_real_value(item) + 0.02);
            }
            json_dumpf(fact, to, JSON_COMPACT);
            fputc('\n', to);
            json_decref(fact);
        }
        free(line);
        fclose(in);
        fclose(to);
        json_t *out = verify(DEFAULT, path, 3, said, sizeof said);
        assert_string_equal(verdict(out, changes[c].what), "DIFFERS");
        assert_string_equal(verdict(out, "shape"), "agrees");
        json_decref(out);
    }
}

static void unknown_is_said(void **state) {
    (void)state;
    char said[1024];
    json_decref(verify(ANEMO_TEST_DIR "/data/models/mistral-full", FACTS, 5, said, sizeof said));
    assert_non_null(strstr(said, "unknown: no published facts for mistral"));
    json_decref(verify("synth:tiny:q4_0", FACTS, 5, said, sizeof said));
    assert_non_null(strstr(said, "unknown"));
}

static void bad_facts(void **state) {
    (void)state;
#define HEAD                                                                                       \
    "{\"checkpoint\":\"x\",\"class\":\"published\",\"as_of\":\"2026-01-01\",\"source\":\"s\","
    static const struct {
        const char *line, *says;
    } bad[] = {
        {"[1]", "not a JSON object"},
        {"{\"checkpoint\":\"x\"", "not a JSON object"},
        {"{\"checkpoint\":\"x\"}", "\"what\" must be a text"},
        {HEAD "\"what\":\"weather\"}", "\"what\" is \"weather\"; accepted: shape"},
        {HEAD "\"what\":\"file\",\"file\":\"a\",\"bytes\":-1,\"sha256\":\"b\"}", "\"bytes\""},
        {HEAD "\"what\":\"tokens\",\"text\":\"a\",\"bos\":1,\"ids\":[1]}", "true or false"},
        {HEAD "\"what\":\"tokens\",\"text\":\"a\",\"bos\":true,\"ids\":[-1]}", "token ids"},
        {HEAD "\"what\":\"logits\",\"ids\":[1],\"tolerance\":0.1}", "\"mean\" or \"rows\""},
        {HEAD "\"what\":\"logits\",\"ids\":[1],\"rows\":[1],\"tolerance\":0.1}",
         "lists of numbers"},
        {HEAD "\"what\":\"logits\",\"ids\":[1],\"mean\":[1],\"tolerance\":0}", "a number > 0"},
    };
    char path[512], want[600];
    snprintf(path, sizeof path, "%s/bad.jsonl", folder);
    snprintf(want, sizeof want, "%s:1: ", path);
    for (size_t i = 0; i < COUNT(bad); i++) {
        rewrite(path, bad[i].line, strlen(bad[i].line));
        program_result r = program_run("verify", DEFAULT, "--facts", path);
        if (r.code != 2 || !strstr(r.err, bad[i].says) || !strstr(r.err, want) || r.out[0])
            fail_msg("%s: exit %d: %s", bad[i].line, r.code, r.err);
        program_result_free(&r);
    }
}

/* What is no text file of lines: refused at once, whatever it is. */
static void bad_facts_files(void **state) {
    (void)state;
    static const char nul[] = HEAD "\"what\":\"tokens\",\"text\":\"a\",\"bos\":true,"
                                   "\"ids\":[1]}\0garbage";
    char path[512];
    snprintf(path, sizeof path, "%s/nul.jsonl", folder);
    rewrite(path, nul, sizeof nul);
    const struct {
        const char *path, *says;
    } bad[] = {{"/dev/zero", ":1: longer than 65536 bytes"},
               {folder, ": Is a directory"},
               {path, ":1: not a JSON object"},
               {"/nowhere", ": No such file"}};
    for (size_t i = 0; i < COUNT(bad); i++) {
        program_result r = program_run("verify", DEFAULT, "--facts", bad[i].path);
        if (r.code != 2 || !strstr(r.err, bad[i].says) || !strstr(r.err, bad[i].path) || r.out[0])
            fail_msg("%s: exit %d: %s", bad[i].path, r.code, r.err);
        program_result_free(&r);
    }
}

/* A fact that this model cannot be asked about is "not run", with the reason; the others are
 * compared (found by tests/fuzz/fuzz_facts.c: a product that overflowed). */
static void facts_that_do_not_fit(void **state) {
    (void)state;
#define TINY_HEAD "{\"checkpoint\":\"t\",\"class\":\"measured\",\"as_of\":\"d\",\"source\":\"s\","
    static const char shape[] =
        TINY_HEAD "\"what\":\"shape\",\"architecture\":\"mixtral\",\"vocab\":485,\"d\":128,"
                  "\"ffn\":256,\"layers\":4,\"heads\":4,\"kv_heads\":2,\"head_dim\":32,"
                  "\"experts\":8,\"experts_per_token\":2}\n";
    static const struct {
        const char *fact, *says;
    } cases[] = {
        {"\"what\":\"continuation\",\"ids\":[1],\"repeat\":[3,4],\"times\":9223372036854775807,"
         "\"next\":[5]}",
         "longer than this model's context"},
        {"\"what\":\"continuation\",\"ids\":[1],\"repeat\":[3],\"times\":16777216,\"next\":[5]}",
         "longer than this model's context"},
        {"\"what\":\"continuation\",\"ids\":[485],\"next\":[5]}", "outside this vocabulary"},
        {"\"what\":\"perplexity\",\"text\":\"t\",\"text_sha256\":\"0\",\"weights\":\"bf16\","
         "\"rule\":\"llama-perplexity\",\"context\":0,\"value\":5,\"tolerance\":0.1}",
         "context"},
    };
    char path[512], text[512], facts[2048];
    snprintf(path, sizeof path, "%s/facts.jsonl", folder);
    snprintf(text, sizeof text, "%s/text", folder);
    rewrite(text, "know Ada red", 12);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const int n = snprintf(facts, sizeof facts, "%s%s%s\n", shape, TINY_HEAD, cases[i].fact);
        rewrite(path, facts, (size_t)n);
        program_result r = program_run("verify", DEFAULT, "--facts", path, "--text", text);
        if (r.code != 5 || !strstr(r.out, "not run") || !strstr(r.out, cases[i].says))
            fail_msg("%s: exit %d: %s%s", cases[i].fact, r.code, r.out, r.err);
        program_result_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_embedded_model),
        bad_file_test(other_weights_of_that_shape),
        bad_file_test(wrong_facts_are_noticed),
        cmocka_unit_test(unknown_is_said),
        bad_file_test(bad_facts),
        bad_file_test(bad_facts_files),
        bad_file_test(facts_that_do_not_fit),
    };
    return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
