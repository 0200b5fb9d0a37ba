/* Who computes what in the grouped kernels of experts (kernels/moe/grouped.h), on the host: however
 * rows fall on experts, every step of every tile is done once, the work of two workers differs by a
 * step, and every partial sum is found again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/moe/grouped.h"

enum { WORKERS_MAX = 2 * MOE_GROUPED_WORKERS };

/* One launch, walked. */
typedef struct walked {
    moe_grouped g;
    moe_grouped_table table;
    const int32_t *offset; /* of the plan */
    int32_t n_rows;
    int32_t *tile_rows;     /* [n_rows] rows of the tile that begins at a row; 0: none does */
    uint8_t *done;          /* [n_rows, row_tiles, steps], by the row at which the tile begins */
    int32_t *partial_tiles; /* [n_rows, row_tiles] partial sums of a tile */
    moe_grouped_item slot[2 * WORKERS_MAX]; /* what was written there; rows 0: nothing */
} walked;

static void fill_table(const moe_grouped *g, const int32_t *offset, moe_grouped_table *table) {
    table->full[0] = table->rest[0] = 0;
    for (int32_t e = 0; e < g->n_experts; e++) {
        const moe_grouped_share share = moe_grouped_share_of(g, offset, e);
        table->full[e + 1] = table->full[e] + share.full;
        table->rest[e + 1] = table->rest[e] + share.rest;
    }
}

/* An item's place and form. */
static void check_item(walked *w, const moe_grouped_item *item) {
    const moe_grouped *g = &w->g;
    assert_in_range(item->expert, g->expert_begin, g->expert_begin + g->n_experts - 1);
    assert_true(item->rows >= 1 && item->row_begin >= w->offset[item->expert] &&
                item->row_begin + item->rows <= w->offset[item->expert + 1]);
    assert_in_range(item->row_tile, 0, g->row_tiles - 1);
    assert_true(item->begin >= 0 && item->begin < item->end && item->end <= g->steps);
    assert_true(item->width <= g->widest && item->rows <= 8 * item->width);
    const int32_t padding = 8 * item->width - item->rows;
    assert_in_range(padding, 0, item->width <= 4 ? 7 : 15);
    int32_t *rows = &w->tile_rows[item->row_begin];
    assert_true(*rows == 0 || *rows == item->rows);
    *rows = item->rows;
}

/* All items of a worker; returns their cost. */
static int64_t walk_worker(walked *w, int32_t worker) {
    const moe_grouped *g = &w->g;
    moe_grouped_cursor at = moe_grouped_start(g, &w->table, worker);
    int64_t cost = 0;
    moe_grouped_item item;
    while (moe_grouped_next(g, &w->table, w->offset, &at, &item)) {
        check_item(w, &item);
        const int64_t tile = (int64_t)item.row_begin * g->row_tiles + item.row_tile;
        for (int32_t i = item.begin; i < item.end; i++)
            w->done[tile * g->steps + i]++;
        cost += (int64_t)(item.end - item.begin) * moe_grouped_cost(item.width);
        assert_int_equal(item.slot < 0, item.begin == 0 && item.end == g->steps);
        if (item.slot >= 0) {
            assert_int_equal(item.slot / 2, worker);
            assert_int_equal(w->slot[item.slot].rows, 0);
            w->slot[item.slot] = item;
            w->partial_tiles[tile]++;
        }
    }
    return cost;
}

/* As the joining grid does: each cut tile by one block, its pieces in the order of k. */
static int64_t find_again(walked *w) {
    const moe_grouped *g = &w->g;
    int64_t cuts = 0;
    for (int32_t b = 1; b < g->workers; b++) {
        moe_grouped_cut cut;
        if (!moe_grouped_cut_of(g, &w->table, w->offset, b, &cut))
            continue;
        const moe_grouped_item *tile = &cut.item;
        int32_t step = 0;
        for (int32_t i = cut.first; i <= cut.last; i++) {
            moe_grouped_item *piece = &w->slot[i == cut.first ? 2 * i + 1 : 2 * i];
            assert_true(piece->rows == tile->rows && piece->row_begin == tile->row_begin &&
                        piece->row_tile == tile->row_tile && piece->expert == tile->expert &&
                        piece->width == tile->width && piece->begin == step);
            step = piece->end;
            piece->rows = 0; /* read */
            w->partial_tiles[(int64_t)tile->row_begin * g->row_tiles + tile->row_tile]--;
        }
        assert_int_equal(step, g->steps);
        cuts++;
    }
    for (int32_t i = 0; i < 2 * g->workers; i++)
        assert_int_equal(w->slot[i].rows, 0);
    return cuts;
}

/* Every row of the range in one tile, every step of it once. */
static void check_cover(const walked *w) {
    const moe_grouped *g = &w->g;
    const int64_t steps = (int64_t)g->row_tiles * g->steps;
    int32_t next = w->offset[g->expert_begin];
    for (int32_t row = 0; row < w->n_rows; row++) {
        const bool begins = row == next && row < w->offset[g->expert_begin + g->n_experts];
        assert_int_equal(w->tile_rows[row] > 0, begins);
        bool good = true;
        for (int64_t i = 0; i < steps; i++)
            good &= w->done[row * steps + i] == begins;
        assert_true(good);
        next += begins ? w->tile_rows[row] : 0;
    }
    assert_int_equal(next, w->offset[g->expert_begin + g->n_experts]);
}

/* Returns the number of cut tiles. */
static int64_t check_launch(const moe_grouped *g, const int32_t *offset, int32_t all_experts) {
    const int32_t n_rows = offset[all_experts];
    const size_t tiles = (size_t)n_rows * (size_t)g->row_tiles;
    walked *w = calloc(1, sizeof *w);
    w->g = *g;
    w->offset = offset;
    w->n_rows = n_rows;
    w->tile_rows = calloc((size_t)n_rows + 1, sizeof *w->tile_rows);
    w->done = calloc(tiles * (size_t)g->steps + 1, 1);
    w->partial_tiles = calloc(tiles + 1, sizeof *w->partial_tiles);
    fill_table(g, offset, &w->table);
    const moe_grouped_line line = moe_grouped_line_of(g, &w->table);
    const int64_t wave = (int64_t)g->steps * moe_grouped_cost(g->widest);
    for (int32_t i = 0; i < g->workers; i++) {
        const int64_t cost = walk_worker(w, i) - line.waves * wave;
        const int64_t share = i < line.workers ? line.cost / line.workers : 0;
        if (llabs(cost - share) > moe_grouped_cost(g->widest))
            fail_msg("worker %d of %d: %lld on the line, a fair share is %lld", i, g->workers,
                     (long long)cost, (long long)share);
    }
    check_cover(w);
    const int64_t cuts = find_again(w);
    for (size_t i = 0; i < tiles; i++)
        assert_int_equal(w->partial_tiles[i], 0);
    free(w->tile_rows);
    free(w->done);
    free(w->partial_tiles);
    free(w);
    return cuts;
}

/* ---------------------------------------------------------------- small, exhaustively */

/* Counts around what changes a tile, on three experts in every order, all ranges. */
static void small_plans_are_covered(void **state) {
    static const int32_t counts[] = {0, 1, 7, 8, 9, 16, 17, 33, 48, 63, 64, 65, 130};
    enum { N = sizeof counts / sizeof *counts };
    int64_t cases = 0, cuts = 0;
    (void)state;
    for (int code = 0; code < N * N * N; code++) {
        int32_t offset[4] = {0};
        for (int e = 0, rest = code; e < 3; e++, rest /= N)
            offset[e + 1] = offset[e] + counts[rest % N];
        for (int32_t widest = 2; widest <= 8; widest *= 2, cases++) {
            const int32_t begin = code % 4 == 3, end = 3 - (code % 5 == 4);
            const moe_grouped g = {begin,
                                   end - begin,
                                   widest,
                                   1 + (int32_t)(cases * 7 % 40),
                                   1 + (int32_t)(cases % 4),
                                   1 + (int32_t)(cases % 11)};
            cuts += check_launch(&g, offset, 3);
        }
    }
    print_message("%lld plans, %lld cut tiles\n", (long long)cases, (long long)cuts);
    assert_true(cases > 6000 && cuts > 10000);
}

/* One expert: every count, every number of workers. */
static void one_expert_is_covered(void **state) {
    int64_t cases = 0, cuts = 0;
    (void)state;
    for (int32_t rows = 1; rows <= 140; rows++)
        for (int32_t workers = 1; workers <= 24; workers++, cases++) {
            const int32_t offset[] = {0, rows};
            const moe_grouped g = {0, 1, 8, workers, 2, 9};
            cuts += check_launch(&g, offset, 1);
        }
    print_message("%lld plans, %lld cut tiles\n", (long long)cases, (long long)cuts);
    assert_true(cuts > 5000);
}

/* ---------------------------------------------------------------- shapes of models */

enum routing { UNIFORM, ZIPF, ONE_EXPERT, EVERY_OTHER, ROUTINGS };
static const char *const routing_names[] = {"uniform", "zipf", "one expert", "every other empty"};

static uint32_t draw(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* top_k different experts per token; ONE_EXPERT: the same for all. */
static void route(enum routing law, int64_t tokens, int32_t n, int32_t top_k, int32_t *offset) {
    uint64_t state = 7;
    int32_t count[MOE_GROUPED_EXPERTS_MAX] = {0};
    for (int64_t i = 0; i < tokens; i++) {
        bool taken[MOE_GROUPED_EXPERTS_MAX] = {false};
        for (int32_t k = 0; k < top_k; k++) {
            int32_t e = k;
            while (law != ONE_EXPERT) {
                const double u = draw(&state) / 2147483648.0;
                e = law == ZIPF ? (int32_t)(n * u * u * u) : (int32_t)(n * u);
                e = law == EVERY_OTHER ? e / 2 * 2 : e;
                if (!taken[e])
                    break;
            }
            taken[e] = true;
            count[e]++;
        }
    }
    offset[0] = 0;
    for (int32_t e = 0; e < n; e++)
        offset[e + 1] = offset[e] + count[e];
}

typedef struct model_shape {
    const char *name;
    int32_t n, top_k;
    int64_t d, ffn;
} model_shape;

static const model_shape shapes[] = {{"mixtral", 8, 2, 4096, 14336},
                                     {"qwen3-30b", 128, 8, 2048, 768},
                                     {"gpt-oss", 32, 4, 2880, 2880}};

/* Both launches as the host sizes them, for each routing. */
static void models_are_covered(void **state) {
    static const int64_t tokens[] = {1, 3, 16, 64, 300, 1024};
    int64_t cuts = 0;
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
            for (int law = 0; law < ROUTINGS; law++) {
                const model_shape *s = &shapes[i];
                const anemo_moe_experts_problem p = {.tokens_max = tokens[t],
                                                     .n_experts = s->n,
                                                     .top_k = s->top_k,
                                                     .expert_end = s->n,
                                                     .d = s->d,
                                                     .ffn = s->ffn};
                const int32_t widest = tokens[t] <= 16 ? 2 : 8;
                const int64_t most = MOE_GROUPED_WORKERS * (widest == 2 ? 2 : 1);
                int32_t offset[MOE_GROUPED_EXPERTS_MAX + 1];
                route((enum routing)law, tokens[t], s->n, s->top_k, offset);
                const moe_grouped up =
                    moe_grouped_of(&p, tokens[t], widest, most, 128, s->ffn, s->d);
                const moe_grouped down =
                    moe_grouped_of(&p, tokens[t], widest, most, 256, s->d, s->ffn);
                const int64_t n =
                    check_launch(&up, offset, s->n) + check_launch(&down, offset, s->n);
                cuts += n;
                if (t == 0 && i == 0) {
                    print_message("%s, 1 token, %s: %d and %d workers, %lld cut tiles\n", s->name,
                                  routing_names[law], up.workers, down.workers, (long long)n);
                    assert_int_equal(up.workers, 264); /* a GPU is full */
                    assert_int_equal(down.workers, 264);
                }
            }
    assert_true(cuts > 1000);
}

/* No more workers than there is work for, whatever the plan: they are bounded at plan time. */
static void workers_do_not_exceed_the_work(void **state) {
    (void)state;
    for (int64_t tokens = 1; tokens <= 200; tokens++) {
        const anemo_moe_experts_problem p = {
            .tokens_max = tokens, .n_experts = 4, .top_k = 2, .expert_end = 4};
        const moe_grouped g = moe_grouped_of(&p, tokens, 8, 132, 128, 40, 70);
        const int64_t most = moe_tiles_max(2 * tokens, 4, 64) * 2 * 8 / MOE_GROUPED_LEAST_COST;
        assert_int_equal(g.row_tiles, 1);
        assert_int_equal(g.steps, 2);
        assert_int_equal(g.workers, most < 1 ? 1 : most > 132 ? 132 : most);
    }
}

/* ---------------------------------------------------------------- shared memory */

/* Every 16 bytes have a place of their own; eight lanes that are served at once meet 32 banks. */
static void tokens_in_shared_memory_meet_no_bank_twice(void **state) {
    (void)state;
    for (int32_t chunks = 1; chunks <= 4; chunks *= 2) {
        uint8_t used[64 * 4 * 4] = {0};
        for (int32_t token = 0; token < 64; token++)
            for (int32_t byte = 0; byte < chunks * 64; byte += 16) {
                const int32_t at = moe_grouped_token_at(chunks, token, byte);
                assert_in_range(at, 0, 64 * chunks * 64 - 16);
                assert_int_equal(at % 16, 0);
                assert_int_equal(used[at / 16]++, 0);
            }
        for (int32_t chunk = 0; chunk < chunks; chunk++)
            for (int32_t lane0 = 0; lane0 < 32; lane0 += 8) {
                uint32_t banks = 0; /* groups of four */
                for (int32_t lane = lane0; lane < lane0 + 8; lane++)
                    banks |=
                        1u << moe_grouped_token_at(chunks, lane / 4, chunk * 64 + lane % 4 * 16) /
                                  16 % 8;
                assert_int_equal(banks, 0xff);
            }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_plans_are_covered),
        cmocka_unit_test(one_expert_is_covered),
        cmocka_unit_test(models_are_covered),
        cmocka_unit_test(workers_do_not_exceed_the_work),
        cmocka_unit_test(tokens_in_shared_memory_meet_no_bank_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
