/* What `anemo run` starts from: a text, a chat, or a gap to fill. */
#ifndef ANEMO_CLI_RUN_PROMPT_H
#define ANEMO_CLI_RUN_PROMPT_H

#include "models/engine.h"

typedef struct anemo_run_prompt {
    const char *text;     /* --prompt */
    const char *messages; /* a JSON file; chat then */
    const char *system, *template_name, *date,
        *effort;        /* of a chat; NULL: none, as the files tell */
    const char *suffix; /* fill in between text and this */
    bool chat;
} anemo_run_prompt;

/* NULL, or what is wrong with the options, as a sentence. */
const char *anemo_run_prompt_check(const anemo_run_prompt *prompt);
/* *ids is malloc'ed; *end: the token that ends the answer, -1: none but the model's own. */
anemo_status anemo_run_prompt_encode(const anemo_tokenizer *tokenizer,
                                     const anemo_run_prompt *prompt, int32_t **ids, size_t *n_ids,
                                     int32_t *end, anemo_error *err);

#endif
