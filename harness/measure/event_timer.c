#include "harness/measure/event_timer.h"

#include <math.h>
#include <stdlib.h>

enum { EMPTY_STRETCHES = 21 };
#define RESOLUTION_NS 500.0 /* of cudaEventElapsedTime, by its documentation */
#define LEAST_NS      1e6   /* 2000 of its steps */

typedef struct event_pair {
    anemo_device *device;
    anemo_event *begin, *end;
} event_pair;

static anemo_status failed(event_pair *pair, anemo_status status, anemo_error *err) {
    const anemo_status waited = anemo_device_synchronise(pair->device, err);
    return waited ? waited
                  : anemo_fail(err, status, "an event of %s: %s", anemo_device_name(pair->device),
                               anemo_status_name(status));
}

static anemo_status begin(void *ctx, anemo_error *err) {
    event_pair *pair = ctx;
    const anemo_status status = anemo_event_record(pair->device, pair->begin);
    return status ? failed(pair, status, err) : ANEMO_OK;
}

/* Also finds what went wrong in between. */
static anemo_status end(void *ctx, double *ns, anemo_error *err) {
    event_pair *pair = ctx;
    anemo_status status = anemo_event_record(pair->device, pair->end);
    status = status ? status : anemo_event_elapsed_ns(pair->begin, pair->end, ns);
    if (status) {
        return failed(pair, status, err);
    }
    return anemo_device_synchronise(pair->device, err);
}

static anemo_status measure_empty(anemo_timer *timer, anemo_error *err) {
    double ns[EMPTY_STRETCHES];
    anemo_status status = ANEMO_OK;
    for (int i = 0; !status && i < EMPTY_STRETCHES; i++) {
        status = timer->begin(timer->ctx, err);
        status = status ? status : timer->end(timer->ctx, &ns[i], err);
    }
    if (!status) {
        anemo_stats_sort(ns, EMPTY_STRETCHES);
        timer->quality.overhead_ns = fmax(0, anemo_stats_quantile(ns, EMPTY_STRETCHES, 0.5));
    }
    return status;
}

anemo_status anemo_event_timer_open(anemo_device *device, anemo_timer *out, anemo_error *err) {
    event_pair *pair = calloc(1, sizeof *pair);
    *out = (anemo_timer){.name = "device events",
                         .begin = begin,
                         .end = end,
                         .ctx = pair,
                         .quality = {.resolution_ns = RESOLUTION_NS},
                         .least_ns = LEAST_NS};
    if (pair) {
        pair->device = device;
        pair->begin = anemo_event_create(device);
        pair->end = anemo_event_create(device);
    }
    const anemo_status status = pair && pair->begin && pair->end
                                    ? measure_empty(out, err)
                                    : anemo_fail(err, ANEMO_E_MEMORY, "no memory for events");
    if (status) {
        anemo_event_timer_close(out);
    }
    return status;
}

void anemo_event_timer_close(anemo_timer *timer) {
    event_pair *pair = timer->ctx;
    if (pair) {
        anemo_event_free(pair->begin);
        anemo_event_free(pair->end);
        free(pair);
    }
    *timer = (anemo_timer){0};
}
