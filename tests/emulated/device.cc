/* The devices of an emulated GPU, in place of kernels/device_cuda.cu: cuda:0 is one of capability
 * 8.0, cuda:1 one of 9.0; the last that was made is the one in use. "Device memory" is memory of
 * the host in a range of its own: copies are refused when the pointer that should be the device's
 * lies outside every allocation, or the host's inside one, and while a graph is captured (the real
 * device's uploads come from pageable memory and may not be captured). Work runs when the host
 * waits for it (streams.cc): here, before a copy, with memory that is given back, and with
 * `synchronise`, which also says when work was left on another stream that nothing had waited for,
 * or cuBLAS with a part of the multiprocessors. */
#include "emulate.h"
#include "emulated_gpu.h"
#include "kernels/device_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <map>

namespace {

constexpr size_t LIBRARY_WORKSPACE_BYTES = 64 << 10;

struct emulated_device {
    anemo_device base; /* first */
    anemo_cuda_libraries libraries;
};

constexpr size_t HOST_BYTES = ANEMO_CUDA_HOST_WORDS * sizeof(int32_t);
constexpr unsigned char NOT_THERE_YET = 0xa5;

std::vector<const int32_t *> pinned; /* ANEMO_CUDA_HOST_WORDS each */

std::map<const unsigned char *, size_t> allocations;

bool on_device(const void *memory, size_t bytes) {
    const unsigned char *at = static_cast<const unsigned char *>(memory);
    auto next = allocations.upper_bound(at);
    if (next == allocations.begin()) {
        return false;
    }
    --next;
    return at + bytes <= next->first + next->second;
}

bool is_pinned(const void *memory, size_t bytes) {
    const auto *at = static_cast<const unsigned char *>(memory);
    for (const int32_t *words : pinned) {
        const auto *begin = reinterpret_cast<const unsigned char *>(words);
        if (at >= begin && at + bytes <= begin + HOST_BYTES) {
            return true;
        }
    }
    return false;
}

void create_side(anemo_cuda_libraries *l) {
    l->side = emulated::stream_create();
    for (int i = 0; i < 2; i++) {
        l->filled[i] = emulated::event_create();
        l->emptied[i] = emulated::event_create();
    }
    l->host_words = new int32_t[ANEMO_CUDA_HOST_WORDS];
    memset(l->host_words, NOT_THERE_YET, HOST_BYTES);
    pinned.push_back(l->host_words);
    l->multiprocessors = 16;
}

void *alloc(anemo_device *, size_t bytes) {
    void *memory = nullptr;
    if (posix_memalign(&memory, 256, bytes) != 0) {
        return nullptr;
    }
    memset(memory, 0, bytes);
    allocations[static_cast<unsigned char *>(memory)] = bytes;
    return memory;
}

void dealloc(anemo_device *, void *memory, size_t) {
    emulated::finish_stream(nullptr);
    allocations.erase(static_cast<unsigned char *>(memory));
    free(memory);
}

void destroy(anemo_device *device) {
    emulated_device *d = reinterpret_cast<emulated_device *>(device);
    emulated::finish_stream(nullptr);
    emulated::stream_destroy(d->libraries.side);
    for (int i = 0; i < 2; i++) {
        emulated::event_destroy(d->libraries.filled[i]);
        emulated::event_destroy(d->libraries.emptied[i]);
    }
    for (size_t i = 0; i < pinned.size(); i++) {
        if (pinned[i] == d->libraries.host_words) {
            pinned.erase(pinned.begin() + (std::ptrdiff_t)i);
        }
    }
    delete[] d->libraries.host_words;
    dealloc(device, d->libraries.workspace, d->libraries.workspace_bytes);
    delete d;
}

anemo_status copy_between(void *to, bool to_device, const void *from, bool from_device,
                          size_t bytes) {
    if (on_device(to, bytes) != to_device || on_device(from, bytes) != from_device ||
        emulated::is_capturing()) {
        fprintf(stderr, "emulated GPU: a copy of %zu bytes %s\n", bytes,
                emulated::is_capturing() ? "during a capture" : "from or to the wrong memory");
        return ANEMO_E_DEVICE;
    }
    emulated::finish_stream(nullptr);
    memmove(to, from, bytes);
    return ANEMO_OK;
}

anemo_status upload(anemo_device *, void *to, const void *from_host, size_t bytes) {
    return copy_between(to, true, from_host, false, bytes);
}

anemo_status download(anemo_device *, void *to_host, const void *from, size_t bytes) {
    return copy_between(to_host, false, from, true, bytes);
}

anemo_status copy(anemo_device *, void *to, const void *from, size_t bytes) {
    return copy_between(to, true, from, true, bytes);
}

anemo_status synchronise(anemo_device *, anemo_error *err) {
    if (emulated::is_capturing()) {
        return anemo_fail(err, ANEMO_E_DEVICE, "synchronised during a capture");
    }
    emulated::finish_stream(nullptr);
    const int target = emulated::multiprocessors_for_cublas;
    emulated::multiprocessors_for_cublas = 0;
    if (emulated::finish_others()) {
        return anemo_fail(err, ANEMO_E_DEVICE, "nothing had waited for the work of a stream");
    }
    return target == 0
               ? ANEMO_OK
               : anemo_fail(err, ANEMO_E_DEVICE, "cuBLAS was left with %d multiprocessors", target);
}

bool event_init(anemo_event *) {
    return true;
}

void event_destroy(anemo_event *) {
}

/* The time of an emulation is that of the processor at hand: it says nothing of a GPU, but what is
 * done with times can be tested. An event remembers how many graphs there were before it. */
int32_t graph_launches;
double graph_rate = 1;

anemo_status event_record(anemo_event *event) {
    struct timespec now;
    if (emulated::is_capturing()) {
        return ANEMO_E_DEVICE;
    }
    emulated::finish_stream(nullptr); /* an event comes behind what was launched before it */
    if (clock_gettime(CLOCK_MONOTONIC_RAW, &now) != 0) {
        return ANEMO_E_DEVICE;
    }
    event->time_ns = (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
    event->native = reinterpret_cast<void *>(static_cast<intptr_t>(graph_launches));
    return ANEMO_OK;
}

anemo_status event_elapsed_ns(anemo_event *start, anemo_event *stop, double *ns) {
    *ns = (stop->time_ns - start->time_ns) * (start->native == stop->native ? 1 : graph_rate);
    return ANEMO_OK;
}

anemo_status capture_begin(anemo_device *) {
    return emulated::capture_begin() ? ANEMO_OK : ANEMO_E_DEVICE;
}

anemo_status capture_end(anemo_device *, void **native, anemo_error *) {
    *native = emulated::capture_end();
    return *native != nullptr ? ANEMO_OK : ANEMO_E_DEVICE;
}

typedef std::vector<std::function<void()>> recording;

anemo_status graph_launch(anemo_device *, void *native) {
    graph_launches++;
    for (const std::function<void()> &work : *static_cast<recording *>(native)) {
        emulated::in_stream(nullptr, work);
    }
    return ANEMO_OK;
}

void graph_destroy(anemo_device *, void *native) {
    delete static_cast<recording *>(native);
}

const anemo_device_ops ops = {
    .destroy = destroy,
    .alloc = alloc,
    .dealloc = dealloc,
    .upload = upload,
    .download = download,
    .copy = copy,
    .synchronise = synchronise,
    .event_init = event_init,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_elapsed_ns = event_elapsed_ns,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_destroy = graph_destroy,
};

} // namespace

int emulated::multiprocessors_for_cublas;

/* To the host's pinned words: elsewhere CUDA waits behind the caller's back. What they held is gone
 * at once, so that reading them too soon shows. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (kind != cudaMemcpyDeviceToHost || !on_device(from, bytes) || !is_pinned(to, bytes)) {
        fprintf(stderr,
                "emulated GPU: an asynchronous copy of %zu bytes that is not from the "
                "device to pinned memory\n",
                bytes);
        return cudaErrorInvalidValue;
    }
    memset(to, NOT_THERE_YET, bytes);
    emulated::in_stream(stream, [=] { memmove(to, from, bytes); });
    return cudaSuccess;
}

int32_t emulated_graph_launches(void) {
    return graph_launches;
}

void emulated_graph_rate(double rate) {
    graph_rate = rate;
}

extern "C" anemo_status anemo_device_create_cuda(int32_t ordinal, anemo_device **out,
                                                 anemo_error *err) {
    *out = nullptr;
    static const int capabilities[] = {80, 90};
    if (ordinal < 0 || ordinal > 1) {
        return anemo_fail(err, ANEMO_E_INPUT, "device cuda:%d: emulated GPUs are cuda:0 and cuda:1",
                          ordinal);
    }
    emulated::use_capability(capabilities[ordinal]);
    emulated_device *d = new emulated_device();
    d->base.ops = &ops;
    d->base.backend = ANEMO_CUDA;
    d->base.capability = capabilities[ordinal];
    snprintf(d->base.name, sizeof d->base.name, "emulated GPU");
    snprintf(d->base.gpu.bus_id, sizeof d->base.gpu.bus_id, "0000:01:00.0");
    d->base.gpu.multiprocessors = 1;
    d->base.gpu.cuda_version = 13000;
    d->base.gpu.bus_bits = 5120;
    d->base.gpu.memory_hz = 1.2e9;
    d->base.gpu.multiprocessor_hz = 1.4e9;
    d->base.gpu.l2_bytes = 64 << 10; /* small, so that much is cold */
    d->base.exec.size = sizeof d->base.exec;
    d->base.exec.n_threads = 1;
    d->libraries.cublas = d; /* any handle but none */
    create_side(&d->libraries);
    d->libraries.cublaslt = d;
    d->libraries.workspace_bytes = LIBRARY_WORKSPACE_BYTES;
    d->libraries.workspace = alloc(&d->base, LIBRARY_WORKSPACE_BYTES);
    if (d->libraries.workspace == nullptr) {
        destroy(&d->base);
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a library workspace");
    }
    d->base.exec.libraries = &d->libraries;
    d->base.exec.world = 1;
    *out = &d->base;
    return ANEMO_OK;
}
