/* For arithmetic that a CUDA kernel and the host share: addresses, partitions, conversions. A
 * header that uses it compiles as C, too, so that tests reach the same code without a GPU. */
#ifndef ANEMO_HOST_DEVICE_H
#define ANEMO_HOST_DEVICE_H

#ifdef __CUDACC__
#define ANEMO_HOST_DEVICE __host__ __device__
#else
#define ANEMO_HOST_DEVICE
#endif

#endif
