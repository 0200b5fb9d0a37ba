/* Chats and fill-in-the-middle as the models were trained on them.
 *
 * A prompt is control tokens and segments of text, each segment encoded on its own; text never
 * becomes a control token, whatever stands in a message. The forms are those of the encoders that
 * the models' makers publish, built in here instead of an interpreter of the templates that files
 * carry, because the two disagree: Mistral's templates put a space before [/INST] that
 * mistral-common does not, gpt-oss's puts two line feeds behind the instructions that OpenAI's
 * renderer does not. Where they differ, the maker's encoder is followed.
 *
 *   mistral-v1   [INST] and [/INST] are text; the system text stands before the first user text
 *   mistral-v2, -v3 (SentencePiece), -v3-tekken
 *                control tokens; the system text stands before the last user text
 *   mistral-v7 and later
 *                a system message is a message, between control tokens of its own
 *   mistral-v15  and the effort of reasoning as JSON between control tokens, before the first
 * [INST] llama3       a header for each message, texts trimmed; llama3.1 adds a system message with
 * dates harmony      gpt-oss: a system message of its own, the user's system text as instructions
 * of the developer, earlier answers in the channel "final"
 *
 * Messages are text of the roles system, user, assistant; no tools, no images. */
#include "models/tokenizers/chat.h"

#include <stdio.h>
#include <stdlib.h>

enum form { V1, V3, V7, V15, LLAMA3, LLAMA31, HARMONY };

static const struct {
    const char *name;
    enum form form;
} templates[] = {
    {"mistral-v1", V1},        {"mistral-v2", V3},    {"mistral-v3", V3},
    {"mistral-v3-tekken", V3}, {"mistral-v7", V7},    {"mistral-v7-tekken", V7},
    {"mistral-v11", V7},       {"mistral-v13", V7},   {"mistral-v15", V15},
    {"llama3", LLAMA3},        {"llama3.1", LLAMA31}, {"harmony", HARMONY},
};
#define N_TEMPLATES (sizeof templates / sizeof *templates)

const char *anemo_chat_template_name(int32_t index) {
    return index >= 0 && (size_t)index < N_TEMPLATES ? templates[index].name : NULL;
}

/* ---------------------------------------------------------------- the prompt as it grows */

typedef struct prompt {
    const anemo_tokenizer *t;
    const char *name; /* of the template, for sentences */
    int32_t *ids;
    size_t n, capacity;
    char *text; /* of the segment that is open */
    size_t bytes, text_capacity;
    anemo_status status; /* the first failure; all else then does nothing */
    anemo_error *err;
} prompt;

static bool room(prompt *p, void **memory, size_t *capacity, size_t need, size_t item) {
    if (p->status != ANEMO_OK || need <= *capacity)
        return p->status == ANEMO_OK;
    const size_t grown = need > 2 * *capacity ? need + 64 : 2 * *capacity;
    void *bigger = realloc(*memory, grown * item);
    if (!bigger) {
        p->status = anemo_fail(p->err, ANEMO_E_MEMORY, "out of memory for a chat");
        return false;
    }
    *memory = bigger;
    *capacity = grown;
    return true;
}

static void put_ids(prompt *p, const int32_t *ids, size_t n) {
    void *memory = p->ids;
    if (!room(p, &memory, &p->capacity, p->n + n, sizeof *ids))
        return;
    p->ids = memory;
    if (n > 0)
        memcpy(p->ids + p->n, ids, n * sizeof *ids);
    p->n += n;
}

static void put_text(prompt *p, const char *text, size_t bytes) {
    void *memory = p->text;
    if (!room(p, &memory, &p->text_capacity, p->bytes + bytes, 1))
        return;
    p->text = memory;
    if (bytes > 0)
        memcpy(p->text + p->bytes, text, bytes);
    p->bytes += bytes;
}

static void put_string(prompt *p, const char *text) {
    put_text(p, text, strlen(text));
}

/* Encodes the open segment without its first `skip` ids and closes it. */
static void end_segment(prompt *p, size_t skip) {
    int32_t *ids = NULL;
    size_t n = 0;
    if (p->status == ANEMO_OK && p->bytes > 0)
        p->status = anemo_tokenizer_encode(p->t, p->text, p->bytes, false, &ids, &n, p->err);
    if (p->status == ANEMO_OK && n > skip)
        put_ids(p, ids + skip, n - skip);
    free(ids);
    p->bytes = 0;
}

static void put_control(prompt *p, const char *name) {
    end_segment(p, 0);
    const int32_t id = anemo_control_token(p->t, name);
    if (p->status == ANEMO_OK && id < 0)
        p->status = anemo_fail(p->err, ANEMO_E_INPUT,
                               "%s needs the control token %s, which this tokenizer has not; "
                               "accepted: a template that fits the model",
                               p->name, name);
    put_ids(p, &id, 1);
}

static void put_bos(prompt *p, const char *name) {
    if (anemo_control_token(p->t, name) < 0 && p->t->bos >= 0)
        put_ids(p, &p->t->bos, 1);
    else
        put_control(p, name);
}

/* ---------------------------------------------------------------- messages */

static bool has_role(const anemo_chat_message *m, const char *role) {
    return strcmp(m->role, role) == 0;
}

/* The end of the run of messages of one role that begins at `at`. */
static size_t run_end(const anemo_chat_message *m, size_t n, size_t at) {
    size_t end = at + 1;
    while (end < n && has_role(&m[end], m[at].role))
        ++end;
    return end;
}

/* The texts of m[from, to) as one, an empty line between them; empty ones left out. */
static void put_joined(prompt *p, const anemo_chat_message *m, size_t from, size_t to,
                       const char *role, bool joined) {
    for (size_t i = from; i < to; ++i) {
        if (m[i].bytes == 0 || !has_role(&m[i], role))
            continue;
        if (joined)
            put_string(p, "\n\n");
        put_text(p, m[i].text, m[i].bytes);
        joined = true;
    }
}

static anemo_status check_messages(const anemo_chat_message *m, size_t n, anemo_error *err) {
    size_t first = 0;
    for (size_t i = 0; i < n; ++i) {
        const bool known =
            has_role(&m[i], "system") || has_role(&m[i], "user") || has_role(&m[i], "assistant");
        if (!known)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "message %zu has role \"%s\"; accepted: system, user, assistant", i,
                              anemo_show(m[i].role).text);
        if (m[i].bytes == 0 && !has_role(&m[i], "user"))
            return anemo_fail(err, ANEMO_E_INPUT,
                              "message %zu of the %s is empty; accepted: a text", i, m[i].role);
    }
    while (first < n && has_role(&m[first], "system"))
        ++first;
    if (first == n || !has_role(&m[first], "user"))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%zu messages of which the first besides the system's is not the user's; "
                          "accepted: a chat that the user begins",
                          n);
    if (!has_role(&m[n - 1], "user"))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "the last of %zu messages is the %s's; accepted: one of the user, which "
                          "the model is to answer",
                          n, m[n - 1].role);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- Mistral */

static void put_mistral_assistant(prompt *p, const anemo_chat_message *m, size_t from, size_t to,
                                  enum form form) {
    put_joined(p, m, from, to, "assistant", false);
    while (form != V1 && p->bytes > 0 && p->text[p->bytes - 1] == ' ')
        --p->bytes;
    put_control(p, "</s>");
}

static void put_mistral_user(prompt *p, const anemo_chat_message *m, size_t n, size_t from,
                             size_t to, enum form form, bool with_system) {
    if (form == V1)
        put_string(p, "[INST] ");
    else
        put_control(p, "[INST]");
    const size_t before = p->bytes;
    if (with_system)
        put_joined(p, m, 0, n, "system", false);
    if (p->bytes > before)
        put_string(p, "\n\n");
    put_joined(p, m, from, to, "user", false);
    if (form == V1) {
        put_string(p, " [/INST]");
        end_segment(p, 0);
    } else {
        put_control(p, "[/INST]");
    }
}

static void put_settings(prompt *p, const char *effort) {
    if (!effort[0])
        return;
    put_control(p, "[MODEL_SETTINGS]");
    put_string(p, "{\"reasoning_effort\": \"");
    put_string(p, effort);
    put_string(p, "\"}");
    put_control(p, "[/MODEL_SETTINGS]");
}

static void put_mistral(prompt *p, const anemo_chat_message *m, size_t n, enum form form,
                        const char *effort) {
    bool first_user = true;
    put_bos(p, "<s>");
    for (size_t i = 0, end; i < n; i = end) {
        end = run_end(m, n, i);
        if (has_role(&m[i], "assistant")) {
            put_mistral_assistant(p, m, i, end, form);
        } else if (has_role(&m[i], "user")) {
            const bool with_system = form == V1 ? first_user : form == V3 && end == n;
            if (form == V15 && first_user)
                put_settings(p, effort);
            put_mistral_user(p, m, n, i, end, form, with_system);
            first_user = false;
        }
        for (size_t k = i; k < end && form >= V7 && has_role(&m[i], "system"); ++k) {
            put_control(p, "[SYSTEM_PROMPT]");
            put_text(p, m[k].text, m[k].bytes);
            put_control(p, "[/SYSTEM_PROMPT]");
        }
    }
}

/* ---------------------------------------------------------------- Llama 3 */

/* Bytes of the white space that text[0, n) begins with: what Python's str.strip() takes. */
static size_t white_space(const char *text, size_t n) {
    const unsigned char *s = (const unsigned char *)text;
    if (n >= 1 && ((s[0] >= 0x09 && s[0] <= 0x0d) || (s[0] >= 0x1c && s[0] <= 0x20)))
        return 1;
    if (n >= 2 && s[0] == 0xc2 && (s[1] == 0x85 || s[1] == 0xa0))
        return 2;
    static const char *const others[] = {
        "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81", "\xe2\x80\x82", "\xe2\x80\x83",
        "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86", "\xe2\x80\x87", "\xe2\x80\x88",
        "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf",
        "\xe2\x81\x9f", "\xe3\x80\x80"};
    for (size_t i = 0; i < sizeof others / sizeof *others; ++i)
        if (n >= 3 && memcmp(text, others[i], 3) == 0)
            return 3;
    return 0;
}

static void put_trimmed(prompt *p, const anemo_chat_message *m) {
    const char *text = m->text;
    size_t n = m->bytes;
    for (size_t space; (space = white_space(text, n)) > 0; text += space, n -= space)
        ;
    for (size_t space = 1; space > 0 && n > 0;) {
        space = 0;
        for (size_t back = 1; back <= 3 && back <= n && space == 0; ++back)
            space = white_space(text + n - back, back) == back ? back : 0;
        n -= space;
    }
    put_text(p, text, n);
}

static void put_header(prompt *p, const char *role) {
    put_control(p, "<|start_header_id|>");
    put_string(p, role);
    put_control(p, "<|end_header_id|>");
    put_string(p, "\n\n");
}

static void put_llama3(prompt *p, const anemo_chat_message *m, size_t n, enum form form) {
    size_t from = 0;
    put_bos(p, "<|begin_of_text|>");
    if (form == LLAMA31) { /* the dates that the published template has without a clock */
        put_header(p, "system");
        put_string(p, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        if (has_role(&m[0], "system"))
            put_trimmed(p, &m[from++]);
        put_control(p, "<|eot_id|>");
    }
    for (size_t i = from; i < n; ++i) {
        put_header(p, m[i].role);
        put_trimmed(p, &m[i]);
        put_control(p, "<|eot_id|>");
    }
    put_header(p, "assistant");
    end_segment(p, 0);
}

/* ---------------------------------------------------------------- gpt-oss */

static void put_harmony_message(prompt *p, const char *header, const char *channel) {
    put_control(p, "<|start|>");
    put_string(p, header);
    if (channel) {
        put_control(p, "<|channel|>");
        put_string(p, channel);
    }
    put_control(p, "<|message|>");
}

static void put_harmony(prompt *p, const anemo_chat_message *m, size_t n, const char *date,
                        const char *effort) {
    put_harmony_message(p, "system", NULL);
    put_string(p, "You are ChatGPT, a large language model trained by OpenAI.\n"
                  "Knowledge cutoff: 2024-06\n");
    if (date) {
        put_string(p, "Current date: ");
        put_string(p, date);
        put_string(p, "\n");
    }
    put_string(p, "\nReasoning: ");
    put_string(p, effort);
    put_string(p, "\n\n# Valid channels: analysis, commentary, final. Channel "
                  "must be included for every message.");
    put_control(p, "<|end|>");
    for (size_t i = 0; i < n; ++i) {
        if (has_role(&m[i], "system")) {
            put_harmony_message(p, "developer", NULL);
            put_string(p, "# Instructions\n\n");
        } else if (has_role(&m[i], "assistant")) {
            put_harmony_message(p, "assistant", "final");
        } else {
            put_harmony_message(p, "user", NULL);
        }
        put_text(p, m[i].text, m[i].bytes);
        put_control(p, "<|end|>");
    }
    put_control(p, "<|start|>");
    put_string(p, "assistant");
    end_segment(p, 0);
}

/* ---------------------------------------------------------------- which template */

static anemo_status refuse_template(const char *what, anemo_error *err) {
    char names[256] = "";
    for (size_t i = 0; i < N_TEMPLATES; ++i) {
        strcat(names, i ? ", " : "");
        strcat(names, templates[i].name);
    }
    return anemo_fail(err, ANEMO_E_INPUT, "%s; accepted: --chat-template %s", what, names);
}

static bool holds(const char *text, const char *part) {
    return text && strstr(text, part) != NULL;
}

/* By what the tokenizer knows of itself: tekken.json tells its version, special tokens give away
 * Llama 3 and gpt-oss, and the text of a template tells the forms of Mistral apart. */
static const char *identify(const anemo_tokenizer *t, const char *text) {
    const bool inst = anemo_control_token(t, "[INST]") >= 0;
    if (anemo_control_token(t, "<|start_header_id|>") >= 0)
        return !text ? NULL : holds(text, "Cutting Knowledge Date") ? "llama3.1" : "llama3";
    if (anemo_control_token(t, "<|channel|>") >= 0 && anemo_control_token(t, "<|message|>") >= 0)
        return "harmony";
    if (strcmp(t->version, "v3") == 0)
        return "mistral-v3-tekken";
    if (strcmp(t->version, "v7") == 0)
        return "mistral-v7-tekken";
    char of_version[32];
    snprintf(of_version, sizeof of_version, "mistral-%s", t->version);
    for (size_t i = 0; i < N_TEMPLATES && *t->version; ++i)
        if (strcmp(templates[i].name, of_version) == 0)
            return templates[i].name;
    if (*t->version)
        return NULL; /* a later one than is known here */
    if (holds(text, "[SYSTEM_PROMPT]"))
        return t->byte_level ? "mistral-v7-tekken" : "mistral-v7";
    if (inst && anemo_control_token(t, "[SYSTEM_PROMPT]") >= 0 && !text)
        return t->byte_level ? NULL : "mistral-v7"; /* SentencePiece: only v7's has it */
    if (inst)
        return t->byte_level ? "mistral-v3-tekken" : "mistral-v3";
    return holds(text, "[INST]") && !t->byte_level ? "mistral-v1" : NULL;
}

static anemo_status choose(const anemo_tokenizer *t, const char *wanted, size_t *out,
                           anemo_error *err) {
    char *text = NULL;
    const char *name = wanted;
    if (!wanted) {
        ANEMO_TRY(anemo_chat_template_text(t, &text, err));
        name = identify(t, text);
        free(text);
        if (!name)
            return refuse_template("the files of the model do not tell the form of its chats", err);
    }
    for (size_t i = 0; i < N_TEMPLATES; ++i)
        if (strcmp(templates[i].name, name) == 0) {
            *out = i;
            return ANEMO_OK;
        }
    char what[160];
    snprintf(what, sizeof what, "--chat-template is \"%s\"", anemo_show(wanted).text);
    return refuse_template(what, err);
}

/* The effort that the chat asks for or, where it does not, that the model's files do. */
static anemo_status choose_effort(const anemo_tokenizer *t, enum form form, const char *wanted,
                                  const char **out, anemo_error *err) {
    const char *accepted = form == HARMONY ? "low, medium, high" : form == V15 ? t->efforts : "";
    const size_t length = wanted ? strlen(wanted) : 0;
    *out = wanted ? wanted : form == HARMONY ? "medium" : t->effort;
    if (form == V15 && !t->has_settings)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "mistral-v15 needs model_settings_builder, which this tokenizer has not; "
                          "accepted: a template that fits the model");
    for (const char *at = accepted; wanted && (at = strstr(at, wanted)) && length > 0; at += length)
        if ((at == accepted || at[-1] == ' ') && (at[length] == ',' || at[length] == '\0'))
            return ANEMO_OK;
    return !wanted ? ANEMO_OK
                   : anemo_fail(err, ANEMO_E_INPUT, "--chat-effort is \"%s\"; accepted: %s",
                                anemo_show(wanted).text,
                                *accepted ? accepted : "none at all by this model");
}

/* ---------------------------------------------------------------- the doors */

static anemo_status finish(prompt *p, int32_t **ids, size_t *n_ids) {
    free(p->text);
    if (p->status != ANEMO_OK) {
        free(p->ids);
        return p->status;
    }
    *ids = p->ids;
    *n_ids = p->n;
    return ANEMO_OK;
}

anemo_status anemo_chat_encode(const anemo_tokenizer *tokenizer, const anemo_chat_options *options,
                               const anemo_chat_message *messages, size_t n, anemo_chat *out,
                               anemo_error *err) {
    size_t index = 0;
    *out = (anemo_chat){.end = -1};
    ANEMO_TRY(check_messages(messages, n, err));
    ANEMO_TRY(choose(tokenizer, options->template_name, &index, err));
    prompt p = {.t = tokenizer, .name = templates[index].name, .err = err};
    const enum form form = templates[index].form;
    const char *effort = "";
    ANEMO_TRY(choose_effort(tokenizer, form, options->effort, &effort, err));
    if (form == HARMONY)
        put_harmony(&p, messages, n, options->date, effort);
    else if (form == LLAMA3 || form == LLAMA31)
        put_llama3(&p, messages, n, form);
    else
        put_mistral(&p, messages, n, form, effort);
    out->template_name = p.name;
    out->end = anemo_control_token(tokenizer, form == HARMONY                     ? "<|return|>"
                                              : form == LLAMA3 || form == LLAMA31 ? "<|eot_id|>"
                                                                                  : "</s>");
    return finish(&p, &out->ids, &out->n_ids);
}

anemo_status anemo_fim_encode(const anemo_tokenizer *tokenizer, const char *prefix,
                              size_t prefix_bytes, const char *suffix, size_t suffix_bytes,
                              int32_t **ids, size_t *n_ids, anemo_error *err) {
    prompt p = {.t = tokenizer, .name = "fill-in-the-middle", .err = err};
    *ids = NULL;
    *n_ids = 0;
    put_bos(&p, "<s>");
    put_control(&p, "[SUFFIX]");
    if (suffix_bytes > 0) { /* behind a character of its own, whose two tokens are then dropped:
                               so no space is put before the suffix */
        put_string(&p, "\xe2\x98\xba");
        put_text(&p, suffix, suffix_bytes);
        end_segment(&p, 2);
    }
    put_control(&p, "[PREFIX]");
    put_text(&p, prefix, prefix_bytes);
    end_segment(&p, 0);
    return finish(&p, ids, n_ids);
}
