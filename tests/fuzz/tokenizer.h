/* What the three targets for tokenizer files share: bytes that a reader accepts must make a
 * tokenizer that encodes any text, and decodes what it encoded. */
#ifndef ANEMO_FUZZ_TOKENIZER_H
#define ANEMO_FUZZ_TOKENIZER_H

#include "models/tokenizers/internal.h"

#include <stdlib.h>

typedef anemo_status (*anemo_fuzz_reader)(anemo_tokenizer *t, const anemo_mapped_file *file,
                                          anemo_error *err);

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
    } else if (err.text[0] == '\0') {
        abort(); /* refused without a sentence */
    }
    anemo_tokenizer_close(t);
    return 0;
}

#endif
