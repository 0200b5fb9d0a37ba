/* safetensors: the input is model.safetensors of a tiny model, behind one byte that chooses the
 * config.json: plain, or one of the quantised forms of tests/data/quantised. */
#include "tests/fuzz/read_all.h"

#include <sys/stat.h>

static const char *const forms[] = {"gptq-v1",    "gptq-v2-act-order",  "gptq-8bit",
                                    "awq",        "ct-w4a16",           "ct-w4a16-act-order",
                                    "ct-w8a8",    "ct-w8a8-asymmetric", "ct-fp8",
                                    "fp8-blocks", "ct-w4a16-asymmetric"};
enum { FORMS = sizeof forms / sizeof *forms };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A folder for each form, with its config.json; the last has no quantization_config. */
static void make_folders(char folders[FORMS + 1][64]) {
    for (int i = 0; i <= FORMS; ++i) {
        char from[600], to[128];
        static char text[8192];
        snprintf(folders[i], 64, "/dev/shm/anemo-fuzz-%ld-%d", (long)getpid(), i);
        mkdir(folders[i], 0700);
        snprintf(from, sizeof from, ANEMO_TEST_DIR "/data/quantised/%s/config.json",
                 forms[i < FORMS ? i : 0]);
        snprintf(to, sizeof to, "%s/config.json", folders[i]);
        FILE *file = fopen(from, "rb");
        if (!file)
            abort();
        size_t n = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[n] = '\0';
        char *key = i < FORMS ? NULL : strstr(text, "\"quantization_config\"");
        if (key)
            key[1] = 'Q'; /* an unknown key, which is ignored */
        fuzz_write(to, text, n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static char folders[FORMS + 1][64];
    char path[128];
    if (!folders[0][0])
        make_folders(folders);
    if (bytes < 1)
        return 0;
    const char *folder = folders[data[0] % (FORMS + 1)];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (fuzz_write(path, data + 1, bytes - 1))
        fuzz_open(folder);
    return 0;
}
