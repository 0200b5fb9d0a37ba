/* Inside of models/: what a plan holds. arch/ writes the forward pass over it, step.c drives it. */
#ifndef ANEMO_PLAN_H
#define ANEMO_PLAN_H

#include "models/engine/choose.h"
#include "models/engine/model.h"
#include "models/engine/packed_cache.h"
#include "models/engine/pages.h"

/* A weight on the device: canonical as mapped, and packed when the chosen variants read a layout.
 */
typedef struct anemo_matrix {
    anemo_weight canonical;
    const anemo_layout *layout; /* NULL: no packed form */
    const void *packed;         /* memory of the device, or a mapping of the packed cache */
    size_t packed_bytes;
    float *bias; /* [n], device memory; NULL: none */
} anemo_matrix;

/* A matrix product: the choice, and per row range how its input is put into the wanted activation
 * format. */
typedef struct anemo_gemm_call {
    anemo_choice choice;
    anemo_choice quantise[ANEMO_CHOICE_RANGES]; /* n_ranges = 0: the variant reads float */
} anemo_gemm_call;

typedef struct anemo_layer {
    float *attn_norm, *ffn_norm; /* [d], device memory, as all vectors */
    float *q_norm, *k_norm;      /* [head_dim], or NULL */
    float *sinks;                /* [heads], or NULL */
    const anemo_choice *swa;     /* with this layer's window: plan->swa or plan->swa_full */
    anemo_matrix q, k, v, o;
    anemo_matrix router;
    int64_t n_experts;                      /* 1 when dense */
    anemo_matrix *gate, *up, *down;         /* [n_experts] */
    float *gate_bias, *up_bias, *down_bias; /* [n_experts, ffn], ..., [n_experts, d], or NULL */
    const void *
        *expert_pointers; /* [3 * n_experts]: gate, up, down, as the experts' variant reads them */
    const void *const *expert_table; /* the same in memory of the backend */
    anemo_gemm_call qkv[3]; /* neighbours of one type share a call; in order, together 3 parts */
    int32_t n_qkv;
    anemo_gemm_call o_proj;
    anemo_gemm_call gate_up, down_proj;   /* dense */
    anemo_gemm_call router_proj, experts; /* MoE; experts.choice is of op moe_experts */
} anemo_layer;

/* Activations of one step, device memory; T = limits.tokens_per_step. */
typedef struct anemo_buffers {
    float *x;        /* [T, d] residual stream */
    float *h;        /* [T, d] normed */
    float *q;        /* [T, heads, head_dim] */
    float *k, *v;    /* [T, kv_heads, head_dim] */
    float *k_normed; /* [T, kv_heads, head_dim] where k has a norm */
    float *att;      /* [T, heads, head_dim] */
    float *ffn;      /* [T, ffn], dense */
    float *router;   /* [T, experts] */
    float *rows;     /* [T * top_k, d], MoE */
    void *act;       /* input of the current product in its activation format */
    anemo_moe_plan moe;
    float *head;   /* [logits_rows, d] */
    float *logits; /* [logits_rows, vocab] */
    /* Step inputs, uploaded once per step. */
    int32_t *ids, *row_start, *tail_start, *table_start, *pages, *logit_rows, *sampled;
    int64_t *first, *length;
    anemo_sample_params *params;
} anemo_buffers;

struct anemo_arch_family;
struct anemo_step_graph;

struct anemo_plan {
    anemo_model *model;
    anemo_device *device;
    anemo_exec exec;
    anemo_device *packers; /* CUDA: a team of the host's threads, while the plan is made */
    anemo_limits limits;   /* zeros replaced by their meaning */
    anemo_chooser chooser;
    anemo_route_observer on_route;
    void *on_route_ctx;
    anemo_pack_progress on_pack;
    void *on_pack_ctx;
    double packed_so_far;      /* canonical bytes */
    double mapped_bytes;       /* packed, in a mapping of the cache */
    anemo_packed_cache *cache; /* NULL: none asked for */
    char cache_note[1024];
    const struct anemo_arch_family *family;

    anemo_matrix embed_matrix, output_matrix;
    float *output_norm, *inv_freq;
    anemo_layer *layers;
    anemo_choice embed, rope, norm, head_norm, route, combine, sample;
    anemo_choice swa, swa_full;  /* of layers with the model's window, and of those without one */
    anemo_choice q_norm, k_norm; /* rows are heads */
    anemo_gemm_call output;

    anemo_buffers buf;
    size_t act_bytes;
    anemo_kv_shape kv_shape;
    anemo_pages pages;
    int64_t table_capacity; /* page table entries of one step */
    struct allocation *allocations;
    int64_t graph_rows;              /* steps of up to so many rows run CAPTURABLE variants only */
    struct anemo_step_graph *graphs; /* step_graph.c; NULL: none yet */
    char (*choice_text)[128];
    int32_t n_choice_texts;
    struct anemo_call_note *calls; /* different ones; plan_run.c */
    bool rounds_activations;       /* some product with a matrix does; then attention may, too */
    int32_t n_calls;

    /* The step in flight. */
    int64_t rows, n_logit_rows, n_sample_rows;
    int64_t serial;
    anemo_kv_view view;
    bool has_tail; /* the last layer drops rows; tail.c */
    int64_t tail_rows;
    struct anemo_pending *pending; /* [limits.sessions] */
    int32_t n_pending;
    struct anemo_host_step *host;
    int32_t n_sessions;
};

/* Device memory that the plan frees with itself; NULL and a sentence when there is none. */
void *anemo_plan_alloc(anemo_plan *plan, anemo_memory_use use, size_t bytes, const char *what,
                       anemo_error *err);

/* ---- resolving, used by arch/ while a plan is made */

anemo_status anemo_plan_matrix(anemo_plan *plan, anemo_tensor_role role, int64_t layer,
                               int64_t expert, anemo_matrix *out, anemo_error *err);
anemo_status anemo_plan_vector(anemo_plan *plan, anemo_tensor_role role, int64_t layer, float **out,
                               anemo_error *err);
/* Resolves a product of one to three matrices that share their input, and packs them. Biases must
 * be there before. */
anemo_status anemo_plan_gemm(anemo_plan *plan, const char *role, anemo_matrix *const *parts,
                             int32_t n_parts, anemo_epilogue epilogue, int64_t m_max,
                             anemo_gemm_call *out, anemo_error *err);
anemo_status anemo_plan_experts(anemo_plan *plan, anemo_layer *layer, anemo_gemm_call *out,
                                anemo_error *err);
/* Resolves an op without weights; choice->op, role and problem are set. */
anemo_status anemo_plan_choose(anemo_plan *plan, anemo_choice *choice, int64_t m_max,
                               anemo_error *err);

/* ---- running, used by arch/ in a step */

anemo_status anemo_plan_run(const anemo_plan *plan, const anemo_choice *choice, int64_t m,
                            const void *args);
/* y_p (op)= x W_p^T over m rows; x float [m, k]. */
anemo_status anemo_plan_run_gemm(const anemo_plan *plan, const anemo_gemm_call *call, int64_t m,
                                 const float *x, const anemo_matrix *const *parts, float *const *y,
                                 const int64_t *y_stride);
/* x in the format that `call` wants for m rows: x itself, or plan->buf.act filled from it. */
anemo_status anemo_plan_activations(const anemo_plan *plan, const anemo_gemm_call *call, int64_t m,
                                    const float *x, const void **out);

/* Hands the router's choice of this layer to the plan's observer. */
anemo_status anemo_plan_observe_route(const anemo_plan *plan, int64_t layer);

/* ---- pieces of a plan in other files */

int32_t anemo_phase_of(anemo_op op, const char *role); /* phases.c; PHASE_NONE: unknown */
int32_t anemo_phase_of_quantising(int32_t consumer);
/* Tells whoever watches the plan. */
static inline void anemo_plan_enter(const anemo_plan *plan, int32_t phase) {
    if (plan->exec.mark != NULL) {
        plan->exec.mark(&plan->exec, phase);
    }
}

anemo_status anemo_plan_foresee(const anemo_plan *plan, anemo_error *err); /* foresee.c */
/* pack.c: puts the matrix into `layout` (NULL: it stays canonical) unless it is there already. */
anemo_status anemo_plan_pack(anemo_plan *plan, anemo_matrix *matrix, const anemo_layout *layout,
                             anemo_error *err);
void anemo_plan_note_cache(anemo_plan *plan, const char *refused);         /* pack.c */
void anemo_plan_note_choice(anemo_plan *plan, const anemo_choice *choice); /* plan_run.c */
void anemo_plan_note_call(anemo_plan *plan, const anemo_choice *choice, int64_t m_max);
anemo_status anemo_plan_create_host(anemo_plan *plan, anemo_error *err); /* step.c */
void anemo_plan_free_host(anemo_plan *plan);

/* tail.c: the rows that the last layer goes on with. */
void anemo_tail_set(anemo_plan *plan);
int64_t anemo_layer_rows(const anemo_plan *plan, int64_t layer); /* behind its attention */
/* Leaves the tail of the residual stream in buf.x and that of `q` in `to`. */
anemo_status anemo_tail_take(const anemo_plan *plan, const float *q, float *to);

/* Runs `forward` on the step in flight: plainly, or as a graph (step_graph.c). */
typedef anemo_status (*anemo_forward)(const anemo_plan *plan);
anemo_status anemo_plan_forward(anemo_plan *plan, anemo_forward forward, anemo_error *err);
void anemo_plan_free_graphs(anemo_plan *plan);

#endif
