/* Quantised safetensors: one matrix as several tensors (codes, scales, zero points, group indices),
 * as GPTQ, AWQ, compressed-tensors, FP8 and MXFP4 checkpoints hold it. */
#ifndef ANEMO_FORMATS_PACKED_H
#define ANEMO_FORMATS_PACKED_H

#include "models/formats/internal.h"

typedef enum anemo_packing {
    ANEMO_PACKING_NONE,
    ANEMO_PACKING_GPTQ,   /* X.qweight, X.qzeros, X.scales, X.g_idx */
    ANEMO_PACKING_AWQ,    /* X.qweight, X.qzeros, X.scales */
    ANEMO_PACKING_PACKED, /* compressed-tensors pack-quantized: X.weight_packed, ... */
    ANEMO_PACKING_INT8,   /* compressed-tensors int-quantized: X.weight int8, X.weight_scale */
    ANEMO_PACKING_FP8,    /* X.weight F8_E4M3, X.weight_scale or X.weight_scale_inv */
    ANEMO_PACKING_MXFP4   /* X_blocks, X_scales of all experts of a layer */
} anemo_packing;

/* quantization_config of a config.json. */
typedef struct anemo_quantisation {
    anemo_packing packing;
    int32_t bits;
    int64_t group;     /* columns per scale, 0: one per row */
    bool act_order;    /* GPTQ desc_act: the group of a column is in g_idx */
    bool zero_minus_1; /* GPTQ v1: the stored zero point is one less */
    int64_t block[2];  /* FP8: rows and columns per scale, 0 0: not by blocks */
} anemo_quantisation;

/* NONE where the config names no quantisation. */
anemo_status anemo_quantisation_parse(const char *path, const void *json, size_t bytes,
                                      anemo_quantisation *out, anemo_error *err);

/* params.json of Mistral's consolidated checkpoints -> hparams (rope_pairing INTERLEAVED). */
anemo_status anemo_params_json(const char *path, const void *json, size_t bytes, anemo_hparams *out,
                               anemo_quantisation *quantisation, anemo_error *err);

typedef struct anemo_packed anemo_packed;
struct anemo_packed {
    anemo_packed *next; /* list of the checkpoint */
    anemo_packing packing;
    anemo_weight_type type;
    int64_t n, k;     /* of a matrix in the file; with `pairs`, twice the rows of each weight */
    int64_t matrices; /* experts */
    bool pairs;       /* rows of gate and up take turns */
    int32_t bits, zero_add;
    const uint8_t *codes, *scales, *zeros, *order; /* zeros, order: NULL without */
    uint32_t scale_type;                           /* GGML number */
    int64_t groups;                                /* scales per row */
    int64_t block_rows, block_columns;             /* FP8: values per scale, 0: all */
    size_t canonical_bytes;                        /* of one matrix, all parts */
};

/* For each quantised matrix X: checks its parts, marks them used, and appends a tensor "X.weight"
 * (MXFP4: "X") of type ANEMO_GGML_NONE whose `packed` says how to read it. Indexes anew. *list is
 * owned by the caller, who frees it with _free. */
anemo_status anemo_packed_find(const anemo_quantisation *q, anemo_tensors *tensors,
                               anemo_packed **list, anemo_error *err);
void anemo_packed_free(anemo_packed *list);

/* Matrix `matrix` as canonical weight; with pairs, `second` takes the odd rows, else the even. */
void anemo_packed_weight(const anemo_packed *packed, int64_t matrix, bool second,
                         anemo_weight *out);

#endif
