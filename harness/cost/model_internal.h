/* Between model.c and model_path.c. */
#ifndef ANEMO_COST_MODEL_INTERNAL_H
#define ANEMO_COST_MODEL_INTERNAL_H

#include "harness/cost/model.h"

#define COST_HOURS_PER_MONTH (ANEMO_COST_HOURS_PER_YEAR / 12)

static inline bool cost_is_api(anemo_cost_role role) {
    return role == ANEMO_ROLE_IN_USE || role == ANEMO_ROLE_EQUAL || role == ANEMO_ROLE_HOSTED;
}

/* Yearly cost of n running servers without capital, at utilisation u, into the fields of `year`. */
void cost_running(const anemo_cost_model *model, int32_t option, const double *x, double n,
                  double u, anemo_cost_year *year);
/* Servers for a peak rate in requests per second. */
int32_t cost_servers_for(double peak_rate, double server_rate, double headroom);

#endif
