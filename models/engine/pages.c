#include "models/engine/pages.h"

#include <stdlib.h>
#include <string.h>

anemo_status anemo_pages_create(anemo_device *device, int64_t n_layers, int32_t n_pages,
                                size_t page_bytes, anemo_pages *pages, anemo_error *err) {
    memset(pages, 0, sizeof *pages);
    pages->device = device;
    pages->n_layers = n_layers;
    pages->n_pages = n_pages;
    pages->page_bytes = page_bytes;
    const size_t bytes = (size_t)n_layers * (size_t)n_pages * page_bytes;
    pages->pool = anemo_device_alloc(device, ANEMO_MEM_KV, bytes);
    pages->references = calloc((size_t)n_pages, sizeof *pages->references);
    pages->free_list = calloc((size_t)n_pages, sizeof *pages->free_list);
    if (pages->pool == NULL || pages->references == NULL || pages->free_list == NULL) {
        anemo_pages_free(pages);
        return anemo_fail(
            err, ANEMO_E_MEMORY,
            "no memory for %d KV pages of %zu bytes in %lld layers (%.1f MiB); lower the context "
            "or the number of sessions",
            n_pages, page_bytes, (long long)n_layers, (double)bytes / 1048576.0);
    }
    for (int32_t i = 0; i < n_pages; i++) {
        pages->free_list[i] = n_pages - 1 - i; /* low page numbers first */
    }
    pages->n_free = n_pages;
    return ANEMO_OK;
}

void anemo_pages_free(anemo_pages *pages) {
    if (pages->pool != NULL) {
        anemo_device_dealloc(pages->device, ANEMO_MEM_KV, pages->pool,
                             (size_t)pages->n_layers * (size_t)pages->n_pages * pages->page_bytes);
    }
    free(pages->references);
    free(pages->free_list);
    memset(pages, 0, sizeof *pages);
}

void *anemo_pages_layer(const anemo_pages *pages, int64_t layer) {
    return pages->pool + (size_t)layer * (size_t)pages->n_pages * pages->page_bytes;
}

int32_t anemo_pages_take(anemo_pages *pages) {
    if (pages->n_free == 0) {
        return -1;
    }
    const int32_t page = pages->free_list[--pages->n_free];
    pages->references[page] = 1;
    return page;
}

void anemo_pages_share(anemo_pages *pages, int32_t page) {
    pages->references[page]++;
}

void anemo_pages_drop(anemo_pages *pages, int32_t page) {
    if (--pages->references[page] == 0) {
        pages->free_list[pages->n_free++] = page;
    }
}

bool anemo_pages_shared(const anemo_pages *pages, int32_t page) {
    return pages->references[page] > 1;
}

anemo_status anemo_pages_copy(anemo_pages *pages, int32_t to, int32_t from) {
    anemo_status status = ANEMO_OK;
    for (int64_t layer = 0; layer < pages->n_layers && status == ANEMO_OK; layer++) {
        char *base = anemo_pages_layer(pages, layer);
        status = anemo_device_copy(pages->device, base + (size_t)to * pages->page_bytes,
                                   base + (size_t)from * pages->page_bytes, pages->page_bytes);
    }
    return status;
}
