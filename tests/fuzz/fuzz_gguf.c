/* GGUF: the whole file is the input. */
#include "tests/fuzz/read_all.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static char path[64];
    if (!path[0])
        snprintf(path, sizeof path, "/dev/shm/anemo-fuzz-%ld.gguf", (long)getpid());
    if (fuzz_write(path, data, bytes))
        fuzz_open(path);
    unlink(path);
    return 0;
}
