/* Layouts: unpack(pack(W)) == W for every type and shape that the layout takes, packed_bytes is the
 * truth, and packing piece by piece in any order gives the same bytes as packing at once. */
#include "harness/check/internal.h"
#include "harness/check/weight.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One row as read_row and unpack give it. */
typedef struct decoded {
    float *values;
    uint8_t *codes;
    float *scales, *offsets;
    void *memory;
} decoded;

static bool decoded_create(decoded *row, int64_t k) {
    const size_t floats = (size_t)k * sizeof(float);
    unsigned char *at = row->memory = malloc(4 * floats);
    if (!at)
        return false;
    row->values = (float *)(void *)at;
    row->scales = (float *)(void *)(at + floats);
    row->offsets = (float *)(void *)(at + 2 * floats);
    row->codes = at + 3 * floats;
    return true;
}

static void compare_rows(const check_weight *w, const decoded *got, const decoded *want,
                         int64_t row, check_outcome *outcome) {
    const size_t k = (size_t)w->k, groups = (size_t)w->groups;
    const char *what = NULL;
    if (w->values)
        what = memcmp(got->values, want->values, k * sizeof(float)) ? "values" : NULL;
    else if (memcmp(got->codes, want->codes, k))
        what = "codes";
    else if (memcmp(got->scales, want->scales, groups * sizeof(float)))
        what = "scales";
    else if (w->offsets && memcmp(got->offsets, want->offsets, groups * sizeof(float)))
        what = "offsets";
    if (what)
        check_outcome_fail(outcome, INFINITY, "row %lld comes back with other %s", (long long)row,
                           what);
}

static void round_trip(const anemo_layout *layout, const check_weight *w, const void *packed,
                       decoded *got, decoded *want, check_outcome *outcome) {
    const anemo_weight *canonical = &w->canonical;
    for (int64_t row = 0; row < w->n && !outcome->failed; row++) {
        canonical->read_row(canonical, row, want->values, want->codes, want->scales, want->offsets);
        check_poison(got->memory, (size_t)w->k * 16);
        if (layout->unpack(&canonical->type, w->n, w->k, packed, row, got->values, got->codes,
                           got->scales, got->offsets) != ANEMO_OK)
            check_outcome_fail(outcome, INFINITY, "unpack of row %lld failed", (long long)row);
        else
            compare_rows(w, got, want, row, outcome);
    }
}

/* Blocks of rows from the last to the first, as threads might finish. */
static anemo_status pack_in_pieces(const anemo_layout *layout, const anemo_weight *weight,
                                   void *packed) {
    anemo_status status = ANEMO_OK;
    const int64_t blocks = (weight->n + layout->row_block - 1) / layout->row_block;
    for (int64_t b = blocks - 1; b >= 0 && status == ANEMO_OK; b--) {
        const int64_t begin = b * layout->row_block, end = begin + layout->row_block;
        status = layout->pack(weight, begin, end < weight->n ? end : weight->n, packed);
    }
    return status;
}

/* `memory`: two fenced areas of packed bytes, `stride` apart. */
static void pack_both_ways(const anemo_layout *layout, const check_weight *w, unsigned char *memory,
                           size_t bytes, size_t stride, check_outcome *outcome) {
    unsigned char fence[CHECK_FENCE], *whole = memory + CHECK_FENCE, *pieces = whole + stride;
    check_poison(fence, sizeof fence);
    check_poison(memory, 2 * stride);
    /* behind a payload the pattern has to start anew */
    memcpy(whole + bytes, fence, CHECK_FENCE);
    memcpy(pieces + bytes, fence, CHECK_FENCE);
    if (layout->pack(&w->canonical, 0, w->n, whole) != ANEMO_OK ||
        pack_in_pieces(layout, &w->canonical, pieces) != ANEMO_OK)
        check_outcome_fail(outcome, INFINITY, "pack failed");
    else if (memcmp(whole - CHECK_FENCE, fence, CHECK_FENCE) ||
             memcmp(pieces - CHECK_FENCE, fence, CHECK_FENCE))
        check_outcome_fail(outcome, INFINITY, "pack wrote before its memory");
    else if (memcmp(whole + bytes, fence, CHECK_FENCE) ||
             memcmp(pieces + bytes, fence, CHECK_FENCE))
        check_outcome_fail(outcome, INFINITY, "pack wrote past packed_bytes (%zu)", bytes);
    else if (memcmp(whole, pieces, bytes))
        check_outcome_fail(outcome, INFINITY, "packing block by block gives other bytes");
}

static anemo_status one_weight(const anemo_layout *layout, const check_weight *w,
                               check_outcome *outcome) {
    const size_t bytes = layout->packed_bytes(&w->canonical.type, w->n, w->k);
    const size_t stride = (bytes + 2 * CHECK_FENCE + 63) / 64 * 64;
    decoded got = {0}, want = {0};
    void *memory = NULL;
    anemo_status status = ANEMO_OK;
    if (!decoded_create(&got, w->k) || !decoded_create(&want, w->k) ||
        posix_memalign(&memory, 64, 2 * stride) != 0)
        status = ANEMO_E_MEMORY;
    if (status == ANEMO_OK) {
        pack_both_ways(layout, w, memory, bytes, stride, outcome);
        round_trip(layout, w, (unsigned char *)memory + CHECK_FENCE, &got, &want, outcome);
    }
    free(memory);
    free(got.memory);
    free(want.memory);
    return status;
}

static anemo_status one_case(check_session *session, const anemo_layout *layout,
                             anemo_check_line *line, const anemo_weight_type *type, int64_t n,
                             int64_t k, int32_t index) {
    char name[128], type_name[48], why[160] = "";
    snprintf(name, sizeof name, "%s n=%lld k=%lld",
             anemo_weight_type_name(type, type_name, sizeof type_name), (long long)n, (long long)k);
    if (!check_session_wants(session, name))
        return ANEMO_OK;
    if (!layout->accepts(type, n, k, why, sizeof why)) {
        check_session_take(session, line, name, ANEMO_CHECK_REFUSED, 0, why);
        return ANEMO_OK;
    }
    check_random random =
        check_random_seed(session->options->seed, ANEMO_OP_COUNT, (uint64_t)index);
    check_weight *w = check_weight_create(&random, type, n, k, 1 / sqrt((double)k));
    if (!w)
        return ANEMO_E_MEMORY;
    check_outcome outcome = {0};
    const anemo_status status = one_weight(layout, w, &outcome);
    check_weight_free(w);
    if (status == ANEMO_OK)
        check_session_take(session, line, name,
                           outcome.failed ? ANEMO_CHECK_FAIL : ANEMO_CHECK_PASS, outcome.error,
                           outcome.detail);
    return status;
}

enum { SHAPES = 5, DEPTHS = 10 };

int32_t check_layout_cases(void) {
    return check_weight_type_count() * SHAPES * DEPTHS;
}

anemo_status check_layout(check_session *session, const anemo_layout *layout,
                          anemo_check_line *line) {
    static const int64_t ks[DEPTHS] = {1, 16, 32, 48, 64, 96, 128, 160, 257, 384};
    const int64_t block = layout->row_block;
    const int64_t ns[SHAPES] = {1, block > 1 ? block - 1 : 3, block, block + 1, 2 * block + 3};
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; i < check_layout_cases() && status == ANEMO_OK; i++) {
        const anemo_weight_type type = check_weight_type_at(i / (SHAPES * DEPTHS));
        if (!session->stopped && !check_session_leaves_out(session, i))
            status =
                one_case(session, layout, line, &type, ns[i / DEPTHS % SHAPES], ks[i % DEPTHS], i);
    }
    return status;
}
