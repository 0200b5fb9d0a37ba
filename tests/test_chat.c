/* Chats and gaps against the encoders of the models' makers (tests/oracle/make_chat_goldens.py),
 * how a template is told from files, and what is refused. */
#include "anemo_config.h"
#include "models/engine.h"
#include "tests/support/run_program.h"
#include "tests/support/test_data.h"
#include "tests/support/tokenizer_check.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the standard headers */
#include <cmocka.h>

#define DATA         ANEMO_TEST_DIR "/data/byte_level/"
#define EMBEDDED     "../../models/default/tokenizer.json"
#define MESSAGES_MAX 16
#define IDS_MAX      2048

static json_t *goldens(void) {
    json_error_t where;
    json_t *root = json_load_file(DATA "chats.json", 0, &where);
    if (!root)
        fail_msg("chats.json, line %d: %s", where.line, where.text);
    return root;
}

static size_t read_messages(const json_t *chat, anemo_chat_message out[MESSAGES_MAX]) {
    const size_t n = json_array_size(chat);
    assert_in_range(n, 1, MESSAGES_MAX);
    for (size_t i = 0; i < n; ++i) {
        const json_t *content = json_object_get(json_array_get(chat, i), "content");
        out[i] = (anemo_chat_message){
            json_string_value(json_object_get(json_array_get(chat, i), "role")),
            json_string_value(content), json_string_length(content)};
    }
    return n;
}

static void assert_same(const char *what, size_t index, const int32_t *ids, size_t n,
                        const json_t *golden) {
    int32_t expected[IDS_MAX];
    const size_t n_expected = read_ids(golden, expected, IDS_MAX);
    if (n != n_expected || memcmp(ids, expected, n * sizeof *ids) != 0) {
        for (size_t i = 0; i < n || i < n_expected; ++i)
            print_error("%zu: %d, expected %d\n", i, i < n ? (int)ids[i] : -1,
                        i < n_expected ? (int)expected[i] : -1);
        fail_msg("%s: other ids for case %zu", what, index);
    }
}

/* All chats and gaps of an entry; returns how many were compared. */
static size_t check_entry(const anemo_tokenizer *t, const json_t *root, const json_t *entry) {
    const char *name = json_string_value(json_object_get(entry, "name"));
    const json_t *chats = json_object_get(root, "chats"), *ids = json_object_get(entry, "ids"),
                 *gaps = json_object_get(root, "gaps"), *filled = json_object_get(entry, "gaps");
    const anemo_chat_options options = {.template_name = name,
                                        .date = json_string_value(json_object_get(entry, "date")),
                                        .effort =
                                            json_string_value(json_object_get(entry, "effort"))};
    anemo_error err = {""};
    size_t compared = 0;
    for (size_t i = 0; i < json_array_size(ids); ++i) {
        anemo_chat_message messages[MESSAGES_MAX];
        anemo_chat chat;
        if (!json_is_array(json_array_get(ids, i)))
            continue; /* the oracle refuses this chat, or has control tokens in its text */
        const size_t n = read_messages(json_array_get(chats, i), messages);
        if (anemo_chat_encode(t, &options, messages, n, &chat, &err) != ANEMO_OK)
            fail_msg("%s: %s", name, err.text);
        assert_same(name, i, chat.ids, chat.n_ids, json_array_get(ids, i));
        assert_string_equal(chat.template_name, name);
        assert_true(chat.end >= 0);
        free(chat.ids);
        ++compared;
    }
    for (size_t i = 0; i < json_array_size(filled); ++i, ++compared) {
        const json_t *prefix = json_array_get(json_array_get(gaps, i), 0),
                     *suffix = json_array_get(json_array_get(gaps, i), 1);
        int32_t *list;
        size_t n;
        if (anemo_fim_encode(t, json_string_value(prefix), json_string_length(prefix),
                             json_string_value(suffix), json_string_length(suffix), &list, &n,
                             &err) != ANEMO_OK)
            fail_msg("%s: %s", name, err.text);
        assert_same("gap", i, list, n, json_array_get(filled, i));
        free(list);
    }
    return compared;
}

static void chats_as_the_makers_encode_them(void **state) {
    (void)state;
    if (!ANEMO_HAVE_PCRE2)
        skip();
    json_t *root = goldens();
    const json_t *entries = json_object_get(root, "entries");
    size_t compared = 0;
    for (size_t i = 0; i < json_array_size(entries); ++i) {
        const json_t *entry = json_array_get(entries, i);
        if (!json_object_get(entry, "file"))
            continue;
        anemo_tokenizer *t = open_patched(DATA, entry);
        compared += check_entry(t, root, entry);
        anemo_tokenizer_close(t);
    }
    json_decref(root);
    assert_true(compared >= 120);
}

static void check_real(const char *relative, bool byte_level) {
    if (byte_level && !ANEMO_HAVE_PCRE2)
        skip();
    anemo_tokenizer *t = open_real(relative);
    json_t *root = goldens();
    const json_t *entries = json_object_get(root, "entries");
    size_t compared = 0;
    for (size_t i = 0; i < json_array_size(entries); ++i) {
        const char *real = json_string_value(json_object_get(json_array_get(entries, i), "real"));
        if (real && strcmp(real, relative) == 0)
            compared += check_entry(t, root, json_array_get(entries, i));
    }
    assert_true(compared >= 10);
    json_decref(root);
    anemo_tokenizer_close(t);
}

static void real_v1(void **state) {
    (void)state;
    check_real("tokenizers/tokenizer.model.v1", false);
}
static void real_v2(void **state) {
    (void)state;
    check_real("tokenizers/mistral_instruct_tokenizer_240216.model.v2", false);
}
static void real_v3(void **state) {
    (void)state;
    check_real("tokenizers/mistral_instruct_tokenizer_240323.model.v3", false);
}
static void real_v7(void **state) {
    (void)state;
    check_real("tokenizers/mistral_instruct_tokenizer_241114.model.v7", false);
}
static void real_tekken(void **state) {
    (void)state;
    check_real("tokenizers/tekken_240911.json", true);
}

/* ---------------------------------------------------------------- which template */

/* The template that is found for a tokenizer file with `extra` beside it; NULL: refused, with the
 * list of names. */
static const char *found(const json_t *entry, const char *extra_name, const char *extra) {
    static const anemo_chat_message hello = {"user", "Hello", 5};
    char path[1024], source[1024];
    char *folder = test_folder_create();
    size_t bytes;
    snprintf(source, sizeof source, "%s/%s", ANEMO_TEST_DIR "/data",
             json_string_value(json_object_get(entry, "file")));
    char *file = test_read_file(source, &bytes);
    assert_non_null(file);
    snprintf(path, sizeof path, "%s/%s", folder, extra_name);
    if (extra)
        test_write_file(path, extra, strlen(extra));
    snprintf(path, sizeof path, "%s/a tokenizer", folder);
    json_t *json = json_loadb(file, bytes, JSON_ALLOW_NUL, NULL);
    if (json) {
        json_object_update(json, json_object_get(entry, "patch"));
        assert_int_equal(json_dump_file(json, path, 0), 0);
        json_decref(json);
    } else {
        test_write_file(path, file, bytes);
    }
    free(file);
    anemo_tokenizer *t = open_file(path);
    anemo_chat chat;
    anemo_error err = {""};
    const anemo_chat_options options = {0};
    const anemo_status status = anemo_chat_encode(t, &options, &hello, 1, &chat, &err);
    if (status != ANEMO_OK) {
        assert_int_equal(status, ANEMO_E_INPUT);
        assert_true(strstr(err.text, "accepted: ") != NULL);
    }
    free(chat.ids);
    anemo_tokenizer_close(t);
    test_folder_remove(folder);
    return chat.template_name;
}

static const char *found_in(const char *file, const char *patch, const char *name,
                            const char *text) {
    json_t *entry = json_pack("{ss}", "file", file);
    if (patch)
        json_object_set_new(entry, "patch", json_loads(patch, 0, NULL));
    const char *out = found(entry, name, text);
    json_decref(entry);
    return out;
}

static void tells_the_template(void **state) {
    (void)state;
    static const char llama[] =
        "{\"post_processor\": null, \"added_tokens\": ["
        "{\"id\": 900, \"content\": \"<|start_header_id|>\", \"special\": true, \"normalized\": "
        "false},"
        "{\"id\": 901, \"content\": \"<|end_header_id|>\", \"special\": true, \"normalized\": "
        "false},"
        "{\"id\": 902, \"content\": \"<|begin_of_text|>\", \"special\": true, \"normalized\": "
        "false},"
        "{\"id\": 903, \"content\": \"<|eot_id|>\", \"special\": true, \"normalized\": false}]}";
    /* SentencePiece's control tokens [INST]; a text that names them; nothing that tells */
    assert_string_equal(found_in("tokenizers/tiny.model", NULL, "x", NULL), "mistral-v3");
    assert_null(found_in(EMBEDDED, NULL, "chat_template.jinja", "{{ messages }}"));
    assert_string_equal(found_in(EMBEDDED, NULL, "chat_template.jinja", "[INST] {{ a }}"),
                        "mistral-v1");
    assert_string_equal(
        found_in("tokenizers/tiny.model", NULL, "chat_template.jinja", "[SYSTEM_PROMPT]"),
        "mistral-v7");
    if (!ANEMO_HAVE_PCRE2)
        skip();
    assert_string_equal(found_in("byte_level/tiny_tekken.json", NULL, "x", NULL),
                        "mistral-v3-tekken");
    assert_string_equal(found_in("byte_level/tiny.json", NULL, "x", NULL), "mistral-v3-tekken");
    assert_null(found_in("byte_level/tiny.json", llama, "x", NULL));
    assert_string_equal(found_in("byte_level/tiny.json", llama, "chat_template.jinja", "{{ a }}"),
                        "llama3");
    assert_string_equal(found_in("byte_level/tiny.json", llama, "tokenizer_config.json",
                                 "{\"chat_template\": \"Cutting Knowledge Date: \"}"),
                        "llama3.1");
    assert_string_equal(found_in("byte_level/tiny.json", llama, "tokenizer_config.json",
                                 "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": "
                                 "\"Cutting Knowledge Date\"}, {\"name\": \"default\", "
                                 "\"template\": \"{{ a }}\"}]}"),
                        "llama3");
    assert_null(
        found_in("byte_level/tiny.json", llama, "tokenizer_config.json", "{\"chat_template\": 7}"));
    assert_null(found_in("byte_level/tiny.json", llama, "tokenizer_config.json", "{"));
}

/* ---------------------------------------------------------------- refused */

static void refuses_chats(void **state) {
    (void)state;
    static const struct {
        const char *roles[3], *texts[3];
        const char *name, *expected;
    } cases[] = {
        {{"user", "robot"}, {"a", "b"}, NULL, "message 1 has role \"robot\"; accepted: system"},
        {{"user", "tool"}, {"a", "b"}, NULL, "message 1 has role \"tool\""},
        {{"user", "assistant"}, {"a", "b"}, NULL, "the last of 2 messages is the assistant's"},
        {{"assistant", "user"}, {"a", "b"}, NULL, "is not the user's"},
        {{"system"}, {"a"}, NULL, "is not the user's"},
        {{"user", "assistant", "user"},
         {"a", "", "b"},
         NULL,
         "message 1 of the assistant is empty"},
        {{"user"}, {"a"}, "mistral-v99", "--chat-template is \"mistral-v99\"; accepted: "},
        {{"user"}, {"a"}, "", "--chat-template is \"\"; accepted: "},
        {{"user"}, {"a"}, "harmony", "harmony needs the control token <|start|>"},
        {{"user"}, {"a"}, "llama3", "llama3 needs the control token <|start_header_id|>"},
    };
    anemo_tokenizer *t = open_file(ANEMO_TEST_DIR "/data/tokenizers/tiny.model");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        anemo_chat_message messages[3];
        size_t n = 0;
        for (; n < 3 && cases[i].roles[n]; ++n)
            messages[n] = (anemo_chat_message){cases[i].roles[n], cases[i].texts[n],
                                               strlen(cases[i].texts[n])};
        const anemo_chat_options options = {.template_name = cases[i].name};
        anemo_error err = {""};
        anemo_chat chat;
        assert_int_equal(anemo_chat_encode(t, &options, messages, n, &chat, &err), ANEMO_E_INPUT);
        assert_null(chat.ids);
        if (!strstr(err.text, cases[i].expected))
            fail_msg("case %zu: \"%s\"; expected \"%s\"", i, err.text, cases[i].expected);
    }
    anemo_error err = {""};
    int32_t *ids;
    size_t n;
    assert_int_equal(anemo_fim_encode(t, "a", 1, "b", 1, &ids, &n, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "needs the control token [SUFFIX]"));
    anemo_tokenizer_close(t);
}

/* Settings of v15's tekken.json, and efforts of reasoning that a chat may not ask for. */
static void refuses_settings(void **state) {
    (void)state;
    static const struct {
        const char *settings, *effort, *expected; /* expected NULL: accepted */
    } cases[] = {
        {"{}", NULL, NULL},
        {"{\"reasoning_effort\":null}", NULL, NULL},
        {"{}", "high", "--chat-effort is \"high\"; accepted: none at all by this model"},
        {"{\"reasoning_effort\":{\"values\":[\"none\",\"high\"],\"default\":\"none\"}}", "high",
         NULL},
        {"{\"reasoning_effort\":{\"values\":[\"none\",\"xhigh\"],\"default\":\"none\"}}", "high",
         "--chat-effort is \"high\"; accepted: none, xhigh"},
        {"{\"reasoning_effort\":{\"values\":[\"none\"],\"default\":\"none\"}}", "",
         "accepted: none"},
        {"null", NULL, "mistral-v15 needs model_settings_builder"},
        {"7", NULL, "model_settings_builder is 7; accepted: an object"},
        {"{\"temperature\":{}}", NULL, "accepted: reasoning_effort, json_schema"},
        {"{\"reasoning_effort\":{\"values\":[\"none\"],\"default\":\"high\"}}", NULL,
         "among them a default"},
        {"{\"reasoning_effort\":{\"values\":[\"very\"],\"default\":\"very\"}}", NULL,
         "among them a default"},
        {"{\"reasoning_effort\":{\"values\":\"none\",\"default\":\"none\"}}", NULL,
         "among them a default"},
        {"{\"reasoning_effort\":true}", NULL, "among them a default"},
    };
    if (!ANEMO_HAVE_PCRE2)
        skip();
    char path[1024];
    char *folder = test_folder_create();
    snprintf(path, sizeof path, "%s/tekken.json", folder);
    json_t *tekken = json_load_file(DATA "tiny_tekken.json", JSON_ALLOW_NUL, NULL),
           *special = json_array();
    static const char *const names[] = {"<s>",    "</s>",   "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]",
                                        "[INST]", "[/INST]"};
    for (int i = 0; i < 6; ++i)
        json_array_append_new(
            special, json_pack("{sisssb}", "rank", i, "token_str", names[i], "is_control", 1));
    json_object_set_new(tekken, "special_tokens", special);
    json_object_set_new(json_object_get(tekken, "config"), "version", json_string("v15"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        static const anemo_chat_message hello = {"user", "Hello", 5};
        const anemo_chat_options options = {.effort = cases[i].effort};
        anemo_tokenizer *t = NULL;
        anemo_chat chat = {0};
        anemo_error err = {""};
        json_object_set_new(tekken, "model_settings_builder",
                            json_loads(cases[i].settings, JSON_DECODE_ANY, NULL));
        assert_int_equal(json_dump_file(tekken, path, 0), 0);
        anemo_status status = anemo_tokenizer_open(path, &t, &err);
        if (status == ANEMO_OK)
            status = anemo_chat_encode(t, &options, &hello, 1, &chat, &err);
        if (cases[i].expected ? status != ANEMO_E_INPUT || !strstr(err.text, cases[i].expected)
                              : status != ANEMO_OK || strcmp(chat.template_name, "mistral-v15"))
            fail_msg("%s, effort %s: \"%s\"", cases[i].settings, cases[i].effort, err.text);
        free(chat.ids);
        anemo_tokenizer_close(t);
    }
    json_decref(tekken);
    test_folder_remove(folder);
}

/* ---------------------------------------------------------------- the command line */

static void run_answers_chats(void **state) {
    (void)state;
    static const char right[] = "[{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
                                "\"content\": \"reverse 123=\"}]";
    static const struct {
        const char *file, *expected;
    } wrong[] = {
        {"[", "line 1"},
        {"[]", "0 messages; accepted: a JSON array of 1 to"},
        {"{\"messages\": 1}", "0 messages"},
        {"[1]", "message 0 lacks a role"},
        {"[{\"role\": \"user\"}]", "message 0 lacks a role"},
        {"[{\"role\": \"user\", \"content\": [1]}]", "message 0 lacks a role"},
        {"[{\"role\": \"user\", \"content\": \"a\", \"name\": \"b\"}]", "the field \"name\""},
        {"[{\"role\": \"cat\", \"content\": \"a\"}]", "message 0 has role \"cat\""},
    };
    char path[1024];
    char *folder = test_folder_create();
    snprintf(path, sizeof path, "%s/chat.json", folder);
    test_write_file(path, right, strlen(right));
    program_result run =
        program_run("run", "--messages", path, "--tokens", "4", "--chat-template", "mistral-v1");
    assert_int_equal(run.code, 0);
    assert_non_null(strstr(run.err, "prompt: "));
    program_result_free(&run);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        test_write_file(path, wrong[i].file, strlen(wrong[i].file));
        run = program_run("run", "--messages", path, "--chat-template", "mistral-v1");
        assert_int_equal(run.code, 2);
        if (!strstr(run.err, wrong[i].expected))
            fail_msg("%s: \"%s\"", wrong[i].file, run.err);
        program_result_free(&run);
    }
    static const struct {
        const char *arguments[8], *expected;
    } usage[] = {
        {{"run", "--chat"}, "expected --prompt TEXT"},
        {{"run", "--prompt", "a", "--chat-template", "llama3"}, "belong to --chat"},
        {{"run", "--prompt", "a", "--chat", "--suffix", "b"}, "--suffix fills a gap"},
        {{"run", "--prompt", "a", "--messages", "b"}, "--messages holds the whole chat"},
        {{"run", "--prompt", "a", "--chat"}, "do not tell the form of its chats; accepted: "},
        {{"run", "--prompt", "a", "--suffix", "b"}, "needs the control token [SUFFIX]"},
    };
    for (size_t i = 0; i < sizeof usage / sizeof *usage; ++i) {
        run = program_run_with(NULL, usage[i].arguments);
        assert_int_equal(run.code, 2);
        if (!strstr(run.err, usage[i].expected))
            fail_msg("case %zu: \"%s\"", i, run.err);
        program_result_free(&run);
    }
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chats_as_the_makers_encode_them),
        cmocka_unit_test(real_v1),
        cmocka_unit_test(real_v2),
        cmocka_unit_test(real_v3),
        cmocka_unit_test(real_v7),
        cmocka_unit_test(real_tekken),
        cmocka_unit_test(tells_the_template),
        cmocka_unit_test(refuses_chats),
        cmocka_unit_test(refuses_settings),
        cmocka_unit_test(run_answers_chats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
