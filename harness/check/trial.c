/* Fenced buffers: see trial.h. The workspace is one more buffer, of exactly the size that the
 * variant asked for. */
#include "harness/check/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check_poison(void *memory, size_t bytes) {
    const uint32_t word = CHECK_POISON_WORD;
    unsigned char *to = memory;
    size_t done = bytes < sizeof word ? bytes : sizeof word;
    memcpy(to, &word, done);
    while (done < bytes) { /* what is there, once more: a multiple of the word until the last */
        const size_t more = done < bytes - done ? done : bytes - done;
        memcpy(to + done, to, more);
        done += more;
    }
}

void check_trial_begin(check_trial *trial, anemo_device *device) {
    *trial = (check_trial){.device = device};
}

static void *add(check_trial *trial, const char *name, check_role role, const void *content,
                 size_t bytes) {
    if (trial->n_buffers == trial->capacity) {
        const int32_t capacity = trial->capacity ? 2 * trial->capacity : 16;
        check_buffer *grown = realloc(trial->buffers, (size_t)capacity * sizeof *grown);
        if (!grown) {
            trial->no_memory = true;
            return NULL;
        }
        trial->buffers = grown;
        trial->capacity = capacity;
    }
    const size_t whole = bytes + 2 * CHECK_FENCE;
    check_buffer *buffer = &trial->buffers[trial->n_buffers++];
    *buffer = (check_buffer){.name = name, .role = role, .bytes = bytes};
    buffer->before = malloc(whole);
    buffer->after = malloc(whole);
    buffer->device = anemo_device_alloc(trial->device, ANEMO_MEM_STEP, whole);
    if (!buffer->before || !buffer->after || !buffer->device) {
        trial->no_memory = true;
        return NULL;
    }
    check_poison(buffer->before, whole);
    if (content && bytes)
        memcpy(buffer->before + CHECK_FENCE, content, bytes);
    if (anemo_device_upload(trial->device, buffer->device, buffer->before, whole) != ANEMO_OK)
        trial->no_memory = true;
    return buffer->device + CHECK_FENCE;
}

void *check_trial_in(check_trial *trial, const char *name, const void *content, size_t bytes) {
    return content ? add(trial, name, CHECK_IN, content, bytes) : NULL;
}

void *check_trial_inout(check_trial *trial, const char *name, const void *content, size_t bytes) {
    return add(trial, name, CHECK_INOUT, content, bytes);
}

void *check_trial_out(check_trial *trial, const char *name, size_t bytes) {
    return add(trial, name, CHECK_OUT, NULL, bytes);
}

const void *check_trial_weight(check_trial *trial, const char *layout_name,
                               const anemo_weight *weight) {
    if (!layout_name)
        return weight;
    const anemo_layout *layout = anemo_layout_find(layout_name);
    if (!layout) {
        snprintf(trial->fault, sizeof trial->fault, "layout '%s' is not registered", layout_name);
        return NULL;
    }
    const size_t bytes = layout->packed_bytes(&weight->type, weight->n, weight->k);
    void *packed = NULL;
    /* aligned as a device allocation would be: pack may use vector stores */
    if (posix_memalign(&packed, 64, bytes ? bytes : 64) != 0) {
        trial->no_memory = true;
        return NULL;
    }
    check_poison(packed, bytes);
    const void *payload = NULL;
    if (layout->pack(weight, 0, weight->n, packed) != ANEMO_OK)
        snprintf(trial->fault, sizeof trial->fault, "layout '%s' failed to pack", layout_name);
    else
        payload = add(trial, "packed weight", CHECK_IN, packed, bytes);
    free(packed);
    return payload;
}

static bool whole_fence(const unsigned char *fence) {
    unsigned char poison[CHECK_FENCE];
    check_poison(poison, sizeof poison);
    return memcmp(fence, poison, sizeof poison) == 0;
}

/* The pattern starts anew at the fence behind the payload only when bytes % 4 == 0. */
static bool fence_behind_whole(const check_buffer *buffer) {
    const size_t at = CHECK_FENCE + buffer->bytes;
    return memcmp(buffer->after + at, buffer->before + at, CHECK_FENCE) == 0;
}

static anemo_status look_for_damage(check_trial *trial) {
    for (int32_t i = 0; i < trial->n_buffers; i++) {
        check_buffer *buffer = &trial->buffers[i];
        const char *what = NULL;
        if (!whole_fence(buffer->after))
            what = "wrote before the start of";
        else if (!fence_behind_whole(buffer))
            what = "wrote past the end of";
        else if (buffer->role == CHECK_IN &&
                 memcmp(buffer->after + CHECK_FENCE, buffer->before + CHECK_FENCE, buffer->bytes))
            what = "changed its input";
        if (what) {
            snprintf(trial->fault, sizeof trial->fault, "%s %s (%zu bytes)", what, buffer->name,
                     buffer->bytes);
            return ANEMO_E_DEVICE;
        }
    }
    return ANEMO_OK;
}

static anemo_status download(check_trial *trial) {
    for (int32_t i = 0; i < trial->n_buffers; i++) {
        check_buffer *buffer = &trial->buffers[i];
        anemo_status status = anemo_device_download(trial->device, buffer->after, buffer->device,
                                                    buffer->bytes + 2 * CHECK_FENCE);
        if (status != ANEMO_OK)
            return status;
    }
    return anemo_device_synchronise(trial->device, NULL);
}

anemo_status check_trial_run(check_trial *trial, const anemo_variant *variant, const void *problem,
                             const void *args) {
    if (trial->fault[0])
        return ANEMO_E_INPUT;
    anemo_exec exec = anemo_device_exec(trial->device);
    if (variant->workspace_bytes)
        exec.workspace_bytes = variant->workspace_bytes(problem, exec.n_threads);
    if (exec.workspace_bytes)
        exec.workspace = add(trial, "workspace", CHECK_SCRATCH, NULL, exec.workspace_bytes);
    exec.mark = trial->mark;
    if (trial->no_memory) {
        snprintf(trial->fault, sizeof trial->fault, "no memory for the case's buffers");
        return ANEMO_E_MEMORY;
    }
    const anemo_status ran = variant->run(&exec, problem, args);
    anemo_error err = {{0}};
    anemo_status status = anemo_device_synchronise(trial->device, &err);
    if (status == ANEMO_OK)
        status = download(trial);
    if (status != ANEMO_OK) {
        snprintf(trial->fault, sizeof trial->fault, "device: %.160s",
                 err.text[0] ? err.text : anemo_status_name(status));
        return status;
    }
    status = look_for_damage(trial);
    if (status == ANEMO_OK && ran != ANEMO_OK)
        snprintf(trial->fault, sizeof trial->fault, "run returned %s", anemo_status_name(ran));
    return status == ANEMO_OK ? ran : status;
}

const void *check_trial_after(const check_trial *trial, const void *payload) {
    for (int32_t i = 0; i < trial->n_buffers; i++)
        if (trial->buffers[i].device + CHECK_FENCE == payload)
            return trial->buffers[i].after + CHECK_FENCE;
    return NULL;
}

void check_trial_end(check_trial *trial) {
    for (int32_t i = 0; i < trial->n_buffers; i++) {
        check_buffer *buffer = &trial->buffers[i];
        free(buffer->before);
        free(buffer->after);
        if (buffer->device)
            anemo_device_dealloc(trial->device, ANEMO_MEM_STEP, buffer->device,
                                 buffer->bytes + 2 * CHECK_FENCE);
    }
    free(trial->buffers);
    trial->buffers = NULL;
    trial->n_buffers = trial->capacity = 0;
}
