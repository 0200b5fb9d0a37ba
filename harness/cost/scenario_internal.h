/* Between the files that read a scenario. */
#ifndef ANEMO_COST_SCENARIO_INTERNAL_H
#define ANEMO_COST_SCENARIO_INTERNAL_H

#include "harness/cost/scenario.h"

#include <jansson.h>

typedef struct scenario_reader {
    const char *path;
    const anemo_reference *reference;
    int32_t max_age;
    anemo_cost_scenario *s;
    anemo_origin origin; /* of numbers that name none */
    const char *region;  /* subject of the site's facts, or NULL */
    anemo_error *err;
    anemo_status status; /* the first failure stays */
} scenario_reader;

/* Remembers the first failure: "PATH: SENTENCE". */
void scenario_refuse(scenario_reader *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void scenario_warn(scenario_reader *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Refuses keys that are not in `known`: names apart by blanks. */
void scenario_keys(scenario_reader *r, const json_t *object, const char *where, const char *known);
void scenario_text(scenario_reader *r, const json_t *object, const char *where, const char *key,
                   char *text, size_t bytes, bool needed);
double scenario_plain(scenario_reader *r, const json_t *object, const char *where, const char *key,
                      double least, double most, double absent);
anemo_origin scenario_origin(scenario_reader *r, const json_t *object, const char *where);
/* Value and origin of a {"value": ...} object or a bare number; `index` is its place. */
void scenario_number(scenario_reader *r, const json_t *value, int32_t index);
/* 1 `from` in the scenario's currency; NAN and a refusal when no rate is known. */
double scenario_exchange(scenario_reader *r, const char *from);
/* The machine time per token of option `option` from its "capacity". */
void scenario_capacity(scenario_reader *r, const json_t *option, int32_t index);

#endif
