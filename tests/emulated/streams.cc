/* Streams and events of the emulated GPU.
 *
 * A call that the device does later (a launch, a copy, an event's record, a wait for one) is put
 * behind what its stream holds, and nothing runs before the host waits for a stream. Then the
 * stream's calls are run, and of others as many as CUDA would allow or demand: a wait holds its
 * stream back until the record that it was made behind has run, and nothing else does. Which stream
 * goes next is one of three orders, drawn each time: the one that the host waits for as far as it
 * comes, the others as far as they come, or any. So a stream that should have waited and did not
 * overtakes the other in one of them, and its result is wrong.
 *
 * A call is run whole: what two kernels do to each other while both run is not seen. */
#include "emulate.h"
#include "emulated_gpu.h"

#include <stdio.h>
#include <stdlib.h>

#include <deque>

enum emulated_call_kind { WORK, RECORD, WAIT };

struct emulated_call {
    emulated_call_kind kind;
    std::function<void()> work;
    cudaEvent_t event;
    uint64_t ticket; /* which of the event's records */
};

struct emulated_stream {
    std::deque<emulated_call> calls;
};

struct emulated_event {
    uint64_t recorded, done; /* records put into streams; the last that has run */
};

namespace emulated {
namespace {

enum { ORDERS = 3 };

emulated_stream own;
std::vector<emulated_stream *> streams(1, &own); /* the first: the device's own */
std::vector<std::function<void()>> *capturing;
uint64_t order_seed = 1;
int forced_order = -1;
int64_t waits, dropped_wait = -1;

emulated_stream *of(cudaStream_t stream) {
    return stream != nullptr ? stream : streams[0];
}

unsigned draw(unsigned below) {
    order_seed = order_seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((order_seed >> 33) % below);
}

/* Runs the first call of the stream, if it may. */
bool step(emulated_stream *stream) {
    if (stream->calls.empty()) {
        return false;
    }
    const emulated_call &head = stream->calls.front();
    if (head.kind == WAIT && head.event->done < head.ticket) {
        return false;
    }
    const emulated_call first = std::move(stream->calls.front());
    stream->calls.pop_front();
    if (first.kind == WORK) {
        first.work();
    } else if (first.kind == RECORD) {
        first.event->done = first.ticket;
    }
    return true;
}

/* Of any stream but this one, beginning with a drawn one. */
bool step_other(const emulated_stream *stream) {
    const size_t n = streams.size(), begin = draw((unsigned)n);
    for (size_t i = 0; i < n; i++) {
        emulated_stream *other = streams[(begin + i) % n];
        if (other != stream && step(other)) {
            return true;
        }
    }
    return false;
}

} // namespace

void in_stream(cudaStream_t stream, std::function<void()> work) {
    if (capturing != nullptr) {
        if (of(stream) != streams[0]) {
            fprintf(stderr, "emulated GPU: work on another stream during a capture\n");
            abort();
        }
        capturing->push_back(work);
    } else {
        of(stream)->calls.push_back({WORK, work, nullptr, 0});
    }
}

void finish_stream(cudaStream_t which) {
    emulated_stream *stream = of(which);
    const unsigned drawn = draw(ORDERS);
    const unsigned order = forced_order >= 0 ? (unsigned)forced_order : drawn;
    while (!stream->calls.empty()) {
        const bool other_first = order == 1 || (order == 2 && draw(2) != 0);
        const bool went =
            other_first ? step_other(stream) || step(stream) : step(stream) || step_other(stream);
        if (!went) { /* cannot be: a wait stands behind its record in the host's order */
            fprintf(stderr, "emulated GPU: streams wait for each other\n");
            abort();
        }
    }
}

bool finish_others() {
    bool any = false;
    while (step_other(streams[0])) {
        any = true;
    }
    return any;
}

cudaStream_t stream_create() {
    streams.push_back(new emulated_stream);
    return streams.back();
}

void stream_destroy(cudaStream_t stream) {
    finish_stream(stream);
    for (size_t i = 1; i < streams.size(); i++) {
        if (streams[i] == stream) {
            streams.erase(streams.begin() + (std::ptrdiff_t)i);
        }
    }
    delete stream;
}

cudaEvent_t event_create() {
    return new emulated_event();
}

void event_destroy(cudaEvent_t event) {
    delete event;
}

bool capture_begin() {
    if (capturing != nullptr) {
        return false;
    }
    capturing = new std::vector<std::function<void()>>;
    return true;
}

std::vector<std::function<void()>> *capture_end() {
    std::vector<std::function<void()>> *recorded = capturing;
    capturing = nullptr;
    return recorded;
}

bool is_capturing() {
    return capturing != nullptr;
}

} // namespace emulated

/* Forks of a capture are not emulated: nothing that anemo captures has one. */
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (emulated::is_capturing()) {
        return cudaErrorStreamCaptureUnsupported;
    }
    emulated::of(stream)->calls.push_back({RECORD, nullptr, event, ++event->recorded});
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (emulated::is_capturing()) {
        return cudaErrorStreamCaptureUnsupported;
    }
    if (emulated::waits++ != emulated::dropped_wait) {
        emulated::of(stream)->calls.push_back({WAIT, nullptr, event, event->recorded});
    }
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (emulated::is_capturing()) {
        return cudaErrorStreamCaptureUnsupported;
    }
    emulated::finish_stream(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *status) {
    *status =
        emulated::is_capturing() ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

void emulated_stream_order(int32_t order) {
    emulated::forced_order = order;
}

int32_t emulated_stream_orders(void) {
    return emulated::ORDERS;
}

int64_t emulated_waits(void) {
    return emulated::waits;
}

void emulated_drop_wait(int64_t index) {
    emulated::dropped_wait = index;
}
