/* The pieces of the cost model. See model.h; the sums over months are in model_path.c. */
#include "harness/cost/finance.h"
#include "harness/cost/model_internal.h"

#include <math.h>
#include <stdlib.h>

#define CONTRACTED_OVER_PEAK 1.1 /* colocation is contracted above the peak power */

const char *anemo_cost_role_name(anemo_cost_role role) {
    static const char *const names[ANEMO_ROLE_COUNT] = {"in_use", "equal", "hosted",
                                                        "rented", "owned", "hybrid"};
    return names[role];
}

/* ---------------------------------------------------------------- demand */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

anemo_status anemo_cost_set_profile(anemo_cost_model *model, const double *weights,
                                    anemo_error *err) {
    double sum = 0;
    for (int h = 0; h < ANEMO_COST_HOURS_OF_WEEK; h++) {
        if (!(weights[h] >= 0) || !isfinite(weights[h]))
            return anemo_fail(err, ANEMO_E_INPUT, "profile[%d] is %g; weights are 0 or more", h,
                              weights[h]);
        sum += weights[h];
    }
    if (!(sum > 0))
        return anemo_fail(err, ANEMO_E_INPUT, "profile: every hour has the weight 0");
    for (int h = 0; h < ANEMO_COST_HOURS_OF_WEEK; h++)
        model->profile[h] = weights[h] * ANEMO_COST_HOURS_OF_WEEK / sum;
    qsort(model->profile, ANEMO_COST_HOURS_OF_WEEK, sizeof *model->profile, ascending);
    for (int h = 0; h < ANEMO_COST_HOURS_OF_WEEK; h++)
        model->profile_sum[h + 1] = model->profile_sum[h] + model->profile[h];
    return ANEMO_OK;
}

double anemo_cost_served_share(const anemo_cost_model *model, double capacity) {
    int lo = 0, hi = ANEMO_COST_HOURS_OF_WEEK; /* hours [0, lo) are served whole */
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (model->profile[mid] <= capacity)
            lo = mid + 1;
        else
            hi = mid;
    }
    return (model->profile_sum[lo] + capacity * (ANEMO_COST_HOURS_OF_WEEK - lo)) /
           ANEMO_COST_HOURS_OF_WEEK;
}

/* The busiest hour over the mean, after requests that can wait were moved into the quiet hours:
 * they fill up the troughs, so that the level is the peak of the rest, or the mean if that is
 * higher. */
static double peak_over_mean(const anemo_cost_model *model, const double *x) {
    double peak = (1 - x[ANEMO_G_BATCHABLE]) * model->profile[ANEMO_COST_HOURS_OF_WEEK - 1];
    return fmax(peak, 1) * x[ANEMO_G_BURST];
}

double anemo_cost_peak_rate(const anemo_cost_model *model, const double *x, double requests) {
    return requests / (COST_HOURS_PER_MONTH * 3600) * peak_over_mean(model, x);
}

/* ---------------------------------------------------------------- APIs */

static anemo_cost_change prices_at(const anemo_cost_option *o, double month) {
    anemo_cost_change now = {0, 1, 1, 1, 1};
    for (int32_t i = 0; i < o->n_changes; i++)
        if (o->change[i].month <= month)
            now = o->change[i];
    return now;
}

anemo_cost_api_unit anemo_cost_api_price(const anemo_cost_model *model, int32_t option,
                                         const double *x, double month) {
    const anemo_cost_option *o = &model->option[option];
    const double *a = x + o->first;
    const anemo_cost_change now = prices_at(o, month);
    double cached = x[ANEMO_G_CACHED], write = fmin(x[ANEMO_G_WRITE], 1 - cached);
    double batch = x[ANEMO_G_BATCHABLE];
    double all = a[ANEMO_A_REGION] * a[ANEMO_A_PRIORITY] * (1 + a[ANEMO_A_RETRY]) * 1e-6;
    double batched = batch * a[ANEMO_A_BATCH], cheap = (1 - batch) + batched;
    double in = a[ANEMO_A_P_IN] * now.input, out = a[ANEMO_A_P_OUT] * now.output;
    /* the price of cached input, averaged over what comes in batches */
    double in_cached = a[ANEMO_A_P_CACHED] * now.cached, in_write = a[ANEMO_A_P_WRITE] * now.write;
    double cached_all = in_cached * cheap, write_all = in_write * cheap;
    if (!o->cache_and_batch_stack) {
        cached_all = in_cached * (1 - batch) + in * batched;
        write_all = in_write * (1 - batch) + in * batched;
    }
    double in_tokens = 0, out_tokens = 0; /* as billed, brackets included */
    for (int32_t i = 0; i < model->n_lengths; i++) {
        const anemo_cost_class *c = &model->length[i];
        double in_one = c->in * x[ANEMO_G_IN] * a[ANEMO_A_K_IN];
        bool above = o->bracket_tokens > 0 && in_one > o->bracket_tokens;
        in_tokens += c->share * in_one * (above ? o->bracket_in : 1);
        out_tokens += c->share * c->out * x[ANEMO_G_OUT] * a[ANEMO_A_K_OUT] * a[ANEMO_A_REASONING] *
                      (above ? o->bracket_out : 1);
    }
    double per_in = x[ANEMO_G_IN] > 0 ? in_tokens / x[ANEMO_G_IN] : 0;
    double per_out = x[ANEMO_G_OUT] > 0 ? out_tokens / x[ANEMO_G_OUT] : 0;
    anemo_cost_api_unit unit = {.input = per_in * in * cheap * all * 1e6,
                                .cached = per_in * cached_all * all * 1e6,
                                .write = per_in * write_all * all * 1e6,
                                .output = per_out * out * cheap * all * 1e6};
    unit.request =
        all *
        (in_tokens * ((1 - cached - write) * in * cheap + cached * cached_all + write * write_all) +
         out_tokens * out * cheap);
    return unit;
}

/* ---------------------------------------------------------------- machines */

double anemo_cost_unit_seconds(const anemo_cost_model *model, int32_t option, const double *x) {
    const double *b = x + model->option[option].first;
    double cached = x[ANEMO_G_CACHED];
    double in = (1 - cached) * b[ANEMO_B_S_IN] + cached * b[ANEMO_B_S_CACHED];
    return (x[ANEMO_G_IN] * in + x[ANEMO_G_OUT] * b[ANEMO_B_S_OUT]) / b[ANEMO_B_SPEED];
}

double anemo_cost_server_rate(const anemo_cost_model *model, int32_t option, const double *x) {
    return model->option[option].units_per_server / anemo_cost_unit_seconds(model, option, x);
}

int32_t cost_servers_for(double peak_rate, double server_rate, double headroom) {
    double need = peak_rate / (server_rate * (1 - headroom));
    if (!(need > 0))
        return 0;
    /* a whole number that rounding has lifted by a hair needs no further server */
    need = ceil(need * (1 - 1e-12));
    return need < 1e6 ? (int32_t)need : 1000000;
}

int32_t anemo_cost_servers(const anemo_cost_model *model, int32_t option, const double *x,
                           double requests) {
    return cost_servers_for(anemo_cost_peak_rate(model, x, requests),
                            anemo_cost_server_rate(model, option, x), x[ANEMO_G_HEADROOM]);
}

double anemo_cost_server_watts(const anemo_cost_model *model, int32_t option, const double *x,
                               double u) {
    const double *b = x + model->option[option].first;
    double unit = b[ANEMO_B_IDLE] + (b[ANEMO_B_BUSY] - b[ANEMO_B_IDLE]) * u;
    return (model->option[option].units_per_server * unit + b[ANEMO_B_HOST]) / b[ANEMO_B_PSU];
}

void cost_running(const anemo_cost_model *model, int32_t option, const double *x, double n,
                  double u, anemo_cost_year *year) {
    const anemo_cost_option *o = &model->option[option];
    const double *b = x + o->first;
    double units = n * o->units_per_server;
    year->software = units * b[ANEMO_B_SOFTWARE];
    year->staff = (x[ANEMO_G_FTE] + n * x[ANEMO_G_FTE_EACH]) * x[ANEMO_G_FTE_COST] *
                  b[ANEMO_B_STAFF] * (n > 0);
    year->other = x[ANEMO_G_LUMP] * (n > 0);
    if (o->role == ANEMO_ROLE_RENTED) {
        year->rent = units * b[ANEMO_B_HOURLY] * b[ANEMO_B_ON_SHARE] * ANEMO_COST_HOURS_PER_YEAR;
        return;
    }
    double peak_kw = n * anemo_cost_server_watts(model, option, x, 1) / 1000;
    double mean_kw = n * anemo_cost_server_watts(model, option, x, u) / 1000;
    bool colocated = x[ANEMO_G_COLO] > 0;
    year->space = peak_kw * CONTRACTED_OVER_PEAK * x[ANEMO_G_COLO] * 12;
    if (!(colocated && o->power_in_colocation))
        year->energy = x[ANEMO_G_PUE] * (mean_kw * ANEMO_COST_HOURS_PER_YEAR * x[ANEMO_G_KWH] +
                                         peak_kw * x[ANEMO_G_DEMAND] * 12);
    year->upkeep = n * b[ANEMO_B_SERVER] * b[ANEMO_B_UPKEEP];
    year->failures = units * b[ANEMO_B_FAILURES] * b[ANEMO_B_UNIT];
}

anemo_cost_year anemo_cost_machine_year(const anemo_cost_model *model, int32_t option,
                                        const double *x, double requests_per_month,
                                        int32_t servers) {
    const anemo_cost_option *o = &model->option[option];
    const double *b = x + o->first;
    double rate = requests_per_month / (COST_HOURS_PER_MONTH * 3600);
    anemo_cost_year year = {.servers = servers};
    if (servers > 0)
        year.utilisation = rate / (servers * anemo_cost_server_rate(model, option, x));
    cost_running(model, option, x, servers, year.utilisation, &year);
    if (o->role == ANEMO_ROLE_OWNED) {
        double price = servers * b[ANEMO_B_SERVER], years = x[ANEMO_G_YEARS];
        double recovery = anemo_cost_capital_recovery(x[ANEMO_G_RATE], years);
        double residual = b[ANEMO_B_RESIDUAL] * price / pow(1 + x[ANEMO_G_RATE], years);
        year.capital = (price - residual) * recovery;
        year.network = price * b[ANEMO_B_NETWORK] * recovery;
    }
    year.total = year.capital + year.network + year.rent + year.energy + year.space + year.upkeep +
                 year.failures + year.software + year.staff + year.other;
    year.hourly_per_unit = year.total / (ANEMO_COST_HOURS_PER_YEAR * servers * o->units_per_server);
    return year;
}

anemo_cost_tokens anemo_cost_token_cost(const anemo_cost_model *model, int32_t option,
                                        const double *x, double requests_per_month,
                                        const anemo_cost_year *year) {
    const double *b = x + model->option[option].first;
    double requests = 12 * requests_per_month;
    double cached = requests * x[ANEMO_G_IN] * x[ANEMO_G_CACHED];
    double in = requests * x[ANEMO_G_IN] - cached, out = requests * x[ANEMO_G_OUT];
    double s_in = in * b[ANEMO_B_S_IN], s_cached = cached * b[ANEMO_B_S_CACHED],
           s_out = out * b[ANEMO_B_S_OUT], s = s_in + s_cached + s_out;
    anemo_cost_tokens t = {
        .in_share = s_in / s, .cached_share = s_cached / s, .out_share = s_out / s};
    t.in = in > 0 ? year->total * t.in_share * 1e6 / in : NAN;
    t.cached = cached > 0 ? year->total * t.cached_share * 1e6 / cached : NAN;
    t.out = out > 0 ? year->total * t.out_share * 1e6 / out : NAN;
    t.blended = year->total * 1e6 / (in + cached + out);
    t.request = year->total / requests;
    t.usage_factor = fmin(year->utilisation, 1);
    return t;
}
