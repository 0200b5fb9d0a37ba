/* From a scenario file and what was asked about it to all that the tables and figures show. See
 * cost_view.h. */
#include "harness/cli/cost_view.h"

#include <stdlib.h>
#include <string.h>

#define SCAN_RANGE 64.0 /* volumes from 1/64 to 64 times the scenario's */
#define SCAN_STEPS 1000

double cost_saving_at_volume(void *context, double volume) {
    const cost_view *v = context;
    anemo_cost_model model = v->s->model;
    double x[ANEMO_COST_INPUTS_MAX];
    memcpy(x, v->s->x, sizeof x);
    x[ANEMO_G_REQUESTS] = volume;
    if (model.option[v->subject].role == ANEMO_ROLE_HYBRID)
        anemo_cost_plan_hybrid(&model, v->subject, x);
    return anemo_cost_saving_of(&model, v->s->in_use, v->subject, x);
}

static anemo_status compute(cost_view *v, anemo_error *err) {
    const anemo_cost_scenario *s = &v->scenario;
    anemo_cost_draws *draws = NULL;
    anemo_status status = anemo_cost_draws_create(s, v->draws, v->seed, &draws, err);
    v->owned = anemo_cost_best_owned(s);
    if (status == ANEMO_OK)
        status = anemo_cost_simulate(s, draws, 0, 1, v->owned, NULL, v->outcome, err);
    if (status == ANEMO_OK) {
        anemo_cost_judge(s, v->outcome, &v->verdict);
        v->subject = v->verdict.option >= 0 ? v->verdict.option : v->owned;
    }
    if (status == ANEMO_OK && v->subject >= 0) {
        double now = s->x[ANEMO_G_REQUESTS];
        v->n_won = anemo_cost_break_even(cost_saving_at_volume, v, now / SCAN_RANGE,
                                         now * SCAN_RANGE, SCAN_STEPS, v->won, COST_INTERVALS);
        v->n_spans = anemo_cost_verdict_spans(s, draws, SCAN_RANGE, v->span, COST_SPANS);
        v->n_bars = anemo_cost_tornado(s, v->subject, v->bar);
        anemo_cost_say_next(s, v->bar, v->n_bars, &v->verdict);
    }
    anemo_cost_draws_free(draws);
    return status;
}

static void apply(const cost_question *o, anemo_cost_scenario *s) {
    if (o->buy > 0)
        s->rule.buy = o->buy;
    if (o->refuse >= 0)
        s->rule.refuse = o->refuse;
    if (o->dominate > 0)
        s->rule.dominate = o->dominate;
    if (o->requests > 0) { /* its range moves along */
        anemo_cost_number *n = &s->number[ANEMO_G_REQUESTS];
        double factor = o->requests / n->value;
        n->value = o->requests;
        n->low *= factor;
        n->high *= factor;
        s->x[ANEMO_G_REQUESTS] = o->requests;
        for (int32_t i = 0; i < s->model.n_options; i++)
            if (s->model.option[i].role == ANEMO_ROLE_HYBRID)
                anemo_cost_plan_hybrid(&s->model, i, s->x);
    }
}

cost_question cost_question_default(void) {
    return (cost_question){.draws = 10000, .max_age = 90, .refuse = -1, .seed = 1};
}

anemo_status cost_view_open(const char *path, const cost_question *q, cost_view **out,
                            anemo_error *err) {
    cost_view *v = calloc(1, sizeof *v);
    *out = v;
    if (!v)
        return ANEMO_E_MEMORY;
    v->s = &v->scenario;
    v->draws = q->draws;
    v->seed = q->seed;
    v->subject = v->owned = -1;
    anemo_status status = anemo_money_reference(q->folder, &v->reference, err);
    if (status == ANEMO_OK)
        status = anemo_cost_scenario_read(path, &v->reference, anemo_money_day(q->as_of),
                                          q->max_age, &v->scenario, err);
    if (status != ANEMO_OK)
        return status;
    apply(q, &v->scenario);
    return compute(v, err);
}

void cost_view_free(cost_view *v) {
    if (!v)
        return;
    anemo_reference_free(&v->reference);
    free(v);
}
