/* A plug-in that needs a function nobody has. */
#include "kernels/kernel.h"

const anemo_plugin *somewhere_else(void);
const anemo_plugin *anemo_plugin_entry(void);
const anemo_plugin *anemo_plugin_entry(void) {
    return somewhere_else();
}
