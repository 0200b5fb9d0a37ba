/* The chat template among the files of a model. */
#include "models/formats/gguf.h"
#include "models/tokenizers/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int32_t anemo_control_token(const anemo_tokenizer *t, const char *name) {
    const int32_t id = anemo_vocabulary_find_special(&t->vocab, name, strlen(name));
    const uint8_t type = id >= 0 ? t->vocab.pieces[id].type : ANEMO_PIECE_HOLE;
    return type == ANEMO_PIECE_CONTROL || type == ANEMO_PIECE_USER ? id : -1;
}

/* NAME in the folder of `path`, malloc'ed; NULL without memory. */
static char *beside(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    const size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
    char *out = malloc(folder + strlen(name) + 1);
    if (out)
        sprintf(out, "%.*s%s", (int)folder, path, name);
    return out;
}

static anemo_status out_of_memory(anemo_error *err) {
    return anemo_fail(err, ANEMO_E_MEMORY, "out of memory for a chat template");
}

static anemo_status of_gguf(const char *path, char **text, anemo_error *err) {
    anemo_mapped_file file;
    gguf_file gguf;
    anemo_tensors tensors = {0};
    ANEMO_TRY(anemo_map_open(path, &file, err));
    anemo_status status = gguf_parse(&file, &gguf, &tensors, err);
    if (status == ANEMO_OK) {
        const gguf_value *value = gguf_find(&gguf, "tokenizer.chat_template");
        if (value && value->type != GGUF_STRING)
            status = anemo_fail(err, ANEMO_E_INPUT,
                                "%s: tokenizer.chat_template has value type %u; accepted: a string",
                                file.path, (unsigned)value->type);
        else if (value && !(*text = strndup((const char *)value->data, (size_t)value->count)))
            status = out_of_memory(err);
        gguf_free(&gguf);
    }
    anemo_tensors_free(&tensors);
    anemo_map_close(&file);
    return status;
}

/* "chat_template": a string, or a list of {name, template} of which "default" counts. */
static anemo_status of_config(const anemo_mapped_file *file, char **text, anemo_error *err) {
    json_t *root = anemo_json_object(file->path, "", file->data, file->bytes, err);
    if (!root)
        return ANEMO_E_INPUT;
    const json_t *value = json_object_get(root, "chat_template"), *found = value;
    for (size_t i = 0; i < json_array_size(value); ++i) {
        const json_t *item = json_array_get(value, i), *name = json_object_get(item, "name");
        if (json_is_string(name) && strcmp(json_string_value(name), "default") == 0)
            found = json_object_get(item, "template");
    }
    anemo_status status = ANEMO_OK;
    if (found && !json_is_null(found) && !json_is_string(found))
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "%s: chat_template is %s; accepted: a string, or a list with one named "
                            "default",
                            file->path, anemo_show_json(found).text);
    else if (json_is_string(found) && !(*text = strdup(json_string_value(found))))
        status = out_of_memory(err);
    json_decref(root);
    return status;
}

static anemo_status of_folder(const char *path, char **text, anemo_error *err) {
    static const char *const names[] = {"chat_template.jinja", "tokenizer_config.json"};
    for (size_t i = 0; i < 2 && !*text; ++i) {
        char *name = beside(path, names[i]);
        if (!name)
            return out_of_memory(err);
        anemo_mapped_file file;
        const bool there = access(name, F_OK) == 0;
        anemo_status status = there ? anemo_map_open(name, &file, err) : ANEMO_OK;
        free(name);
        if (!there)
            continue;
        ANEMO_TRY(status);
        if (i == 1)
            status = of_config(&file, text, err);
        else if (!(*text = strndup((const char *)file.data, file.bytes)))
            status = out_of_memory(err);
        anemo_map_close(&file);
        ANEMO_TRY(status);
    }
    return ANEMO_OK;
}

anemo_status anemo_chat_template_text(const anemo_tokenizer *t, char **text, anemo_error *err) {
    *text = NULL;
    return t->in_gguf ? of_gguf(t->path, text, err) : of_folder(t->path, text, err);
}
