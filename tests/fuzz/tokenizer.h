/* What the targets for tokenizer files share: bytes that a reader accepts must make a tokenizer
 * that encodes any text, decodes what it encoded, and becomes the keys of a GGUF file or is
 * refused. */
#ifndef ANEMO_FUZZ_TOKENIZER_H
#define ANEMO_FUZZ_TOKENIZER_H

#include "models/formats/convert.h"
#include "models/tokenizers/internal.h"

#include <stdlib.h>

typedef anemo_status (*anemo_fuzz_reader)(anemo_tokenizer *t, const anemo_mapped_file *file,
                                          anemo_error *err);

/* Three ids more than it has tokens. */
static inline void anemo_fuzz_vocabulary(const anemo_tokenizer *t) {
    static FILE *nowhere;
    anemo_error err = {""};
    anemo_gguf_vocabulary *v = NULL;
    nowhere = nowhere ? nowhere : fopen("/dev/null", "wb");
    if (nowhere && anemo_gguf_vocabulary_make(t, (int64_t)t->vocab.n + 3, &v, &err) == ANEMO_OK) {
        anemo_conversion c = {.file = nowhere, .path = "/dev/null", .err = &err};
        anemo_gguf_keys counted = {0}, keys = {.c = &c};
        anemo_gguf_vocabulary_keys(v, &counted);
        anemo_gguf_vocabulary_keys(v, &keys);
        if (keys.status != ANEMO_OK || keys.n != counted.n)
            abort();
        anemo_gguf_vocabulary_free(v);
    } else if (nowhere && err.text[0] == '\0') {
        abort();
    }
}

static inline int anemo_fuzz_tokenizer(anemo_fuzz_reader reader, const uint8_t *data, size_t n) {
    static const char text[] =
        "the function <tool> x===1 DON'T  </s>\n\xff\xe2\x96\xf0\x9f\x99\x82";
    anemo_error err = {""};
    char name[] = "fuzzed";
    const anemo_mapped_file file = {name, data, n};
    anemo_tokenizer *t = calloc(1, sizeof *t);
    if (!t || n == 0) {
        free(t);
        return 0;
    }
    t->bos = t->eos = t->unknown = t->space = -1;
    t->path = strdup(name);
    if (reader(t, &file, &err) == ANEMO_OK) {
        int32_t *ids = NULL;
        size_t n_ids = 0, bytes = 0;
        char *back = NULL;
        if (anemo_tokenizer_encode(t, text, sizeof text - 1, false, &ids, &n_ids, &err) !=
                ANEMO_OK ||
            anemo_tokenizer_decode(t, ids, n_ids, &back, &bytes, &err) != ANEMO_OK)
            abort();
        free(ids);
        free(back);
        anemo_fuzz_vocabulary(t);
    } else if (err.text[0] == '\0') {
        abort(); /* refused without a sentence */
    }
    anemo_tokenizer_close(t);
    return 0;
}

#endif
