/* The code hashes of this build: a table that the build makes (harness/cli/code_hash_main.c reads
 * the kernels' objects and writes it as C).
 *
 * A variant's hash changes when the machine code or constants of the variant change, or of anything
 * that it calls inside anemo, its layout's packer and unpacker, its activation format, the thread
 * team behind `exec`, the global compiler flags, or (if it calls one) the version of the BLAS. It
 * does not change with comments, documents, line numbers or the version of anemo. There are no
 * tuned choices yet that could enter. One more entry, "engine", is all that a model runs through:
 * the doors of models/engine.h and every kernel. */
#ifndef ANEMO_CODE_HASH_H
#define ANEMO_CODE_HASH_H

#include "kernels/kernel.h"

typedef struct anemo_code_entry {
    const char *variant;
    char hash[65];
    int64_t code_bytes,
        constant_bytes; /* machine code and constants that it reaches, team included */
} anemo_code_entry;

/* What the build wrote. */
extern const anemo_code_entry anemo_code_table[];
extern const int32_t anemo_code_table_size;
extern const char anemo_code_table_why[]; /* why it is empty; "" when it is not */

/* NULL: the variant came with a plug-in, or the build could not read its objects. */
const anemo_code_entry *anemo_code_entry_of(const char *variant);

#endif
