/* The text path of a multimodal checkpoint (Mistral 3, Pixtral): the language model keeps the
 * tensors of a text model under a prefix that changed with the versions of transformers; the vision
 * tower and its projector are left out, and named, so that nobody takes the file for a whole one.
 * Everything else stays, and is refused as usual when the architecture does not know it. */
#include "models/formats/internal.h"

#include <stdio.h>
#include <stdlib.h>

static const struct rename {
    const char *from, *to;
} renames[] = {{"language_model.", ""}, {"model.language_model.", "model."}};

/* Longest first where one begins with another. */
static const char *const skipped_prefixes[] = {"vision_tower.", "multi_modal_projector.",
                                               "model.vision_tower.",
                                               "model.multi_modal_projector."};

#define N_RENAMES (sizeof renames / sizeof *renames)
#define N_SKIPPED (sizeof skipped_prefixes / sizeof *skipped_prefixes)

static bool begins(const char *name, const char *prefix) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Names only get shorter. */
static void rename_tensor(anemo_tensor *tensor) {
    for (size_t i = 0; i < N_RENAMES; ++i) {
        const char *from = renames[i].from, *to = renames[i].to;
        if (begins(tensor->name, from)) {
            const char *rest = tensor->name + strlen(from);
            memmove(tensor->name + strlen(to), rest, strlen(rest) + 1);
            memcpy(tensor->name, to, strlen(to));
            return;
        }
    }
}

static size_t skipped_group(const char *name) {
    size_t i = 0;
    while (i < N_SKIPPED && !begins(name, skipped_prefixes[i]))
        ++i;
    return i;
}

anemo_status anemo_text_tensors(anemo_tensors *tensors, char *skipped, size_t skipped_bytes,
                                anemo_error *err) {
    size_t count[N_SKIPPED + 1] = {0}, kept = 0, at = 0;
    for (size_t i = 0; i < tensors->n; ++i) {
        const size_t group = skipped_group(tensors->items[i].name);
        ++count[group];
        if (group < N_SKIPPED) {
            free(tensors->items[i].name);
            continue;
        }
        tensors->items[kept] = tensors->items[i];
        rename_tensor(&tensors->items[kept++]);
    }
    tensors->n = kept;
    skipped[0] = '\0';
    for (size_t i = 0; i < N_SKIPPED; ++i)
        if (count[i] && at < skipped_bytes)
            at += (size_t)snprintf(skipped + at, skipped_bytes - at, "%s%s* (%zu tensors)",
                                   at ? ", " : "", skipped_prefixes[i], count[i]);
    return anemo_tensors_index(tensors, err);
}
