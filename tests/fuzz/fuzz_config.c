/* config.json, its quantization_config, params.json, and an index of shards: the same bytes as each
 * of them. */
#include "models/formats/packed.h"
#include "tests/fuzz/read_all.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A refusal is a sentence; what is accepted obeys the limits that later code relies on. */
static void check(anemo_status status, const anemo_hparams *h, const anemo_error *error) {
    if (status != ANEMO_OK && (status != ANEMO_E_INPUT || !strstr(error->text, "; accepted: ")))
        abort();
    if (status == ANEMO_OK && h &&
        (h->layers < 1 || h->heads < 1 || h->kv_heads < 1 || h->heads % h->kv_heads != 0 ||
         h->head_dim < 1 || h->d < 1 || h->ffn < 1 || h->vocab < 1 || h->n_eos > 8))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    anemo_hparams h;
    anemo_quantisation q;
    anemo_shard_index index;
    anemo_error error = {""};
    check(anemo_hf_config("fuzz.json", data, bytes, &h, &error), &h, &error);
    check(anemo_quantisation_parse("fuzz.json", data, bytes, &q, &error), NULL, &error);
    check(anemo_params_json("fuzz.json", data, bytes, &h, &q, &error), &h, &error);
    const anemo_status status = anemo_shard_index_parse("fuzz.json", data, bytes, &index, &error);
    check(status, NULL, &error);
    if (status == ANEMO_OK)
        anemo_shard_index_free(&index);
    return 0;
}
