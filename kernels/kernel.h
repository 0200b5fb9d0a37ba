/* anemo kernel contract: the one door of kernels/, and the plug-in ABI.
 *
 * An *op* is a mathematical definition; a *variant* is one way to compute it on one backend; a
 * *layout* is a packed form of a weight; an *activation format* is the form in which a variant
 * wants its input. All four are registered.
 *
 * Laws: a variant never allocates, prints, reads a clock or opens a file. It refuses a problem
 * through `accepts`, at plan time, never in `run`. Each struct that crosses the plug-in boundary
 * starts with its own size. `problem` holds what is known at plan time (upper bounds, types,
 * constants: plain data, hashable); `args` holds pointers, and what changes from step to step lies
 * behind those pointers in memory of the backend.
 *
 * Conventions: matrices are row-major and contiguous unless a stride is named; sizes are elements
 * unless the name says `_bytes`; float means IEEE binary32.
 */
#ifndef ANEMO_KERNEL_H
#define ANEMO_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ANEMO_ABI_MAJOR 2 /* a plug-in with another major number is refused */
#define ANEMO_ABI_MINOR 0

/* ---------------------------------------------------------------- status and errors */

typedef enum anemo_status {
    ANEMO_OK = 0,
    ANEMO_E_INPUT, /* bad file, bad argument, bad combination: the caller can mend it (exit code 2)
                    */
    ANEMO_E_UNSUPPORTED, /* right, but this build, machine or variant cannot do it */
    ANEMO_E_MEMORY,      /* out of memory, or a workspace that is too small */
    ANEMO_E_DEVICE,      /* a device call failed */
    ANEMO_E_IO,          /* reading or writing failed */
    ANEMO_E_NUMERIC,     /* NaN where a number is needed (e.g. logits) */
    ANEMO_E_CANCELLED,   /* interrupted by the user */
    ANEMO_E_LIBRARY      /* this build was made without a library; the sentence names its package */
} anemo_status;

/* One clear sentence for a person: file, field, value, and what would be accepted. */
typedef struct anemo_error {
    char text[512];
} anemo_error;

const char *anemo_status_name(anemo_status status);

/* Writes the sentence (err may be NULL) and returns `status`, so that `return anemo_fail(...)`
 * reads well. */
anemo_status anemo_fail(anemo_error *err, anemo_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---------------------------------------------------------------- ops, backends, needs, traits */

/* clang-format off */
#define ANEMO_OPS(X)                                                                   \
    X(QGEMM,        "qgemm",        "y = x W^T, up to 3 weights, with epilogue")       \
    X(QUANTIZE_ACT, "quantize_act", "float rows to an activation format")              \
    X(MOE_ROUTE,    "moe_route",    "router logits to a dispatch plan")                \
    X(MOE_EXPERTS,  "moe_experts",  "gate, up, activation, down for each expert's rows") \
    X(MOE_COMBINE,  "moe_combine",  "weighted sum of expert rows in a fixed order")    \
    X(SWA,          "swa",          "causal grouped-query attention over paged KV, optional window") \
    X(ADD_RMSNORM,  "add_rmsnorm",  "x += delta; y = rmsnorm(x) * weight")             \
    X(ROPE_APPEND,  "rope_append",  "rotate q and k, write k and v into KV pages")     \
    X(EMBED,        "embed",        "token ids to rows")                               \
    X(SAMPLE,       "sample",       "logits to token ids")
/* clang-format on */

typedef enum anemo_op {
#define ANEMO_OP_ENUM(id, name, what) ANEMO_OP_##id,
    ANEMO_OPS(ANEMO_OP_ENUM)
#undef ANEMO_OP_ENUM
        ANEMO_OP_COUNT
} anemo_op;

const char *anemo_op_name(anemo_op op);    /* "qgemm" */
const char *anemo_op_summary(anemo_op op); /* one line */
bool anemo_op_from_name(const char *name, anemo_op *op);

typedef enum anemo_backend { ANEMO_CPU = 0, ANEMO_CUDA = 1 } anemo_backend;

/* What a variant needs: CPU features as bits, or a minimum compute capability (80, 90).
 * `exact_capability` is for architecture-specific code such as sm_90a, which runs on no other. */
#define ANEMO_CPU_AVX2        (1u << 0) /* with FMA and F16C */
#define ANEMO_CPU_AVX512      (1u << 1) /* F, BW, DQ, VL */
#define ANEMO_CPU_AVX512_VNNI (1u << 2)
#define ANEMO_CPU_AVX512_BF16 (1u << 3)
#define ANEMO_CPU_AVX512_VBMI (1u << 4)
#define ANEMO_CPU_NEON_DOT    (1u << 5)
#define ANEMO_CPU_NEON_I8MM   (1u << 6)
#define ANEMO_CPU_AMX_INT8    (1u << 7) /* with AMX-TILE, and leave of the kernel to use it */
#define ANEMO_CPU_AMX_BF16    (1u << 8) /* likewise, with AVX512-FP16 */
#define ANEMO_CPU_AMX_FP16    (1u << 9) /* likewise */

typedef struct anemo_needs {
    uint32_t cpu_features;
    uint16_t min_capability; /* 10 * major + minor; 0 on the CPU */
    uint16_t exact_capability;
} anemo_needs;

/* CPU features that the processor has and the operating system saves (CPUID and XGETBV). */
uint32_t anemo_cpu_features(void);
const char *anemo_cpu_feature_name(uint32_t one_bit);

#define ANEMO_TRAIT_REFERENCE                                                                      \
    (1u << 0) /* double accumulation, supports every problem: the definition */
#define ANEMO_TRAIT_CAPTURABLE                                                                     \
    (1u << 1) /* no host synchronisation, no allocation: may be captured in a graph */
#define ANEMO_TRAIT_ROW_INVARIANT                                                                  \
    (1u << 2) /* a row's result depends on no other row, chunking or thread count */

/* ---------------------------------------------------------------- weights */

/* Canonical form of a weight matrix W[n, k]: rows of k codes, one scale (and offset) per group of
 * `group` columns.
 *
 *   float codes       v = x                          bits 32 (f32), 16 (f16, bf16)
 *   linear, none      v = s * (c - 2^(bits-1))       c unsigned
 *   linear, minimum   v = s * c - o
 *   linear, zero pt.  v = s * (c - o)
 *   table             v = s * table[c]               4-bit code maps (IQ4_NL, MXFP4, NF4)
 */
typedef enum anemo_code {
    ANEMO_CODE_F32,
    ANEMO_CODE_F16,
    ANEMO_CODE_BF16,
    ANEMO_CODE_LINEAR,
    ANEMO_CODE_TABLE
} anemo_code;
typedef enum anemo_scale {
    ANEMO_SCALE_NONE,
    ANEMO_SCALE_F16,
    ANEMO_SCALE_F32,
    ANEMO_SCALE_E8M0,
    ANEMO_SCALE_TWO_LEVEL
} anemo_scale;
typedef enum anemo_offset {
    ANEMO_OFFSET_NONE,
    ANEMO_OFFSET_MINIMUM,
    ANEMO_OFFSET_ZERO_POINT
} anemo_offset;

/* Plain data: part of problems, hashable. */
typedef struct anemo_weight_type {
    uint8_t code;   /* anemo_code */
    uint8_t bits;   /* 4, 5, 6, 8, 16, 32 */
    uint8_t scale;  /* anemo_scale */
    uint8_t offset; /* anemo_offset */
    int32_t group;  /* columns per scale: 16, 32, 64, 128; 0 = one scale per row; float codes: 0 */
    int8_t table[16];
} anemo_weight_type;

typedef struct anemo_weight anemo_weight;
struct anemo_weight {
    uint32_t size;
    anemo_weight_type type;
    int64_t n, k;
    const void *data;        /* as it lies in the file; only `read_row` knows its form */
    size_t canonical_bytes;  /* bytes of the file form, what roofs are computed from */
    const void *reader_data; /* for read_row: e.g. separate scale tensors */
    /* Decodes row `row`. Float codes: values[k] is filled, the others are untouched. Else codes[k],
     * scales[groups] and, unless offset is NONE, offsets[groups]; groups = anemo_weight_groups().
     * Thread-safe, no allocation. */
    void (*read_row)(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                     float *scales, float *offsets);
};

int64_t anemo_weight_groups(const anemo_weight_type *type,
                            int64_t k); /* scales per row; 0 for float codes */
const char *anemo_weight_type_name(const anemo_weight_type *type, char *buffer,
                                   size_t buffer_bytes); /* "q4:g32" */
/* The value of one code, in double: the definition above. */
double anemo_weight_value(const anemo_weight_type *type, uint8_t code, float scale, float offset);
/* Dequantises one row to float; scratch_bytes >= anemo_weight_scratch_bytes(k). */
void anemo_weight_row_f32(const anemo_weight *weight, int64_t row, float *values, void *scratch);
size_t anemo_weight_scratch_bytes(int64_t k);

/* A packed form. pack and unpack are pure functions over rows [row_begin, row_end), whose bounds
 * are multiples of `row_block` (or n); threads may pack disjoint ranges. unpack writes what
 * read_row would have given. */
typedef struct anemo_layout {
    uint32_t size;
    const char *name;  /* "w4_n16k8" */
    int32_t row_block; /* rows packed together */
    bool (*accepts)(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                    size_t why_bytes);
    size_t (*packed_bytes)(const anemo_weight_type *type, int64_t n, int64_t k);
    anemo_status (*pack)(const anemo_weight *weight, int64_t row_begin, int64_t row_end,
                         void *packed);
    anemo_status (*unpack)(const anemo_weight_type *type, int64_t n, int64_t k, const void *packed,
                           int64_t row, float *values, uint8_t *codes, float *scales,
                           float *offsets);
} anemo_layout;

/* ---------------------------------------------------------------- activation formats */

/* Rows of k floats in another form; one row is one contiguous record of row_bytes(k), so rows can
 * be gathered by index and a buffer of m rows is m records. "f32" is a registered format like the
 * others. */
typedef struct anemo_act {
    uint32_t size;
    const char *name;  /* "f32", "bf16", "f16_row", "a8_row", "a8_g32", "a8_g128" */
    int32_t group;     /* columns per scale; 0 = one per row; -1 = no scales */
    int32_t code_bits; /* 32, 16, 8 */
    size_t (*row_bytes)(int64_t k);
} anemo_act;

/* The a8 record: int8 codes[kp], float scales[groups], int32 sums[groups] (sum of the group's
 * codes), padded to an odd number of 64-byte lines (rows then fall into different sets of a cache).
 * kp = k rounded up to 128; padding codes are 0. groups = kp / group, or 1. scale = max|x| / 127
 * over the group, code = round-half-even(x * (127 / max|x|)) with max|x| = 0 giving zeros, as does
 * a max|x| so small that 127 / max|x| overflows. NaN or infinity in a group: its scale is NaN and
 * its codes are 0, so that what reads it becomes NaN. All padding bytes are 0. The bf16 record:
 * bfloat16[k], rounded to nearest even, zero-padded to 64 bytes.
 *
 * The f16_row record: float16[k], zero-padded to 64 bytes, float scale, zero-padded to 64 bytes.
 * scale = 2^(e - 14) for the largest 2^e <= max|x| of the row, at least 2^-126, so that codes begin
 * below 2^15 and small ones keep their bits; code = x / scale (a float), rounded to nearest even.
 * NaN or infinity in a row as in a8's group. */
int64_t anemo_a8_padded_k(int64_t k);
int64_t anemo_a8_groups(int32_t group, int64_t k);
size_t anemo_f16_row_scale_at(int64_t k);        /* bytes from the record to its scale */
size_t anemo_a8_bytes(int32_t group, int64_t k); /* of a record, with its padding */

/* ---------------------------------------------------------------- execution */

typedef struct anemo_exec anemo_exec;
/* Work on items [begin, end) of a parallel loop; `thread` is 0 .. n_threads-1. */
typedef void (*anemo_task)(void *ctx, int64_t begin, int64_t end, int thread);

struct anemo_exec {
    uint32_t size;
    int32_t n_threads;
    /* Runs task over [0, n) in pieces of at least `grain` items; returns when all are done. grain 0
     * = one equal piece per thread. Not nestable. */
    void (*parallel)(const anemo_exec *exec, int64_t n, int64_t grain, anemo_task task, void *ctx);
    void *team;      /* owned by whoever made the exec */
    void *stream;    /* CUDA: cudaStream_t */
    void *libraries; /* CUDA: anemo_cuda_libraries (device.h) */
    void *workspace; /* backend memory, 64-byte aligned (CUDA: 256) */
    size_t workspace_bytes;
    void (*mark)(const anemo_exec *exec, int32_t phase); /* time ledger; NULL in headline runs */
    void *mark_ctx;
    int32_t rank, world; /* 0, 1 until several devices share a step */
};

/* ---------------------------------------------------------------- variants */

typedef struct anemo_variant {
    uint32_t size;
    const char
        *name; /* <op>_<dtypes>_<idea>_<isa>: file stem = function = registry = records = plots */
    anemo_op op;
    anemo_backend backend;
    anemo_needs needs;
    const char *layout; /* weight layout it reads; NULL = the canonical form through read_row */
    const char *act; /* activation format it reads (qgemm, moe_experts) or writes (quantize_act), or
                        to which it rounds float operands itself (swa); NULL = float */
    uint32_t traits;
    int32_t m_from;   /* fewest rows for which a plan picks it by itself (0 = any), of moe_experts
                         those   that an expert has on average; --with may always */
    const char *idea; /* one line for `anemo list` */
    bool (*accepts)(const void *problem, char *why, size_t why_bytes);
    size_t (*workspace_bytes)(const void *problem, int32_t n_threads);
    anemo_status (*run)(const anemo_exec *exec, const void *problem, const void *args);
} anemo_variant;

/* ---------------------------------------------------------------- op: qgemm */

/* y_p[m, n_p] = x[m, k] W_p[n_p, k]^T (+ bias_p) for each of 1..3 parts that share x (q, k and v;
 * gate and up), then: STORE    y_p = result ADD      y_p += result                      (output
 * projection + residual) ACT_MUL  y_0 = act(result_0) * result_1     (two parts of equal n:
 * gate_up_act) DESIGN's dense ops qkv, gate_up_act and gemm+residual are these forms, so each GEMM
 * variant serves them all. */
#define ANEMO_QGEMM_PARTS 3
typedef enum anemo_epilogue { ANEMO_EPI_STORE, ANEMO_EPI_ADD, ANEMO_EPI_ACT_MUL } anemo_epilogue;
typedef enum anemo_activation {
    ANEMO_ACT_SILU,        /* act(g) * u with act(g) = g / (1 + exp(-g)) */
    ANEMO_ACT_SILU_CLAMPED /* gpt-oss: g = min(g, 7), u = clamp(u, -7, 7): (u + 1) * g / (1 +
                              exp(-1.702 g)) */
} anemo_activation;

typedef struct anemo_qgemm_problem {
    uint32_t size;
    int32_t n_parts;
    int64_t m_max; /* rows at most */
    int64_t k;
    int64_t n[ANEMO_QGEMM_PARTS];
    anemo_weight_type type[ANEMO_QGEMM_PARTS];
    int32_t has_bias;   /* bit p: part p has a bias */
    int32_t epilogue;   /* anemo_epilogue */
    int32_t activation; /* anemo_activation, for ACT_MUL */
} anemo_qgemm_problem;

typedef struct anemo_qgemm_args {
    uint32_t size;
    int64_t m;     /* <= m_max */
    const void *x; /* m records of the variant's activation format */
    /* Per part: the packed weight if the variant names a layout, else a pointer to the
     * anemo_weight. */
    const void *weight[ANEMO_QGEMM_PARTS];
    const float *bias[ANEMO_QGEMM_PARTS]; /* float[n_p] or NULL */
    float *y[ANEMO_QGEMM_PARTS];
    int64_t y_stride[ANEMO_QGEMM_PARTS]; /* elements between rows of y_p, >= n_p */
} anemo_qgemm_args;

/* ---------------------------------------------------------------- op: quantize_act */

typedef struct anemo_quantize_act_problem {
    uint32_t size;
    int64_t m_max, k;
} anemo_quantize_act_problem;

typedef struct anemo_quantize_act_args {
    uint32_t size;
    int64_t m;
    const float *x; /* [m, k] */
    void *out;      /* m records of the variant's activation format; bit-exact */
} anemo_quantize_act_args;

/* ---------------------------------------------------------------- op: moe */

typedef enum anemo_moe_score { ANEMO_MOE_SOFTMAX, ANEMO_MOE_SIGMOID } anemo_moe_score;

/* ANEMO_E_NUMERIC, with the plan unspecified: a NaN or +infinity among the logits, a row without a
 * finite one, a NaN bias, or weights to renormalise that sum to 0. A logit of -infinity switches an
 * expert off. On CUDA, where `run` has ended before the logits are read, the token's weights become
 * NaN instead, its experts any top_k different ones, and the rest of the plan is as ever: the NaN
 * reaches the logits of the model, and whoever waits for those is told. */
typedef struct anemo_moe_route_problem {
    uint32_t size;
    int64_t tokens_max;
    int32_t n_experts, top_k;
    int32_t score;       /* anemo_moe_score over all experts */
    int32_t renormalise; /* divide the chosen weights by their sum */
    float scale;         /* multiplies the weights at the end; 1 for Mixtral */
} anemo_moe_route_problem;

/* The dispatch plan. R = tokens * top_k rows, sorted by expert, within an expert by token (stable).
 */
typedef struct anemo_moe_plan {
    uint32_t size;
    int32_t *expert;    /* [tokens, top_k] chosen experts, best first; ties to the lower index */
    float *weight;      /* [tokens, top_k] */
    int32_t *count;     /* [n_experts] rows of each expert */
    int32_t *offset;    /* [n_experts + 1] first sorted row of each expert */
    int32_t *row_token; /* [R] sorted row -> token */
    int32_t *row_of;    /* [tokens, top_k] -> sorted row */
} anemo_moe_plan;

typedef struct anemo_moe_route_args {
    uint32_t size;
    int64_t tokens;
    const float *logits;         /* [tokens, n_experts] */
    const float *selection_bias; /* [n_experts] or NULL: added to the score for choosing only */
    anemo_moe_plan plan;         /* written */
} anemo_moe_route_args;

/* rows[r] = W2_e ( act(W1_e x) * (W3_e x) ) for each sorted row r of expert e in [expert_begin,
 * expert_end). gate = W1 [ffn, d], up = W3 [ffn, d], down = W2 [d, ffn]. */
typedef struct anemo_moe_experts_problem {
    uint32_t size;
    int64_t tokens_max;
    int32_t n_experts, top_k;
    int32_t expert_begin, expert_end; /* this rank's share; all: 0, n_experts */
    int64_t d, ffn;
    anemo_weight_type gate, up, down;
    int32_t activation; /* anemo_activation */
    int32_t has_bias;   /* bit 0 gate, 1 up, 2 down */
} anemo_moe_experts_problem;

typedef struct anemo_moe_experts_args {
    uint32_t size;
    int64_t tokens;
    const void *x; /* [tokens] records of the variant's activation format: not gathered, rows are
                      found by row_token */
    anemo_moe_plan plan;
    const void *const
        *gate; /* [n_experts] packed weights, or anemo_weight pointers (layout NULL) */
    const void *const *up;
    const void *const *down;
    const float *gate_bias, *up_bias,
        *down_bias; /* [n_experts, ffn], [n_experts, ffn], [n_experts, d] or NULL */
    float *rows;    /* [R, d], sorted order */
} anemo_moe_experts_args;

/* y[t] = (accumulate ? y[t] : 0) + shared[t] + sum over j = 0 .. top_k-1, in this order, of
 * weight[t,j] rows[row_of[t,j]] */
typedef struct anemo_moe_combine_problem {
    uint32_t size;
    int64_t tokens_max, d;
    int32_t top_k;
    int32_t accumulate;
} anemo_moe_combine_problem;

typedef struct anemo_moe_combine_args {
    uint32_t size;
    int64_t tokens;
    const float *rows;   /* [R, d] */
    const float *shared; /* [tokens, d] output of a shared expert, or NULL */
    anemo_moe_plan plan;
    float *y; /* [tokens, d] */
} anemo_moe_combine_args;

/* ---------------------------------------------------------------- paged KV, op: swa, op:
 * rope_append */

typedef enum anemo_kv_type { ANEMO_KV_F32, ANEMO_KV_F16, ANEMO_KV_BF16, ANEMO_KV_Q8 } anemo_kv_type;

/* A page holds `page_tokens` positions of one layer: first K, then V, each
 * [n_kv_heads][page_tokens] vectors of head_dim elements. q8: a vector is float scale (max|x| /
 * 127) and then int8[head_dim], x / scale rounded to nearest, padded to 4 bytes. */
const char *anemo_kv_type_name(anemo_kv_type type); /* "f32", "f16", "bf16", "q8" */
bool anemo_kv_type_from_name(const char *name, anemo_kv_type *type);
size_t anemo_kv_vector_bytes(anemo_kv_type type, int32_t head_dim);
size_t anemo_kv_page_bytes(anemo_kv_type type, int32_t n_kv_heads, int32_t head_dim,
                           int32_t page_tokens);

typedef struct anemo_kv_shape {
    int32_t n_heads, n_kv_heads,
        head_dim; /* query head h reads kv head h / (n_heads / n_kv_heads) */
    int32_t page_tokens;
    int32_t type; /* anemo_kv_type */
} anemo_kv_shape;

/* The rows of a step, grouped by sequence, and where each sequence's keys lie. All arrays are
 * backend memory. Row r of sequence s (row_start[s] <= r < row_start[s+1]) has absolute position
 *     length[s] - (row_start[s+1] - r),
 * i.e. `length` counts the rows of this step. Keys exist for positions first[s] .. length[s]-1;
 * first[s] is a multiple of page_tokens. Position p lies in page pages[table_start[s] + (p -
 * first[s]) / page_tokens], slot p % page_tokens, and page number i at pool + i * page bytes. */
typedef struct anemo_kv_view {
    uint32_t size;
    int32_t n_sequences;
    const int32_t *row_start; /* [n_sequences + 1] */
    const int64_t *first;     /* [n_sequences] */
    const int64_t *length;    /* [n_sequences] */
    const int32_t *table_start;
    const int32_t *pages;
    void *pool;
} anemo_kv_view;

/* out[r, h] = sum_j softmax_j(scale q[r,h] . k[j]) v[j] over 0 <= i - j < window (window 0: all j
 * <= i), where i is the row's position. With sinks, exp(sink[h]) joins the denominator only. */
typedef struct anemo_swa_problem {
    uint32_t size;
    int64_t rows_max;
    int32_t sequences_max;
    int64_t context_max;
    anemo_kv_shape kv;
    int64_t window;
    float scale;
    int32_t has_sinks;
} anemo_swa_problem;

typedef struct anemo_swa_args {
    uint32_t size;
    int64_t rows;
    const float *q; /* [rows, n_heads, head_dim], rotated */
    anemo_kv_view kv;
    const float *sinks; /* [n_heads] or NULL */
    float *out;         /* [rows, n_heads, head_dim] */
} anemo_swa_args;

typedef enum anemo_rope_pairing {
    ANEMO_ROPE_HALF,       /* pairs (i, i + rotary/2): Hugging Face files */
    ANEMO_ROPE_INTERLEAVED /* pairs (2i, 2i+1): Mistral consolidated, GGUF llama */
} anemo_rope_pairing;

typedef struct anemo_rope_problem {
    uint32_t size;
    int64_t rows_max;
    int32_t sequences_max;
    anemo_kv_shape kv;
    int32_t rotary_dims; /* <= head_dim; the rest passes unrotated */
    int32_t pairing;     /* anemo_rope_pairing */
    float magnitude;     /* multiplies cos and sin (YaRN); 1 otherwise */
    /* q *= 1 + temperature * ln(1 + floor(position / temperature_period)) behind the rotation, all
     * of its elements (Llama 4, Ministral 3); temperature 0: not, and the period is not read. */
    float temperature;
    int64_t temperature_period;
} anemo_rope_problem;

typedef struct anemo_rope_args {
    uint32_t size;
    int64_t rows;
    float *q;       /* [rows, n_heads, head_dim], rotated in place */
    float *k;       /* [rows, n_kv_heads, head_dim], rotated in place */
    const float *v; /* [rows, n_kv_heads, head_dim] */
    const float
        *inv_freq;    /* [rotary_dims / 2]: angle = position * inv_freq[i], product in double */
    anemo_kv_view kv; /* k and v are converted to the page type and written to their slots */
} anemo_rope_args;

/* ---------------------------------------------------------------- ops: add_rmsnorm, embed, sample
 */

typedef struct anemo_add_rmsnorm_problem {
    uint32_t size;
    int64_t m_max, d;
    float eps;
    int32_t add; /* x += delta first */
} anemo_add_rmsnorm_problem;

typedef struct anemo_add_rmsnorm_args {
    uint32_t size;
    int64_t m;
    float *x;            /* [m, d], updated when add */
    const float *delta;  /* [m, d] or NULL */
    const float *weight; /* [d] */
    const int32_t
        *rows; /* [m] or NULL; row i of y is made from row rows[i] of x (then add must be 0) */
    float *y;  /* [m, d] = x / sqrt(mean(x^2) + eps) * weight */
} anemo_add_rmsnorm_args;

typedef struct anemo_embed_problem {
    uint32_t size;
    int64_t m_max, vocab, d;
    anemo_weight_type type;
} anemo_embed_problem;

typedef struct anemo_embed_args {
    uint32_t size;
    int64_t m;
    const int32_t *ids; /* [m], 0 <= id < vocab: checked by the caller */
    const void *weight; /* packed if the variant names a layout, else the anemo_weight [vocab, d] */
    float *y;           /* [m, d] */
} anemo_embed_args;

/* Temperature 0: argmax, ties to the lower index. Else softmax(logits / temperature) restricted to
 * the top_k largest (0 = all) and then, in the order (logit descending, index), to the shortest
 * prefix whose mass reaches top_p of theirs (at least one token). u = anemo_philox_uniform(seed,
 * counter) picks the first kept token, walking in index order, whose running mass exceeds u *
 * total: the same stream on every backend. A row with a NaN, or without a logit above -infinity,
 * gives id -1. */
typedef struct anemo_sample_params {
    float temperature, top_p;
    int32_t top_k;
    int32_t reserved;
    uint64_t seed, counter;
} anemo_sample_params;

typedef struct anemo_sample_problem {
    uint32_t size;
    int64_t m_max, vocab;
} anemo_sample_problem;

typedef struct anemo_sample_args {
    uint32_t size;
    int64_t m;
    const float *logits;               /* [m, vocab] */
    const anemo_sample_params *params; /* [m] */
    int32_t *ids;                      /* [m] */
} anemo_sample_args;

/* First 32 random bits of Philox4x32-10 (Salmon et al. 2011) for this key and counter, as a double
 * in [0, 1). */
double anemo_philox_uniform(uint64_t seed, uint64_t counter);

/* ---------------------------------------------------------------- cost of a problem */

/* What a problem must move and compute at `m` rows (tokens, sequences of equal length `context` for
 * swa). Bytes are those of the canonical form; every byte counts once. */
typedef struct anemo_work {
    double weight_bytes, act_bytes, kv_bytes; /* read, read + written, read */
    double ops;                               /* multiply-adds count 2 */
} anemo_work;
anemo_work anemo_op_work(anemo_op op, const void *problem, int64_t m, int64_t context);
double anemo_weight_type_bits(const anemo_weight_type *type,
                              int64_t k); /* bits per weight, scales included */

/* ---------------------------------------------------------------- registry and plug-ins */

typedef struct anemo_plugin {
    uint32_t size;
    uint32_t abi_major, abi_minor;
    const char *name;
    int32_t n_variants, n_layouts, n_acts;
    const anemo_variant *const *variants;
    const anemo_layout *const *layouts;
    const anemo_act *const *acts;
} anemo_plugin;

/* The one symbol of a plug-in. */
#define ANEMO_PLUGIN_SYMBOL "anemo_plugin_entry"
typedef const anemo_plugin *(*anemo_plugin_entry_fn)(void);

/* Adds a plug-in's things; refuses another major ABI, short structs and name collisions, all or
 * nothing. Not thread-safe: before plans are made. */
anemo_status anemo_registry_add(const anemo_plugin *plugin, anemo_error *err);

int32_t anemo_variant_count(void);
int32_t anemo_variant_builtin_count(void); /* the first so many are built in */
const anemo_variant *
anemo_variant_at(int32_t index); /* built-in first, in ladder order, then plug-ins */
const anemo_variant *anemo_variant_find(const char *name);
const anemo_variant *
anemo_variant_reference(anemo_op op); /* quantize_act: has one per format, see _find */
int32_t anemo_layout_count(void);
const anemo_layout *anemo_layout_at(int32_t index);
const anemo_layout *anemo_layout_find(const char *name); /* NULL if unknown */
int32_t anemo_act_count(void);
const anemo_act *anemo_act_at(int32_t index);
const anemo_act *anemo_act_find(const char *name); /* NULL name = "f32" */

/* May this variant run here (features, compute capability `capability`, 0 = no GPU)? Says why not.
 */
bool anemo_variant_runs_here(const anemo_variant *variant, int32_t capability, char *why,
                             size_t why_bytes);
/* runs_here and accepts and its layout accepts every weight of the problem. */
bool anemo_variant_supports(const anemo_variant *variant, int32_t capability, const void *problem,
                            char *why, size_t why_bytes);

#ifdef __cplusplus
}
#endif
#endif
