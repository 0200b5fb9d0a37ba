/* Mapped files, safe text for sentences, and the tensor list: what every container needs. */
#include "models/formats/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------- sentences */

static void copy_printable(char *out, const char *text, size_t n) {
    for (size_t i = 0; i < n; ++i)
        out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
}

anemo_shown anemo_show_bytes(const void *bytes, size_t n) {
    anemo_shown shown;
    const size_t limit = 80, kept = n <= limit ? n : limit - 3;
    copy_printable(shown.text, bytes, kept);
    strcpy(shown.text + kept, n <= limit ? "" : "...");
    return shown;
}

anemo_shown anemo_show(const char *text) {
    return anemo_show_bytes(text, strlen(text));
}

anemo_shown anemo_show_shape(int32_t rank, const int64_t *shape) {
    char text[ANEMO_TENSOR_RANK * 22 + 3] = "[";
    size_t used = 1;
    for (int32_t i = 0; i < rank; ++i)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" PRId64, i ? ", " : "",
                                 shape[i]);
    text[used] = ']';
    text[used + 1] = '\0';
    return anemo_show(text);
}

anemo_shown_path anemo_show_path(const char *path) {
    anemo_shown_path shown;
    const size_t n = strlen(path), limit = sizeof shown.text - 1,
                 skipped = n > limit ? n - limit : 0;
    copy_printable(shown.text, path + skipped, n - skipped);
    shown.text[n - skipped] = '\0';
    return shown;
}

char *anemo_join_path(const char *directory, const char *name) {
    const size_t n = strlen(directory);
    const bool slash = n > 0 && directory[n - 1] != '/';
    char *path = malloc(n + strlen(name) + 2);
    if (path)
        sprintf(path, "%s%s%s", directory, slash ? "/" : "", name);
    return path;
}

/* ---------------------------------------------------------------- files */

static anemo_status refuse_file(const char *path, const char *what, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_INPUT, "%s: %s; accepted: a readable regular file",
                      anemo_show_path(path).text, what);
}

anemo_status anemo_map_open(const char *path, anemo_mapped_file *out, anemo_error *err) {
    memset(out, 0, sizeof *out);
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return refuse_file(path, strerror(errno), err);
    struct stat info;
    void *data = MAP_FAILED;
    const char *why = NULL;
    if (fstat(fd, &info) != 0)
        why = strerror(errno);
    else if (!S_ISREG(info.st_mode))
        why = "is not a regular file";
    else if (info.st_size == 0)
        why = "is empty";
    else if ((uintmax_t)info.st_size > SIZE_MAX / 2)
        why = "is too large to map";
    else if ((data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        why = strerror(errno);
    close(fd); /* the mapping stays */
    if (why)
        return refuse_file(path, why, err);
    out->path = strdup(anemo_show_path(path).text);
    out->data = data;
    out->bytes = (size_t)info.st_size;
    out->mtime_ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    if (!out->path) {
        anemo_map_close(out);
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", anemo_show_path(path).text);
    }
    anemo_map_expect(out, true); /* weights are read once, in order, when packed */
    return ANEMO_OK;
}

void anemo_map_expect(const anemo_mapped_file *file, bool in_order) {
    madvise((void *)(uintptr_t)file->data, file->bytes, in_order ? MADV_SEQUENTIAL : MADV_RANDOM);
}

void anemo_map_close(anemo_mapped_file *file) {
    if (file->data)
        munmap((void *)(uintptr_t)file->data, file->bytes);
    free(file->path);
    memset(file, 0, sizeof *file);
}

/* ---------------------------------------------------------------- tensors */

anemo_status anemo_tensors_add(anemo_tensors *tensors, const anemo_tensor *tensor, const char *name,
                               size_t name_bytes, anemo_error *err) {
    if (tensors->n == ANEMO_COUNT_LIMIT)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: more than %d tensors; accepted: at most as many",
                          tensor->path, ANEMO_COUNT_LIMIT);
    if (tensors->n == tensors->capacity) {
        const size_t capacity = tensors->capacity ? 2 * tensors->capacity : 64;
        anemo_tensor *items = realloc(tensors->items, capacity * sizeof *items);
        if (!items)
            return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", tensor->path);
        tensors->items = items;
        tensors->capacity = capacity;
    }
    anemo_tensor *item = &tensors->items[tensors->n];
    *item = *tensor;
    item->name = strndup(name, name_bytes);
    if (!item->name)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", tensor->path);
    ++tensors->n;
    return ANEMO_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const anemo_tensor *)a)->name, ((const anemo_tensor *)b)->name);
}

anemo_status anemo_tensors_index(anemo_tensors *tensors, anemo_error *err) {
    if (tensors->n > 1)
        qsort(tensors->items, tensors->n, sizeof *tensors->items, by_name);
    for (size_t i = 1; i < tensors->n; ++i)
        if (strcmp(tensors->items[i - 1].name, tensors->items[i].name) == 0)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: tensor %s is there twice (also in %s); accepted: each name once",
                              tensors->items[i].path, anemo_show(tensors->items[i].name).text,
                              tensors->items[i - 1].path);
    return ANEMO_OK;
}

anemo_tensor *anemo_tensors_find(const anemo_tensors *tensors, const char *name) {
    anemo_tensor key = {.name = (char *)(uintptr_t)name};
    return tensors->n ? bsearch(&key, tensors->items, tensors->n, sizeof *tensors->items, by_name)
                      : NULL;
}

static int by_position(const void *a, const void *b) {
    const anemo_tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

void anemo_tensors_by_position(anemo_tensor *items, size_t n) {
    if (n > 1)
        qsort(items, n, sizeof *items, by_position);
}

void anemo_tensors_free(anemo_tensors *tensors) {
    for (size_t i = 0; i < tensors->n; ++i)
        free(tensors->items[i].name);
    free(tensors->items);
    memset(tensors, 0, sizeof *tensors);
}
