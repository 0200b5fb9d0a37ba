/* How many machines a scenario needs, option by option, and the tables that show it: what `anemo
 * size` prints and `anemo report` quotes. */
#ifndef ANEMO_CLI_SIZE_VIEW_H
#define ANEMO_CLI_SIZE_VIEW_H

#include "harness/cli/money.h"
#include "harness/cost/size.h"

typedef struct size_view {
    const anemo_cost_scenario *s;
    struct {
        bool present; /* has a "sizing" */
        anemo_size_spec spec;
        anemo_size size;
    } option[ANEMO_COST_OPTIONS_MAX];
    int32_t judged, possible; /* options with a sizing; those of them that meet the limits */
} size_view;

/* Sizes every machine option of the scenario that has a "sizing". *out is to be freed whatever the
 * status. */
anemo_status size_view_open(const char *path, const anemo_reference *reference,
                            anemo_cost_scenario *scenario, uint64_t seed, size_view **out,
                            anemo_error *err);
void size_view_free(size_view *view);

anemo_table *size_table_memory(const size_view *v);
anemo_table *size_table_machines(const size_view *v);
anemo_table *size_table_explain(const size_view *v);

#endif
