/* `anemo run --routing FILE`: the file of a routing trace, there only when it is whole. */
#ifndef ANEMO_CLI_RUN_ROUTING_H
#define ANEMO_CLI_RUN_ROUTING_H

#include "harness/measure/route_watch.h"

typedef struct anemo_run_routing {
    const char *path;
    char partial[4096 + 32]; /* "": written in place, as a pipe must be */
    FILE *out;
    anemo_route_trace *trace;
} anemo_run_routing;

/* Opens the file before anything is run. ANEMO_E_IO: it cannot be written; ANEMO_E_INPUT: the model
 * has no routers. */
anemo_status anemo_run_routing_open(anemo_run_routing *routing, const char *path,
                                    const anemo_model_info *info, anemo_error *err);
/* Writes what was seen; with `keep` false, or when writing fails, there is no file. Nothing when it
 * was not opened. */
anemo_status anemo_run_routing_close(anemo_run_routing *routing, bool keep, const char *model,
                                     anemo_error *err);

#endif
