/* What anemo_exec.libraries points to on a CUDA device. */
#ifndef ANEMO_DEVICE_CUDA_H
#define ANEMO_DEVICE_CUDA_H

#include "kernels/device_internal.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstdio>

/* cublas is bound to the device's stream and this workspace; cublaslt calls pass it themselves. */
typedef struct anemo_cuda_libraries {
    cublasHandle_t cublas;
    cublasLtHandle_t cublaslt;
    void *workspace;
    size_t workspace_bytes;
} anemo_cuda_libraries;

#endif
