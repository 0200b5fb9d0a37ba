/* A scenario: what is asked, of whom, on what, with ranges and sources; read from one JSON file
 * whose keys README.md lists. It holds the model (structure) and the vector (numbers) of model.h,
 * and beside every number its range and origin. */
#ifndef ANEMO_COST_SCENARIO_H
#define ANEMO_COST_SCENARIO_H

#include "harness/cost/capacity.h"
#include "harness/cost/model.h"
#include "harness/cost/reference.h"

typedef enum anemo_shape {
    ANEMO_SHAPE_FIXED,
    ANEMO_SHAPE_UNIFORM,
    ANEMO_SHAPE_TRIANGULAR, /* low, most likely, high */
    ANEMO_SHAPE_LOGNORMAL,  /* low and high are the 5 and 95 % points, value the median */
} anemo_shape;

typedef struct anemo_cost_number {
    double value, low, high;
    anemo_shape shape;
    double least, most; /* what inputs.inc accepts */
    char key[96];       /* "options.own.server_price" */
    char unit[32];      /* with the scenario's currency */
    const char *what;
    anemo_origin origin;
    bool from_reference; /* not in the scenario file */
} anemo_cost_number;

typedef struct anemo_cost_accuracy {
    bool known, same_questions; /* same prompts and questions as the others; else third-party */
    int64_t correct, n;
    anemo_origin origin;
} anemo_cost_accuracy;

/* Where the speed of a machine option comes from. */
typedef struct anemo_cost_capacity {
    bool known, measured_here; /* measured on that very machine kind */
    char machine[64];          /* on which it was measured */
    char engine[16];           /* "anemo", "vLLM" or both, when files of theirs say so; else "" */
    char last_day[11];         /* of those files; "": not told */
    int32_t valid, weak;       /* records of anemo with these verdicts */
    int32_t mixes, occasions;  /* 0 mixes: seconds per token were given */
    anemo_cost_split split;
    double between_sd, within_sd; /* of ln speed */
    bool default_sd;              /* fewer than 3 occasions: assumed */
    bool projected;               /* from another machine kind's records: project.h */
    double projected_sd;          /* of ln speed, from the projection alone */
    double most_in, most_out;     /* longest request measured; 0: not told */
    double ttft_s, tpot_s;        /* p95 at that load; 0: not told */
} anemo_cost_capacity;

typedef struct anemo_cost_choice {
    char id[40], model[96], provider[64], machine[64];
    anemo_cost_accuracy accuracy;
    anemo_cost_capacity capacity;
    int32_t oldest_price; /* day of the price row; 0: given in the scenario */
} anemo_cost_choice;

#define ANEMO_COST_MARGIN 0.02 /* accuracy that may be lost where nobody says otherwise */

typedef struct anemo_cost_rule {
    double buy, refuse; /* P(NPV > 0) from which on to buy; up to which not to */
    double dominate;    /* P(cheaper than owning) from which on another way dominates */
    double margin;      /* accuracy that may be lost: non-inferiority */
    char waived_by[64]; /* who waived accuracy; "": nobody */
} anemo_cost_rule;

#define ANEMO_COST_WARNINGS 24

typedef struct anemo_cost_scenario {
    char name[128], currency[4];
    bool example;                /* every number that is not measured is made up */
    bool rented_holds_sensitive; /* rented machines count as on-prem */
    int32_t day;                 /* as of */
    anemo_cost_model model;
    double x[ANEMO_COST_INPUTS_MAX];
    anemo_cost_number number[ANEMO_COST_INPUTS_MAX];
    anemo_cost_choice choice[ANEMO_COST_OPTIONS_MAX];
    int32_t in_use;                    /* the option that is today's bill */
    double limit_ttft_s, limit_tpot_s; /* p95; 0: none */
    anemo_cost_rule rule;
    char warning[ANEMO_COST_WARNINGS][240];
    int32_t n_warnings;
} anemo_cost_scenario;

/* day: as of; max_age: reference rows older than these days get a warning. A large struct: the
 * caller allocates it. ANEMO_E_INPUT names file, field, value and what is accepted. */
anemo_status anemo_cost_scenario_read(const char *path, const anemo_reference *reference,
                                      int32_t day, int32_t max_age, anemo_cost_scenario *out,
                                      anemo_error *err);
/* The numbers of the vector that belong to an option; -1: globals. */
int32_t anemo_cost_option_inputs(const anemo_cost_scenario *s, int32_t option, int32_t *first);

#endif
