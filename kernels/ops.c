/* Names of the ops, where each keeps its weights, and what each problem must move and compute.
 *
 * The work of a problem is a property of the op, not of a variant: every rival is measured against
 * the same bytes and operations. Bytes are those of the canonical form, each counted once however
 * often a variant really touches it; intermediate results that a fused kernel would keep in
 * registers count nothing. */
#include "kernels/internal.h"

#include <math.h>

static const char *const names[ANEMO_OP_COUNT] = {
#define ANEMO_OP_NAME(id, name, what) name,
    ANEMO_OPS(ANEMO_OP_NAME)
#undef ANEMO_OP_NAME
};

static const char *const summaries[ANEMO_OP_COUNT] = {
#define ANEMO_OP_SUMMARY(id, name, what) what,
    ANEMO_OPS(ANEMO_OP_SUMMARY)
#undef ANEMO_OP_SUMMARY
};

const char *anemo_op_name(anemo_op op) {
    return (unsigned)op < ANEMO_OP_COUNT ? names[op] : "unknown";
}

const char *anemo_op_summary(anemo_op op) {
    return (unsigned)op < ANEMO_OP_COUNT ? summaries[op] : "";
}

bool anemo_op_from_name(const char *name, anemo_op *op) {
    for (int i = 0; name && i < ANEMO_OP_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *op = (anemo_op)i;
            return true;
        }
    }
    return false;
}

int32_t anemo_problem_weights(anemo_op op, const void *problem, anemo_problem_weight out[3]) {
    switch (op) {
    case ANEMO_OP_QGEMM: {
        const anemo_qgemm_problem *p = problem;
        if (p->n_parts < 1 || p->n_parts > ANEMO_QGEMM_PARTS) {
            return -1;
        }
        for (int32_t i = 0; i < p->n_parts; i++) {
            out[i] = (anemo_problem_weight){&p->type[i], p->n[i], p->k};
        }
        return p->n_parts;
    }
    case ANEMO_OP_MOE_EXPERTS: {
        const anemo_moe_experts_problem *p = problem;
        out[0] = (anemo_problem_weight){&p->gate, p->ffn, p->d};
        out[1] = (anemo_problem_weight){&p->up, p->ffn, p->d};
        out[2] = (anemo_problem_weight){&p->down, p->d, p->ffn};
        return 3;
    }
    case ANEMO_OP_EMBED: {
        const anemo_embed_problem *p = problem;
        out[0] = (anemo_problem_weight){&p->type, p->vocab, p->d};
        return 1;
    }
    default:
        return 0;
    }
}

static double weight_bytes(anemo_problem_weight w) {
    return (double)w.n * (double)w.k * anemo_weight_type_bits(w.type, w.k) / 8.0;
}

/* x is read once as float; ADD reads and writes y. */
static anemo_work qgemm_work(const anemo_qgemm_problem *p, double m) {
    anemo_problem_weight w[3];
    anemo_work work = {.act_bytes = 4.0 * m * (double)p->k};
    const int32_t parts = anemo_problem_weights(ANEMO_OP_QGEMM, p, w);
    for (int32_t i = 0; i < parts; i++) {
        const double n = (double)p->n[i];
        const double y_touches = p->epilogue == ANEMO_EPI_ADD                ? 2.0
                                 : p->epilogue == ANEMO_EPI_ACT_MUL && i > 0 ? 0.0
                                                                             : 1.0;
        work.weight_bytes += weight_bytes(w[i]) + (p->has_bias >> i & 1 ? 4.0 * n : 0.0);
        work.act_bytes += 4.0 * m * n * y_touches;
        work.ops += 2.0 * m * n * (double)p->k;
    }
    return work;
}

/* Experts that m tokens touch under uniform routing: E (1 - (1 - top_k/E)^m); this rank's share. */
static anemo_work experts_work(const anemo_moe_experts_problem *p, double m) {
    const double n_experts = p->n_experts;
    const double share = (p->expert_end - p->expert_begin) / n_experts;
    const double touched = share * n_experts * (1.0 - pow(1.0 - p->top_k / n_experts, m));
    const double rows = m * p->top_k * share;
    const double d = (double)p->d, ffn = (double)p->ffn;
    anemo_problem_weight w[3];
    anemo_work work = {0};
    anemo_problem_weights(ANEMO_OP_MOE_EXPERTS, p, w);
    for (int i = 0; i < 3; i++) {
        const double bias = p->has_bias >> i & 1 ? 4.0 * (double)w[i].n : 0.0;
        work.weight_bytes += touched * (weight_bytes(w[i]) + bias);
    }
    work.act_bytes = 4.0 * (m * d + rows * d); /* tokens in, expert rows out */
    work.ops = 2.0 * rows * 3.0 * d * ffn;
    return work;
}

/* Keys seen by the last `rows` positions of a sequence of `length`, summed over the rows. */
static double visible_keys(double rows, double length, double window) {
    double sum = 0.0;
    const double first = length - rows + 1.0; /* keys of the first row without a window */
    if (window <= 0.0 || length <= window) {
        sum = rows * (first + length) / 2.0;
    } else if (first >= window) {
        sum = rows * window;
    } else {
        const double growing = window - first; /* rows that see less than a full window */
        sum = growing * (first + window - 1.0) / 2.0 + (rows - growing) * window;
    }
    return sum;
}

/* m rows spread evenly over min(m, sequences_max) sequences, each of length `context` with its rows
 * at the end. A key is read once per sequence however many rows and heads see it. */
static anemo_work swa_work(const anemo_swa_problem *p, int64_t m, int64_t context) {
    const anemo_kv_shape *kv = &p->kv;
    const int64_t sequences = m < p->sequences_max ? m : p->sequences_max;
    anemo_work work = {0};
    if (sequences < 1) {
        return work;
    }
    const double key_bytes =
        2.0 * kv->n_kv_heads * (double)anemo_kv_vector_bytes((anemo_kv_type)kv->type, kv->head_dim);
    const double window = (double)p->window;
    for (int longer = 0; longer < 2; longer++) { /* m % sequences of them hold one row more */
        const int64_t count = longer ? m % sequences : sequences - m % sequences;
        const double rows = (double)(m / sequences + longer);
        const double length = fmax((double)context, rows);
        if (count == 0 || rows == 0.0) {
            continue;
        }
        const double keys = window > 0.0 ? fmin(length, window + rows - 1.0) : length;
        work.kv_bytes += (double)count * keys * key_bytes;
        work.ops += (double)count * visible_keys(rows, length, window) * 4.0 * kv->head_dim *
                    kv->n_heads; /* q.k and p*v */
    }
    work.act_bytes = 2.0 * 4.0 * (double)m * kv->n_heads * kv->head_dim; /* q in, out */
    return work;
}

/* q and k read and written, v read, k and v written to their pages. */
static anemo_work rope_work(const anemo_rope_problem *p, double m) {
    const anemo_kv_shape *kv = &p->kv;
    const double q = (double)kv->n_heads * kv->head_dim, k = (double)kv->n_kv_heads * kv->head_dim;
    const double page =
        2.0 * kv->n_kv_heads * (double)anemo_kv_vector_bytes((anemo_kv_type)kv->type, kv->head_dim);
    return (anemo_work){.act_bytes = m * (4.0 * (2.0 * q + 2.0 * k + k) + page),
                        .ops = m * 3.0 * p->rotary_dims * ((double)kv->n_heads + kv->n_kv_heads)};
}

anemo_work anemo_op_work(anemo_op op, const void *problem, int64_t m_rows, int64_t context) {
    const double m = (double)m_rows;
    switch (op) {
    case ANEMO_OP_QGEMM:
        return qgemm_work(problem, m);
    case ANEMO_OP_QUANTIZE_ACT: { /* float in, 1 byte out: the smallest format, a lower bound */
        const anemo_quantize_act_problem *p = problem;
        return (anemo_work){.act_bytes = 5.0 * m * (double)p->k, .ops = 2.0 * m * (double)p->k};
    }
    case ANEMO_OP_MOE_ROUTE: { /* scores: exp, sum, divide; plan: 4 arrays of 4 bytes per choice */
        const anemo_moe_route_problem *p = problem;
        return (anemo_work){.act_bytes = m * (4.0 * p->n_experts + 16.0 * p->top_k),
                            .ops = m * (3.0 * p->n_experts + 2.0 * p->top_k)};
    }
    case ANEMO_OP_MOE_EXPERTS:
        return experts_work(problem, m);
    case ANEMO_OP_MOE_COMBINE: {
        const anemo_moe_combine_problem *p = problem;
        const double rows = m * p->top_k, d = (double)p->d;
        return (anemo_work){.act_bytes = 4.0 * d * (rows + m * (p->accumulate ? 2.0 : 1.0)),
                            .ops = 2.0 * rows * d};
    }
    case ANEMO_OP_SWA:
        return swa_work(problem, m_rows, context);
    case ANEMO_OP_ADD_RMSNORM: { /* x, y; with add also delta and x again; square, sum, 2 products
                                  */
        const anemo_add_rmsnorm_problem *p = problem;
        const double d = (double)p->d;
        return (anemo_work){.weight_bytes = 4.0 * d,
                            .act_bytes = 4.0 * m * d * (p->add ? 4.0 : 2.0),
                            .ops = m * d * (p->add ? 5.0 : 4.0)};
    }
    case ANEMO_OP_ROPE_APPEND:
        return rope_work(problem, m);
    case ANEMO_OP_EMBED: {
        const anemo_embed_problem *p = problem;
        const double d = (double)p->d;
        return (anemo_work){.weight_bytes = m * d * anemo_weight_type_bits(&p->type, p->d) / 8.0,
                            .act_bytes = 4.0 * m * d};
    }
    case ANEMO_OP_SAMPLE: {
        const anemo_sample_problem *p = problem;
        return (anemo_work){.act_bytes = 4.0 * m * ((double)p->vocab + 1.0),
                            .ops = 2.0 * m * (double)p->vocab};
    }
    case ANEMO_OP_COUNT:
        break;
    }
    return (anemo_work){0};
}
