/* anemo synth: the file holds what the synth: name stands for, computes the same logits, and has a
 * vocabulary that takes any bytes; names of shapes are read in all their forms. */
#include "tests/support/bad_file.h"
#include "tests/support/run_model.h"

#include "models/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static anemo_error error;

static anemo_checkpoint *open_checkpoint(const char *path) {
    anemo_checkpoint *checkpoint = NULL;
    if (anemo_checkpoint_open(path, &checkpoint, &error) != ANEMO_OK)
        fail_msg("%s", error.text);
    return checkpoint;
}

static void write_synth(const char *uri, const char *out) {
    if (anemo_synth_model(uri, out, NULL, NULL, &error) != ANEMO_OK)
        fail_msg("%s", error.text);
}

/* ---------------------------------------------------------------- the file */

/* Row of Q or K in the file (interleaved pairs) -> the half-split row. */
static int64_t half_row(const anemo_hparams *h, anemo_tensor_role role, int64_t row) {
    const int64_t i = row % h->head_dim;
    return role == ANEMO_T_Q || role == ANEMO_T_K ? row - i + i / 2 + i % 2 * (h->head_dim / 2)
                                                  : row;
}

static void check_matrix(const anemo_checkpoint *from, const anemo_checkpoint *to,
                         anemo_tensor_role role, int64_t layer, int64_t expert) {
    const anemo_hparams *h = anemo_checkpoint_hparams(to);
    anemo_weight a, b;
    assert_int_equal(anemo_checkpoint_weight(from, role, layer, expert, &a, &error), ANEMO_OK);
    assert_int_equal(anemo_checkpoint_weight(to, role, layer, expert, &b, &error), ANEMO_OK);
    if (role == ANEMO_T_ROUTER)
        assert_int_equal(b.type.code, ANEMO_CODE_F32); /* in every file */
    else
        assert_memory_equal(&a.type, &b.type, sizeof a.type);
    float *x = malloc((size_t)a.k * 4), *y = malloc((size_t)a.k * 4);
    void *scratch = malloc(anemo_weight_scratch_bytes(a.k));
    for (int64_t row = 0; row < a.n; ++row) {
        anemo_weight_row_f32(&a, half_row(h, role, row), x, scratch);
        anemo_weight_row_f32(&b, row, y, scratch);
        assert_memory_equal(x, y, (size_t)a.k * 4);
    }
    free(x);
    free(y);
    free(scratch);
}

/* Every type, dense and with experts: the same shape, every matrix bit by bit. */
static void every_type(void **state) {
    (void)state;
    static const char *const types[] = {"q4_0", "q8_0", "bf16", "f16", "f32"};
    static const char *const shapes[] = {"tiny:layers=1", "tiny-moe:layers=1"};
    for (size_t i = 0; i < COUNT(types) * COUNT(shapes); ++i) {
        const char *shape = shapes[i / COUNT(types)], *type = types[i % COUNT(types)];
        char uri[64], name[64];
        snprintf(uri, sizeof uri, "synth:%.*s:%s%s", (int)strcspn(shape, ":"), shape, type,
                 strchr(shape, ':'));
        snprintf(name, sizeof name, "%zu.gguf", i);
        const char *out = tiny_path(folder, name);
        write_synth(uri, out);
        anemo_checkpoint *from = open_checkpoint(uri), *to = open_checkpoint(out);
        anemo_hparams a = *anemo_checkpoint_hparams(from), b = *anemo_checkpoint_hparams(to);
        assert_int_equal(b.bos, 1);
        assert_int_equal(b.eos[0], 2);
        a.bos = b.bos, a.n_eos = b.n_eos, a.eos[0] = b.eos[0], a.rope_pairing = b.rope_pairing;
        a.rms_eps = b.rms_eps; /* a float in the file */
        assert_memory_equal(&a, &b, sizeof a);
        for (int role = 0; role < ANEMO_T_COUNT; ++role)
            for (int64_t e = 0; e < (anemo_roles[role].per_expert && a.experts ? a.experts : 1);
                 ++e)
                if (anemo_has_role(&a, (anemo_tensor_role)role) && !anemo_roles[role].vector)
                    check_matrix(from, to, (anemo_tensor_role)role, 0, e);
        anemo_checkpoint_close(from);
        anemo_checkpoint_close(to);
    }
}

static void same_logits(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 5, 9, 63, 300, 17, 33, 2, 5, 9, 41, 7};
    static const char uri[] = "synth:tiny-moe:q4_0";
    const char *out = tiny_path(folder, "out.gguf");
    write_synth(uri, out);
    const run_case a = {.path = uri, .window = -1, .reference = true};
    const run_case b = {.path = out, .window = -1, .reference = true};
    run_result want = run_model(&a, tokens, COUNT(tokens));
    run_result got = run_model(&b, tokens, COUNT(tokens));
    const int64_t n = want.n * want.vocab;
    const double deviation = standard_deviation(want.logits, n);
    assert_true(deviation > 0.1);
    assert_true(largest_difference(want.logits, got.logits, n) <= 1e-4 * deviation);
    run_result_free(&want);
    run_result_free(&got);
}

/* ---------------------------------------------------------------- the vocabulary */

static void vocabulary(void **state) {
    (void)state;
    const char *out = tiny_path(folder, "out.gguf");
    const char text[] = "the quick brown Fox\n\t\xff\xfe 42 \xc3\xa4";
    write_synth("synth:tiny:q4_0:layers=1:vocab=30000", out);
    anemo_tokenizer *t = NULL;
    assert_int_equal(anemo_tokenizer_open(out, &t, &error), ANEMO_OK);
    assert_int_equal(anemo_tokenizer_vocab(t), 30000);
    static const struct {
        int32_t id;
        const char *piece;
    } pieces[] = {{0, "<unk>"},
                  {2, "</s>"},
                  {3, "<0x00>"},
                  {258, "<0xFF>"},
                  {259, "\u2581"},
                  {260, "a"},
                  {285, "z"},
                  {286, "\u2581\u2581"},
                  {287, "\u2581a"},
                  {1014, "zz"},
                  {1015, "\u2581\u2581\u2581"}};
    for (size_t i = 0; i < COUNT(pieces); ++i) {
        size_t bytes;
        const char *piece = anemo_tokenizer_piece(t, pieces[i].id, &bytes);
        assert_int_equal(bytes, strlen(pieces[i].piece));
        assert_memory_equal(piece, pieces[i].piece, bytes);
    }
    int32_t *ids;
    size_t n, bytes;
    char *back;
    assert_int_equal(anemo_tokenizer_encode(t, text, sizeof text - 1, true, &ids, &n, &error),
                     ANEMO_OK);
    assert_int_equal(ids[0], 1);
    assert_true(n < sizeof text); /* words were merged */
    assert_int_equal(anemo_tokenizer_decode(t, ids, n, &back, &bytes, &error), ANEMO_OK);
    assert_int_equal(bytes, sizeof text - 1);
    assert_memory_equal(back, text, bytes);
    free(ids);
    free(back);
    anemo_tokenizer_close(t);
}

/* ---------------------------------------------------------------- names */

static void shapes(void **state) {
    (void)state;
    anemo_checkpoint *c = open_checkpoint("synth:mistral-7b:q8_0:d=2048:ffn=5632:heads=16:kv_heads="
                                          "4:layers=16:vocab=32000:context=8192:head_dim=64");
    const anemo_hparams *h = anemo_checkpoint_hparams(c);
    assert_true(h->d == 2048 && h->ffn == 5632 && h->heads == 16 && h->kv_heads == 4 &&
                h->layers == 16 && h->vocab == 32000 && h->context_max == 8192 &&
                h->head_dim == 64 && h->experts == 0 && h->window == 0);
    anemo_checkpoint_close(c);
    c = open_checkpoint("synth:mixtral-8x7b:f16:experts=16:top_k=4:window=128");
    h = anemo_checkpoint_hparams(c);
    assert_true(h->experts == 16 && h->experts_per_token == 4 && h->window == 128);
    anemo_checkpoint_close(c);
    c = open_checkpoint("synth:" ANEMO_TEST_DIR "/data/models/mixtral-window/config.json:q8_0:"
                        "layers=7");
    anemo_checkpoint *model = open_checkpoint(ANEMO_TEST_DIR "/data/models/mixtral-window");
    h = anemo_checkpoint_hparams(c);
    const anemo_hparams *m = anemo_checkpoint_hparams(model);
    assert_true(h->arch == m->arch && h->d == m->d && h->experts == m->experts &&
                h->window == m->window && h->layers == 7 && h->bos == -1 && h->n_eos == 0);
    anemo_checkpoint_close(c);
    anemo_checkpoint_close(model);
}

static void refused_shapes(void **state) {
    (void)state;
    static const struct {
        const char *uri, *words;
    } cases[] = {
        {"synth:none/config.json:q8_0", "none/config.json"},
        {"synth:tiny:q8_0:depth=3", "the option is \"depth=3\""},
        {"synth:tiny:q8_0:d=", "d is \"\"; accepted: 1 to 1048576"},
        {"synth:tiny:q8_0:d=64:d=1e3", "d is \"1e3\""},
        {"synth:tiny:q8_0:ffn=100", "groups divide the rows"},
        {"synth:tiny:f32:kv_heads=3", "kv_heads is 3; accepted: a divisor of heads = 4"},
        {"synth:tiny:f32:experts=4", "experts is 4; accepted: 0 to 0"},
        {"synth:tiny-moe:f32:top_k=5", "top_k is 5; accepted: 1 to 4"},
        {"synth:tiny:f32:head_dim=3", "head_dim is 3; accepted: even"},
    };
    for (size_t i = 0; i < COUNT(cases); ++i) {
        anemo_checkpoint *checkpoint = NULL;
        assert_int_equal(anemo_checkpoint_open(cases[i].uri, &checkpoint, &error), ANEMO_E_INPUT);
        if (!strstr(error.text, cases[i].words))
            fail_msg("%s", error.text);
    }
}

/* ---------------------------------------------------------------- the command */

static bool stop(void *context, double done, double total, const char *tensor) {
    assert_true(done > 0 && done < total && tensor[0]);
    ++*(int *)context;
    return false;
}

static void interrupted(void **state) {
    (void)state;
    const char *out = tiny_path(folder, "out.gguf");
    int calls = 0;
    assert_int_equal(anemo_synth_model("synth:tiny:q4_0", out, stop, &calls, &error),
                     ANEMO_E_CANCELLED);
    assert_int_equal(calls, 1);
    assert_int_equal(rmdir(folder), 0); /* nothing was left in it */
    assert_int_equal(mkdir(folder, 0777), 0);
}

static void command_line(void **state) {
    (void)state;
    const char *out = tiny_path(folder, "out.gguf");
    program_result r = program_run("synth", "synth:tiny-moe:q8_0", out);
    if (r.code != 0)
        fail_msg("%s", r.err);
    assert_non_null(strstr(r.out, "mixtral, q8:g32, 2 layers"));
    assert_int_equal(r.err[0], '\0');
    program_result_free(&r);
    const struct {
        const char *uri, *out, *words;
    } wrong[] = {
        {"synth:tiny:q8_0", out, "it is there already"},
        {"synth:tiny:q8_0", "b", "a name that ends in .gguf"},
        {"synth:tiny:q4_g128", "b.gguf", "no q4_g128 in GGUF"},
        {"synth:tiny:q8_0:vocab=285", "b.gguf", "has 285 tokens; accepted: 286"},
        {out, "b.gguf", "it lies in files"},
        {"tiny", "b.gguf", "there is no such model"},
    };
    for (size_t i = 0; i < COUNT(wrong); ++i) {
        r = program_run("synth", wrong[i].uri, wrong[i].out);
        assert_int_equal(r.code, 2);
        if (!strstr(r.err, wrong[i].words))
            fail_msg("%s", r.err);
        program_result_free(&r);
        assert_true(access(wrong[i].out, F_OK) != 0 || i == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        bad_file_test(every_type),   bad_file_test(same_logits),       bad_file_test(vocabulary),
        cmocka_unit_test(shapes),    cmocka_unit_test(refused_shapes), bad_file_test(interrupted),
        bad_file_test(command_line),
    };
    return cmocka_run_group_tests_name("synth", tests, NULL, NULL);
}
