/* A plug-in of another major version. */
#include "tests/plugins/refused.h"

REFUSED_VARIANT(sizeof(anemo_variant), "qgemm_refused_abi")
REFUSED_PLUGIN(sizeof(anemo_plugin), ANEMO_ABI_MAJOR + 1)
