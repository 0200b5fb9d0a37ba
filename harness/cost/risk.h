/* What the ranges of the numbers do to the saving: Monte Carlo, tornado, switching values. Pure.
 * The saving of an option is the present value of today's bill over the years less its own. */
#ifndef ANEMO_COST_RISK_H
#define ANEMO_COST_RISK_H

#include "harness/cost/scenario.h"

/* Draws by Latin hypercube: every input's range is cut into n equal parts of probability, each hit
 * once, in random order. Numbers of several options that come from one row of the reference data
 * are drawn together. */
typedef struct anemo_cost_draws anemo_cost_draws;
anemo_status anemo_cost_draws_create(const anemo_cost_scenario *s, int32_t n, uint64_t seed,
                                     anemo_cost_draws **out, anemo_error *err);
void anemo_cost_draws_free(anemo_cost_draws *draws);

typedef struct anemo_cost_outcome {
    bool evaluated;                          /* false: its speed is not known */
    double npv, pv;                          /* at the point values: saving, and cost */
    int32_t servers;                         /* at the start, at the point values */
    double p5, p50, p95;                     /* of the saving */
    double probability;                      /* that the saving is above 0 */
    double beats_owning;                     /* that it costs less than owning (option `owned`) */
    double half_p50[2], half_probability[2]; /* of every other draw */
} anemo_cost_outcome;

/* The first n draws (0: all) with the volume times `volume`; hybrids are planned for that volume.
 * `owned`: the option that beats_owning compares with. outcome: one for each option. only: NULL, or
 * which options to look at, and then in brief: without p5, p95 and halves. */
anemo_status anemo_cost_simulate(const anemo_cost_scenario *s, const anemo_cost_draws *draws,
                                 int32_t n, double volume, int32_t owned, const bool *only,
                                 anemo_cost_outcome *outcome, anemo_error *err);

/* The point saving of an option; x may differ from the scenario's. */
double anemo_cost_saving_of(const anemo_cost_model *model, int32_t in_use, int32_t option,
                            const double *x);

/* One input, the saving at its 10 and 90 % points and the rest unmoved, and where it becomes 0. */
typedef struct anemo_cost_bar {
    int32_t input;
    double low, high;       /* 10 and 90 % points of the input */
    double at_low, at_high; /* saving there */
    double switching;       /* nearest value at which the saving is 0; NaN: none it can take */
    bool flips;             /* within its range */
} anemo_cost_bar;
/* All inputs of the option and of today's bill that can move the saving, widest bar first, then
 * those without a range. Returns how many; bar: ANEMO_COST_INPUTS_MAX. */
int32_t anemo_cost_tornado(const anemo_cost_scenario *s, int32_t option, anemo_cost_bar *bar);

/* Value of the number below which a share p lies. */
double anemo_cost_quantile(const anemo_cost_number *number, double p);

#endif
