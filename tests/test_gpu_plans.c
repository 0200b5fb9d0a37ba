/* The index arithmetic of the CUDA kernels, on the host, exhaustively: spans of keys, tiles and
 * pieces of expert rows, tiles of queries and of keys, places in shared memory. Each cut must cover
 * what it cuts once and in order, and stay within what workspaces and launches were sized for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/moe/pieces.h"
#include "kernels/moe/tiles.h"
#include "kernels/swa/spans.h"
#include "kernels/swa/tile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* ---------------------------------------------------------------- swa in tiles */

/* The query tiles of one step: every packed row of every sequence once, in order. */
static void check_query_tiles(const int32_t *row_start, int32_t n_sequences, int32_t group,
                              int32_t tile_rows) {
    int64_t n = 0;
    for (int32_t s = 0; s < n_sequences; s++) {
        const int64_t rows = (int64_t)(row_start[s + 1] - row_start[s]) * group;
        for (int64_t next = 0; next < rows; n++) {
            const swa_query_tile tile =
                swa_query_tile_at(row_start, n_sequences, group, tile_rows, n);
            assert_int_equal(tile.sequence, s);
            assert_int_equal(tile.begin, next);
            assert_true(tile.end > next && tile.end <= rows && tile.end - next <= tile_rows);
            assert_true(tile.end == rows || tile.end - next == tile_rows);
            next = tile.end;
        }
    }
    const int64_t most = swa_query_tiles_max(row_start[n_sequences], n_sequences, group, tile_rows);
    assert_true(n <= most);
    for (int64_t i = n; i <= most; i++)
        assert_true(swa_query_tile_at(row_start, n_sequences, group, tile_rows, i).sequence < 0);
}

/* Every way in which up to 9 rows fall on 3 sequences, groups that fit a tile and do not. */
static void query_tiles_cover_the_rows(void **state) {
    enum { SEQUENCES = 3, ROWS = 9 };
    int64_t cases = 0;
    (void)state;
    for (int code = 0; code < (ROWS + 1) * (ROWS + 1) * (ROWS + 1); code++) {
        int32_t row_start[SEQUENCES + 1] = {0};
        for (int s = 0, rest = code; s < SEQUENCES; s++, rest /= ROWS + 1)
            row_start[s + 1] = row_start[s] + rest % (ROWS + 1);
        for (int32_t group = 1; group <= 9; group++)
            for (int32_t tile_rows = 4; tile_rows <= 16; tile_rows *= 2, cases++)
                check_query_tiles(row_start, SEQUENCES, group, tile_rows);
    }
    print_message("%lld plans\n", (long long)cases);
    assert_true(cases > 20000);
}

/* Is this (query, key) pair one that counts? The mask in words. */
static bool is_seen(int32_t first, int32_t window, int32_t query, int32_t key) {
    return key >= first && key <= query && (window == 0 || query - key < window);
}

/* One query tile, rows at positions from .. to: which key tiles are visited, which need a mask,
 * which keys may be loaded, against the mask of every pair. */
static void check_key_tiles(int32_t first, int32_t window, int32_t from, int32_t to) {
    const swa_keys keys = swa_keys_of(first, window, from, to);
    for (int32_t tile = 0; tile * SWA_TILE_KEYS <= to + SWA_TILE_KEYS; tile++) {
        bool any = false, open = true, full = true;
        for (int32_t key = tile * SWA_TILE_KEYS; key < (tile + 1) * SWA_TILE_KEYS; key++) {
            bool one = false, all = true;
            for (int32_t query = from; query <= to; query++) {
                one = one || is_seen(first, window, query, key);
                all = all && is_seen(first, window, query, key);
            }
            any = any || one;
            open = open && all;
            full = full && one;
            if (one != (key >= keys.begin && key < keys.end))
                fail_msg("first %d, window %d, rows %d..%d: key %d", first, window, from, to, key);
        }
        const bool visited = tile >= swa_tile_begin(&keys) && tile < swa_tile_end(&keys);
        if (visited != any || swa_tile_is_open(&keys, tile) != open ||
            swa_tile_is_full(&keys, tile) != full)
            fail_msg("first %d, window %d, rows %d..%d: key tile %d", first, window, from, to,
                     tile);
    }
}

static void key_tiles_are_those_of_the_mask(void **state) {
    static const int32_t windows[] = {0, 1, 2, 31, 63, 64, 65, 100, 127, 128, 129, 200, 1000};
    static const int32_t counts[] = {1, 2, 7, 16, 33, 64};
    int64_t cases = 0;
    (void)state;
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
        for (size_t n = 0; n < sizeof counts / sizeof *counts; n++)
            for (int32_t first = 0; first <= 160; first += 16 * (1 + (int32_t)n % 3))
                for (int32_t from = first; from < 300; from += 1 + (from + (int32_t)n) % 4, cases++)
                    check_key_tiles(first, windows[w], from, from + counts[n] - 1);
    print_message("%lld query tiles\n", (long long)cases);
    assert_true(cases > 20000);
}

/* Every piece has its own place within its row, and eight rows at a multiple of eight, the same
 * piece of each, lie in eight different groups of four banks: what one phase of ldmatrix reads. */
static void pieces_meet_different_banks(void **state) {
    int64_t phases = 0;
    (void)state;
    for (int32_t pieces = 1; pieces <= 32; pieces++) {
        bool taken[32 * SWA_TILE_KEYS] = {false};
        for (int32_t row = 0; row < SWA_TILE_KEYS; row++)
            for (int32_t piece = 0; piece < pieces; piece++) {
                const int32_t at = swa_piece_at(pieces, row, piece);
                assert_int_equal(at % SWA_PIECE_BYTES, 0);
                assert_int_equal(at / SWA_PIECE_BYTES / pieces, row);
                const int32_t odd = piece % 2, bytes = (piece - odd) * SWA_PIECE_BYTES;
                assert_true(pieces % 2 != 0 ||
                            at == row * pieces * SWA_PIECE_BYTES +
                                      (swa_lane_piece(pieces, row % 8, odd) ^ bytes));
                assert_false(taken[at / SWA_PIECE_BYTES]);
                taken[at / SWA_PIECE_BYTES] = true;
            }
        for (int32_t row = 0; row < SWA_TILE_KEYS; row += 8)
            for (int32_t piece = 0; piece < pieces; piece++, phases++) {
                uint32_t banks = 0;
                for (int32_t i = 0; i < 8; i++)
                    for (int32_t word = 0; word < 4; word++)
                        banks |= 1u << (swa_piece_at(pieces, row + i, piece) / 4 + word) % 32;
                if (banks != 0xffffffffu)
                    fail_msg("rows of %d pieces, row %d, piece %d: banks %08x", pieces, row, piece,
                             banks);
            }
    }
    print_message("%lld phases\n", (long long)phases);
    assert_true(phases > 4000);
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Every exponent: the largest element comes to 2^14 .. 2^15 or, where no power of two does that,
 * below; power and inverse are normal and cancel. */
static void query_powers_fit_f16(void **state) {
    (void)state;
    for (uint32_t exponent = 0; exponent < 255; exponent++) {
        const uint32_t bits = exponent << 23 | 0x7fffffu, power = swa_query_power(bits);
        const float up = float_of(power), down = float_of(swa_query_inverse(power));
        const float brought = float_of(bits) * up;
        assert_true(isnormal(up) && isnormal(down) && up * down == 1);
        assert_true(brought < 0x1p15f && (brought >= 0x1p14f || exponent <= 15));
        assert_int_equal(power, swa_query_power(exponent << 23));
    }
    const uint32_t of_infinity = swa_query_power(0x7f800000u);
    assert_true(isnormal(float_of(of_infinity)) &&
                isnormal(float_of(swa_query_inverse(of_infinity))));
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
        cmocka_unit_test(spans_cover_the_keys),
        cmocka_unit_test(spans_fit_their_bound),
        cmocka_unit_test(partial_results_do_not_overlap),
        cmocka_unit_test(tiles_cover_the_rows),
        cmocka_unit_test(the_bound_of_tiles_is_reached),
        cmocka_unit_test(pieces_cover_the_rows),
        cmocka_unit_test(pieces_of_any_number_of_rows),
        cmocka_unit_test(query_tiles_cover_the_rows),
        cmocka_unit_test(key_tiles_are_those_of_the_mask),
        cmocka_unit_test(pieces_meet_different_banks),
        cmocka_unit_test(query_powers_fit_f16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
