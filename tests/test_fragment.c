/* The GPU's weight layout, exhaustively and from outside: places against the numbering of PTX's
 * m16n8k16 and, for 8-bit codes, m16n8k32, bytes against a reader written from the essay in
 * fragment.h, the bit tricks of dequantising over all codes, and a warp of 32 loops that multiplies
 * as the instruction does. (Whole kernels: test_emulated_gpu.c.) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/check/random.h"
#include "harness/check/weight.h"
#include "kernels/internal.h"
#include "kernels/qgemm/fragment.h"

/* Every (row, column) has one place, every place one (row, column). */
static void places_are_a_bijection(void **state) {
    (void)state;
    enum { K = 4096 };
    static bool taken[K / 16][32][4][2];
    int64_t cases = 0;
    for (int64_t column = 0; column < K; column++) {
        for (int32_t row = 0; row < 16; row++, cases++) {
            const anemo_fragment_place p = anemo_fragment_place_of(row, column);
            assert_in_range(p.tile, 0, K / 16 - 1);
            assert_in_range(p.lane, 0, 31);
            assert_false(taken[p.tile][p.lane][p.reg][p.half]);
            taken[p.tile][p.lane][p.reg][p.half] = true;
            assert_int_equal(anemo_fragment_row(p.lane, p.reg), row);
            assert_int_equal(anemo_fragment_column(p.tile, p.lane, p.reg, p.half), column);
        }
    }
    print_message("[   INFO   ] %lld places\n", (long long)cases);
}

/* PTX ISA, "Matrix Fragments for mma.m16n8k16": element i (0..7) of A in lane l is row l / 4, plus
 * 8 for i = 2, 3, 6, 7, column 2 (l % 4) + i % 2, plus 8 for i >= 4; element i (0..3) of B is row
 * 2 (l % 4) + i % 2, plus 8 for i >= 2. What A and B call the same must be the same column of W
 * and x, where lane t's x are columns 8 t .. of the chunk in order of tile, register, half. */
static void operands_agree(void **state) {
    (void)state;
    int64_t cases = 0;
    for (int64_t tile = 0; tile < 64; tile++) {
        int64_t of_b[16];
        for (int t = 0; t < 4; t++) {
            for (int i = 0; i < 4; i++) {
                of_b[2 * t + i % 2 + (i >= 2 ? 8 : 0)] = tile / 2 * 32 + 8 * t + tile % 2 * 4 + i;
            }
        }
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < 8; i++, cases++) {
                const int row = lane / 4 + (i % 4 >= 2 ? 8 : 0);
                const int column = 2 * (lane % 4) + i % 2 + (i >= 4 ? 8 : 0);
                assert_int_equal(anemo_fragment_row(lane, i / 2), row);
                assert_int_equal(anemo_fragment_column(tile, lane, i / 2, i % 2), of_b[column]);
            }
        }
    }
    print_message("[   INFO   ] %lld elements\n", (long long)cases);
}

/* All codes, zero points, registers and halves: exact. */
static void codes_become_numbers(void **state) {
    (void)state;
    int64_t cases = 0;
    for (uint32_t zero = 0; zero < 16; zero++) {
        for (uint32_t code = 0; code < 16; code++) {
            for (int32_t nibble = 0; nibble < 8; nibble++, cases++) {
                const uint32_t word = code << 4 * nibble | (0x5a5a5a5au & ~(15u << 4 * nibble));
                const uint32_t pair = anemo_fragment_pair4(word, nibble % 4);
                const float value = anemo_f32_from_bf16((uint16_t)(pair >> 16 * (nibble / 4)));
                const uint32_t minus = anemo_fragment_zero4(zero);
                const float less = anemo_f32_from_bf16((uint16_t)(minus >> 16 * (nibble / 4)));
                assert_true(value + less == (float)code - (float)zero);
            }
        }
    }
    for (uint32_t zero = 0; zero < 256; zero++) {
        for (uint32_t code = 0; code < 256; code++, cases++) {
            const uint32_t c = anemo_fragment_float8(code), z = anemo_fragment_float8(zero);
            float a, b;
            memcpy(&a, &c, sizeof a);
            memcpy(&b, &z, sizeof b);
            assert_true(a - b == (float)code - (float)zero);
            assert_true(anemo_f32_from_bf16(anemo_bf16_from_f32(a - b)) == a - b);
        }
    }
    print_message("[   INFO   ] %lld codes\n", (long long)cases);
}

/* Register r (0..3) of an m16n8k32 product's first operand from an 8-bit unit: tile r / 2 of the
 * chunk, row g + 8 (r % 2). Byte i is the place (register, half) whose number the byte holds. */
static void registers_of_unit(uint32_t (*a)[4]) {
    uint32_t words[2];
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)i; /* 2 register + half */
    }
    memcpy(words, bytes, sizeof words);
    for (int r = 0; r < 4; r++) {
        (*a)[r] = anemo_fragment_four8(words[0], words[1], r % 2);
    }
}

/* Rows of W, and 32 columns that lie as they do in a row: what unpacking to rows relies on. */
static void eight_bits_come_in_fours(void **state) {
    (void)state;
    int64_t cases = 0;
    uint32_t a[4];
    registers_of_unit(&a);
    for (int64_t chunk = 0; chunk < 64; chunk++) {
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < 16; i++, cases++) {
                const int r = i / 4, place = (int)(a[r] >> 8 * (i % 4) & 255u);
                const int64_t column = 32 * chunk + 8 * (lane % 4) + 4 * (r / 2) + i % 4;
                assert_int_equal(anemo_fragment_row(lane, place / 2), lane / 4 + 8 * (r % 2));
                assert_int_equal(
                    anemo_fragment_column(2 * chunk + r / 2, lane, place / 2, place % 2), column);
            }
        }
    }
    print_message("[   INFO   ] %lld codes\n", (long long)cases);
}

/* PTX ISA, "Matrix Fragments for mma.m16n8k32": element i (0..15) of A in lane l is row l / 4, plus
 * 8 for i / 4 odd, column 4 (l % 4) + i % 4, plus 16 for i >= 8; element i (0..7) of B is row
 * 4 (l % 4) + i % 4, plus 16 for i >= 4, column l / 4. What A and B call the same must be the same
 * column of W and x, where lane t's x are the 8 codes from column 8 t of the chunk on. */
static void eight_bit_operands_agree(void **state) {
    (void)state;
    int64_t cases = 0;
    uint32_t a[4];
    registers_of_unit(&a);
    for (int64_t chunk = 0; chunk < 64; chunk++) {
        int64_t of_b[32];
        for (int t = 0; t < 4; t++) {
            for (int i = 0; i < 8; i++) {
                of_b[4 * t + i % 4 + (i >= 4 ? 16 : 0)] = 32 * chunk + 8 * t + i;
            }
        }
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < 16; i++, cases++) {
                const int row = lane / 4 + (i / 4 % 2 != 0 ? 8 : 0);
                const int number = 4 * (lane % 4) + i % 4 + (i >= 8 ? 16 : 0);
                const int place = (int)(a[i / 4] >> 8 * (i % 4) & 255u);
                assert_int_equal(anemo_fragment_row(lane, place / 2), row);
                assert_int_equal(
                    anemo_fragment_column(2 * chunk + i / 8, lane, place / 2, place % 2),
                    of_b[number]);
            }
        }
    }
    print_message("[   INFO   ] %lld elements\n", (long long)cases);
}

/* ---------------------------------------------------------------- bytes, read by another hand */

/* The essay, word by word: lane by lane through the memory, into w[16][k_padded]. */
static void read_block(const uint8_t *block, int bits, int64_t k_padded, double *w) {
    const int64_t units = k_padded * bits / 256;
    for (int64_t unit = 0; unit < units; unit++) {
        for (int lane = 0; lane < 32; lane++) {
            const uint8_t *bytes = block + 512 * unit + 16 * lane;
            for (int i = 0; i < 128 / bits; i++) { /* code i of the lane's 16 bytes */
                const int of_tile = i % 8;
                const int64_t tile = unit * (16 / bits) + i / 8;
                int r, half;
                double value;
                if (bits == 4) {
                    r = of_tile % 4, half = of_tile / 4;
                    value = bytes[i / 2] >> (i % 2 ? 4 : 0) & 15;
                } else {
                    r = of_tile / 2, half = of_tile % 2;
                    value =
                        bits == 8
                            ? bytes[i]
                            : anemo_f32_from_bf16((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
                }
                const int row = lane / 4 + (r % 2 ? 8 : 0);
                const int64_t column =
                    tile / 2 * 32 + lane % 4 * 8 + tile % 2 * 4 + (r >= 2 ? 2 : 0) + half;
                w[row * k_padded + column] = value;
            }
        }
    }
}

static double number_at(const uint8_t *at, int bytes) {
    float value;
    uint16_t half;
    memcpy(&value, at, bytes == 4 ? 4 : 0);
    memcpy(&half, at, 2);
    return bytes == 4 ? (double)value : (double)anemo_f32_from_f16(half);
}

/* Turns codes into values with what stands behind the units. */
static void scale_block(const uint8_t *block, const anemo_weight_type *type, int64_t k,
                        int64_t k_padded, double *w) {
    const int bytes = type->scale == ANEMO_SCALE_F16 ? 2 : 4;
    const int64_t group = type->group ? type->group : k_padded;
    const int64_t groups = (k + group - 1) / group;
    const uint8_t *scales = block + k_padded * type->bits * 2, *more = scales + groups * 16 * bytes;
    for (int row = 0; row < 16; row++) {
        const int place = row < 8 ? 2 * row : 2 * row - 15; /* 0 8 1 9 .. 7 15 */
        for (int64_t c = 0; c < k; c++) {
            const int64_t at = c / group * 16 + place;
            double *v = &w[row * k_padded + c];
            const double s = number_at(scales + at * bytes, bytes);
            if (type->offset == ANEMO_OFFSET_MINIMUM) {
                *v = s * *v - number_at(more + at * bytes, bytes);
            } else {
                *v = s * (*v - (type->offset == ANEMO_OFFSET_ZERO_POINT ? more[at]
                                                                        : 1 << (type->bits - 1)));
            }
        }
    }
}

typedef struct packed_weight {
    check_weight *w;
    uint8_t *bytes;
    anemo_fragment_shape shape;
} packed_weight;

static packed_weight pack(const anemo_weight_type *type, int64_t n, int64_t k, uint64_t seed) {
    const char *const name = type->bits == 4   ? "w4_fragment"
                             : type->bits == 8 ? "w8_fragment"
                                               : "w16_fragment";
    const anemo_layout *layout = anemo_layout_find(name);
    check_random random = check_random_seed(seed, 7, (uint64_t)(n * 1000 + k));
    packed_weight p = {.shape = anemo_fragment_shape_of(type, n, k)};
    p.w = check_weight_create(&random, type, n, k, 1);
    p.bytes = aligned_alloc(128, (size_t)p.shape.blocks * p.shape.block_bytes);
    assert_non_null(p.w);
    assert_non_null(p.bytes);
    assert_int_equal(layout->packed_bytes(type, n, k),
                     (size_t)p.shape.blocks * p.shape.block_bytes);
    assert_int_equal(layout->pack(&p.w->canonical, 0, n, p.bytes), ANEMO_OK);
    return p;
}

static void unpack_free(packed_weight *p) {
    check_weight_free(p->w);
    free(p->bytes);
}

/* Runs `look` on every type that a fragment layout takes, at shapes with tails. */
static int64_t each_packed(void (*look)(const packed_weight *p, const anemo_weight_type *type)) {
    static const int64_t ns[] = {1, 16, 19, 35}, ks[] = {1, 31, 32, 64, 96, 129, 256};
    int64_t cases = 0;
    for (int32_t i = 0; i < check_weight_type_count(); i++) {
        const anemo_weight_type type = check_weight_type_at(i);
        for (size_t shape = 0; shape < 28; shape++) {
            const int64_t n = ns[shape % 4], k = ks[shape / 4];
            bool accepted = false;
            for (int32_t l = 0; l < anemo_layout_count(); l++) {
                const anemo_layout *layout = anemo_layout_at(l);
                accepted = accepted || (strstr(layout->name, "_fragment") != NULL &&
                                        layout->accepts(&type, n, k, NULL, 0));
            }
            if (accepted) {
                packed_weight p = pack(&type, n, k, (uint64_t)i);
                look(&p, &type);
                unpack_free(&p);
                cases++;
            }
        }
    }
    assert_true(cases > 0);
    return cases;
}

static void same_values(const packed_weight *p, const anemo_weight_type *type) {
    const int64_t k_padded = (p->shape.k + 63) / 64 * 64;
    double *w = malloc((size_t)(16 * k_padded) * sizeof *w);
    assert_non_null(w);
    for (int64_t b = 0; b < (p->shape.n + 15) / 16; b++) {
        const uint8_t *block = p->bytes + (size_t)b * p->shape.block_bytes;
        read_block(block, type->bits, k_padded, w);
        if (type->bits < 16) {
            scale_block(block, type, p->shape.k, k_padded, w);
        }
        for (int64_t row = 0; row < 16 && 16 * b + row < p->shape.n; row++) {
            for (int64_t c = 0; c < p->shape.k; c++) {
                assert_true(w[row * k_padded + c] == p->w->dense[(16 * b + row) * p->shape.k + c]);
            }
        }
    }
    free(w);
}

static void another_reader_agrees(void **state) {
    (void)state;
    print_message("[   INFO   ] %lld weights\n", (long long)each_packed(same_values));
}

/* ---------------------------------------------------------------- a warp */

/* D[16][8] += A B with operands in fragments, as m16n8k16 is defined. */
static void product(float d[16][8], const uint32_t a[32][4], const uint32_t b[32][2]) {
    for (int row = 0; row < 16; row++) {
        for (int column = 0; column < 8; column++) {
            for (int k = 0; k < 16; k++) {
                const uint32_t x = a[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
                const uint32_t y = b[column * 4 + k % 8 / 2][k / 8];
                d[row][column] += anemo_f32_from_bf16((uint16_t)(x >> k % 2 * 16)) *
                                  anemo_f32_from_bf16((uint16_t)(y >> k % 2 * 16));
            }
        }
    }
}

static uint32_t add_pairs(uint32_t a, uint32_t b) {
    const float lo = anemo_f32_from_bf16((uint16_t)a) + anemo_f32_from_bf16((uint16_t)b);
    const float hi =
        anemo_f32_from_bf16((uint16_t)(a >> 16)) + anemo_f32_from_bf16((uint16_t)(b >> 16));
    return anemo_bf16_from_f32(lo) | (uint32_t)anemo_bf16_from_f32(hi) << 16;
}

/* Small whole numbers: all sums are exact, so the warp must give them to the bit. */
static int x_at(int64_t token, int64_t column) {
    return (int)((token * 7 + column * 3) % 9) - 4;
}

/* Block 0 of a 4-bit weight without offset: integer products of all tiles of a chunk. */
static void warp_multiplies(const packed_weight *p, const anemo_weight_type *type) {
    if (type->bits != 4 || type->offset == ANEMO_OFFSET_MINIMUM) {
        return;
    }
    const int64_t group = p->shape.group;
    for (int64_t tile = 0; tile < p->shape.k_padded / 16; tile++) {
        uint32_t a[32][4], b[32][2];
        float d[16][8] = {{0}};
        for (int lane = 0; lane < 32; lane++) {
            uint32_t word;
            memcpy(&word, p->bytes + anemo_fragment_tile_at(4, tile, lane), sizeof word);
            const int64_t g = tile * 16 / group;
            for (int r = 0; r < 4; r++) {
                uint32_t zero = 8;
                if (p->shape.has_zero) {
                    const int32_t row = anemo_fragment_row(lane, r);
                    const int64_t at = g * 16 + anemo_fragment_number(row);
                    zero = g < p->shape.groups ? p->bytes[p->shape.zeros_at + (size_t)at] : 0;
                }
                a[lane][r] = add_pairs(anemo_fragment_pair4(word, r), anemo_fragment_zero4(zero));
            }
            for (int r = 0; r < 2; r++) {
                const int64_t c = tile / 2 * 32 + 8 * (lane % 4) + 4 * (tile % 2) + 2 * r;
                const int64_t k = p->shape.k, token = lane / 4;
                b[lane][r] =
                    anemo_bf16_from_f32(c < k ? (float)x_at(token, c) : 0) |
                    (uint32_t)anemo_bf16_from_f32(c + 1 < k ? (float)x_at(token, c + 1) : 0) << 16;
            }
        }
        product(d, a, b);
        for (int64_t row = 0; row < 16 && row < p->shape.n; row++) {
            for (int token = 0; token < 8; token++) {
                double want = 0;
                for (int half = 0; half < 16; half++) { /* the tile's columns: 4 of each lane t */
                    const int64_t c = tile / 2 * 32 + half / 4 * 8 + tile % 2 * 4 + half % 4;
                    if (c < p->shape.k) {
                        const int64_t of_row = row * p->w->groups + c / group;
                        const double zero = p->w->offsets ? p->w->offsets[of_row] : 8;
                        want += (p->w->codes[row * p->shape.k + c] - zero) * x_at(token, c);
                    }
                }
                assert_true(d[row][token] == (float)want);
            }
        }
    }
}

static void an_emulated_warp_agrees(void **state) {
    (void)state;
    print_message("[   INFO   ] %lld weights\n", (long long)each_packed(warp_multiplies));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_a_bijection),   cmocka_unit_test(operands_agree),
        cmocka_unit_test(codes_become_numbers),     cmocka_unit_test(eight_bits_come_in_fours),
        cmocka_unit_test(eight_bit_operands_agree), cmocka_unit_test(another_reader_agrees),
        cmocka_unit_test(an_emulated_warp_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
