/* anemo bench peers: the file of targets, what other programs print, and a whole run in which
 * scripts stand for them: who is faster is then known beforehand. */
#include "tests/support/bad_file.h"

#include "harness/peers/peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *write_text(const char *name, const char *text) {
    const char *path = tiny_path(folder, name);
    test_write_file(path, text, strlen(text));
    return path;
}

/* ---------------------------------------------------------------- the file */

#define HEAD "peer llama.cpp -fa 1\ncommon llama.cpp -fa on\nmodel m synth:tiny:q8_0\n"

static void good_file(void **state) {
    (void)state;
    anemo_peer_file f;
    anemo_error err = {{0}};
    const char *path =
        write_text("a.targets", HEAD "case p m prompt=512 with=qgemm=qgemm_c # remark\n"
                                     "target llama.cpp >= 3.5\n"
                                     "target int8 >= 0.6 or llama.cpp >= 2\n"
                                     "case d m tokens=16 depth=2048 batch=4\ntarget read >= 0.9\n"
                                     "case s m start\n");
    assert_int_equal(anemo_peer_file_read(path, &f, &err), ANEMO_OK);
    assert_true(f.n_peers == 1 && f.n_models == 1 && f.n_cases == 3);
    assert_string_equal(f.peers[0].bench_flags, "-fa 1");
    assert_string_equal(f.peers[0].common_flags, "-fa on");
    assert_string_equal(f.models[0].source, "synth:tiny:q8_0");
    const anemo_peer_case *p = &f.cases[0], *d = &f.cases[1];
    assert_true(p->what == ANEMO_PEER_PROMPT && p->tokens == 512 && p->n_targets == 2);
    assert_string_equal(p->with, "qgemm=qgemm_c");
    assert_true(p->targets[1].n_terms == 2 && p->targets[1].term[0].peer == -1 &&
                p->targets[1].term[0].ceiling == ANEMO_CEILING_INT8 &&
                p->targets[1].term[1].peer == 0 && p->targets[1].term[1].bound == 2);
    assert_true(d->what == ANEMO_PEER_DECODE && d->tokens == 16 && d->depth == 2048 &&
                d->batch == 4);
    assert_int_equal(f.cases[2].what, ANEMO_PEER_START);
}

static void bad_files(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "no case"},
        {"pear x\n", ":1: 'pear': expected peer"},
        {"common x -fa\n", "x is no peer"},
        {HEAD "peer llama.cpp\n", ":4: llama.cpp is there already"},
        {"model m\n", "expected: model"},
        {HEAD "model m again\n", "model m is there already"},
        {HEAD "case c n prompt=1\n", "'n' is no model"},
        {HEAD "case c m prompt=0\n", "'prompt=0': expected"},
        {HEAD "case c m prompt=1e3\n", "'prompt=1e3': expected"},
        {HEAD "case c m depth=3\n", "neither"},
        {HEAD "target read >= 1\n", "a case before it"},
        {HEAD "case c m start\ntarget read > 1\n", "expected >="},
        {HEAD "case c m start\ntarget vllm >= 1\n", "'vllm' is no peer"},
        {HEAD "case c m start\ntarget read >= nan\n", "a number above 0"},
        {HEAD "case c m start\ntarget read >= 1 and int8 >= 1\n", "expected: target"},
    };
    for (size_t i = 0; i < COUNT(cases); ++i) {
        anemo_peer_file f;
        anemo_error err = {{0}};
        const char *path = write_text("b.targets", cases[i].text);
        assert_int_equal(anemo_peer_file_read(path, &f, &err), ANEMO_E_INPUT);
        if (!strstr(err.text, cases[i].words))
            fail_msg("%s", err.text);
    }
}

/* The file that ships: every case has a target, every model a case. */
static void shipped_file(void **state) {
    (void)state;
    anemo_peer_file f;
    anemo_error err = {{0}};
    if (anemo_peer_file_read(ANEMO_TEST_DIR "/../ci/model.targets", &f, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    for (int32_t i = 0; i < f.n_cases; ++i)
        assert_true(f.cases[i].n_targets > 0);
    for (int32_t m = 0; m < f.n_models; ++m) {
        int32_t used = 0;
        for (int32_t i = 0; i < f.n_cases; ++i)
            used += f.cases[i].model == m;
        assert_true(used > 0);
    }
}

/* ---------------------------------------------------------------- what they print */

static void bench_says(void **state) {
    (void)state;
    double ns[4];
    int32_t n;
    char version[96];
    const char good[] = "[\n{\"build_commit\": \"34af94cd9\", \"build_number\": 10470,\n"
                        "\"samples_ns\": [ 1500, 2500 ], \"samples_ts\": [1, 2]}\n]\n\n";
    assert_true(anemo_peer_parse_bench(good, ns, 4, &n, version, sizeof version));
    assert_true(n == 2 && ns[0] == 1500 && ns[1] == 2500);
    assert_string_equal(version, "34af94cd9 (10470)");
    assert_true(anemo_peer_parse_bench(good, ns, 1, &n, version, sizeof version));
    assert_int_equal(n, 1);
    static const char *const bad[] = {
        "",
        "error: no model",
        "[]",
        "[{\"build_commit\": \"a\"}]",
        "[{\"build_commit\": \"a\", \"samples_ns\": []}]",
        "[{\"build_commit\": \"a\", \"samples_ns\": [0]}]",
        "[{\"build_commit\": \"a\", \"samples_ns\": [\"5\"]}]",
        "[{\"samples_ns\": [5]}]",
        "[{\"build_commit\": \"a\", \"samples_ns\": [5]}, {}]",
    };
    for (size_t i = 0; i < COUNT(bad); ++i)
        assert_false(anemo_peer_parse_bench(bad[i], ns, 4, &n, version, sizeof version));
}

static void version_output(void **state) {
    (void)state;
    char version[96] = "";
    assert_true(anemo_peer_parse_version("load: x\nversion: 10470 (34af94cd9)\nbuilt with cc\n",
                                         version, sizeof version));
    assert_string_equal(version, "34af94cd9 (10470)");
    assert_false(anemo_peer_parse_version("", version, sizeof version));
    assert_false(anemo_peer_parse_version("version: unknown", version, sizeof version));
    assert_false(anemo_peer_parse_version("version: 3 (", version, sizeof version));
}

static void batched_output(void **state) {
    (void)state;
    double ns[4];
    int32_t n;
    assert_true(anemo_peer_parse_batched(
        "some log\n|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |\n"
        "|-------|--------|------|--------|----------|----------|----------|----------|\n"
        "|     8 |      2 |   16 |    160 |    1.290 |    99.22 |    0.400 |    80.00 |    1.7 |\n"
        "|     8 |      2 |   16 |    160 |    1.290 |    99.22 |    0.500 |    64.00 |    1.8 |\n",
        ns, 4, &n));
    assert_int_equal(n, 2);
    assert_true(fabs(ns[0] - 0.2e9) < 1 && fabs(ns[1] - 0.25e9) < 1);
    assert_false(anemo_peer_parse_batched("| a | b |\n| 8 | 2 | 16 | 160 | 1 | 9 |\n", ns, 4, &n));
    assert_false(anemo_peer_parse_batched("| 8 | 0 | 16 | 160 | 1 | 9 | 1 | 1 |\n", ns, 4, &n));
}

/* ---------------------------------------------------------------- a whole run */

static const char *script(const char *name, const char *text) {
    const char *path = write_text(name, text);
    chmod(path, 0755);
    return path;
}

/* A llama-bench that says how long it took: an hour for prompts (anemo is faster), 1 ns for tokens
 * (anemo is not), and the depth by the option that its help names. */
static void write_peer(void) {
    script("llama-bench", "#!/bin/sh\n"
                          "[ \"${OMP_WAIT_POLICY:-}\" ] && exit 9\n"
                          "case \"$*\" in\n"
                          "*--help*) echo 'options: --n-gen --n-depth'; exit 0 ;;\n"
                          "*'-r 2 -p 16 -n 0 -o json -fa 1') t=3600000000000 ;;\n"
                          "*'-r 2 -p 0 -n 4 -d 8 -o json -fa 1') t=4 ;;\n"
                          "*) exit 3 ;;\n"
                          "esac\n"
                          "echo \"[{\\\"build_commit\\\": \\\"abc\\\", \\\"build_number\\\": 7, "
                          "\\\"samples_ns\\\": [$t, $t]}]\"\n");
    script("llama-completion", "#!/bin/sh\n"
                               "[ \"$*\" = --version ] && echo 'version: 11 (def)' >&2\n"
                               "exit 0\n");
    script("llama-batched-bench", "#!/bin/sh\n"
                                  "case \"$*\" in\n"
                                  "--version) echo 'version: 9 (abd)' >&2; exit 0 ;;\n"
                                  "*'-c 36 -npp 8 -ntg 4 -npl 3,3 -fa on') ;;\n"
                                  "*) exit 3 ;;\n"
                                  "esac\n"
                                  "for i in 1 2; do\n"
                                  "echo '| 8 | 4 | 3 | 36 | 1.0 | 9 | 7200.0 | 64.0 | 1 |' >&2\n"
                                  "done\n");
}

static void whole_run(void **state) {
    (void)state;
    char bench[600], peer[640], models[600], file[600], record[600], model[600];
    write_peer();
    setenv("OMP_WAIT_POLICY", "passive", 1); /* not to be seen by a peer */
    snprintf(bench, sizeof bench, "%s", tiny_path(folder, "llama-bench"));
    snprintf(peer, sizeof peer, "llama.cpp=%s", bench);
    snprintf(models, sizeof models, "%s", folder);
    snprintf(model, sizeof model, "%s", tiny_path(folder, "m.gguf"));
    snprintf(record, sizeof record, "%s", tiny_path(folder, "r.jsonl"));
    snprintf(file, sizeof file, "%s",
             write_text("c.targets", HEAD "peer other -x\nmodel none from nowhere\n"
                                          "case prompt m prompt=16\ntarget llama.cpp >= 2\n"
                                          "case decode m tokens=4 depth=8\ntarget llama.cpp >= 1\n"
                                          "target llama.cpp >= 1 or fp32 >= 1e-9\n"
                                          "case batch m tokens=4 depth=8 batch=3\n"
                                          "target llama.cpp >= 2\ntarget other >= 1\n"
                                          "case start m start\ntarget llama.cpp >= 1e-9\n"
                                          "case refused m prompt=4 with=qgemm=qgemm_nope\n"
                                          "target llama.cpp >= 1\ntarget fp32 >= 0.5\n"
                                          "case absent none start\ntarget llama.cpp >= 1\n"));
    program_result r = program_run("synth", "synth:tiny:f32", model);
    assert_int_equal(r.code, 0);
    program_result_free(&r);
    r = program_run("bench", "peers", file, "--models", models, "--peer", peer, "--record", record,
                    "--format", "csv", "--threads", "1");
    if (r.code != 1) /* one target is missed, and that weighs more than those not measured */
        fail_msg("%d: %s%s", r.code, r.out, r.err);
    static const char *const lines[] = {
        "prompt,2,",  "met,speed / llama.cpp",      "decode,1,", "missed,speed / llama.cpp",
        "batch,2,",   "not measured,speed / other", "absent,1,", "met,share of fp32",
        "refused,1,", "not measured,share of fp32",
    };
    for (size_t i = 0; i < COUNT(lines); ++i)
        if (!strstr(r.out, lines[i]))
            fail_msg("%s is not in: %s", lines[i], r.out);
    program_result_free(&r);
    size_t bytes;
    char *records = test_read_file(record, &bytes);
    assert_non_null(strstr(records, "\"llama.cpp abc (7)\""));
    assert_non_null(strstr(records, "\"llama.cpp abd (9)\""));  /* batch */
    assert_non_null(strstr(records, "\"llama.cpp def (11)\"")); /* start */
    assert_non_null(strstr(records, "qgemm_nope, which is not known"));
    assert_non_null(strstr(records, "\"judged\":\"missed\""));
    assert_non_null(strstr(records, "no binary was given (--peer other=BINARY)"));
    assert_non_null(strstr(records, "it is made from: from nowhere"));
    free(records);
    unsetenv("OMP_WAIT_POLICY");
}

/* A peer that fails leaves its targets unmeasured; the run goes on and says so. */
static void failing_peer(void **state) {
    (void)state;
    char peer[640], model[600], file[600];
    snprintf(peer, sizeof peer, "llama.cpp=%s",
             script("llama-bench", "#!/bin/sh\necho --n-gen\nexit 0\n"));
    snprintf(model, sizeof model, "%s", tiny_path(folder, "m.gguf"));
    snprintf(file, sizeof file, "%s",
             write_text("c.targets", HEAD "case prompt m prompt=4\ntarget llama.cpp >= 2\n"
                                          "case batch m tokens=2 depth=1 batch=2\n"
                                          "target llama.cpp >= 2\n"));
    program_result r = program_run("synth", "synth:tiny:f32:layers=1", model);
    program_result_free(&r);
    r = program_run("bench", "peers", file, "--models", folder, "--peer", peer, "--threads", "1");
    assert_int_equal(r.code, 5);
    if (!strstr(r.out, "printed no JSON") || !strstr(r.out, "no llama-batched-bench beside"))
        fail_msg("%s%s", r.out, r.err);
    program_result_free(&r);
    r = program_run("bench", "peers", file, "--models", folder, "--peer", "vllm=/bin/true");
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "has no peer of this name"));
    program_result_free(&r);
    r = program_run("bench", "peers", file, "--models", folder, "--peer", "llama.cpp=/nowhere");
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "no such program"));
    program_result_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        bad_file_test(good_file),         bad_file_test(bad_files),
        cmocka_unit_test(shipped_file),   cmocka_unit_test(bench_says),
        cmocka_unit_test(version_output), cmocka_unit_test(batched_output),
        bad_file_test(whole_run),         bad_file_test(failing_peer),
    };
    return cmocka_run_group_tests_name("peers", tests, NULL, NULL);
}
