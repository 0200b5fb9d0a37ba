/* The cost model: golden numbers of an independent prototype, and what must hold whatever the
 * numbers. */
#include "harness/cost/breakeven.h"
#include "harness/cost/capacity.h"
#include "harness/cost/finance.h"
#include "harness/cost/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#define REQUESTS_PER_MONTH (104.16666666666666 * 0.3 * 3600 * 8760 / 12)

static void assert_near(double value, double expected, double relative) {
    if (!(fabs(value - expected) <= relative * fabs(expected)))
        fail_msg("%.17g where %.17g is expected", value, expected);
}

static json_t *golden;
static int checked; /* golden outputs that were compared */

static void assert_golden(const char *key, double value) {
    const json_t *expected = json_object_get(json_object_get(golden, "outputs"), key);
    if (!json_is_number(expected))
        fail_msg("golden.json has no %s", key);
    assert_near(value, json_number_value(expected), 1e-9);
    checked++;
}

static int open_golden(void **state) {
    (void)state;
    golden = json_load_file(ANEMO_TEST_DIR "/data/cost/golden.json", 0, NULL);
    return golden ? 0 : -1;
}

static int close_golden(void **state) {
    (void)state;
    json_decref(golden);
    return 0;
}

/* ---------------------------------------------------------------- the golden scenario */

enum { OWNED, MINI, MIXTRAL, SMALL, LUNA, OPTIONS };

typedef struct scene {
    anemo_cost_model m;
    double x[ANEMO_COST_INPUTS_MAX];
} scene;

static double *add(scene *s, anemo_cost_role role, int32_t count) {
    int32_t first = s->m.n_inputs;
    s->m.option[s->m.n_options++] = (anemo_cost_option){.role = role, .first = first};
    s->m.n_inputs += count;
    return s->x + first;
}

static void add_api(scene *s, anemo_cost_role role, double in, double cached, double out,
                    double region) {
    double *a = add(s, role, ANEMO_A_COUNT);
    a[ANEMO_A_P_IN] = a[ANEMO_A_P_WRITE] = in;
    a[ANEMO_A_P_CACHED] = cached;
    a[ANEMO_A_P_OUT] = out;
    a[ANEMO_A_REGION] = region;
    a[ANEMO_A_BATCH] = 0.5;
    a[ANEMO_A_PRIORITY] = a[ANEMO_A_K_IN] = a[ANEMO_A_K_OUT] = a[ANEMO_A_REASONING] = 1;
    s->m.option[s->m.n_options - 1].cache_and_batch_stack = true;
}

/* What the inputs of golden.json say. */
static scene golden_scene(void) {
    scene s = {.m = {.n_inputs = ANEMO_G_COUNT, .n_lengths = 1, .length = {{1, 1, 1}}}};
    double flat[ANEMO_COST_HOURS_OF_WEEK], *x = s.x;
    for (int h = 0; h < ANEMO_COST_HOURS_OF_WEEK; h++)
        flat[h] = 1;
    assert_int_equal(anemo_cost_set_profile(&s.m, flat, NULL), ANEMO_OK);
    x[ANEMO_G_REQUESTS] = REQUESTS_PER_MONTH;
    x[ANEMO_G_IN] = 1024;
    x[ANEMO_G_OUT] = 256;
    x[ANEMO_G_CACHED] = 0.4;
    x[ANEMO_G_BATCHABLE] = 0.2;
    x[ANEMO_G_BURST] = 1;
    x[ANEMO_G_YEARS] = 4;
    x[ANEMO_G_RATE] = 0.08;
    x[ANEMO_G_KWH] = 0.19;
    x[ANEMO_G_PUE] = 1.54;
    x[ANEMO_G_FTE] = 0.25;
    x[ANEMO_G_FTE_COST] = 180000;
    double *b = add(&s, ANEMO_ROLE_OWNED, ANEMO_B_COUNT);
    s.m.option[OWNED].units_per_server = 8;
    b[ANEMO_B_SERVER] = 317000;
    b[ANEMO_B_UNIT] = 30000;
    b[ANEMO_B_RESIDUAL] = 0.1;
    b[ANEMO_B_NETWORK] = 0.03;
    b[ANEMO_B_FAILURES] = 0.04;
    b[ANEMO_B_UPKEEP] = 0.05;
    b[ANEMO_B_IDLE] = 70;
    b[ANEMO_B_BUSY] = 640;
    b[ANEMO_B_HOST] = 1500;
    b[ANEMO_B_PSU] = 0.94;
    b[ANEMO_B_STAFF] = b[ANEMO_B_SPEED] = 1;
    b[ANEMO_B_S_IN] = b[ANEMO_B_S_CACHED] = 1.0 / 30000;
    b[ANEMO_B_S_OUT] = 1.0 / 6000;
    add_api(&s, ANEMO_ROLE_IN_USE, 0.75, 0.075, 4.5, 1.1);
    add_api(&s, ANEMO_ROLE_HOSTED, 0.7, 0.7, 0.7, 1.0);
    add_api(&s, ANEMO_ROLE_EQUAL, 0.15, 0.015, 0.6, 1.0);
    add_api(&s, ANEMO_ROLE_EQUAL, 0.2, 0.02, 1.2, 1.1);
    return s;
}

static double yearly_saving(void *context, double requests_per_month) {
    const scene *s = context;
    anemo_cost_year y = anemo_cost_machine_year(&s->m, OWNED, s->x, requests_per_month, 1);
    return 12 * requests_per_month * anemo_cost_api_price(&s->m, MINI, s->x, 0).request - y.total;
}

static void golden_pieces(void **state) {
    (void)state;
    assert_golden("crf_8pct_4y", anemo_cost_capital_recovery(0.08, 4));
    assert_golden("crf_0_4y", anemo_cost_capital_recovery(0, 4));
    assert_golden("crf_10pct_5y", anemo_cost_capital_recovery(0.10, 5));
    assert_golden("kv_bytes_tok_mistral7b", anemo_kv_bytes_per_token(32, 8, 128, 2));
    assert_golden("kv_bytes_tok_mixtral8x7b", anemo_kv_bytes_per_token(32, 8, 128, 2));
    assert_golden("kv_bytes_tok_codestral22b", anemo_kv_bytes_per_token(56, 8, 128, 2));
    assert_golden("bpw_int4_g128_fp16scale", anemo_bits_per_weight(4, 16, 0, 128));
    assert_golden("bpw_int4_g128_scale_zp4", anemo_bits_per_weight(4, 16, 4, 128));
    assert_golden("mixtral_unique_experts_B1", anemo_experts_touched(8, 2, 1));
    assert_golden("mixtral_unique_experts_B2", anemo_experts_touched(8, 2, 2));
    assert_golden("mixtral_unique_experts_B4", anemo_experts_touched(8, 2, 4));
    assert_golden("mixtral_unique_experts_B8", anemo_experts_touched(8, 2, 8));
    assert_golden("mixtral_unique_experts_B16", anemo_experts_touched(8, 2, 16));
    assert_golden("mixtral_unique_experts_B32", anemo_experts_touched(8, 2, 32));
    assert_golden("erlangC_c8_a6", anemo_erlang_c(8, 6));
    assert_golden("spares_32gpu_afr4_lead60d_alpha5", anemo_spares(32, 0.04, 60, 0.05));
}

static void golden_machine(void **state) {
    (void)state;
    scene s = golden_scene();
    double rate = anemo_cost_server_rate(&s.m, OWNED, s.x);
    anemo_cost_year y = anemo_cost_machine_year(&s.m, OWNED, s.x, REQUESTS_PER_MONTH, 1);
    anemo_cost_tokens t = anemo_cost_token_cost(&s.m, OWNED, s.x, REQUESTS_PER_MONTH, &y);
    assert_int_equal(anemo_cost_servers(&s.m, OWNED, s.x, REQUESTS_PER_MONTH), 1);
    assert_golden("gpu_s_per_req", anemo_cost_unit_seconds(&s.m, OWNED, s.x));
    assert_golden("server_req_s_at_slo", rate);
    assert_golden("req_per_year", 12 * REQUESTS_PER_MONTH);
    assert_golden("annual_capex", y.capital);
    assert_golden("annual_electricity", y.energy);
    assert_golden("avg_kW_u30", anemo_cost_server_watts(&s.m, OWNED, s.x, 0.3) / 1000);
    assert_golden("annual_total", y.total);
    assert_golden("cost_per_req", t.request);
    assert_golden("share_in", t.in_share + t.cached_share);
    assert_golden("usd_per_Mtok_in", t.in);
    assert_near(t.cached, t.in, 1e-12); /* no prefix cache: cached input costs as much */
    assert_golden("usd_per_Mtok_out", t.out);
    assert_golden("usd_per_Mtok_blended", t.blended);
    assert_golden("busy_limit_usd_per_Mtok_out(U=1)", t.out * t.usage_factor);
    double busiest = (s.x[s.m.option[OWNED].first + ANEMO_B_BUSY] - 70) * 8 / 0.94 / 1000 * 1.54;
    assert_golden("energy_usd_per_req", busiest * 0.19 / (rate * 3600));
}

static void golden_bills(void **state) {
    (void)state;
    scene s = golden_scene();
    static const char *const keys[OPTIONS] = {
        [MINI] = "api_year_gpt-5.4-mini",
        [MIXTRAL] = "api_year_mixtral-8x7b@mistral",
        [SMALL] = "api_year_mistral-small-2603@mistral",
        [LUNA] = "api_year_gpt-5.6-luna",
    };
    for (int o = MINI; o < OPTIONS; o++)
        assert_golden(keys[o],
                      12 * REQUESTS_PER_MONTH * anemo_cost_api_price(&s.m, o, s.x, 0).request);
    assert_golden("api_per_req_gpt54mini", anemo_cost_api_price(&s.m, MINI, s.x, 0).request);
}

static void golden_decision(void **state) {
    (void)state;
    scene s = golden_scene();
    anemo_cost_interval won[4];
    assert_int_equal(anemo_cost_break_even(yearly_saving, &s, 1e4, 1e9, 200, won, 4), 1);
    assert_true(won[0].to_end && !won[0].from_start);
    assert_golden("breakeven_req_day", won[0].lo * 12 / 365);
    assert_golden("breakeven_util",
                  anemo_cost_machine_year(&s.m, OWNED, s.x, won[0].lo, 1).utilisation);
    anemo_cost_path own, api;
    s.x[s.m.option[MINI].first + ANEMO_A_DECLINE] = 0.2;
    assert_int_equal(anemo_cost_option_path(&s.m, OWNED, s.x, &own, NULL), 48);
    anemo_cost_option_path(&s.m, MINI, s.x, &api, NULL);
    assert_golden("npv48_vs_gpt54mini_decline20", api.present_value - own.present_value);
    assert_near(own.purchase, 317000 * 1.03, 1e-12);
}

static void every_golden_number_was_compared(void **state) {
    (void)state;
    assert_int_equal(checked, (int)json_object_size(json_object_get(golden, "outputs")));
}

/* ---------------------------------------------------------------- what must always hold */

/* A small generator of its own, so that the cases never change. */
static double next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-53;
}

static scene random_scene(uint64_t seed) {
    scene s = golden_scene();
    uint64_t r = seed * 977 + 1;
    for (int32_t i = 0; i < s.m.n_inputs; i++)
        s.x[i] *= 0.5 + next_random(&r);
    s.x[ANEMO_G_CACHED] = next_random(&r);
    s.x[ANEMO_G_BATCHABLE] = next_random(&r);
    s.x[ANEMO_G_YEARS] = 1 + floor(9 * next_random(&r));
    s.x[ANEMO_G_GROWTH] = next_random(&r) - 0.3;
    s.x[ANEMO_G_BURST] = 1 + next_random(&r);
    s.m.option[OWNED].redundant_servers = next_random(&r) < 0.5;
    s.x[ANEMO_G_REQUESTS] *= exp(6 * next_random(&r) - 2);
    return s;
}

static void token_costs_add_up_to_the_whole(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        scene s = random_scene(seed);
        double r = s.x[ANEMO_G_REQUESTS], in = 12 * r * s.x[ANEMO_G_IN];
        int32_t n = 1 + anemo_cost_servers(&s.m, OWNED, s.x, r);
        anemo_cost_year y = anemo_cost_machine_year(&s.m, OWNED, s.x, r, n);
        anemo_cost_tokens t = anemo_cost_token_cost(&s.m, OWNED, s.x, r, &y);
        double sum = t.in * in * (1 - s.x[ANEMO_G_CACHED]) + t.cached * in * s.x[ANEMO_G_CACHED] +
                     t.out * 12 * r * s.x[ANEMO_G_OUT];
        assert_near(sum * 1e-6, y.total, 1e-12);
        assert_near(t.blended * 1e-6 * 12 * r * (s.x[ANEMO_G_IN] + s.x[ANEMO_G_OUT]), y.total,
                    1e-12);
        assert_near(y.capital + y.network + y.energy + y.upkeep + y.failures + y.staff + y.other +
                        y.software + y.rent + y.space,
                    y.total, 1e-12);
    }
}

static bool is_money(const scene *s, int32_t i) {
    static const int global[] = {ANEMO_G_KWH, ANEMO_G_FTE_COST, ANEMO_G_LUMP, ANEMO_G_DEMAND,
                                 ANEMO_G_COLO};
    for (size_t k = 0; k < sizeof global / sizeof *global; k++)
        if (i == global[k])
            return true;
    i -= s->m.option[OWNED].first;
    if (i < 0)
        return false;
    if (i < ANEMO_B_COUNT)
        return i == ANEMO_B_SERVER || i == ANEMO_B_UNIT || i == ANEMO_B_HOURLY ||
               i == ANEMO_B_SOFTWARE;
    i = (i - ANEMO_B_COUNT) % ANEMO_A_COUNT;
    return i <= ANEMO_A_P_OUT || i == ANEMO_A_MONTHLY || i == ANEMO_A_COMMIT;
}

static void another_currency_scales_everything(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        scene s = random_scene(seed), t = s;
        for (int32_t i = 0; i < s.m.n_inputs; i++)
            t.x[i] *= is_money(&s, i) ? 7.5 : 1;
        for (int32_t o = 0; o < OPTIONS; o++) {
            anemo_cost_path a, b;
            anemo_cost_option_path(&s.m, o, s.x, &a, NULL);
            anemo_cost_option_path(&t.m, o, t.x, &b, NULL);
            assert_near(b.present_value, 7.5 * a.present_value, 1e-12);
            assert_int_equal(a.servers_last, b.servers_last);
        }
    }
}

static void servers_never_fall_as_the_volume_grows(void **state) {
    (void)state;
    scene s = golden_scene();
    int32_t before = 0;
    for (double v = 1; v < 1e11; v *= 1.01) {
        int32_t n = anemo_cost_servers(&s.m, OWNED, s.x, v);
        assert_true(n >= before && n >= 1);
        assert_true(n * anemo_cost_server_rate(&s.m, OWNED, s.x) * (1 + 1e-9) >=
                    anemo_cost_peak_rate(&s.m, s.x, v));
        before = n;
    }
    assert_true(before > 100);
    assert_int_equal(anemo_cost_servers(&s.m, OWNED, s.x, 0), 0);
}

static void at_full_use_both_bases_agree(void **state) {
    (void)state;
    scene s = golden_scene();
    double full = REQUESTS_PER_MONTH / 0.3;
    anemo_cost_year y = anemo_cost_machine_year(&s.m, OWNED, s.x, full, 1);
    anemo_cost_tokens t = anemo_cost_token_cost(&s.m, OWNED, s.x, full, &y);
    assert_near(t.usage_factor, 1, 1e-12);
    assert_true(anemo_cost_token_cost(&s.m, OWNED, s.x, full / 2, &y).blended > 1.9 * t.blended);
}

static void flows_and_present_value_agree(void **state) {
    (void)state;
    double flow[ANEMO_COST_MONTHS_MAX + 1];
    for (uint64_t seed = 1; seed <= 100; seed++) {
        scene s = random_scene(seed);
        for (int32_t o = 0; o < OPTIONS; o++) {
            anemo_cost_path p;
            int32_t n = anemo_cost_option_path(&s.m, o, s.x, &p, flow);
            double pv =
                anemo_cost_present_value(flow, n + 1, anemo_cost_monthly_rate(s.x[ANEMO_G_RATE]));
            assert_near(pv, p.present_value, 1e-11);
        }
    }
}

static void corners_are_right(void **state) {
    (void)state;
    scene s = golden_scene();
    anemo_cost_path p;
    s.x[ANEMO_G_REQUESTS] = 0; /* nobody asks: no bill, no server */
    for (int32_t o = 0; o < OPTIONS; o++) {
        anemo_cost_option_path(&s.m, o, s.x, &p, NULL);
        assert_true(p.present_value == 0 && p.servers_last == 0);
    }
    s = golden_scene();
    s.x[ANEMO_G_RATE] = 0; /* no interest, whole residual value: only running costs are left */
    s.x[s.m.option[OWNED].first + ANEMO_B_RESIDUAL] = 1;
    s.x[s.m.option[OWNED].first + ANEMO_B_NETWORK] = 0;
    anemo_cost_year y = anemo_cost_machine_year(&s.m, OWNED, s.x, REQUESTS_PER_MONTH, 1);
    assert_true(y.capital == 0 && y.network == 0);
    anemo_cost_option_path(&s.m, OWNED, s.x, &p, NULL);
    assert_near(p.present_value, 4 * y.total, 1e-12);
    assert_near(p.first_year, y.total, 1e-12);
}

static void scheduled_prices_begin_in_their_month(void **state) {
    (void)state;
    scene s = golden_scene();
    double flow[ANEMO_COST_MONTHS_MAX + 1];
    anemo_cost_path p;
    s.m.option[MINI].change[0] = (anemo_cost_change){6, 2, 2, 2, 2};
    s.m.option[MINI].n_changes = 1;
    anemo_cost_option_path(&s.m, MINI, s.x, &p, flow);
    assert_near(flow[6], flow[1], 1e-12);
    assert_near(flow[7], 2 * flow[1], 1e-12);
}

static void long_requests_pay_their_bracket(void **state) {
    (void)state;
    scene s = golden_scene();
    double before = anemo_cost_api_price(&s.m, MINI, s.x, 0).request;
    s.m.option[MINI].bracket_tokens = 1500;
    s.m.option[MINI].bracket_in = 2;
    s.m.option[MINI].bracket_out = 1.5;
    assert_near(anemo_cost_api_price(&s.m, MINI, s.x, 0).request, before, 1e-12);
    s.m.n_lengths = 2; /* half of the requests have 1.8 times the mean, half 0.2 */
    s.m.length[0] = (anemo_cost_class){0.5, 0.2, 1};
    s.m.length[1] = (anemo_cost_class){0.5, 1.8, 1};
    /* by hand: input 1024 (0.1 + 0.9 * 2), output 256 (0.5 + 0.5 * 1.5) */
    double by_hand = (1024 * 1.9 * (0.6 * 0.75 + 0.4 * 0.075) + 256 * 1.25 * 4.5) * 0.9 * 1.1e-6;
    assert_near(anemo_cost_api_price(&s.m, MINI, s.x, 0).request, by_hand, 1e-12);
}

static void batch_without_cache_discount(void **state) {
    (void)state;
    scene s = golden_scene();
    s.m.option[MINI].cache_and_batch_stack = false;
    double ordinary = 1024 * (0.6 * 0.75 + 0.4 * 0.075) + 256 * 4.5;
    double batch = (1024 * 0.75 + 256 * 4.5) * 0.5;
    assert_near(anemo_cost_api_price(&s.m, MINI, s.x, 0).request,
                (0.8 * ordinary + 0.2 * batch) * 1.1e-6, 1e-12);
}

/* ---------------------------------------------------------------- hybrid */

static void hybrid_is_never_worse_than_its_ends(void **state) {
    (void)state;
    double office[ANEMO_COST_HOURS_OF_WEEK];
    for (int h = 0; h < ANEMO_COST_HOURS_OF_WEEK; h++)
        office[h] = h / 24 < 5 && h % 24 >= 8 && h % 24 < 18 ? 1 : 0.05;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        scene s = random_scene(seed);
        anemo_cost_path own, api, hybrid;
        s.x[ANEMO_G_GROWTH] = 0;
        assert_int_equal(anemo_cost_set_profile(&s.m, office, NULL), ANEMO_OK);
        s.m.option[OPTIONS] =
            (anemo_cost_option){.role = ANEMO_ROLE_HYBRID, .box = OWNED, .api = MINI};
        s.m.n_options = OPTIONS + 1;
        double pv = anemo_cost_plan_hybrid(&s.m, OPTIONS, s.x);
        anemo_cost_option_path(&s.m, OWNED, s.x, &own, NULL);
        anemo_cost_option_path(&s.m, MINI, s.x, &api, NULL);
        assert_true(pv <= api.present_value * (1 + 1e-12));
        assert_true(pv <= own.present_value * (1 + 1e-12) || api.present_value < own.present_value);
        s.x[ANEMO_G_SENSITIVE] = 0.3; /* now some machines are a must */
        double forced = anemo_cost_plan_hybrid(&s.m, OPTIONS, s.x);
        assert_true(forced >= pv * (1 - 1e-12));
        anemo_cost_option_path(&s.m, OPTIONS, s.x, &hybrid, NULL);
        assert_true(hybrid.servers_first >= 1 && hybrid.machine_share >= 0.3 - 1e-12);
        s.x[ANEMO_G_SENSITIVE] = 1; /* all of it: no API, the same as buying */
        double all = anemo_cost_plan_hybrid(&s.m, OPTIONS, s.x);
        assert_near(all, own.present_value, 1e-9);
    }
}

static void served_share_is_that_of_the_profile(void **state) {
    (void)state;
    scene s = golden_scene();
    double weights[ANEMO_COST_HOURS_OF_WEEK];
    for (int h = 0; h < ANEMO_COST_HOURS_OF_WEEK; h++)
        weights[h] = h % 5;
    assert_int_equal(anemo_cost_set_profile(&s.m, weights, NULL), ANEMO_OK);
    for (double c = 0; c < 3; c += 0.01) {
        double sum = 0;
        for (int h = 0; h < ANEMO_COST_HOURS_OF_WEEK; h++)
            sum += fmin(s.m.profile[h], c);
        assert_near(anemo_cost_served_share(&s.m, c) + 1, sum / ANEMO_COST_HOURS_OF_WEEK + 1,
                    1e-13);
    }
}

/* ---------------------------------------------------------------- the split */

static void the_split_finds_what_made_the_times(void **state) {
    (void)state;
    anemo_cost_mix mix[] = {{51200, 0, 25600, 0}, {102400, 0, 102400, 0}, {409600, 0, 51200, 0}};
    anemo_cost_split split;
    anemo_error err = {0};
    for (int i = 0; i < 3; i++)
        mix[i].busy_s = mix[i].in_uncached * 2e-5 + mix[i].out * 3e-4;
    assert_int_equal(anemo_cost_split_fit(mix, 3, &split, &err), ANEMO_OK);
    assert_near(split.in, 2e-5, 1e-9);
    assert_near(split.out, 3e-4, 1e-9);
    assert_near(split.cached, split.in, 1e-15);
    assert_false(split.cached_was_measured);
    assert_true(split.worst_residual < 1e-9 && split.r_squared > 1 - 1e-9 && split.condition < 10);
    assert_int_equal(anemo_cost_split_fit(mix, 2, &split, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "from 3 on"));
    for (int i = 0; i < 3; i++) { /* one ratio three times says nothing about the ratio */
        mix[i] = (anemo_cost_mix){1000 * (i + 1), 0, 200 * (i + 1), 0};
        mix[i].busy_s = mix[i].in_uncached * 2e-5 + mix[i].out * 3e-4;
    }
    assert_int_equal(anemo_cost_split_fit(mix, 3, &split, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "too alike"));
    mix[1].busy_s = NAN;
    assert_int_equal(anemo_cost_split_fit(mix, 3, &split, &err), ANEMO_E_INPUT);
}

static void the_split_is_never_negative(void **state) {
    (void)state;
    /* output seems free or better: least squares would make it negative */
    anemo_cost_mix mix[] = {
        {1000, 0, 100, 1.0}, {1000, 0, 500, 0.98}, {2000, 1000, 100, 2.1}, {3000, 0, 3000, 2.7}};
    anemo_cost_split split;
    assert_int_equal(anemo_cost_split_fit(mix, 4, &split, NULL), ANEMO_OK);
    assert_true(split.in > 0 && split.cached >= 0 && split.out == 0);
    assert_true(split.cached_was_measured);
}

static void queues_and_spares_have_sane_ends(void **state) {
    (void)state;
    assert_near(anemo_erlang_c(1, 0.5), 0.5, 1e-12); /* M/M/1: the load itself */
    assert_near(anemo_erlang_c(1, 0.9), 0.9, 1e-12);
    assert_true(anemo_erlang_c(4, 4) == 1 && anemo_erlang_c(4, 0) == 0);
    assert_int_equal(anemo_spares(0, 0.04, 60, 0.05), 0);
    assert_true(anemo_spares(1000, 0.05, 90, 0.05) > 12);
}

static void money_over_time(void **state) {
    (void)state;
    const double flow[] = {-100, 30, 30, 30, 30};
    assert_near(anemo_cost_payback_months(flow, 5, 0), 3 + 1.0 / 3, 1e-12);
    assert_true(anemo_cost_payback_months(flow, 5, 0.01) > 3 + 1.0 / 3);
    assert_true(isnan(anemo_cost_payback_months(flow, 4, 0)));
    double rate = anemo_cost_internal_rate(flow, 5);
    assert_true(fabs(anemo_cost_present_value(flow, 5, anemo_cost_monthly_rate(rate))) < 1e-9);
    const double twice[] = {-100, 300, -150, 10};
    assert_true(isnan(anemo_cost_internal_rate(twice, 4)));
}

static double steps(void *context, double v) {
    (void)context;
    return v - 130 * ceil(v / 150);
}

static void break_even_is_a_set_of_intervals(void **state) {
    (void)state;
    anemo_cost_interval won[8];
    int32_t n = anemo_cost_break_even(steps, NULL, 10, 1e4, 4000, won, 8);
    assert_int_equal(n, 7); /* 130 n to 150 n for n up to 6, and from 910 on for good */
    for (int32_t i = 0; i < 6; i++) {
        assert_near(won[i].lo, 130 * (i + 1), 1e-9);
        assert_near(won[i].hi, 150 * (i + 1), 1e-9);
    }
    assert_near(won[6].lo, 910, 1e-9);
    assert_true(won[6].to_end && !won[0].from_start);
    assert_int_equal(anemo_cost_break_even(steps, NULL, 10, 1e4, 4000, won, 2), 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_pieces),
        cmocka_unit_test(golden_machine),
        cmocka_unit_test(golden_bills),
        cmocka_unit_test(golden_decision),
        cmocka_unit_test(every_golden_number_was_compared),
        cmocka_unit_test(token_costs_add_up_to_the_whole),
        cmocka_unit_test(another_currency_scales_everything),
        cmocka_unit_test(servers_never_fall_as_the_volume_grows),
        cmocka_unit_test(at_full_use_both_bases_agree),
        cmocka_unit_test(flows_and_present_value_agree),
        cmocka_unit_test(corners_are_right),
        cmocka_unit_test(scheduled_prices_begin_in_their_month),
        cmocka_unit_test(long_requests_pay_their_bracket),
        cmocka_unit_test(batch_without_cache_discount),
        cmocka_unit_test(hybrid_is_never_worse_than_its_ends),
        cmocka_unit_test(served_share_is_that_of_the_profile),
        cmocka_unit_test(the_split_finds_what_made_the_times),
        cmocka_unit_test(the_split_is_never_negative),
        cmocka_unit_test(queues_and_spares_have_sane_ends),
        cmocka_unit_test(money_over_time),
        cmocka_unit_test(break_even_is_a_set_of_intervals),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
