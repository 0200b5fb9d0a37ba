/* The first cost line: money per million generated tokens, from one measured throughput and a short
 * list of assumptions that are always printed with it.
 *
 *     yearly = price CRF(rate, years) + watts / 1000 * 8760 h * pue * kwh_price
 *     per million tokens = yearly / (tokens_per_s * utilisation * 31,536,000 s) * 1e6
 *
 * CRF is the capital recovery factor: the constant yearly payment that repays the price with
 * interest. Price and watts are per core of the machine that was measured, so that a virtual
 * machine costs its share of a server. It leaves out staff, space, maintenance, licences, spare
 * machines and residual value, which the full cost model has; and it divides by generated tokens
 * only, prompts are free. */
#ifndef ANEMO_COST_LINE_H
#define ANEMO_COST_LINE_H

#include "harness/cost/finance.h"
#include "harness/record/record.h"

/* clang-format off */
#define ANEMO_COST_INPUTS(X)                                            \
    X(PRICE,       "server_price_per_core", "server price per core")    \
    X(WATTS,       "watts_per_core",        "power per core")           \
    X(YEARS,       "years",                 "years of use")             \
    X(RATE,        "discount_rate",         "discount rate")            \
    X(UTILISATION, "utilisation",           "utilisation")              \
    X(KWH,         "kwh_price",             "electricity")              \
    X(PUE,         "pue",                   "power usage effectiveness")
/* clang-format on */

typedef enum anemo_cost_input_id {
#define ANEMO_COST_ENUM(id, key, name) ANEMO_COST_##id,
    ANEMO_COST_INPUTS(ANEMO_COST_ENUM)
#undef ANEMO_COST_ENUM
        ANEMO_COST_INPUT_COUNT
} anemo_cost_input_id;

typedef struct anemo_cost_input {
    const char *name; /* for people */
    double value, low, high;
    char unit[16];
    char class_name[16]; /* measured, quoted, published, asking, assumed */
    char as_of[16];
    char source[320];
} anemo_cost_input;

typedef struct anemo_cost_assumptions {
    char currency[8];
    anemo_cost_input input[ANEMO_COST_INPUT_COUNT];
} anemo_cost_assumptions;

/* Reads the JSON file of assumptions. ANEMO_E_INPUT names file, field and what is accepted. */
anemo_status anemo_cost_assumptions_read(const char *path, anemo_cost_assumptions *out,
                                         anemo_error *err);

typedef struct anemo_cost_line {
    char model[128], weights[32], machine[80];
    int64_t cores, batch;
    bool composed;
    double tokens_per_s;
    double price, watts; /* of the machine */
    double yearly_capital, yearly_energy;
    double per_million;              /* at the measured median and every assumption's value */
    double measured_lo, measured_hi; /* the same over the measured interval */
    double lo, hi;                   /* with every assumption at its cheap or dear end as well */
    anemo_cost_input_id decisive;    /* the assumption that moves it most */
    double decisive_lo, decisive_hi; /* the cost at that assumption's two ends, the rest unmoved */
} anemo_cost_line;

/* From a model record. ANEMO_E_INPUT says why not: a record of the embedded default model (unless
 * composed), not passed, INVALID, a composition that misses its own test by more than a quarter,
 * without a throughput, or not of a CPU. */
anemo_status anemo_cost_line_make(const anemo_record *record,
                                  const anemo_cost_assumptions *assumptions, anemo_cost_line *out,
                                  anemo_error *err);
#endif
