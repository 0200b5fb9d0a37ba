/* What anemo_exec.libraries points to on a CUDA device. */
#ifndef ANEMO_DEVICE_CUDA_H
#define ANEMO_DEVICE_CUDA_H

#include "kernels/device_internal.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstdio>

#define ANEMO_CUDA_HOST_WORDS 4096

/* cublas is bound to the device's stream and this workspace; cublaslt calls pass it themselves.
 *
 * The side stream is for work beside the device's own stream. Neither waits for the other but by an
 * event: `filled` and `emptied` are those of two buffers that the side stream fills and the own
 * stream reads. A variant that uses them lets the own stream wait for all of its side stream's work
 * before it returns, so that whoever waits for the device's stream has waited for both. Where both
 * have a block to place, the side stream's goes first.
 *
 * host_words, pinned, are for a variant that has to know before it returns what lies on the device;
 * it waits for them itself, and so may not be captured. */
typedef struct anemo_cuda_libraries {
    cublasHandle_t cublas;
    cublasLtHandle_t cublaslt;
    void *workspace;
    size_t workspace_bytes;
    cudaStream_t side;
    cudaEvent_t filled[2], emptied[2]; /* without times */
    int32_t *host_words;               /* [ANEMO_CUDA_HOST_WORDS] */
    int32_t multiprocessors;           /* of the GPU */
} anemo_cuda_libraries;

#endif
