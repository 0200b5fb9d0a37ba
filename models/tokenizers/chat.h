/* What chats need to know of a tokenizer and of the files around it. */
#ifndef ANEMO_TOKENIZERS_CHAT_H
#define ANEMO_TOKENIZERS_CHAT_H

#include "models/tokenizers/internal.h"

/* The id of a control token, -1: none. Mistral's SentencePiece models have some of them ([PREFIX])
 * as pieces that are matched in text, which count too. */
int32_t anemo_control_token(const anemo_tokenizer *t, const char *name);
/* The template that the model's files carry, malloc'ed: chat_template.jinja or
 * tokenizer_config.json beside the tokenizer, tokenizer.chat_template in GGUF; *text NULL: none.
 * Only read to tell which of the built-in forms it stands for. */
anemo_status anemo_chat_template_text(const anemo_tokenizer *t, char **text, anemo_error *err);

#endif
