/* Weights for benchmarks: random, of any canonical type that has one number per group, cheap to
 * make at the size of a real layer; and their packed copies, rotated so that each call finds its
 * weights in memory and not in a cache. */
#ifndef ANEMO_BENCH_WEIGHT_H
#define ANEMO_BENCH_WEIGHT_H

#include "kernels/device.h"

typedef struct bench_weight {
    anemo_weight canonical; /* read_row reads the arrays below; reader_data is this struct */
    uint8_t *codes;         /* [n, k], row by row; 4 bits: two to a byte, [n, k / 2] */
    uint16_t *halves;       /* float codes: [n, k] of 16 bits, or of twice that */
    float *scales;          /* [n, groups], each exact in the type's form of scales */
    float *offsets;         /* [n, groups] or NULL */
    /* What bounds of rounding errors need, per row, [n]: Euclidean norm of the values, and of the
     * parts |s| c + |s| o (o: offset or 2^(bits-1)) that a kernel may sum apart. */
    double *norm, *part_norm;
    size_t memory_bytes; /* of codes, halves, scales and offsets */
} bench_weight;

/* The types a bench can make: those of files by their name there, and any other by its parts, as
 * anemo_weight_type_name writes them ("q4:g128", "q8:row:f32", "q4:g128:f32:zp", "t4:g32:e8m0").
 * false: another name. */
bool bench_weight_type(const char *name, anemo_weight_type *out);
#define BENCH_WEIGHT_TYPES                                                                         \
    "q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0, iq4_nl, mxfp4, bf16, f16, f32, or parts "     \
    "such as q4:g128, q8:row:f32, q6:g16, q4:g128:zp, q4:g32:min"

/* Codes of full entropy (the worst case for power), values with standard deviation about 1/sqrt(k).
 * NULL: no memory. */
bench_weight *bench_weight_create(anemo_device *host, const anemo_weight_type *type, int64_t n,
                                  int64_t k, uint64_t seed);
void bench_weight_free(bench_weight *weight);

/* Copies of one weight as a variant reads it. */
typedef struct bench_copies {
    anemo_device *device;       /* in whose memory they lie */
    anemo_device *host;         /* whose threads pack */
    const anemo_layout *layout; /* NULL: canonical */
    int64_t n_copies;
    size_t bytes;          /* of one copy as it lies in memory */
    const void **argument; /* [n_copies] for args.weight */
    void **packed;         /* [n_copies] device memory, layout only */
    bench_weight **clones; /* [n_copies] canonical only; the first is the weight itself */
} bench_copies;

/* ANEMO_E_MEMORY, or what packing said. layout NULL: the canonical form, which is for CPUs. */
anemo_status bench_copies_create(anemo_device *device, anemo_device *host, bench_weight *weight,
                                 const anemo_layout *layout, int64_t n_copies, bench_copies *out,
                                 anemo_error *err);
void bench_copies_free(bench_copies *copies);
/* Bytes of one copy, before any is made. */
size_t bench_copy_bytes(const bench_weight *weight, const anemo_layout *layout);

/* splitmix64, the generator of all bench inputs: a pure function of the counter. */
static inline uint64_t bench_hash(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}
/* Uniform in [0, 1). */
static inline double bench_uniform(uint64_t x) {
    return (double)(bench_hash(x) >> 11) * 0x1p-53;
}
/* x[n] from a normal law with this standard deviation (sum of 12 uniforms: tails end at 6 sd). */
void bench_fill_normal(float *x, int64_t n, double sd, uint64_t seed);
/* x[n] uniform with mean 0 and variance 1: cheap, for much data. */
void bench_fill_uniform(float *x, int64_t n, uint64_t seed);

#endif
