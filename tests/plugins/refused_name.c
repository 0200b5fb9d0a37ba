/* A plug-in whose variant has the name of a built-in one. */
#include "tests/plugins/refused.h"

REFUSED_VARIANT(sizeof(anemo_variant), "qgemm_ref")
REFUSED_PLUGIN(sizeof(anemo_plugin), ANEMO_ABI_MAJOR)
