/* Loads a plug-in: a shared object with the one symbol ANEMO_PLUGIN_SYMBOL (kernels/kernel.h). */
#ifndef ANEMO_CLI_PLUGIN_H
#define ANEMO_CLI_PLUGIN_H

#include "kernels/kernel.h"

/* Opens `path`, checks its ABI and registers what it brings; it stays loaded until the process
 * ends. Refused, with one sentence and nothing registered: a missing file, a file that is no shared
 * object, a missing symbol, another ABI major number, a name that is taken. ANEMO_E_INPUT. */
anemo_status anemo_plugin_load(const char *path, anemo_error *err);

#endif
