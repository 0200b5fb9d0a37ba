/* The index arithmetic of qgemm by wgmma (kernels/qgemm/wgmma.h), exhaustively: every word of x has
 * one place in shared memory, the descriptor finds there what the weights' registers are multiplied
 * with, and the numbers of the groups of every step are those of its columns. What the descriptor
 * means is written apart, from the PTX ISA (emulated/wgmma_descriptor.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/qgemm/wgmma.h"
#include "tests/emulated/wgmma_descriptor.h"

#include <stdlib.h>
#include <string.h>

enum { TOKENS = 128, STEP = ANEMO_FRAGMENT_K_STEP };

static void words_of_x_have_one_place_each(void **state) {
    (void)state;
    static bool taken[TOKENS * ANEMO_WGMMA_X_WORDS];
    for (uint32_t token = 0; token < TOKENS; token++) {
        uint32_t banks = 0; /* a warp copies the words of one token */
        for (uint32_t word = 0; word < ANEMO_WGMMA_X_WORDS; word++) {
            const uint32_t at = anemo_wgmma_x_at(token, word);
            assert_int_equal(at % 4, 0);
            assert_in_range(at, token * 128, token * 128 + 124);
            assert_false(taken[at / 4]);
            taken[at / 4] = true;
            banks |= (uint32_t)1 << at / 4 % 32;
        }
        assert_int_equal(banks, 0xffffffffu);
    }
}

/* Swizzled by 16-byte pieces: undone, a piece has in it the same words for every token. */
static void pieces_are_exchanged_by_the_row(void **state) {
    (void)state;
    for (uint32_t token = 0; token < TOKENS; token++)
        for (uint32_t word = 0; word < ANEMO_WGMMA_X_WORDS; word++) {
            const uint32_t at = anemo_wgmma_x_at(token, word) % 128;
            const uint32_t plain = anemo_wgmma_x_at(0, word);
            assert_int_equal(at / 16, plain / 16 ^ token % 8);
            assert_int_equal(at % 16, plain % 16);
        }
}

static uint64_t descriptor_of(uint32_t address, uint32_t tile) {
    return anemo_wgmma_tile(anemo_wgmma_descriptor(address), tile);
}

/* PTX ISA, "Matrix Fragments for wgmma.mma_async.m64nNk16": register r, half h of lane l of A is
 * number 2 (l % 4) + h + 8 (r / 2) of k; there the fragment layout has a certain column of W, and
 * B's row of that number must be the same column of x. */
static void descriptors_find_the_columns_of_the_weights(void **state) {
    (void)state;
    static const uint32_t bases[] = {1024, 29 * 1024, 173 * 1024, 223 * 1024};
    static uint16_t stage[TOKENS * STEP]; /* which (token, column) stands where */
    int64_t cases = 0;
    for (uint32_t token = 0; token < TOKENS; token++)
        for (uint32_t column = 0; column < STEP; column++)
            stage[anemo_wgmma_x_at(token, column / 2) / 2 + column % 2] =
                (uint16_t)(token * STEP + column);
    for (size_t base = 0; base < sizeof bases / sizeof *bases; base++)
        for (uint32_t tile = 0; tile < ANEMO_WGMMA_TILES; tile++) {
            wgmma_matrix matrix;
            const char *wrong = wgmma_descriptor_read(descriptor_of(bases[base], tile), &matrix);
            if (wrong)
                fail_msg("%s", wrong);
            for (uint32_t token = 0; token < TOKENS; token++)
                for (int32_t lane = 0; lane < 4; lane++)
                    for (int32_t i = 0; i < 8; i++, cases++) {
                        const int32_t reg = i / 2, half = i % 2;
                        const uint32_t k = (uint32_t)(2 * lane + half + reg / 2 * 8);
                        const uint32_t at = wgmma_element_at(&matrix, token, k) - bases[base];
                        const int64_t column = anemo_fragment_column(tile, lane, reg, half);
                        assert_in_range(at, 0, sizeof stage - 2);
                        assert_int_equal(stage[at / 2], token * STEP + (uint32_t)column);
                    }
        }
    print_message("[   INFO   ] %lld elements\n", (long long)cases);
    assert_true(cases >= 4 * 4 * 128 * 16);
}

static void wrong_descriptors_are_seen(void **state) {
    (void)state;
    const uint64_t right = descriptor_of(4096, 3);
    wgmma_matrix matrix;
    assert_null(wgmma_descriptor_read(right, &matrix));
    assert_non_null(wgmma_descriptor_read(descriptor_of(4096 + 128, 0), &matrix));
    assert_non_null(wgmma_descriptor_read(descriptor_of(4096 + 16, 3), &matrix));
    assert_non_null(wgmma_descriptor_read(right ^ (uint64_t)1 << 62, &matrix));
    assert_non_null(wgmma_descriptor_read(right ^ (uint64_t)1 << 49, &matrix));
    assert_non_null(wgmma_descriptor_read(right ^ (uint64_t)8 << 32, &matrix));
    assert_non_null(wgmma_descriptor_read(right ^ (uint64_t)2 << 16, &matrix));
    assert_non_null(wgmma_descriptor_read(right ^ (uint64_t)1 << 14, &matrix));
}

/* ---------------------------------------------------------------- numbers of groups */

/* The stage's numbers after one step's copies, byte i of the block being there as i % 251. */
static void copy_numbers(const anemo_fragment_shape *s, int32_t step, uint8_t *numbers) {
    memset(numbers, 255, ANEMO_WGMMA_NUMBER_BYTES);
    for (int32_t lane = 0; lane < 32; lane++) {
        const anemo_wgmma_numbers n = anemo_wgmma_numbers_of(s, lane);
        const anemo_wgmma_groups groups = anemo_wgmma_groups_of(&n, step);
        if (!anemo_wgmma_copies(&n, groups))
            continue;
        const uint32_t from = n.from + anemo_wgmma_copies_at(&n, groups);
        assert_int_equal(from % 16, 0);
        assert_int_equal(n.to % 16, 0);
        assert_in_range(from, s->scales_at, s->block_bytes - 16);
        assert_in_range(n.to, 0, ANEMO_WGMMA_NUMBER_BYTES - 16);
        for (uint32_t i = 0; i < 16; i++) {
            assert_int_equal(numbers[n.to + i], 255); /* once */
            numbers[n.to + i] = (uint8_t)((from + i) % 251);
        }
    }
}

static void expect_numbers(const uint8_t *numbers, size_t staged, int64_t staged_group, size_t at,
                           int64_t group, int32_t bytes) {
    for (int32_t i = 0; i < bytes; i++)
        assert_int_equal(numbers[staged + (size_t)(staged_group * bytes + i)],
                         (uint8_t)((at + (size_t)(group * bytes + i)) % 251));
}

/* Every chunk of every step: numbers_of() reads from the stage what it would read from the block.
 */
static int64_t check_numbers(const anemo_weight_type *type, int64_t k) {
    const anemo_fragment_shape s = anemo_fragment_shape_of(type, 40, k);
    int64_t cases = 0;
    for (int32_t step = 0; step < s.k_padded / STEP; step++) {
        const anemo_wgmma_numbers of_lane = anemo_wgmma_numbers_of(&s, 0);
        const anemo_wgmma_groups groups = anemo_wgmma_groups_of(&of_lane, step);
        const anemo_fragment_shape staged = anemo_wgmma_staged(&s, groups);
        uint8_t numbers[ANEMO_WGMMA_NUMBER_BYTES];
        copy_numbers(&s, step, numbers);
        for (int32_t chunk = 2 * step; chunk < 2 * step + 2; chunk++, cases++) {
            const int64_t group = (int64_t)chunk * ANEMO_FRAGMENT_CHUNK / s.group;
            const int64_t local = group - groups.first;
            assert_int_equal(chunk >> of_lane.shift, group);
            /* The kernel asks for number 1 in the second half of a step of groups of 32, else 0. */
            assert_int_equal(local, of_lane.shift == 0 ? chunk % 2 : 0);
            assert_int_equal(local < staged.groups, group < s.groups);
            if (group >= s.groups)
                continue;
            const int32_t bytes = ANEMO_FRAGMENT_ROWS * s.scale_bytes;
            expect_numbers(numbers, staged.scales_at, local, s.scales_at, group, bytes);
            if (s.has_minimum)
                expect_numbers(numbers, staged.minima_at, local, s.minima_at, group, bytes);
            if (s.has_zero)
                expect_numbers(numbers, staged.zeros_at, local, s.zeros_at, group,
                               ANEMO_FRAGMENT_ROWS);
        }
    }
    return cases;
}

static void numbers_of_groups_come_along(void **state) {
    (void)state;
    static const int32_t groups[] = {0, 32, 64, 128};
    int64_t cases = 0;
    for (uint8_t bits = 4; bits <= 8; bits += 4)
        for (uint8_t scale = ANEMO_SCALE_F16; scale <= ANEMO_SCALE_F32; scale++)
            for (uint8_t offset = ANEMO_OFFSET_NONE; offset <= ANEMO_OFFSET_ZERO_POINT; offset++)
                for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
                    for (int64_t k = 1; k <= 700; k += k < 300 ? 1 : 37) {
                        const anemo_weight_type type = {.code = ANEMO_CODE_LINEAR,
                                                        .bits = bits,
                                                        .scale = scale,
                                                        .offset = offset,
                                                        .group = groups[g]};
                        cases += check_numbers(&type, k);
                    }
    print_message("[   INFO   ] %lld chunks\n", (long long)cases);
    assert_true(cases > 50000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_x_have_one_place_each),
        cmocka_unit_test(pieces_are_exchanged_by_the_row),
        cmocka_unit_test(descriptors_find_the_columns_of_the_weights),
        cmocka_unit_test(wrong_descriptors_are_seen),
        cmocka_unit_test(numbers_of_groups_come_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
