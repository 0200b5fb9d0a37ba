/* Status names and the one way to write an error sentence. */
#include "kernels/internal.h"

#include <stdarg.h>
#include <stdio.h>

const char *anemo_status_name(anemo_status status) {
    switch (status) {
    case ANEMO_OK:
        return "ok";
    case ANEMO_E_INPUT:
        return "input";
    case ANEMO_E_UNSUPPORTED:
        return "unsupported";
    case ANEMO_E_MEMORY:
        return "memory";
    case ANEMO_E_DEVICE:
        return "device";
    case ANEMO_E_IO:
        return "io";
    case ANEMO_E_NUMERIC:
        return "numeric";
    case ANEMO_E_CANCELLED:
        return "cancelled";
    case ANEMO_E_LIBRARY:
        return "library";
    }
    return "unknown";
}

anemo_status anemo_fail(anemo_error *err, anemo_status status, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return status;
}

bool anemo_refuse(char *why, size_t why_bytes, const char *format, ...) {
    if (why && why_bytes) {
        va_list args;
        va_start(args, format);
        vsnprintf(why, why_bytes, format, args);
        va_end(args);
    }
    return false;
}
