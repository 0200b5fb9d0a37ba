/* Stands in for cuBLASLt, of which the kernels name no more than the handle. */
#ifndef ANEMO_EMULATE_CUBLASLT_H
#define ANEMO_EMULATE_CUBLASLT_H
using cublasLtHandle_t = void *;
#endif
