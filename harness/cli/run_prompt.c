/* From the options of `anemo run` to token ids. */
#include "harness/cli/run_prompt.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 4096

const char *anemo_run_prompt_check(const anemo_run_prompt *p) {
    const bool chat = p->chat || p->messages;
    if (p->messages && (p->text || p->system))
        return "--messages holds the whole chat; leave out --prompt and --system";
    if (chat && p->suffix)
        return "--suffix fills a gap in a text; leave out --chat and --messages";
    if (!chat && (p->system || p->template_name || p->date || p->effort))
        return "--system, --chat-template, --chat-date and --chat-effort belong to --chat";
    if (!p->text && !p->messages)
        return "expected --prompt TEXT";
    return NULL;
}

/* ---------------------------------------------------------------- the file of a chat */

static anemo_status read_message(const char *path, size_t index, const json_t *item,
                                 anemo_chat_message *out, anemo_error *err) {
    const json_t *role = json_object_get(item, "role"), *content = json_object_get(item, "content");
    const char *key;
    json_t *value;
    if (!json_is_string(role) || !json_is_string(content))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: message %zu lacks a role or a content that is a string; accepted: "
                          "{\"role\": \"user\", \"content\": \"text\"}",
                          path, index);
    json_object_foreach((json_t *)(uintptr_t)item, key, value) {
        if (strcmp(key, "role") != 0 && strcmp(key, "content") != 0)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: message %zu has the field \"%.40s\"; accepted: role and content",
                              path, index, key);
    }
    *out = (anemo_chat_message){json_string_value(role), json_string_value(content),
                                json_string_length(content)};
    return ANEMO_OK;
}

/* *root keeps the texts alive; the list is malloc'ed. */
static anemo_status read_messages(const char *path, json_t **root, anemo_chat_message **list,
                                  size_t *n, anemo_error *err) {
    json_error_t where;
    *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!*root)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: line %d: %s; accepted: a JSON array of messages",
                          path, where.line, where.text);
    const json_t *items = json_is_object(*root) ? json_object_get(*root, "messages") : *root;
    *n = json_array_size(items);
    if (*n == 0 || *n > MESSAGES_MAX)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %zu messages; accepted: a JSON array of 1 to %d, or an object with "
                          "it as \"messages\"",
                          path, *n, MESSAGES_MAX);
    *list = malloc(*n * sizeof **list);
    if (!*list)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    anemo_status status = ANEMO_OK;
    for (size_t i = 0; i < *n && status == ANEMO_OK; i++)
        status = read_message(path, i, json_array_get(items, i), &(*list)[i], err);
    return status;
}

/* ---------------------------------------------------------------- the three kinds */

static anemo_status encode_chat(const anemo_tokenizer *tokenizer, const anemo_run_prompt *p,
                                int32_t **ids, size_t *n_ids, int32_t *end, anemo_error *err) {
    const anemo_chat_options options = {
        .template_name = p->template_name, .date = p->date, .effort = p->effort};
    anemo_chat_message two[2], *list = NULL;
    anemo_chat chat = {.end = -1};
    json_t *root = NULL;
    size_t n = 0;
    anemo_status status = ANEMO_OK;
    if (p->messages) {
        status = read_messages(p->messages, &root, &list, &n, err);
    } else {
        if (p->system)
            two[n++] = (anemo_chat_message){"system", p->system, strlen(p->system)};
        two[n++] = (anemo_chat_message){"user", p->text, strlen(p->text)};
    }
    if (status == ANEMO_OK)
        status = anemo_chat_encode(tokenizer, &options, list ? list : two, n, &chat, err);
    *ids = chat.ids;
    *n_ids = chat.n_ids;
    *end = chat.end;
    free(list);
    json_decref(root);
    return status;
}

anemo_status anemo_run_prompt_encode(const anemo_tokenizer *tokenizer, const anemo_run_prompt *p,
                                     int32_t **ids, size_t *n_ids, int32_t *end, anemo_error *err) {
    *end = -1;
    if (p->chat || p->messages)
        return encode_chat(tokenizer, p, ids, n_ids, end, err);
    if (p->suffix)
        return anemo_fim_encode(tokenizer, p->text, strlen(p->text), p->suffix, strlen(p->suffix),
                                ids, n_ids, err);
    return anemo_tokenizer_encode(tokenizer, p->text, strlen(p->text),
                                  anemo_tokenizer_bos(tokenizer) >= 0, ids, n_ids, err);
}
