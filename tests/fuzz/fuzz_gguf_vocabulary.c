/* libFuzzer target: the vocabulary of a GGUF file. Seeds: tests/data and corpus/gguf_vocabulary. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    return anemo_fuzz_tokenizer(anemo_read_gguf_vocabulary, data, n);
}
