/* What every container's fuzz target does with a path: open it as anyone would; if it is a model,
 * read every row of every matrix, so that a length believed too easily is an access out of bounds.
 * A refusal must be a sentence. */
#ifndef ANEMO_FUZZ_READ_ALL_H
#define ANEMO_FUZZ_READ_ALL_H

#include "models/formats/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define VALUES_MAX (1 << 20) /* of a matrix: larger ones cost time and show nothing new */

static inline void fuzz_read_matrix(const anemo_weight *weight) {
    if (weight->n * weight->k > VALUES_MAX)
        return;
    float *row = malloc((size_t)weight->k * sizeof *row);
    void *scratch = malloc(anemo_weight_scratch_bytes(weight->k));
    for (int64_t r = 0; r < weight->n; ++r)
        anemo_weight_row_f32(weight, r, row, scratch);
    free(row);
    free(scratch);
}

static inline void fuzz_read_roles(const anemo_checkpoint *checkpoint) {
    const anemo_hparams *h = anemo_checkpoint_hparams(checkpoint);
    anemo_error error;
    for (int role = 0; role < ANEMO_T_COUNT; ++role)
        for (int64_t layer = 0; layer < (anemo_roles[role].per_layer ? h->layers : 1); ++layer)
            for (int64_t e = 0; e < (anemo_roles[role].per_expert && h->experts ? h->experts : 1);
                 ++e) {
                anemo_weight weight;
                if (!anemo_roles[role].vector &&
                    anemo_checkpoint_weight(checkpoint, (anemo_tensor_role)role, layer, e, &weight,
                                            &error) == ANEMO_OK)
                    fuzz_read_matrix(&weight);
            }
}

static inline void fuzz_open(const char *path) {
    anemo_checkpoint *checkpoint = NULL;
    anemo_error error = {""};
    const anemo_status status = anemo_checkpoint_open(path, &checkpoint, &error);
    if (status == ANEMO_OK)
        fuzz_read_roles(checkpoint);
    else if (status != ANEMO_E_INPUT || !strstr(error.text, "; accepted: "))
        abort(); /* no memory, or no sentence */
    anemo_checkpoint_close(checkpoint);
}

/* A file of these bytes; NULL: none can be made. */
static inline bool fuzz_write(const char *path, const void *data, size_t bytes) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const bool ok = fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes;
    if (fd >= 0)
        close(fd);
    return ok;
}

#endif
