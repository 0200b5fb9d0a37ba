/* A plug-in that has nothing to say. */
#include "kernels/kernel.h"

const anemo_plugin *anemo_plugin_entry(void);
const anemo_plugin *anemo_plugin_entry(void) {
    return NULL;
}
