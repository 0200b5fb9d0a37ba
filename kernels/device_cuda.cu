/* The CUDA device behind device.h: plain allocations (never managed memory), one stream and another
 * for work beside it (device_cuda.h), pinned staging by the driver, events, graph capture, and the
 * library handles with workspaces of their own, so that nothing allocates during a step or a
 * capture. Every call is checked; where there is no place for a sentence, the first call that
 * failed is kept, and `synchronise` names it. A launch that failed is found there, too: CUDA keeps
 * its error. */
#include "kernels/device_cuda.h"

#include <cstdlib>
#include <new>

namespace {

constexpr size_t LIBRARY_WORKSPACE_BYTES = 32u << 20; /* what cuBLAS recommends for Hopper */

struct cuda_device {
    anemo_device base; /* first */
    int ordinal;
    cudaStream_t stream;
    anemo_cuda_libraries libraries;
    const char *failed_call; /* the first since the last synchronise; NULL: none */
    cudaError_t failed_code;
};

cuda_device *of(anemo_device *device) {
    return reinterpret_cast<cuda_device *>(device);
}

anemo_status failed(anemo_error *err, const char *call, cudaError_t code) {
    const anemo_status status = code == cudaErrorMemoryAllocation ? ANEMO_E_MEMORY : ANEMO_E_DEVICE;
    return anemo_fail(err, status, "%s: %s (%s)", call, cudaGetErrorString(code),
                      cudaGetErrorName(code));
}

anemo_status checked(anemo_device *device, const char *call, cudaError_t code) {
    cuda_device *d = of(device);
    if (code != cudaSuccess && d->failed_call == nullptr) {
        d->failed_call = call;
        d->failed_code = code;
    }
    return code == cudaSuccess ? ANEMO_OK : ANEMO_E_DEVICE;
}

/* Whatever of it there is. */
void destroy_side(anemo_cuda_libraries *l) {
    for (int i = 0; i < 2; i++) {
        for (cudaEvent_t event : {l->filled[i], l->emptied[i]}) {
            if (event != nullptr) {
                cudaEventDestroy(event);
            }
        }
    }
    if (l->side != nullptr) {
        cudaStreamDestroy(l->side);
    }
    cudaFreeHost(l->host_words);
}

void destroy(anemo_device *device) {
    cuda_device *d = of(device);
    destroy_side(&d->libraries);
    if (d->libraries.cublas != nullptr) {
        cublasDestroy(d->libraries.cublas);
    }
    if (d->libraries.cublaslt != nullptr) {
        cublasLtDestroy(d->libraries.cublaslt);
    }
    cudaFree(d->libraries.workspace);
    if (d->stream != nullptr) {
        cudaStreamDestroy(d->stream);
    }
    delete d;
}

void *alloc(anemo_device *device, size_t bytes) {
    void *memory = nullptr;
    if (cudaMalloc(&memory, bytes) != cudaSuccess) {
        cudaGetLastError(); /* an allocation that fails leaves the device usable */
        return nullptr;
    }
    if (checked(device, "cudaMemsetAsync", cudaMemsetAsync(memory, 0, bytes, of(device)->stream)) !=
        ANEMO_OK) {
        cudaFree(memory);
        return nullptr;
    }
    return memory;
}

void dealloc(anemo_device *device, void *memory, size_t) {
    checked(device, "cudaStreamSynchronize", cudaStreamSynchronize(of(device)->stream));
    checked(device, "cudaFree", cudaFree(memory));
}

anemo_status copy_as(anemo_device *device, void *to, const void *from, size_t bytes,
                     cudaMemcpyKind kind) {
    return bytes == 0 ? ANEMO_OK
                      : checked(device, "cudaMemcpyAsync",
                                cudaMemcpyAsync(to, from, bytes, kind, of(device)->stream));
}

anemo_status upload(anemo_device *device, void *to, const void *from_host, size_t bytes) {
    return copy_as(device, to, from_host, bytes, cudaMemcpyHostToDevice);
}

anemo_status download(anemo_device *device, void *to_host, const void *from, size_t bytes) {
    return copy_as(device, to_host, from, bytes, cudaMemcpyDeviceToHost);
}

anemo_status copy(anemo_device *device, void *to, const void *from, size_t bytes) {
    return copy_as(device, to, from, bytes, cudaMemcpyDeviceToDevice);
}

anemo_status synchronise(anemo_device *device, anemo_error *err) {
    cuda_device *d = of(device);
    checked(device, "a kernel launch", cudaGetLastError());
    checked(device, "cudaStreamSynchronize", cudaStreamSynchronize(d->stream));
    const char *call = d->failed_call;
    d->failed_call = nullptr;
    return call == nullptr ? ANEMO_OK : failed(err, call, d->failed_code);
}

bool event_init(anemo_event *event) {
    cudaEvent_t native = nullptr;
    if (cudaEventCreate(&native) != cudaSuccess) {
        return false;
    }
    event->native = native;
    return true;
}

void event_destroy(anemo_event *event) {
    cudaEventDestroy(static_cast<cudaEvent_t>(event->native));
}

anemo_status event_record(anemo_event *event) {
    return checked(
        event->device, "cudaEventRecord",
        cudaEventRecord(static_cast<cudaEvent_t>(event->native), of(event->device)->stream));
}

anemo_status event_elapsed_ns(anemo_event *start, anemo_event *stop, double *ns) {
    float ms = 0.0f;
    cudaError_t code = cudaEventSynchronize(static_cast<cudaEvent_t>(stop->native));
    if (code == cudaSuccess) {
        code = cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(start->native),
                                    static_cast<cudaEvent_t>(stop->native));
    }
    *ns = (double)ms * 1e6;
    return checked(stop->device, "cudaEventElapsedTime", code);
}

anemo_status capture_begin(anemo_device *device) {
    return checked(device, "cudaStreamBeginCapture",
                   cudaStreamBeginCapture(of(device)->stream, cudaStreamCaptureModeThreadLocal));
}

anemo_status capture_end(anemo_device *device, void **native, anemo_error *err) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cudaError_t code = cudaStreamEndCapture(of(device)->stream, &graph);
    if (code != cudaSuccess) {
        return failed(err, "cudaStreamEndCapture", code);
    }
    code = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    if (code != cudaSuccess) {
        return failed(err, "cudaGraphInstantiate", code);
    }
    *native = executable;
    return ANEMO_OK;
}

anemo_status graph_launch(anemo_device *device, void *native) {
    return checked(device, "cudaGraphLaunch",
                   cudaGraphLaunch(static_cast<cudaGraphExec_t>(native), of(device)->stream));
}

void graph_destroy(anemo_device *, void *native) {
    cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(native));
}

const anemo_device_ops cuda_ops = {
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

/* The side stream with its events, and the pinned words. */
anemo_status open_side(anemo_cuda_libraries *l, anemo_error *err) {
    int least = 0, greatest = 0;
    cudaError_t code = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    if (code != cudaSuccess) {
        return failed(err, "cudaDeviceGetStreamPriorityRange", code);
    }
    code = cudaStreamCreateWithPriority(&l->side, cudaStreamNonBlocking, greatest);
    if (code != cudaSuccess) {
        return failed(err, "cudaStreamCreateWithPriority (side stream)", code);
    }
    for (int i = 0; i < 2; i++) {
        for (cudaEvent_t *event : {&l->filled[i], &l->emptied[i]}) {
            code = cudaEventCreateWithFlags(event, cudaEventDisableTiming);
            if (code != cudaSuccess) {
                return failed(err, "cudaEventCreateWithFlags (side stream)", code);
            }
        }
    }
    code = cudaMallocHost(&l->host_words, ANEMO_CUDA_HOST_WORDS * sizeof *l->host_words);
    return code == cudaSuccess ? ANEMO_OK : failed(err, "cudaMallocHost (pinned words)", code);
}

int attribute(cudaDeviceAttr which, int ordinal) {
    int value = 0;
    if (cudaDeviceGetAttribute(&value, which, ordinal) != cudaSuccess) {
        cudaGetLastError(); /* not told is no error */
        return 0;
    }
    return value;
}

anemo_gpu_facts facts_of(const cudaDeviceProp &properties, int ordinal) {
    anemo_gpu_facts facts = {};
    if (cudaDeviceGetPCIBusId(facts.bus_id, sizeof facts.bus_id, ordinal) != cudaSuccess) {
        cudaGetLastError();
        facts.bus_id[0] = '\0';
    }
    facts.multiprocessors = properties.multiProcessorCount;
    facts.bus_bits = attribute(cudaDevAttrGlobalMemoryBusWidth, ordinal);
    facts.memory_hz = 1e3 * attribute(cudaDevAttrMemoryClockRate, ordinal); /* told in kHz */
    facts.multiprocessor_hz = 1e3 * attribute(cudaDevAttrClockRate, ordinal);
    facts.l2_bytes = (size_t)attribute(cudaDevAttrL2CacheSize, ordinal);
    facts.memory_bytes = properties.totalGlobalMem;
    if (cudaDriverGetVersion(&facts.cuda_version) != cudaSuccess) {
        cudaGetLastError();
        facts.cuda_version = 0;
    }
    return facts;
}

/* Streams and libraries of a device whose ordinal is set. */
anemo_status open_device(cuda_device *d, anemo_error *err) {
    cudaError_t code = cudaSetDevice(d->ordinal);
    if (code != cudaSuccess) {
        return failed(err, "cudaSetDevice", code);
    }
    code = cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking);
    if (code != cudaSuccess) {
        return failed(err, "cudaStreamCreateWithFlags", code);
    }
    const anemo_status side = open_side(&d->libraries, err);
    if (side != ANEMO_OK) {
        return side;
    }
    code = cudaMalloc(&d->libraries.workspace, LIBRARY_WORKSPACE_BYTES);
    if (code != cudaSuccess) {
        return failed(err, "cudaMalloc (library workspace)", code);
    }
    d->libraries.workspace_bytes = LIBRARY_WORKSPACE_BYTES;
    cublasStatus_t blas = cublasCreate(&d->libraries.cublas);
    if (blas == CUBLAS_STATUS_SUCCESS) {
        blas = cublasSetStream(d->libraries.cublas, d->stream);
    }
    if (blas == CUBLAS_STATUS_SUCCESS) {
        blas = cublasSetWorkspace(d->libraries.cublas, d->libraries.workspace,
                                  LIBRARY_WORKSPACE_BYTES);
    }
    if (blas == CUBLAS_STATUS_SUCCESS) {
        blas = cublasLtCreate(&d->libraries.cublaslt);
    }
    if (blas != CUBLAS_STATUS_SUCCESS) {
        return anemo_fail(err, ANEMO_E_DEVICE, "cuBLAS: %s", cublasGetStatusString(blas));
    }
    return ANEMO_OK;
}

} // namespace

extern "C" anemo_status anemo_device_create_cuda(int32_t ordinal, anemo_device **out,
                                                 anemo_error *err) {
    *out = nullptr;
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "device cuda:%d: %s; --device cpu is accepted",
                          ordinal, cudaGetErrorString(code));
    }
    cudaDeviceProp properties;
    if (ordinal < 0 || ordinal >= count ||
        cudaGetDeviceProperties(&properties, ordinal) != cudaSuccess) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "device cuda:%d: there are %d GPUs; accepted: cuda:0 to cuda:%d", ordinal,
                          count, count - 1);
    }
    cuda_device *d = new (std::nothrow) cuda_device();
    if (d == nullptr) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a device");
    }
    d->base.ops = &cuda_ops;
    d->base.backend = ANEMO_CUDA;
    d->base.capability = 10 * properties.major + properties.minor;
    snprintf(d->base.name, sizeof d->base.name, "%.127s", properties.name);
    d->base.gpu = facts_of(properties, ordinal);
    d->ordinal = ordinal;
    d->libraries.multiprocessors = properties.multiProcessorCount;
    const anemo_status status = open_device(d, err);
    if (status != ANEMO_OK) {
        destroy(&d->base);
        return status;
    }
    d->base.exec.size = sizeof d->base.exec;
    d->base.exec.n_threads = 1;
    d->base.exec.stream = d->stream;
    d->base.exec.libraries = &d->libraries;
    d->base.exec.world = 1;
    *out = &d->base;
    return ANEMO_OK;
}
