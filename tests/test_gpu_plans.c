/* The index arithmetic of the CUDA kernels, on the host, exhaustively: spans of keys, tiles and
 * pieces of expert rows. Each cut must cover what it cuts once and in order, and stay within what
 * workspaces and launches were sized for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/moe/pieces.h"
#include "kernels/moe/tiles.h"
#include "kernels/swa/spans.h"

#include <stdlib.h>

/* Every row that sees first .. position, around each multiple of a span. */
static void spans_cover_the_keys(void **state) {
    const int64_t context = 5 * SWA_SPAN;
    int64_t cases = 0;
    (void)state;
    for (int64_t position = 0; position < context; position++)
        for (int64_t first = 0; first <= position; first += 1 + (position - first) % 3) {
            const int64_t n = swa_span_count(first, position);
            int64_t next = first;
            for (int64_t i = 0; i < n; i++) {
                const swa_span span = swa_span_at(first, position, i);
                if (span.begin != next || span.end <= span.begin ||
                    span.end - span.begin > SWA_SPAN ||
                    span.begin / SWA_SPAN != (span.end - 1) / SWA_SPAN)
                    fail_msg("span %lld of keys %lld..%lld is %lld..%lld", (long long)i,
                             (long long)first, (long long)position, (long long)span.begin,
                             (long long)span.end);
                next = span.end;
            }
            assert_int_equal(next, position + 1);
            cases++;
        }
    print_message("%lld ranges of keys\n", (long long)cases);
    assert_true(cases > 100000);
}

/* No row has more spans than the workspace and the launch allow for, and some row has as many. */
static void spans_fit_their_bound(void **state) {
    static const int64_t contexts[] = {1, 2, 255, 256, 257, 511, 512, 513, 1000, 2000};
    int64_t cases = 0;
    (void)state;
    for (size_t c = 0; c < sizeof contexts / sizeof *contexts; c++)
        for (int64_t window = 0; window <= contexts[c] + 1; window++) {
            const int64_t bound = swa_spans_max(window, contexts[c]);
            int64_t most = 0;
            for (int64_t position = 0; position < contexts[c]; position++) {
                const int64_t first = window > 0 && position >= window ? position - window + 1 : 0;
                most = max_i64(most, swa_span_count(first, position));
            }
            if (most > bound || (bound > most + 1))
                fail_msg("window %lld, context %lld: %lld spans, the bound is %lld",
                         (long long)window, (long long)contexts[c], (long long)most,
                         (long long)bound);
            cases++;
        }
    print_message("%lld windows\n", (long long)cases);
    assert_true(cases > 5000);
}

/* The workspace: every (row, head, span) has its own place, and all lie within. */
static void partial_results_do_not_overlap(void **state) {
    int64_t cases = 0;
    (void)state;
    for (int64_t spans = 1; spans <= 3000; spans = spans * 2 + 1)
        for (int64_t rows_max = 1; rows_max <= 5000; rows_max = rows_max * 3 + 1) {
            const int32_t heads = 3, d = 8;
            const int64_t rows = swa_split_rows(spans, rows_max);
            assert_true(rows >= 1 && rows <= rows_max && rows <= SWA_SPLIT_ROWS);
            assert_true(rows == 1 || rows * spans <= SWA_SPLIT_SPANS);
            int64_t next = 0;
            for (int64_t r = 0; r < rows; r++)
                for (int32_t h = 0; h < heads; h++)
                    for (int64_t i = 0; i < spans; i++, next += d + 2, cases++)
                        assert_int_equal(swa_partial_at(r, heads, h, spans, i, d), next);
            assert_int_equal(swa_partial_at(rows, heads, 0, spans, 0, d), next);
        }
    print_message("%lld places\n", (long long)cases);
    assert_true(cases > 50000);
}

/* The tiles of one plan: every row of the range once, in order, none across experts. */
static void check_tiles(const int32_t *offset, int32_t n_experts, int32_t begin, int32_t end,
                        int32_t tile_rows) {
    int32_t next = offset[begin];
    int64_t n = 0;
    for (moe_tile t; (t = moe_tile_at(offset, begin, end, tile_rows, n)).expert >= 0; n++) {
        assert_true(t.expert >= begin && t.expert < end);
        assert_int_equal(t.row_begin, next);
        assert_true(t.row_end > t.row_begin && t.row_end - t.row_begin <= tile_rows);
        assert_true(t.row_begin >= offset[t.expert] && t.row_end <= offset[t.expert + 1]);
        next = t.row_end;
    }
    assert_int_equal(next, offset[end]);
    assert_true(n <= moe_tiles_max(offset[n_experts], end - begin, tile_rows));
}

/* Every way in which up to 12 rows fall on 4 experts, every range of experts. */
static void tiles_cover_the_rows(void **state) {
    enum { EXPERTS = 4, ROWS = 12 };
    int64_t cases = 0;
    (void)state;
    for (int code = 0; code < (ROWS + 1) * (ROWS + 1) * (ROWS + 1) * (ROWS + 1); code++) {
        int32_t offset[EXPERTS + 1] = {0};
        for (int e = 0, rest = code; e < EXPERTS; e++, rest /= ROWS + 1)
            offset[e + 1] = offset[e] + rest % (ROWS + 1);
        for (int32_t tile_rows = 1; tile_rows <= 8; tile_rows *= 2)
            for (int32_t begin = 0; begin <= EXPERTS; begin++)
                for (int32_t end = begin; end <= EXPERTS; end += 1 + code % 2, cases++)
                    check_tiles(offset, EXPERTS, begin, end, tile_rows);
    }
    print_message("%lld plans\n", (long long)cases);
    assert_true(cases > 1000000);
}

/* The bound is reached: as many experts as possible have one row, the others' rows are in one. */
static void the_bound_of_tiles_is_reached(void **state) {
    (void)state;
    for (int32_t rows = 1; rows <= 200; rows++)
        for (int32_t experts = 1; experts <= 64; experts++) {
            int32_t offset[65] = {0};
            for (int32_t e = 0; e < experts; e++) {
                const int32_t rest = rows - min_i64(rows, experts);
                offset[e + 1] = offset[e] + (e < rows) + (e == 0 ? rest : 0);
            }
            assert_int_equal(offset[experts], rows);
            const int64_t bound = moe_tiles_max(rows, experts, 8);
            assert_true(moe_tile_at(offset, 0, experts, 8, bound).expert < 0);
            assert_true(moe_tile_at(offset, 0, experts, 8, bound - 1).expert >= 0);
        }
}

/* ---------------------------------------------------------------- pieces */

/* The products of one plan: gate, up, down of each piece, every row of the range once and in order,
 * pieces of an expert as long as each other, and no more of them than its rows need. */
static void check_products(const int32_t *offset, int32_t begin, int32_t end) {
    moe_product p = moe_products_of(begin);
    int32_t next = offset[begin], shortest = 0, longest = 0, pieces = 0, expert = -1;
    while (moe_product_next(offset, end, &p)) {
        assert_int_equal(p.matrix, MOE_GATE);
        assert_true(p.expert >= begin && p.expert < end && p.rows >= 1);
        assert_true(p.rows <= MOE_PIECE_ROWS && p.row_begin == next);
        assert_true(p.row_begin >= offset[p.expert] &&
                    p.row_begin + p.rows <= offset[p.expert + 1]);
        next += p.rows;
        if (p.expert != expert) {
            expert = p.expert;
            shortest = longest = p.rows;
            pieces = 0;
        }
        shortest = p.rows < shortest ? p.rows : shortest;
        longest = p.rows > longest ? p.rows : longest;
        pieces++;
        assert_true(longest - shortest <= 1);
        assert_true(pieces <= (offset[expert + 1] - offset[expert] - 1) / MOE_PIECE_ROWS + 1);
        const moe_product gate = p;
        for (int32_t matrix = MOE_UP; matrix <= MOE_DOWN; matrix++) {
            assert_true(moe_product_next(offset, end, &p));
            assert_int_equal(p.matrix, matrix);
            assert_true(p.expert == gate.expert && p.row_begin == gate.row_begin &&
                        p.rows == gate.rows);
        }
    }
    assert_int_equal(next, offset[end]);
}

/* Experts without rows, with few, and around each multiple of a piece; every range. */
static void pieces_cover_the_rows(void **state) {
    static const int32_t rows[] = {0,
                                   1,
                                   17,
                                   MOE_PIECE_ROWS - 1,
                                   MOE_PIECE_ROWS,
                                   MOE_PIECE_ROWS + 1,
                                   2 * MOE_PIECE_ROWS - 1,
                                   2 * MOE_PIECE_ROWS,
                                   2 * MOE_PIECE_ROWS + 1,
                                   7 * MOE_PIECE_ROWS + 5};
    enum { EXPERTS = 4, KINDS = sizeof rows / sizeof *rows };
    int64_t cases = 0;
    (void)state;
    for (int code = 0; code < KINDS * KINDS * KINDS * KINDS; code++) {
        int32_t offset[EXPERTS + 1] = {0};
        for (int e = 0, rest = code; e < EXPERTS; e++, rest /= KINDS)
            offset[e + 1] = offset[e] + rows[rest % KINDS];
        for (int32_t begin = 0; begin <= EXPERTS; begin++)
            for (int32_t end = begin; end <= EXPERTS; end++, cases++)
                check_products(offset, begin, end);
    }
    print_message("%lld plans\n", (long long)cases);
    assert_true(cases > 100000);
}

/* Every number of rows of one expert. */
static void pieces_of_any_number_of_rows(void **state) {
    (void)state;
    for (int32_t rows = 0; rows <= 5 * MOE_PIECE_ROWS; rows++)
        check_products((const int32_t[]){3, 3 + rows}, 0, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_cover_the_keys),           cmocka_unit_test(spans_fit_their_bound),
        cmocka_unit_test(partial_results_do_not_overlap), cmocka_unit_test(tiles_cover_the_rows),
        cmocka_unit_test(the_bound_of_tiles_is_reached),  cmocka_unit_test(pieces_cover_the_rows),
        cmocka_unit_test(pieces_of_any_number_of_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
