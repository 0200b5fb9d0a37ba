/* The 8 x 32 tile of W4A8 and W8A8 on 64-bit Arm, for both of its integer instructions; what
 * multiplies is tile_neondot.h or tile_neoni8mm.h, the rest is here.
 *
 * W lies in the layouts of layout_n32.h: 16 bytes are four codes (w4: and four more in the upper
 * nibbles) of each of four rows of W, one row per 32-bit lane. A tile walks a block of 32 rows of W
 * once, activation group by activation group (32 or 128 columns), for up to 8 rows of x:
 *
 *   sum[row of x][v]   int32 x 4, one lane per row of W, over one activation group: exact
 *   y[row of x][32]    float, in the caller's buffer (L1)
 *
 * Within an activation group the 8 vectors of a block's rows are cut into strips, so that the sums
 * stay in registers: 1 row of x takes all 8 vectors at once (sdot), 2 to 4 take 4, 5 to 8 take 2.
 * That is 8 to 16 independent sums, what a latency of 4 at two to four instructions a cycle needs,
 * and many rows share each unpacked code: with 8 rows 4 instructions unpack for 32 dot products.
 * Wider strips spill: compilers load all of a step before they multiply.
 *
 * Joining the floats: y += sum (sw sx), y -= (sx total) o, as in tile_avx512vnni.h, with the same
 * operations in the same order whatever the strip and the instruction. So a row's result depends on
 * nothing but the row, and both instructions give the same bits.
 *
 * Rejected: y in registers, too (48 of 32); a signed copy of the codes in the layout (one resident
 * layout serves all x86 and Arm variants); 16 rows of x by 4 of W, which unpacks less and loads
 * more. Counted from the listing only: nothing here has been timed on hardware. Tile shapes follow
 * what KleidiAI publishes for the same instructions. */
#ifndef ANEMO_TILE_NEON_H
#define ANEMO_TILE_NEON_H

#include "anemo_config.h"
#include "kernels/qgemm/layout_n32.h"

#include <arm_neon.h>

enum { ANEMO_NEON_ROWS = 8, ANEMO_NEON_COLUMNS = 32, ANEMO_NEON_VECTORS = 8 };

/* What a tile reads: one block of W and up to 8 a8 records. */
typedef struct anemo_neon_tile {
    const anemo_n32_shape *shape;
    const uint8_t *block;
    int32_t act_group;
    const int8_t *row[ANEMO_NEON_ROWS]; /* records; gathered rows need no copy */
} anemo_neon_tile;

/* Numbers of rows and vectors are constants at every call, and the loops over them must unroll, or
 * the sums move to memory. Under the sanitizers one general copy is enough. */
#if ANEMO_SANITIZE
#define ANEMO_NEON_INLINE static __attribute__((noinline, unused))
#define ANEMO_NEON_UNROLL
#elif defined __clang__
#define ANEMO_NEON_INLINE static inline __attribute__((always_inline))
#define ANEMO_NEON_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ANEMO_NEON_INLINE static inline __attribute__((always_inline))
#define ANEMO_NEON_UNROLL _Pragma("GCC unroll 8")
#endif

/* One activation group of a tile. */
typedef struct anemo_neon_group {
    const uint8_t *codes;   /* of its first column */
    const uint8_t *numbers; /* scales and minima of the weight group around it */
    const uint8_t *zeros;   /* zero points of that group, if there are */
    int64_t column, columns;
    float scale[ANEMO_NEON_ROWS];   /* of x */
    int32_t total[ANEMO_NEON_ROWS]; /* sum of the codes of x */
    int32_t start[ANEMO_NEON_ROWS]; /* total times what the codes are off by */
} anemo_neon_group;

/* Where the 16 bytes of four rows lie, v = 0 .. 7, for columns 0 .. 3 of a step. In w4 columns 4 ..
 * 7 are the upper nibbles, in w8 they lie 64 bytes further. */
ANEMO_NEON_INLINE const uint8_t *neon_codes(int bits, const uint8_t *step, int v) {
    return bits == 4 ? step + 16 * v : step + v / 4 * 128 + v % 4 * 16;
}

ANEMO_NEON_INLINE float32x4_t neon_numbers(const anemo_n32_shape *s, const uint8_t *at, int v) {
    if (s->scale_bytes == 2) {
        return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at + 8 * v)));
    }
    return vreinterpretq_f32_u8(vld1q_u8(at + 16 * v));
}

ANEMO_NEON_INLINE float32x4_t neon_offsets(const anemo_n32_shape *s, const anemo_neon_group *g,
                                           int v, float32x4_t scale) {
    if (s->has_minimum) {
        return neon_numbers(s, g->numbers + 32 * s->scale_bytes, v);
    }
    uint32_t four;
    memcpy(&four, g->zeros + 4 * v, sizeof four);
    const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vmulq_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))), scale);
}

/* `off` is what the multiplied codes lack or have too much, in units of the activations' sum. */
ANEMO_NEON_INLINE void neon_begin_group(int mr, const anemo_neon_tile *t, int32_t off,
                                        anemo_neon_group *g) {
    const int64_t kp = anemo_round_up(t->shape->k, 128), ga = g->column / t->act_group;
    const int64_t scales_at = kp + 4 * ga, sums_at = kp + 4 * (kp / t->act_group) + 4 * ga;
    ANEMO_NEON_UNROLL
    for (int i = 0; i < mr; i++) {
        memcpy(&g->scale[i], t->row[i] + scales_at, 4);
        memcpy(&g->total[i], t->row[i] + sums_at, 4);
        g->start[i] = off * g->total[i];
    }
}

/* The sums of vectors v .. v + nv - 1 join the floats. */
ANEMO_NEON_INLINE void neon_end_strip(int mr, int nv, const anemo_n32_shape *s,
                                      const anemo_neon_group *g, int v,
                                      int32x4_t sum[ANEMO_NEON_ROWS][ANEMO_NEON_VECTORS],
                                      float out[][ANEMO_NEON_COLUMNS]) {
    const bool has_offset = s->has_minimum || s->has_zero;
    ANEMO_NEON_UNROLL
    for (int u = 0; u < nv; u++) {
        const float32x4_t scale = neon_numbers(s, g->numbers, v + u);
        const float32x4_t offset = has_offset ? neon_offsets(s, g, v + u, scale) : vdupq_n_f32(0);
        ANEMO_NEON_UNROLL
        for (int i = 0; i < mr; i++) {
            float *at = out[i] + 4 * (v + u);
            float32x4_t y =
                vfmaq_f32(vld1q_f32(at), vcvtq_f32_s32(sum[i][u]), vmulq_n_f32(scale, g->scale[i]));
            if (has_offset) {
                y = vfmsq_n_f32(y, offset, g->scale[i] * (float)g->total[i]);
            }
            vst1q_f32(at, y);
        }
    }
}

/* One activation group for all 32 rows of W: sums, then floats. */
typedef void (*anemo_neon_group_fn)(int bits, int mr, const anemo_neon_tile *t, anemo_neon_group *g,
                                    float out[][ANEMO_NEON_COLUMNS]);

/* out[mr][32] = x[mr, k] . W[block of 32 rows, k]; bits, mr and group are constants. */
ANEMO_NEON_INLINE void neon_tile(int bits, int mr, const anemo_neon_tile *t,
                                 anemo_neon_group_fn group, float out[][ANEMO_NEON_COLUMNS]) {
    const anemo_n32_shape *s = t->shape;
    anemo_neon_group g = {.codes = t->block + s->zero_bytes};
    memset(out, 0, (size_t)mr * sizeof out[0]);
    for (int64_t w = 0; w < s->groups; w++) {
        const int64_t begin = w * s->group;
        const int64_t end = begin + s->group < s->k_padded ? begin + s->group : s->k_padded;
        g.numbers = g.codes;
        g.zeros = t->block + 32 * w;
        g.codes += s->header_bytes;
        for (g.column = begin; g.column < end; g.column += t->act_group) {
            g.columns = end - g.column < t->act_group ? end - g.column : t->act_group;
            group(bits, mr, t, &g, out);
            g.codes += (size_t)(g.columns / 8) * s->step_bytes;
        }
    }
}

/* The same for an mr known at run time. */
ANEMO_NEON_INLINE void neon_tile_rows(int bits, int64_t mr, const anemo_neon_tile *t,
                                      anemo_neon_group_fn group, float out[][ANEMO_NEON_COLUMNS]) {
    switch (mr) {
    case 1:
        neon_tile(bits, 1, t, group, out);
        break;
    case 2:
        neon_tile(bits, 2, t, group, out);
        break;
    case 3:
        neon_tile(bits, 3, t, group, out);
        break;
    case 4:
        neon_tile(bits, 4, t, group, out);
        break;
    case 5:
        neon_tile(bits, 5, t, group, out);
        break;
    case 6:
        neon_tile(bits, 6, t, group, out);
        break;
    case 7:
        neon_tile(bits, 7, t, group, out);
        break;
    default:
        neon_tile(bits, 8, t, group, out);
    }
}

#endif
