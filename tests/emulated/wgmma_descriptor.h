/* What a matrix descriptor of wgmma means, written from the PTX ISA ("Matrix Descriptor Format",
 * "Shared Memory Matrix Layout"), apart from the kernel's own functions: for the emulated GPU and
 * the test of those functions. K-major matrices with the 128-byte swizzle. */
#ifndef ANEMO_WGMMA_DESCRIPTOR_H
#define ANEMO_WGMMA_DESCRIPTOR_H

#include <stddef.h>
#include <stdint.h>

typedef struct wgmma_matrix {
    uint32_t start, rows_8; /* bytes: the first element, from 8 rows to the next 8 */
} wgmma_matrix;

/* NULL, or what is wrong with it. */
static inline const char *wgmma_descriptor_read(uint64_t descriptor, wgmma_matrix *matrix) {
    matrix->start = (uint32_t)(descriptor & 0x3fff) << 4;
    matrix->rows_8 = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    if (descriptor >> 62 != 1) {
        return "a matrix without the 128-byte swizzle";
    }
    if ((descriptor >> 49 & 7) != 0 || (matrix->start & 0x380) != 0) {
        return "a swizzled matrix whose pattern does not begin at a multiple of 1024 bytes";
    }
    if (matrix->rows_8 % 1024 != 0 || matrix->rows_8 == 0) {
        return "rows of a swizzled matrix that are not whole patterns apart";
    }
    if ((matrix->start & 0x7f) > 0x60) {
        return "16 columns that cross the end of a swizzled row";
    }
    if ((descriptor >> 16 & 0x3fff) != 1) {
        return "a leading dimension that is not 1, as a swizzled matrix has it";
    }
    if ((descriptor & 0xc001c000c000c000u & ~((uint64_t)3 << 62)) != 0) {
        return "a descriptor with bits that mean nothing";
    }
    return NULL;
}

/* Shared address of bf16 element (row, k): bits 4..6 of an address are exchanged by bits 7..9. */
static inline uint32_t wgmma_element_at(const wgmma_matrix *matrix, uint32_t row, uint32_t k) {
    const uint32_t at = matrix->start + row / 8 * matrix->rows_8 + row % 8 * 128 + 2 * k;
    return at ^ (at >> 7 & 7) << 4;
}

#endif
