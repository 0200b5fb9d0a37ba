/* Between the emulated grid (emulate.cc) and the device made of it (device.cc). */
#ifndef ANEMO_EMULATE_H
#define ANEMO_EMULATE_H

#include <cuda_runtime.h>

#include <vector>

namespace emulated {

/* From now on launches are recorded and not run; false: that was so already. */
bool capture_begin();
/* What was recorded; the caller's. */
std::vector<std::function<void()>> *capture_end();
bool is_capturing();

} // namespace emulated

#endif
