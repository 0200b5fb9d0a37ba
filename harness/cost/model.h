/* The cost model as a pure function: a vector of numbers in, the money of every option out. It
 * reads no file, prints nothing and knows no ranges; risk.h varies the vector, scenario.h fills it.
 *
 * A month has 8760 / 12 hours. Flows of a month count at its end, purchases at its beginning, API
 * prices at its middle. Sources: the formulae stand in README.md, each with the line of the golden
 * example that it gives. */
#ifndef ANEMO_COST_MODEL_H
#define ANEMO_COST_MODEL_H

#include "kernels/kernel.h"

#define ANEMO_COST_HOURS_PER_YEAR 8760.0
#define ANEMO_COST_HOURS_OF_WEEK  168
#define ANEMO_COST_MONTHS_MAX     120
#define ANEMO_COST_OPTIONS_MAX    12
#define ANEMO_COST_CLASSES_MAX    8
#define ANEMO_COST_CHANGES_MAX    4

/* Positions in the vector: the globals first, then a block for each option. */
typedef enum anemo_cost_global {
#define ANEMO_COST_GLOBAL(ID, key, unit, least, most, what) ANEMO_G_##ID,
#include "harness/cost/inputs.inc"
    ANEMO_G_COUNT
} anemo_cost_global;

typedef enum anemo_cost_api {
#define ANEMO_COST_API(ID, key, unit, least, most, what) ANEMO_A_##ID,
#include "harness/cost/inputs.inc"
    ANEMO_A_COUNT
} anemo_cost_api;

typedef enum anemo_cost_box {
#define ANEMO_COST_BOX(ID, key, unit, least, most, what) ANEMO_B_##ID,
#include "harness/cost/inputs.inc"
    ANEMO_B_COUNT
} anemo_cost_box;

#define ANEMO_COST_INPUTS_MAX (ANEMO_G_COUNT + ANEMO_COST_OPTIONS_MAX * (ANEMO_B_COUNT + 1))

typedef enum anemo_cost_role {
    ANEMO_ROLE_IN_USE, /* the closed model in use: the bill of doing nothing */
    ANEMO_ROLE_EQUAL,  /* a closed model of equal accuracy */
    ANEMO_ROLE_HOSTED, /* the same open model, hosted by others */
    ANEMO_ROLE_RENTED, /* the same open model on rented machines */
    ANEMO_ROLE_OWNED,  /* the same open model on bought machines */
    ANEMO_ROLE_HYBRID, /* bought machines, and an API for what they leave */
    ANEMO_ROLE_COUNT
} anemo_cost_role;
const char *anemo_cost_role_name(anemo_cost_role role); /* "in_use" */

/* From `month` (0 = now) on, the price is that of today times the ratio. */
typedef struct anemo_cost_change {
    double month, input, cached, write, output;
} anemo_cost_change;

typedef struct anemo_cost_option {
    anemo_cost_role role;
    int32_t first; /* of its block in the vector; hybrid: none */
    /* API */
    double bracket_tokens;          /* 0: none. Requests with more input pay bracket_* */
    double bracket_in, bracket_out; /* ratios, for the whole request */
    bool cache_and_batch_stack;     /* else batch has no cache discount */
    anemo_cost_change change[ANEMO_COST_CHANGES_MAX];
    int32_t n_changes;
    /* machines */
    int32_t units_per_server;
    int32_t redundant_servers;
    bool power_in_colocation; /* its price includes electricity */
    /* hybrid: which options, and the servers bought at the start */
    int32_t box, api, servers;
} anemo_cost_option;

/* One length of requests: its share, and its tokens over the mean. */
typedef struct anemo_cost_class {
    double share, in, out;
} anemo_cost_class;

typedef struct anemo_cost_model {
    int32_t n_inputs, n_options;
    anemo_cost_option option[ANEMO_COST_OPTIONS_MAX];
    anemo_cost_class length[ANEMO_COST_CLASSES_MAX];
    int32_t n_lengths;
    /* Hours of a week in ascending order, mean 1, and their running sums. */
    double profile[ANEMO_COST_HOURS_OF_WEEK], profile_sum[ANEMO_COST_HOURS_OF_WEEK + 1];
} anemo_cost_model;

/* 168 weights >= 0 of any sum above 0, in any order: sorted and scaled to mean 1. */
anemo_status anemo_cost_set_profile(anemo_cost_model *model, const double *weights,
                                    anemo_error *err);

/* ---------------------------------------------------------------- pieces */

/* What one request costs at this API today, in the currency of the vector. Per million tokens of
 * ours of each kind, after every ratio: *per_million, or NULL. */
typedef struct anemo_cost_api_unit {
    double request;
    double input, cached, write, output; /* per million tokens */
} anemo_cost_api_unit;
anemo_cost_api_unit anemo_cost_api_price(const anemo_cost_model *model, int32_t option,
                                         const double *x, double month);

/* Machine time of one request, unit-seconds, and what a server can serve. */
double anemo_cost_unit_seconds(const anemo_cost_model *model, int32_t option, const double *x);
double anemo_cost_server_rate(const anemo_cost_model *model, int32_t option, const double *x);
/* Requests per second in the busiest moment, for `requests` in a month. */
double anemo_cost_peak_rate(const anemo_cost_model *model, const double *x, double requests);
/* Whole servers for that peak, with headroom, without redundancy; 0 for no request. */
int32_t anemo_cost_servers(const anemo_cost_model *model, int32_t option, const double *x,
                           double requests);
/* Mean power of one server in W at utilisation u. */
double anemo_cost_server_watts(const anemo_cost_model *model, int32_t option, const double *x,
                               double u);
/* Share of the demand of a week that `capacity` serves, both in units of the mean demand. */
double anemo_cost_served_share(const anemo_cost_model *model, double capacity);

/* The year of a machine option that does not change: annuity and running cost of n servers. */
typedef struct anemo_cost_year {
    int32_t servers;
    double utilisation;
    double capital; /* annuity of purchase less residual */
    double network; /* annuity of network, storage, installation: no residual */
    double rent, energy, space, upkeep, failures, software, staff, other;
    double total;
    double hourly_per_unit; /* total over every hour of every unit */
} anemo_cost_year;
anemo_cost_year anemo_cost_machine_year(const anemo_cost_model *model, int32_t option,
                                        const double *x, double requests_per_month,
                                        int32_t servers);

/* Reservation-based cost of tokens: the whole year's cost over what was delivered, shared between
 * input, cached input and output by their machine time. in tokens_in + ... = total exactly. */
typedef struct anemo_cost_tokens {
    double in_share, cached_share, out_share;
    double in, cached, out, blended; /* per million tokens; NaN where there are none */
    double request;
    double usage_factor; /* usage-based = reservation-based times this; no rival of an API price */
} anemo_cost_tokens;
anemo_cost_tokens anemo_cost_token_cost(const anemo_cost_model *model, int32_t option,
                                        const double *x, double requests_per_month,
                                        const anemo_cost_year *year);

/* ---------------------------------------------------------------- the whole */

typedef struct anemo_cost_path {
    double purchase;      /* now */
    double first_year;    /* paid in the first 12 months, without the purchases */
    double present_value; /* of all, less the residual value */
    int32_t servers_first, servers_last;
    double machine_share; /* of the first month's requests that own or rented machines serve */
} anemo_cost_path;

/* Costs of one option over the years. flow (ANEMO_COST_MONTHS_MAX + 1, or NULL): what is paid at 0,
 * and in month 1, 2, ...; the residual value is in the last. Returns the number of months. */
int32_t anemo_cost_option_path(const anemo_cost_model *model, int32_t option, const double *x,
                               anemo_cost_path *path, double *flow);

/* Fills in the hybrid's servers (and returns the present value): the number from what the sensitive
 * share needs up to what the whole needs that costs least. */
double anemo_cost_plan_hybrid(anemo_cost_model *model, int32_t option, const double *x);

#endif
