#include "harness/cli/run_routing.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

anemo_status anemo_run_routing_open(anemo_run_routing *r, const char *path,
                                    const anemo_model_info *info, anemo_error *err) {
    *r = (anemo_run_routing){.path = path};
    if (info->experts == 0) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--routing %s: %s has no experts; expected a mixture (Mixtral, gpt-oss, "
                          "...)",
                          path, info->name);
    }
    struct stat there;
    if (stat(path, &there) != 0 || S_ISREG(there.st_mode)) {
        const int n =
            snprintf(r->partial, sizeof r->partial, "%s.partial-%ld", path, (long)getpid());
        if (n < 0 || n >= (int)sizeof r->partial) {
            r->partial[0] = '\0';
            return anemo_fail(err, ANEMO_E_INPUT, "--routing: the name is too long");
        }
    }
    r->trace = anemo_route_trace_create();
    if (!r->trace) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a routing trace");
    }
    r->out = fopen(r->partial[0] ? r->partial : path, "w");
    return r->out ? ANEMO_OK
                  : anemo_fail(err, ANEMO_E_IO, "--routing %s: %s", path, strerror(errno));
}

anemo_status anemo_run_routing_close(anemo_run_routing *r, bool keep, const char *model,
                                     anemo_error *err) {
    anemo_status status = ANEMO_OK;
    if (r->out) {
        status = keep ? anemo_route_trace_write(r->trace, model, r->out, err) : ANEMO_OK;
        errno = 0;
        const bool sound = fflush(r->out) == 0 && !ferror(r->out);
        bool good = fclose(r->out) == 0 && sound && !status;
        if (good && keep && r->partial[0]) {
            good = rename(r->partial, r->path) == 0;
        }
        if (!good && !status) {
            status = anemo_fail(err, ANEMO_E_IO, "--routing %s: %s", r->path, strerror(errno));
        }
        if (r->partial[0] && (!keep || !good)) {
            unlink(r->partial);
        }
    }
    anemo_route_trace_free(r->trace);
    *r = (anemo_run_routing){0};
    return status;
}
