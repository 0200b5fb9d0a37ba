/* The accuracy signature: the integer decisions of the reference path on fixed inputs, as a hash.
 * Experts chosen by the router in every layer, and the tokens of a greedy decode, with the
 * definition of every op. Floats differ in their last bits between compilers; these decisions
 * should not, on any instruction set. */
#ifndef ANEMO_CHECK_SIGNATURE_H
#define ANEMO_CHECK_SIGNATURE_H

#include "models/engine.h"

typedef struct anemo_signature {
    char hex[65];
    int64_t decisions; /* integers behind it */
    int64_t experts;   /* of those: expert ids */
} anemo_signature;

/* 24 fixed prompt tokens and 32 greedy ones of the model at `path`. */
anemo_status anemo_signature_make(anemo_device *device, const char *path, anemo_signature *out,
                                  anemo_error *err);

#endif
