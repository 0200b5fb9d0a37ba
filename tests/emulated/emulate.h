/* Between the emulated grid (emulate.cc) and the device made of it (device.cc). */
#ifndef ANEMO_EMULATE_H
#define ANEMO_EMULATE_H

#include <cuda_runtime.h>

#include <vector>

namespace emulated {

/* Runs what the stream holds, and of other streams as much as streams.cc says. */
void finish_stream(cudaStream_t stream);
/* Runs what is left on all streams but the device's own; was there anything? */
bool finish_others();
cudaStream_t stream_create();
void stream_destroy(cudaStream_t stream);
cudaEvent_t event_create();
void event_destroy(cudaEvent_t event);

/* From now on launches are recorded and not run; false: that was so already. */
bool capture_begin();
/* What was recorded; the caller's. */
std::vector<std::function<void()>> *capture_end();
bool is_capturing();

} // namespace emulated

#endif
