/* libFuzzer target: SentencePiece models. Seeds: tests/data. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    return anemo_fuzz_tokenizer(anemo_read_sentencepiece, data, n);
}
