/* Inside of models/: an opened model, and its weights by role, requantised where asked. */
#ifndef ANEMO_MODEL_H
#define ANEMO_MODEL_H

#include "models/engine.h"
#include "models/formats/checkpoint.h"

struct anemo_model {
    anemo_checkpoint *checkpoint;
    anemo_hparams hparams; /* with the window of the options */
    anemo_model_info info;
    char requantised_as[8];     /* "q8_0", "q4_0", or "": as stored */
    double resident_bytes;      /* of all matrices when packed; a tied output counts once */
    anemo_tokenizer *tokenizer; /* NULL: tokenizer_why says why */
    anemo_error tokenizer_why;
    anemo_status tokenizer_status;
    anemo_weight *requantised; /* [matrices of the model] or NULL; see model.c for the order */
    void **storage;            /* behind each requantised weight */
    int64_t n_requantised;
};

/* A matrix as the engine will use it. Valid until the model is closed. */
anemo_status anemo_model_weight(const anemo_model *model, anemo_tensor_role role, int64_t layer,
                                int64_t expert, anemo_weight *out, anemo_error *err);

#endif
