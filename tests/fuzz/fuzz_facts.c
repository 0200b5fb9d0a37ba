/* Facts of `anemo verify`: the file is the input. What is accepted is then held against a tiny
 * model, so that a number believed too easily is a loop without end, an overflow or an access out
 * of bounds. */
#include "harness/verify/verify.h"
#include "tests/fuzz/read_all.h"

#include <string.h>
#include <sys/stat.h>

#define SOURCE ANEMO_TEST_DIR "/data/models/mistral-full/model-f32.gguf"
#define TEXT   "the words of a text that is long enough for a perplexity"

static char folder[64], model[128], text[128];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A model with float weights, whose published logits are compared, and a text. */
static void make_folder(void) {
    static uint8_t bytes[1 << 20];
    snprintf(folder, sizeof folder, "/dev/shm/anemo-fuzz-%ld", (long)getpid());
    snprintf(model, sizeof model, "%s/model.gguf", folder);
    snprintf(text, sizeof text, "%s/text", folder);
    mkdir(folder, 0700);
    FILE *f = fopen(SOURCE, "rb");
    if (!f)
        abort();
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    if (!fuzz_write(model, bytes, n) || !fuzz_write(text, TEXT, sizeof TEXT - 1))
        abort();
}

static void compare(const anemo_facts *facts) {
    static anemo_device *device;
    anemo_error error = {""};
    anemo_verify_report report;
    if (!device && anemo_device_create_cpu(1, NULL, &device, &error) != ANEMO_OK)
        abort();
    const anemo_verify_options options = {.path = model, .text = text};
    if (anemo_verify(&options, facts, device, &report, &error) != ANEMO_OK) {
        fprintf(stderr, "%s\n", error.text);
        abort(); /* a fact that does not apply is "not run" */
    }
    for (int32_t i = 0; i < report.n_lines; i++)
        if (!report.lines[i].published[0] || !report.lines[i].here[0])
            abort();
    anemo_verify_report_free(&report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char path[128];
    if (!folder[0])
        make_folder();
    snprintf(path, sizeof path, "%s/facts.jsonl", folder);
    anemo_facts facts;
    anemo_error error = {""};
    if (!fuzz_write(path, data, bytes))
        return 0;
    const anemo_status status = anemo_facts_load(path, &facts, &error);
    if (status == ANEMO_OK)
        compare(&facts);
    else if (status != ANEMO_E_INPUT || strncmp(error.text, path, strlen(path)))
        abort(); /* refused without a sentence that names the file */
    anemo_facts_free(&facts);
    return 0;
}
