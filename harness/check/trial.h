/* One run of one variant in a fenced room.
 *
 * Every buffer lies in backend memory between two fences of CHECK_FENCE bytes:
 *
 *     [ fence | payload | fence ]      payload aligned as anemo_device_alloc aligns
 *
 * Fences, outputs and workspace are filled with a pattern that is NaN as f32, f16 and bf16 and an
 * absurd number as an integer: what is read beside the payload, or before it was written, shows in
 * the result. After the run every fence must be whole and every input unchanged. */
#ifndef ANEMO_CHECK_TRIAL_H
#define ANEMO_CHECK_TRIAL_H

#include "kernels/device.h"
#include "kernels/kernel.h"

enum { CHECK_FENCE = 256 };
#define CHECK_POISON_WORD 0xFFA5FFA5u

typedef enum check_role { CHECK_IN, CHECK_INOUT, CHECK_OUT, CHECK_SCRATCH } check_role;

typedef struct check_buffer {
    const char *name;
    check_role role;
    size_t bytes;
    unsigned char *before; /* host: fence, payload, fence as uploaded */
    unsigned char *after;  /* host: the same, downloaded after the run */
    unsigned char *device;
} check_buffer;

typedef struct check_trial {
    anemo_device *device;
    check_buffer *buffers;
    int32_t n_buffers, capacity;
    bool no_memory;
    void (*mark)(const anemo_exec *exec, int32_t phase); /* handed to the variant; may be NULL */
    char fault[224];                                     /* what went wrong, in a sentence */
} check_trial;

void check_poison(void *memory, size_t bytes);

void check_trial_begin(check_trial *trial, anemo_device *device);
/* Each gives the payload's address in backend memory (never NULL unless memory is short, which
 * check_trial_run then reports). A NULL content with CHECK_IN means "no such argument" and gives
 * NULL. `name` must outlive the trial. */
void *check_trial_in(check_trial *trial, const char *name, const void *content, size_t bytes);
void *check_trial_inout(check_trial *trial, const char *name, const void *content, size_t bytes);
void *check_trial_out(check_trial *trial, const char *name, size_t bytes);
/* The weight as the variant wants it: the canonical struct itself, or packed by its layout. */
const void *check_trial_weight(check_trial *trial, const char *layout, const anemo_weight *weight);

/* Runs with exactly workspace_bytes() of workspace. ANEMO_OK: the variant returned OK, the fences
 * are whole and the inputs unchanged; else trial->fault says what happened. ANEMO_E_DEVICE: a fence
 * is broken or an input changed, whatever the variant returned; other errors are the variant's. */
anemo_status check_trial_run(check_trial *trial, const anemo_variant *variant, const void *problem,
                             const void *args);
/* Host view of a payload after the run, by its backend address. */
const void *check_trial_after(const check_trial *trial, const void *payload);
void check_trial_end(check_trial *trial);

#endif
