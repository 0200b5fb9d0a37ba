/* Who computes what on a GPU (kernels/qgemm/schedule.h), exhaustively for small numbers: every step
 * of every tile once, every partial sum in a place of its own, and found again by the kernel that
 * adds them up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/qgemm/schedule.h"

enum { TILES = 60, STEPS = 70 };

typedef struct cover {
    int8_t done[TILES * STEPS];               /* workers that did a step */
    int64_t writer[2 * ANEMO_STREAM_WORKERS]; /* tile of each slot, -1: none */
} cover;

/* Walks all stretches as the kernel does. */
static void walk(const anemo_stream *s, cover *c) {
    memset(c->done, 0, sizeof c->done);
    memset(c->writer, 0xff, sizeof c->writer);
    for (int64_t w = 0; w < s->workers; w++) {
        const anemo_piece piece = anemo_piece_of(s->tiles * s->steps, s->workers, w);
        assert_true(piece.begin < piece.end);
        for (int64_t at = piece.begin; at < piece.end;) {
            const anemo_stretch stretch = anemo_stretch_at(s, w, at);
            assert_in_range(stretch.tile, 0, s->tiles - 1);
            assert_true(stretch.begin < stretch.end && stretch.end <= s->steps);
            for (int64_t i = stretch.begin; i < stretch.end; i++) {
                c->done[stretch.tile * s->steps + i]++;
                assert_int_equal(anemo_stream_worker(s, stretch.tile * s->steps + i), w);
            }
            const bool whole = stretch.begin == 0 && stretch.end == s->steps;
            assert_int_equal(whole, stretch.slot < 0);
            if (!whole) {
                assert_in_range(stretch.slot, 0, 2 * s->workers - 1);
                assert_int_equal(c->writer[stretch.slot], -1);
                c->writer[stretch.slot] = stretch.tile;
            }
            at += stretch.end - stretch.begin;
        }
        assert_int_equal(w == 0 ? 0 : anemo_piece_of(s->tiles * s->steps, s->workers, w - 1).end,
                         piece.begin);
    }
}

/* As tile_finish does: the slots of a tile's workers hold this tile, and no other slot does. */
static void find_again(const anemo_stream *s, const cover *c) {
    int64_t written = 0, read = 0;
    for (int64_t i = 0; i < 2 * s->workers; i++) {
        written += c->writer[i] >= 0;
    }
    for (int64_t tile = 0; tile < s->tiles; tile++) {
        const int64_t begin = anemo_stream_worker(s, tile * s->steps);
        const int64_t end = anemo_stream_worker(s, (tile + 1) * s->steps - 1);
        for (int64_t w = begin; begin != end && w <= end; w++, read++) {
            assert_int_equal(c->writer[w == begin ? 2 * w + 1 : 2 * w], tile);
        }
    }
    assert_int_equal(read, written);
}

static void stream_k_covers_every_step_once(void **state) {
    (void)state;
    static cover c;
    int64_t cases = 0, steps_seen = 0;
    for (int64_t tiles = 1; tiles <= TILES; tiles++) {
        for (int64_t steps = 1; steps <= STEPS; steps++, cases++) {
            const int64_t most = cases % 3 == 0 ? ANEMO_STREAM_WORKERS / 2 : ANEMO_STREAM_WORKERS;
            const anemo_stream s = most == ANEMO_STREAM_WORKERS
                                       ? anemo_stream_of(tiles, steps)
                                       : anemo_stream_among(most, tiles, steps);
            assert_in_range(s.workers, 1, most);
            walk(&s, &c);
            for (int64_t i = 0; i < tiles * steps; i++, steps_seen++) {
                assert_int_equal(c.done[i], 1);
            }
            find_again(&s, &c);
        }
    }
    print_message("[   INFO   ] %lld schedules, %lld steps\n", (long long)cases,
                  (long long)steps_seen);
}

static void pieces_and_slices_cover_a_row(void **state) {
    (void)state;
    int64_t cases = 0;
    for (int64_t blocks = 1; blocks <= 600; blocks += 7) {
        for (int64_t steps = 1; steps <= 600; steps++, cases++) {
            const int32_t slices = anemo_gemv_slices(blocks, steps);
            const int64_t count = (int64_t)slices * ANEMO_GEMV_WARPS;
            int64_t at = 0;
            assert_in_range(slices, 1, ANEMO_GEMV_MOST_SLICES);
            for (int64_t i = 0; i < count; i++) {
                const anemo_piece piece = anemo_piece_of(steps, count, i);
                assert_int_equal(piece.begin, at);
                at = piece.end;
            }
            assert_int_equal(at, steps);
        }
    }
    print_message("[   INFO   ] %lld rows of blocks\n", (long long)cases);
}

static void blocks_find_their_part(void **state) {
    (void)state;
    int64_t cases = 0;
    for (int32_t parts = 1; parts <= 3; parts++) {
        for (int64_t n = 1; n <= 300; n += 13) {
            for (int64_t rows = 16; rows <= 128; rows *= 8, cases++) {
                anemo_qgemm_problem p = {.n_parts = parts, .n = {n, 17, 2 * n}};
                int64_t index = 0;
                for (int32_t part = 0; part < parts; part++) {
                    for (int64_t row = 0; row < p.n[part]; row += rows, index++) {
                        const anemo_row_block at = anemo_row_block_at(&p, rows, index);
                        assert_int_equal(at.part, part);
                        assert_int_equal(at.block, row / rows);
                    }
                }
                assert_int_equal(anemo_row_blocks(&p, rows), index);
                p.epilogue = ANEMO_EPI_ACT_MUL; /* gate's blocks alone */
                assert_int_equal(anemo_row_blocks(&p, rows), (n + rows - 1) / rows);
            }
        }
    }
    print_message("[   INFO   ] %lld problems\n", (long long)cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_k_covers_every_step_once),
        cmocka_unit_test(pieces_and_slices_cover_a_row),
        cmocka_unit_test(blocks_find_their_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
