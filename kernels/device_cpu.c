/* The CPU device: a thread team and huge-page memory.
 *
 * Large allocations are mapped, 2 MiB aligned and advised to use huge pages, because a GEMV over
 * gigabytes of weights otherwise spends its time in TLB misses. Mapped memory is zero until
 * touched, so the thread that packs a row range also decides on which memory node it lies. Under
 * the sanitizers everything comes from the heap, so that an overrun is seen. */
#include "anemo_config.h"
#include "kernels/device_internal.h"
#include "kernels/exec_internal.h"
#include "kernels/internal.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

static bool mapped(size_t bytes) {
    return bytes >= HUGE_PAGE && !ANEMO_SANITIZE;
}

static size_t page_round(size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

/* Maps 2 MiB more than needed and gives back what lies outside the aligned range. */
static void *map_huge(size_t bytes) {
    const size_t size = page_round(bytes);
    char *raw =
        mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) {
        return NULL;
    }
    const size_t head = (HUGE_PAGE - (uintptr_t)raw % HUGE_PAGE) % HUGE_PAGE;
    if (head) {
        munmap(raw, head);
    }
    if (head < HUGE_PAGE) {
        munmap(raw + head + size, HUGE_PAGE - head);
    }
    madvise(raw + head, size, MADV_HUGEPAGE); /* advice: small pages also work */
    return raw + head;
}

static void *cpu_alloc(anemo_device *device, size_t bytes) {
    (void)device;
    if (mapped(bytes)) {
        return map_huge(bytes);
    }
    void *memory;
    if (posix_memalign(&memory, 64, bytes) != 0) {
        return NULL;
    }
    return memset(memory, 0, bytes);
}

static void cpu_dealloc(anemo_device *device, void *memory, size_t bytes) {
    (void)device;
    if (mapped(bytes)) {
        munmap(memory, page_round(bytes));
    } else {
        free(memory);
    }
}

static anemo_status cpu_copy(anemo_device *device, void *to, const void *from, size_t bytes) {
    (void)device;
    memcpy(to, from, bytes);
    return ANEMO_OK;
}

static anemo_status cpu_synchronise(anemo_device *device, anemo_error *err) {
    (void)device, (void)err;
    return ANEMO_OK;
}

static bool cpu_event_init(anemo_event *event) {
    (void)event;
    return true;
}

static void cpu_event_destroy(anemo_event *event) {
    (void)event;
}

static anemo_status cpu_event_record(anemo_event *event) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC_RAW, &now) != 0) {
        return ANEMO_E_DEVICE;
    }
    event->time_ns = (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
    return ANEMO_OK;
}

static anemo_status cpu_event_elapsed_ns(anemo_event *start, anemo_event *stop, double *ns) {
    *ns = stop->time_ns - start->time_ns;
    return ANEMO_OK;
}

static void cpu_destroy(anemo_device *device) {
    anemo_team_free(&device->exec);
    free(device);
}

static const anemo_device_ops cpu_ops = {
    .destroy = cpu_destroy,
    .alloc = cpu_alloc,
    .dealloc = cpu_dealloc,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .synchronise = cpu_synchronise,
    .event_init = cpu_event_init,
    .event_destroy = cpu_event_destroy,
    .event_record = cpu_event_record,
    .event_elapsed_ns = cpu_event_elapsed_ns,
};

anemo_status anemo_device_create_cpu(int32_t n_threads, const int32_t *cpus, anemo_device **out,
                                     anemo_error *err) {
    *out = NULL;
    const cpu_set_t allowed = anemo_unbound_mask();
    if (n_threads <= 0) {
        if (cpus) {
            return anemo_fail(err, ANEMO_E_INPUT, "a CPU list needs a number of threads");
        }
        n_threads = CPU_COUNT(&allowed);
    }
    for (int32_t i = 0; cpus && i < n_threads; i++) {
        if (cpus[i] < 0 || cpus[i] >= CPU_SETSIZE || !CPU_ISSET(cpus[i], &allowed)) {
            return anemo_fail(err, ANEMO_E_INPUT,
                              "thread %d: CPU %d is not among the %d CPUs this process may use", i,
                              cpus[i], CPU_COUNT(&allowed));
        }
    }
    anemo_device *device = calloc(1, sizeof *device);
    if (!device) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a device");
    }
    device->ops = &cpu_ops;
    device->backend = ANEMO_CPU;
    anemo_cpu_brand(device->name, sizeof device->name);
    device->exec = (anemo_exec){.size = sizeof(anemo_exec), .world = 1};
    const anemo_status status = anemo_team_create(n_threads, cpus, &device->exec, err);
    if (status != ANEMO_OK) {
        free(device);
        return status;
    }
    *out = device;
    return ANEMO_OK;
}
