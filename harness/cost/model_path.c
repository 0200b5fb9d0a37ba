/* The months of an option, summed up. See model.h.
 *
 * This is what the Monte Carlo runs tens of thousands of times, so growth, price decline and
 * discount run as products from month to month instead of powers. Servers are whole: another one is
 * bought at the beginning of the month in which the peak would pass the capacity. Every server has
 * the same residual share at the end, the ones bought late as well: that is on the careful side. */
#include "harness/cost/finance.h"
#include "harness/cost/model_internal.h"

#include <math.h>

typedef struct months {
    int32_t n;
    double requests, growth;  /* of the month; factor per month */
    double discount, monthly; /* of the month's end; 1 / (1 + rate) */
    double price, decline;    /* of the month's middle */
    double pv, first_year, *flow;
    double change_month; /* the next price change */
} months;

static months months_start(const double *x, double decline, double *flow) {
    months m = {.n = (int32_t)lround(12 * x[ANEMO_G_YEARS]),
                .requests = x[ANEMO_G_REQUESTS],
                .growth = pow(1 + x[ANEMO_G_GROWTH], 1.0 / 12),
                .monthly = 1 / (1 + anemo_cost_monthly_rate(x[ANEMO_G_RATE])),
                .price = pow(1 - decline, 0.5 / 12),
                .decline = pow(1 - decline, 1.0 / 12),
                .flow = flow};
    if (m.n > ANEMO_COST_MONTHS_MAX)
        m.n = ANEMO_COST_MONTHS_MAX;
    m.discount = m.monthly;
    for (int32_t i = 0; flow && i <= m.n; i++)
        flow[i] = 0;
    return m;
}

static void pay(months *m, int32_t month, double cost) {
    m->pv += cost * m->discount;
    if (month <= 12)
        m->first_year += cost;
    if (m->flow)
        m->flow[month] += cost;
}

/* At the beginning of the month, which is the end of the one before. */
static void buy(months *m, int32_t month, double cost, double *purchase) {
    m->pv += cost * m->discount / m->monthly;
    if (month == 1)
        *purchase += cost;
    if (m->flow)
        m->flow[month - 1] += cost;
}

static void next(months *m) {
    m->requests *= m->growth;
    m->discount *= m->monthly;
    m->price *= m->decline;
}

/* ---------------------------------------------------------------- an API's bill */

typedef struct api_bill {
    const anemo_cost_model *model;
    const double *x;
    int32_t option;
    double request, monthly, commitment;
    int32_t changes; /* seen so far */
} api_bill;

static api_bill bill_start(const anemo_cost_model *model, int32_t option, const double *x) {
    const double *a = x + model->option[option].first;
    return (api_bill){.model = model,
                      .x = x,
                      .option = option,
                      .request = anemo_cost_api_price(model, option, x, 0).request,
                      .monthly = a[ANEMO_A_MONTHLY],
                      .commitment = a[ANEMO_A_COMMIT]};
}

static double bill_of(api_bill *bill, int32_t month, double requests, double price) {
    const anemo_cost_option *o = &bill->model->option[bill->option];
    while (bill->changes < o->n_changes && o->change[bill->changes].month <= month - 0.5) {
        bill->changes++;
        bill->request =
            anemo_cost_api_price(bill->model, bill->option, bill->x, month - 0.5).request;
    }
    double cost = requests * bill->request * price;
    return (cost > bill->commitment ? cost : bill->commitment) + bill->monthly;
}

static int32_t api_path(const anemo_cost_model *model, int32_t option, const double *x,
                        anemo_cost_path *path, double *flow) {
    months m = months_start(x, x[model->option[option].first + ANEMO_A_DECLINE], flow);
    api_bill bill = bill_start(model, option, x);
    for (int32_t month = 1; month <= m.n; month++, next(&m))
        pay(&m, month, bill_of(&bill, month, m.requests, m.price));
    *path = (anemo_cost_path){.first_year = m.first_year, .present_value = m.pv};
    return m.n;
}

/* ---------------------------------------------------------------- machines, alone or with an API
 */

/* What running costs do is linear in servers and in their mean load: cost = each n + busy n u. */
typedef struct running {
    double fixed, each, busy; /* a month */
} running;

static double running_total(const anemo_cost_year *y) {
    return y->rent + y->energy + y->space + y->upkeep + y->failures + y->software + y->staff +
           y->other;
}

static running running_of(const anemo_cost_model *model, int32_t option, const double *x) {
    anemo_cost_year one = {0}, two = {0}, used = {0};
    cost_running(model, option, x, 1, 0, &one);
    cost_running(model, option, x, 2, 0, &two);
    cost_running(model, option, x, 1, 1, &used);
    double first = running_total(&one), each = running_total(&two) - first;
    return (running){.fixed = (first - each) / 12,
                     .each = each / 12,
                     .busy = (running_total(&used) - first) / 12};
}

static int32_t machine_path(const anemo_cost_model *model, int32_t option, const double *x,
                            anemo_cost_path *path, double *flow) {
    const anemo_cost_option *o = &model->option[option];
    bool hybrid = o->role == ANEMO_ROLE_HYBRID;
    int32_t box = hybrid ? o->box : option;
    const anemo_cost_option *machine = &model->option[box];
    const double *b = x + machine->first;
    bool owned = machine->role == ANEMO_ROLE_OWNED;
    double price = owned ? b[ANEMO_B_SERVER] : 0, rate = anemo_cost_server_rate(model, box, x);
    double headroom = x[ANEMO_G_HEADROOM], n_servers = 0;
    double peak = anemo_cost_peak_rate(model, x, 1), mean = 1 / (COST_HOURS_PER_MONTH * 3600);
    double must = hybrid ? x[ANEMO_G_SENSITIVE] : 1; /* share that machines have to serve */
    const running run = running_of(model, box, x);
    double per_mean = 1 / (mean * x[ANEMO_G_BURST]), per_rate = mean / rate;
    double safe = 0; /* peak that the servers bought so far can take */
    double decline = hybrid ? x[model->option[o->api].first + ANEMO_A_DECLINE] : 0;
    months m = months_start(x, decline, flow);
    api_bill bill = {0};
    if (hybrid)
        bill = bill_start(model, o->api, x);
    double inverse = 1 / m.requests, shrink = 1 / m.growth; /* no division in the loop */
    *path = (anemo_cost_path){0};
    for (int32_t month = 1; month <= m.n; month++, inverse *= shrink, next(&m)) {
        if (m.requests * must * peak > safe || (hybrid && n_servers < o->servers)) {
            int32_t need = cost_servers_for(m.requests * must * peak, rate, headroom);
            need = need > 0 ? need + machine->redundant_servers : 0;
            if (hybrid && need < o->servers)
                need = o->servers;
            if (need > n_servers) {
                double price_all = price * (1 + b[ANEMO_B_NETWORK]);
                buy(&m, month, (need - n_servers) * price_all, &path->purchase);
                n_servers = need;
                safe = (need - machine->redundant_servers) * rate * (1 - headroom);
            }
        }
        double served = 1;
        if (hybrid) {
            double spare = n_servers - machine->redundant_servers;
            double capacity = spare * rate * (1 - headroom) * inverse; /* per request a month */
            if (capacity < peak)
                served = fmax(anemo_cost_served_share(model, capacity * per_mean), must);
            if (!(capacity > 0))
                served = 0;
        }
        double used = m.requests * served * per_rate; /* servers' worth of work */
        double cost = n_servers > 0 ? run.fixed + run.each * n_servers + run.busy * used : 0;
        if (hybrid)
            cost += bill_of(&bill, month, m.requests * (1 - served), m.price);
        pay(&m, month, cost);
        path->servers_last = (int32_t)n_servers;
        if (month == 1) {
            path->servers_first = (int32_t)n_servers;
            path->machine_share = served;
        }
    }
    double residual = n_servers * price * b[ANEMO_B_RESIDUAL];
    m.pv -= residual * m.discount / m.monthly;
    if (flow)
        flow[m.n] -= residual;
    path->first_year = m.first_year;
    path->present_value = m.pv;
    return m.n;
}

int32_t anemo_cost_option_path(const anemo_cost_model *model, int32_t option, const double *x,
                               anemo_cost_path *path, double *flow) {
    if (cost_is_api(model->option[option].role))
        return api_path(model, option, x, path, flow);
    return machine_path(model, option, x, path, flow);
}

double anemo_cost_plan_hybrid(anemo_cost_model *model, int32_t option, const double *x) {
    anemo_cost_option *o = &model->option[option];
    anemo_cost_path path;
    int32_t redundant = model->option[o->box].redundant_servers;
    int32_t least =
        anemo_cost_servers(model, o->box, x, x[ANEMO_G_REQUESTS] * x[ANEMO_G_SENSITIVE]);
    int32_t most = anemo_cost_servers(model, o->box, x, x[ANEMO_G_REQUESTS]), best = 0;
    int32_t step = 1 + (most - least) / 256; /* every number, unless there are hundreds */
    double cheapest = INFINITY;
    for (int32_t n = least; n <= most; n += step) {
        o->servers = n > 0 ? n + redundant : 0;
        machine_path(model, option, x, &path, NULL);
        if (path.present_value < cheapest) {
            cheapest = path.present_value;
            best = o->servers;
        }
    }
    o->servers = best;
    return cheapest;
}
