/* Marks arithmetic that a GPU kernel, the host and a test share: the header compiles as C, as C++
 * and as CUDA. */
#ifndef ANEMO_HOST_DEVICE_H
#define ANEMO_HOST_DEVICE_H

#ifdef __CUDACC__
#define ANEMO_HOST_DEVICE __host__ __device__
#else
#define ANEMO_HOST_DEVICE
#endif

#endif
