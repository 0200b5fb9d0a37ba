/* Stands in for device_cuda.cu in a build without CUDA. */
#include "kernels/device.h"

anemo_status anemo_device_create_cuda(int32_t ordinal, anemo_device **out, anemo_error *err) {
    *out = NULL;
    return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                      "device cuda:%d: this build of anemo has no CUDA; --device cpu is accepted",
                      ordinal);
}
