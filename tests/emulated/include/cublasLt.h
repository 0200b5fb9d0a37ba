/* Stands in for cuBLASLt, of which the kernels name no more than the handle. */
#ifndef ANEMO_EMULATED_CUBLASLT_H
#define ANEMO_EMULATED_CUBLASLT_H
using cublasLtHandle_t = void *;
#endif
