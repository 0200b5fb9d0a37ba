/* For plug-ins that must be refused: one right variant, and a plug-in struct to spoil. */
#ifndef ANEMO_TEST_REFUSED_H
#define ANEMO_TEST_REFUSED_H

#include "kernels/kernel.h"

static inline bool refused_accepts(const void *problem, char *why, size_t why_bytes) {
    (void)problem, (void)why, (void)why_bytes;
    return true;
}
static inline size_t refused_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}
static inline anemo_status refused_run(const anemo_exec *exec, const void *problem,
                                       const void *args) {
    (void)exec, (void)problem, (void)args;
    return ANEMO_OK;
}

#define REFUSED_VARIANT(the_size, the_name)                                                        \
    static const anemo_variant variant = {.size = the_size,                                        \
                                          .name = the_name,                                        \
                                          .op = ANEMO_OP_QGEMM,                                    \
                                          .accepts = refused_accepts,                              \
                                          .workspace_bytes = refused_workspace,                    \
                                          .run = refused_run};                                     \
    static const anemo_variant *const variants[] = {&variant};
#define REFUSED_PLUGIN(the_size, major)                                                            \
    static const anemo_plugin plugin = {.size = the_size,                                          \
                                        .abi_major = major,                                        \
                                        .name = "refused",                                         \
                                        .n_variants = 1,                                           \
                                        .variants = variants};                                     \
    const anemo_plugin *anemo_plugin_entry(void);                                                  \
    const anemo_plugin *anemo_plugin_entry(void) {                                                 \
        return &plugin;                                                                            \
    }

#endif
