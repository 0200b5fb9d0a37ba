/* KV pages: a pool of fixed-size pages with reference counts. A page number stands for that page in
 * every layer, so a session has one page table; where layers differ in their window, those without
 * one decide how long a page lives. */
#ifndef ANEMO_PAGES_H
#define ANEMO_PAGES_H

#include "kernels/device.h"

#define ANEMO_PAGE_TOKENS 64

typedef struct anemo_pages {
    anemo_device *device;
    int64_t n_layers;
    int32_t n_pages;
    size_t page_bytes; /* of one layer */
    char *pool;        /* [n_layers][n_pages][page_bytes] */
    int32_t *references;
    int32_t *free_list;
    int32_t n_free;
} anemo_pages;

anemo_status anemo_pages_create(anemo_device *device, int64_t n_layers, int32_t n_pages,
                                size_t page_bytes, anemo_pages *pages, anemo_error *err);
void anemo_pages_free(anemo_pages *pages);
void *anemo_pages_layer(const anemo_pages *pages, int64_t layer);
/* A page with one reference, or -1. */
int32_t anemo_pages_take(anemo_pages *pages);
void anemo_pages_share(anemo_pages *pages, int32_t page);
void anemo_pages_drop(anemo_pages *pages, int32_t page);
bool anemo_pages_shared(const anemo_pages *pages, int32_t page);
/* Copies a page in all layers. */
anemo_status anemo_pages_copy(anemo_pages *pages, int32_t to, int32_t from);

#endif
