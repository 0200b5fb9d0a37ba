/* A plug-in whose variant is shorter than the header says. */
#include "tests/plugins/refused.h"

REFUSED_VARIANT(16, "qgemm_refused_short")
REFUSED_PLUGIN(sizeof(anemo_plugin), ANEMO_ABI_MAJOR)
