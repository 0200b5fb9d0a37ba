#include "harness/measure/route_watch.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- load */

bool anemo_route_load_begin(anemo_route_load *load, int32_t n_experts) {
    *load = (anemo_route_load){.n_experts = n_experts,
                               .count = calloc((size_t)n_experts, sizeof *load->count)};
    return load->count != NULL;
}

void anemo_route_load_see(void *ctx, int32_t layer, int64_t tokens, int32_t top_k,
                          const int32_t *experts, const float *weights) {
    (void)layer;
    (void)weights;
    anemo_route_load *load = ctx;
    int32_t most = 0, touched = 0;
    memset(load->count, 0, (size_t)load->n_experts * sizeof *load->count);
    for (int64_t i = 0; i < tokens * top_k; i++) {
        const int32_t rows = ++load->count[experts[i]];
        touched += rows == 1;
        most = rows > most ? rows : most;
    }
    load->calls++;
    load->touched_sum += touched;
    load->imbalance_sum += most / ((double)(tokens * top_k) / load->n_experts);
}

void anemo_route_load_end(anemo_route_load *load) {
    if (load->calls > 0) {
        load->touched = load->touched_sum / (double)load->calls;
        load->imbalance = load->imbalance_sum / (double)load->calls;
    }
    free(load->count);
    load->count = NULL;
}

/* ---------------------------------------------------------------- traces */

/* One layer of one step: tokens * top_k ids from `at` on. */
typedef struct block {
    int32_t layer, top_k;
    int64_t step, tokens, at;
} block;

struct anemo_route_trace {
    block *blocks;
    int32_t *ids;
    int64_t n_blocks, block_room, n_ids, id_room;
    int64_t step, tokens;
    int32_t last_layer, n_layers;
    bool no_memory;
};

anemo_route_trace *anemo_route_trace_create(void) {
    anemo_route_trace *trace = calloc(1, sizeof *trace);
    if (trace) {
        trace->last_layer = -1;
    }
    return trace;
}

void anemo_route_trace_free(anemo_route_trace *trace) {
    if (trace) {
        free(trace->blocks);
        free(trace->ids);
        free(trace);
    }
}

int64_t anemo_route_trace_tokens(const anemo_route_trace *trace) {
    return trace->tokens;
}

/* Room for n more items of `bytes` each; false: there is none. */
static bool make_room(void *items, int64_t used, int64_t *room, int64_t n, size_t bytes) {
    if (used + n <= *room) {
        return true;
    }
    const int64_t wanted = 2 * (used + n) + 64;
    void *grown = realloc(*(void **)items, (size_t)wanted * bytes);
    if (grown) {
        *(void **)items = grown;
        *room = wanted;
    }
    return grown != NULL;
}

void anemo_route_trace_see(void *ctx, int32_t layer, int64_t tokens, int32_t top_k,
                           const int32_t *experts, const float *weights) {
    (void)weights;
    anemo_route_trace *t = ctx;
    const int64_t n = tokens * top_k;
    t->step += layer <= t->last_layer; /* layers come in order: a new step has begun */
    t->last_layer = layer;
    if (t->no_memory || !make_room(&t->ids, t->n_ids, &t->id_room, n, sizeof *t->ids) ||
        !make_room(&t->blocks, t->n_blocks, &t->block_room, 1, sizeof *t->blocks)) {
        t->no_memory = true;
        return;
    }
    memcpy(t->ids + t->n_ids, experts, (size_t)n * sizeof *t->ids);
    t->blocks[t->n_blocks++] =
        (block){.layer = layer, .top_k = top_k, .step = t->step, .tokens = tokens, .at = t->n_ids};
    t->n_ids += n;
    t->tokens += tokens;
    t->n_layers = layer + 1 > t->n_layers ? layer + 1 : t->n_layers;
}

static void write_block(const anemo_route_trace *t, const block *b, FILE *out) {
    fprintf(out, "# layer %d, step %lld: %lld token%s\n", b->layer, (long long)b->step,
            (long long)b->tokens, b->tokens == 1 ? "" : "s");
    for (int64_t i = 0; i < b->tokens * b->top_k; i++) {
        fprintf(out, "%d%c", t->ids[b->at + i], (i + 1) % b->top_k ? ' ' : '\n');
    }
}

anemo_status anemo_route_trace_write(const anemo_route_trace *trace, const char *model, FILE *out,
                                     anemo_error *err) {
    if (trace->no_memory) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the routing of %s beyond %lld tokens",
                          model, (long long)trace->tokens);
    }
    fprintf(out, "# experts of each token as the routers of %s chose them, best first\n", model);
    for (int32_t layer = 0; layer < trace->n_layers; layer++) {
        for (int64_t i = 0; i < trace->n_blocks; i++) {
            if (trace->blocks[i].layer == layer) {
                write_block(trace, &trace->blocks[i], out);
            }
        }
    }
    return ANEMO_OK;
}
