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

/* The compute capability of the GPU in use from now on; decides what a launch may ask for. */
void use_capability(int capability);

/* For wgmma.cc. */
[[noreturn]] void fault(const char *what);
unsigned thread_index(); /* of the block */
size_t shared_bytes();   /* of the block's dynamic shared memory */
void wgmma_begin_block(size_t shared_bytes);
void wgmma_end_thread();
void wgmma_copy_begins(const void *to, size_t bytes); /* of cp.async */
void wgmma_copy_ends(const void *to, size_t bytes);   /* it has arrived */

} // namespace emulated

#endif
