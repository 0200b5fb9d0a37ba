/* The CUDA variants as a plug-in of CPU variants: `anemo check --plugin cuda_emulated.so` holds
 * each against its definition, in the emulator. */
#undef ANEMO_HAVE_CUDA
#define ANEMO_HAVE_CUDA 1
#include "kernels/kernel.h"

#include <cstdio>
#include <vector>

/* All names of the lists; those that are not compiled into this plug-in are null, or, when the
 * program that loads it has them, no CUDA variants. */
#define ANEMO_VARIANT(name) extern "C" const anemo_variant anemo_##name __attribute__((weak));
#include "kernels/dense/variants.inc"
#include "kernels/moe/variants.inc"
#include "kernels/qgemm/variants.inc"
#include "kernels/swa/variants.inc"
#undef ANEMO_VARIANT

#define ANEMO_VARIANT(name) &anemo_##name,
static const anemo_variant *const candidates[] = {
#include "kernels/dense/variants.inc"
#include "kernels/moe/variants.inc"
#include "kernels/qgemm/variants.inc"
#include "kernels/swa/variants.inc"
};
#undef ANEMO_VARIANT

enum { MOST = 128, NAME_BYTES = 96 };

static char names[MOST][NAME_BYTES];
static anemo_variant variants[MOST];
static const anemo_variant *pointers[MOST];
static anemo_plugin plugin = {
    sizeof plugin, ANEMO_ABI_MAJOR, ANEMO_ABI_MINOR, "cuda_emulated", 0, 0, 0,
    pointers,      nullptr,         nullptr};

extern "C" __attribute__((visibility("default"))) const anemo_plugin *anemo_plugin_entry() {
    int32_t n = 0;
    for (const anemo_variant *v : candidates) {
        if (v != nullptr && v->backend == ANEMO_CUDA && n < MOST) {
            std::snprintf(names[n], sizeof names[n], "emulated_%s", v->name);
            variants[n] = *v;
            variants[n].name = names[n];
            variants[n].backend = ANEMO_CPU;
            variants[n].needs = anemo_needs();
            pointers[n] = &variants[n];
            n++;
        }
    }
    plugin.n_variants = n;
    return &plugin;
}
