/* The registry of a build with CUDA, over the variants that are compiled for the emulator. */
#include "anemo_config.h"

#undef ANEMO_HAVE_CUDA
#define ANEMO_HAVE_CUDA 1

#include "kernels/registry.c"
