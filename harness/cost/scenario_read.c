/* The scenario file as a whole. See scenario.h; one number is read in scenario_number.c, the speed
 * of machines in scenario_capacity.c. */
#include "harness/cost/date.h"
#include "harness/cost/scenario_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA          1
#define TDP_TO_BUSY     0.76 /* median of 888 H100 configurations serving LLMs, over TDP */
#define OPTIONS_IN_FILE 8    /* hybrids are added */

typedef struct input_row {
    const char *key, *unit, *what;
    double least, most;
} input_row;

static const input_row globals[ANEMO_G_COUNT] = {
#define ANEMO_COST_GLOBAL(ID, key, unit, least, most, what) {key, unit, what, least, most},
#include "harness/cost/inputs.inc"
};
static const input_row apis[ANEMO_A_COUNT] = {
#define ANEMO_COST_API(ID, key, unit, least, most, what) {key, unit, what, least, most},
#include "harness/cost/inputs.inc"
};
static const input_row boxes[ANEMO_B_COUNT] = {
#define ANEMO_COST_BOX(ID, key, unit, least, most, what) {key, unit, what, least, most},
#include "harness/cost/inputs.inc"
};

static void name_number(anemo_cost_scenario *s, int32_t index, const char *option,
                        const input_row *row) {
    anemo_cost_number *n = &s->number[index];
    char id[41]; /* a copy: the name may lie in the same scenario */
    snprintf(id, sizeof id, "%s", option ? option : "");
    *n = (anemo_cost_number){.least = row->least, .most = row->most, .what = row->what};
    if (option)
        snprintf(n->key, sizeof n->key, "options.%s.%s", id, row->key);
    else
        snprintf(n->key, sizeof n->key, "%s", row->key);
    if (row->unit[0] == '$')
        snprintf(n->unit, sizeof n->unit, "%s%s", s->currency, row->unit + 1);
    else
        snprintf(n->unit, sizeof n->unit, "%s", row->unit);
}

/* "price.input" below `object`, or NULL. */
static const json_t *find(const json_t *object, const char *key) {
    char part[64];
    const char *dot = strchr(key, '.');
    if (!dot)
        return json_object_get(object, key);
    snprintf(part, sizeof part, "%.*s", (int)(dot - key), key);
    return json_object_get(json_object_get(object, part), dot + 1);
}

static void warn_age(scenario_reader *r, const char *what, const anemo_origin *o) {
    int32_t age = r->s->day - o->as_of;
    if (age > r->max_age)
        scenario_warn(r, "%s: the figure is %d days old (%s)", what, age,
                      anemo_class_name(o->class_));
}

/* A default from the reference data; false: there is none. */
static bool from_fact(scenario_reader *r, int32_t index, const char *subject, const char *what) {
    const anemo_fact *f = subject ? anemo_fact_find(r->reference, subject, what, r->s->day) : NULL;
    anemo_cost_number *n = &r->s->number[index];
    double factor = 1;
    if (!f)
        return false;
    if (strcmp(f->unit, n->unit) != 0) {
        char code[4] = "";
        memcpy(code, f->unit, 3);
        factor = scenario_exchange(r, code);
    }
    n->value = f->value * factor;
    n->low = f->low * factor;
    n->high = f->high * factor;
    n->shape = n->low < n->high ? ANEMO_SHAPE_TRIANGULAR : ANEMO_SHAPE_FIXED;
    n->origin = f->origin;
    n->from_reference = true;
    if (n->origin.class_ != ANEMO_CLASS_ASSUMED)
        warn_age(r, n->key, &n->origin);
    return true;
}

static void fixed(anemo_cost_scenario *s, int32_t index, double value, const char *why) {
    anemo_cost_number *n = &s->number[index];
    n->value = n->low = n->high = value;
    n->shape = ANEMO_SHAPE_FIXED;
    n->from_reference = true;
    n->origin = (anemo_origin){.class_ = ANEMO_CLASS_ASSUMED, .as_of = s->day};
    snprintf(n->origin.source, sizeof n->origin.source, "%s", why);
}

/* ---------------------------------------------------------------- workload and site */

static void read_globals(scenario_reader *r, const json_t *root) {
    for (int32_t i = 0; i < ANEMO_G_COUNT; i++) {
        const json_t *value = find(root, globals[i].key);
        const char *what = strchr(globals[i].key, '.') + 1;
        bool site = strncmp(globals[i].key, "site.", 5) == 0;
        name_number(r->s, i, NULL, &globals[i]);
        if (value)
            scenario_number(r, value, i);
        else if (!from_fact(r, i, site ? r->region : NULL, what) &&
                 !from_fact(r, i, site ? "site" : "workload", what))
            scenario_refuse(r, "%s is missing; it is counted in %s", globals[i].key,
                            globals[i].unit);
    }
    const anemo_cost_number *n = r->s->number;
    if (r->status == ANEMO_OK && n[ANEMO_G_CACHED].value + n[ANEMO_G_WRITE].value > 1 + 1e-12)
        scenario_refuse(r,
                        "workload.cached_share %g and workload.cache_write_share %g are more than "
                        "the whole input",
                        n[ANEMO_G_CACHED].value, n[ANEMO_G_WRITE].value);
    if (r->status == ANEMO_OK && !(n[ANEMO_G_IN].value + n[ANEMO_G_OUT].value > 0))
        scenario_refuse(r, "workload: requests without any token");
}

static void read_profile(scenario_reader *r, const json_t *workload) {
    static const char *const names[] = {"flat", "office", "consumer", "night"};
    const json_t *profile = json_object_get(workload, "profile");
    double w[ANEMO_COST_HOURS_OF_WEEK];
    anemo_error err = {0};
    int kind = profile ? -1 : 0;
    for (int k = 0; k < 4; k++)
        if (json_is_string(profile) && strcmp(json_string_value(profile), names[k]) == 0)
            kind = k;
    if (kind < 0 && json_array_size(profile) != ANEMO_COST_HOURS_OF_WEEK) {
        scenario_refuse(r,
                        "workload.profile is none of flat, office, consumer, night, nor a list of "
                        "168 weights from Monday 0 h on");
        return;
    }
    for (int h = 0; h < ANEMO_COST_HOURS_OF_WEEK; h++) {
        int of_day = h % 24, day = h / 24;
        const double by_kind[] = {1, day < 5 && of_day >= 8 && of_day < 18 ? 1 : 0.05,
                                  of_day >= 7 && of_day < 23 ? 1 : 0.25,
                                  of_day < 6 || of_day >= 20 ? 1 : 0.1};
        w[h] = kind >= 0 ? by_kind[kind] : json_number_value(json_array_get(profile, (size_t)h));
        if (kind < 0 && !json_is_number(json_array_get(profile, (size_t)h)))
            scenario_refuse(r, "workload.profile[%d] is not a number", h);
    }
    if (anemo_cost_set_profile(&r->s->model, w, &err) != ANEMO_OK)
        scenario_refuse(r, "workload.%s", err.text);
}

/* Lengths as multiples of the mean; without a list all requests are alike. */
static void read_lengths(scenario_reader *r, const json_t *workload) {
    const json_t *list = json_object_get(workload, "lengths");
    anemo_cost_model *m = &r->s->model;
    double share = 0, in = 0, out = 0;
    m->n_lengths = 1;
    m->length[0] = (anemo_cost_class){1, 1, 1};
    if (!list)
        return;
    m->n_lengths = (int32_t)json_array_size(list);
    if (m->n_lengths < 1 || m->n_lengths > ANEMO_COST_CLASSES_MAX) {
        scenario_refuse(r, "workload.lengths is not a list of 1 to %d", ANEMO_COST_CLASSES_MAX);
        return;
    }
    for (int32_t i = 0; i < m->n_lengths; i++) {
        const json_t *c = json_array_get(list, (size_t)i);
        scenario_keys(r, c, "workload.lengths", "share tokens_in tokens_out");
        m->length[i].share = scenario_plain(r, c, "workload.lengths", "share", 0, 1, 0);
        m->length[i].in = scenario_plain(r, c, "workload.lengths", "tokens_in", 0, 1e8, 0);
        m->length[i].out = scenario_plain(r, c, "workload.lengths", "tokens_out", 0, 1e8, 0);
        share += m->length[i].share;
        in += m->length[i].share * m->length[i].in;
        out += m->length[i].share * m->length[i].out;
    }
    double want_in = r->s->number[ANEMO_G_IN].value, want_out = r->s->number[ANEMO_G_OUT].value;
    if (fabs(share - 1) > 1e-6 || fabs(in - want_in) > 0.01 * want_in ||
        fabs(out - want_out) > 0.01 * want_out) {
        scenario_refuse(r,
                        "workload.lengths: shares add up to %g, means to %g in and %g out; "
                        "expected 1, and workload.tokens_in %g and tokens_out %g",
                        share, in, out, want_in, want_out);
        return;
    }
    for (int32_t i = 0; i < m->n_lengths; i++) {
        m->length[i].in /= in > 0 ? in : 1;
        m->length[i].out /= out > 0 ? out : 1;
    }
}

/* ---------------------------------------------------------------- APIs */

static void from_price(scenario_reader *r, int32_t index, double value, const anemo_price *p) {
    anemo_cost_number *n = &r->s->number[index];
    bool money = n->unit[3] == '/' && strncmp(n->unit, r->s->currency, 3) == 0;
    n->value = n->low = n->high = value * (money ? scenario_exchange(r, p->currency) : 1);
    n->shape = ANEMO_SHAPE_FIXED;
    n->origin = p->origin;
    n->from_reference = true;
}

static bool same_offer(const anemo_price *a, const anemo_price *b) {
    return strcmp(a->provider, b->provider) == 0 && strcmp(a->model, b->model) == 0 &&
           strcmp(a->tier, b->tier) == 0;
}

/* Brackets, and prices that are already announced for later. */
static void read_price_structure(scenario_reader *r, anemo_cost_option *o, const anemo_price *p) {
    const anemo_price *above = anemo_price_bracket(r->reference, p, r->s->day);
    if (above && p->input > 0 && p->output > 0) {
        o->bracket_tokens = above->bracket;
        o->bracket_in = above->input / p->input;
        o->bracket_out = above->output / p->output;
    }
    for (int32_t i = 0; i < r->reference->n_prices; i++) {
        const anemo_price *q = &r->reference->price[i];
        if (!same_offer(p, q) || q->bracket != 0 || q->origin.from <= r->s->day ||
            o->n_changes == ANEMO_COST_CHANGES_MAX || !(p->input > 0) || !(p->output > 0))
            continue;
        double in = q->input / p->input, out = q->output / p->output;
        o->change[o->n_changes++] =
            (anemo_cost_change){(q->origin.from - r->s->day) / (365.0 / 12), in,
                                isnan(q->cached / p->cached) ? in : q->cached / p->cached,
                                isnan(q->write / p->write) ? in : q->write / p->write, out};
        char day[16];
        anemo_date_text(q->origin.from, day, sizeof day);
        scenario_warn(r, "%s %s: from %s on input costs %g times and output %g times as much",
                      q->provider, q->model, day, in, out);
    }
    for (int32_t i = 1; i < o->n_changes; i++) /* few: sorted by insertion */
        for (int32_t k = i; k > 0 && o->change[k].month < o->change[k - 1].month; k--) {
            anemo_cost_change kept = o->change[k];
            o->change[k] = o->change[k - 1];
            o->change[k - 1] = kept;
        }
}

static const anemo_price *find_price(scenario_reader *r, const json_t *option,
                                     const anemo_cost_choice *c) {
    char tier[16];
    scenario_text(r, option, c->id, "tier", tier, sizeof tier, false);
    if (anemo_price_is_alias(c->model)) {
        scenario_refuse(r,
                        "options.%s.model '%s' is an alias that moves from model to model; give "
                        "the dated id",
                        c->id, c->model);
        return NULL;
    }
    return anemo_price_find(r->reference, c->provider, c->model, tier[0] ? tier : "standard", 0,
                            r->s->day);
}

static void read_api(scenario_reader *r, const json_t *option, int32_t index) {
    anemo_cost_scenario *s = r->s;
    anemo_cost_choice *c = &s->choice[index];
    anemo_cost_option *o = &s->model.option[index];
    char region[8], where[64];
    snprintf(where, sizeof where, "options.%s", c->id);
    const anemo_price *p = find_price(r, option, c);
    scenario_text(r, option, where, "region", region, sizeof region, false);
    for (int32_t i = 0; i < ANEMO_A_COUNT; i++) {
        int32_t at = o->first + i;
        const json_t *value = find(option, apis[i].key);
        double row = NAN;
        name_number(s, at, c->id, &apis[i]);
        if (p) {
            double in_row[ANEMO_A_COUNT];
            for (int k = 0; k < ANEMO_A_COUNT; k++)
                in_row[k] = NAN;
            in_row[ANEMO_A_P_IN] = p->input;
            in_row[ANEMO_A_P_OUT] = p->output;
            in_row[ANEMO_A_P_CACHED] = isnan(p->cached) ? p->input : p->cached;
            in_row[ANEMO_A_P_WRITE] = isnan(p->write) ? p->input : p->write;
            in_row[ANEMO_A_BATCH] = p->batch_ratio;
            if (strcmp(region, "eu") == 0)
                in_row[ANEMO_A_REGION] = p->region_eu;
            if (strcmp(region, "us") == 0)
                in_row[ANEMO_A_REGION] = p->region_us;
            if (json_is_true(json_object_get(option, "priority")))
                in_row[ANEMO_A_PRIORITY] = p->priority_ratio;
            row = in_row[i];
        }
        if (value)
            scenario_number(r, value, at);
        else if (!isnan(row))
            from_price(r, at, row, p);
        else if ((i == ANEMO_A_P_CACHED || i == ANEMO_A_P_WRITE) && !p)
            fixed(s, at, s->number[o->first + ANEMO_A_P_IN].value, "no price of its own: as input");
        else if (!from_fact(r, at, "api", apis[i].key))
            scenario_refuse(r, "%s.%s is missing, and no price row of '%s' at '%s' is in force",
                            where, apis[i].key, c->model, c->provider);
    }
    if (!p)
        return;
    c->oldest_price = p->origin.as_of;
    warn_age(r, where, &p->origin);
    for (int32_t k = 0; k < p->n_others; k++)
        scenario_warn(r, "%s %s: here %g in and %g out, but %.60s says %g and %g", p->provider,
                      p->model, p->input, p->output, p->other[k].source, p->other[k].input,
                      p->other[k].output);
    read_price_structure(r, o, p);
}

/* ---------------------------------------------------------------- machines */

/* What does not apply to a rented or an owned machine, with the value that does nothing. */
static bool unused(anemo_cost_role role, int32_t i, double *neutral) {
    *neutral = i == ANEMO_B_PSU || i == ANEMO_B_ON_SHARE ? 1 : 0;
    if (role == ANEMO_ROLE_OWNED)
        return i == ANEMO_B_HOURLY || i == ANEMO_B_ON_SHARE;
    return i == ANEMO_B_SERVER || i == ANEMO_B_UNIT || i == ANEMO_B_RESIDUAL ||
           i == ANEMO_B_NETWORK || i == ANEMO_B_FAILURES || i == ANEMO_B_UPKEEP ||
           i == ANEMO_B_IDLE || i == ANEMO_B_BUSY || i == ANEMO_B_HOST || i == ANEMO_B_PSU;
}

static bool busy_from_tdp(scenario_reader *r, int32_t at, const anemo_cost_choice *c) {
    const anemo_fact *f = anemo_fact_find(r->reference, c->machine, "tdp", r->s->day);
    if (!f)
        return false;
    fixed(r->s, at, TDP_TO_BUSY * f->value, "0.76 of the TDP: our fallback, no watts measured");
    scenario_warn(r, "%s: no measured watts; 0.76 of the TDP of %g W is assumed",
                  r->s->number[at].key, f->value);
    return true;
}

static void read_box(scenario_reader *r, const json_t *option, int32_t index) {
    anemo_cost_scenario *s = r->s;
    anemo_cost_choice *c = &s->choice[index];
    anemo_cost_option *o = &s->model.option[index];
    char where[64];
    double neutral;
    snprintf(where, sizeof where, "options.%s", c->id);
    for (int32_t i = 0; i < ANEMO_B_COUNT; i++) {
        int32_t at = o->first + i;
        const json_t *value = find(option, boxes[i].key);
        name_number(s, at, c->id, &boxes[i]);
        if (strncmp(boxes[i].key, "capacity.", 9) == 0)
            continue; /* all of it below */
        if (unused(o->role, i, &neutral)) {
            fixed(s, at, neutral, "does not apply");
            if (value)
                scenario_refuse(r, "%s.%s does not go with the role %s", where, boxes[i].key,
                                anemo_cost_role_name(o->role));
        } else if (value)
            scenario_number(r, value, at);
        else if (!from_fact(r, at, c->machine, boxes[i].key) &&
                 !(i == ANEMO_B_BUSY && busy_from_tdp(r, at, c)) &&
                 !from_fact(r, at, "machine", boxes[i].key))
            scenario_refuse(r, "%s.%s is missing, and no row of '%s' tells it", where, boxes[i].key,
                            c->machine);
    }
    const anemo_fact *units = anemo_fact_find(r->reference, c->machine, "units_per_server", s->day);
    o->units_per_server = (int32_t)scenario_plain(r, option, where, "units_per_server", 1, 1024,
                                                  units ? units->value : 1);
    o->redundant_servers = (int32_t)scenario_plain(r, option, where, "redundant_servers", 0, 100,
                                                   o->role == ANEMO_ROLE_OWNED ? 1 : 0);
    o->power_in_colocation = json_is_true(json_object_get(option, "power_in_colocation"));
    scenario_capacity(r, option, index);
    if (!c->capacity.known) /* a placeholder; such an option is not evaluated */
        for (int i = ANEMO_B_S_IN; i < ANEMO_B_COUNT; i++)
            fixed(s, o->first + i, 1, "not measured");
}

/* ---------------------------------------------------------------- options */

static void read_accuracy(scenario_reader *r, const json_t *option, anemo_cost_choice *c) {
    const json_t *from = json_object_get(option, "accuracy");
    char where[64];
    snprintf(where, sizeof where, "options.%.40s.accuracy", c->id);
    if (!from)
        return;
    scenario_keys(r, from, where, "correct n same_questions class as_of source");
    double n = scenario_plain(r, from, where, "n", 1, 1e9, NAN);
    double correct = scenario_plain(r, from, where, "correct", 0, n, NAN);
    if (isnan(n) || isnan(correct) || correct != floor(correct) || n != floor(n))
        scenario_refuse(r, "%s needs whole numbers correct and n", where);
    else
        c->accuracy =
            (anemo_cost_accuracy){true, json_is_true(json_object_get(from, "same_questions")),
                                  (int64_t)correct, (int64_t)n, scenario_origin(r, from, where)};
}

static void read_option(scenario_reader *r, const json_t *option) {
    static const char *const api_keys =
        "id role model provider tier region priority price batch_ratio region_ratio priority_ratio "
        "tokenizer_in tokenizer_out reasoning retry_share price_decline monthly_cost commitment "
        "cache_and_batch_stack accuracy note";
    static const char *const box_keys =
        "id role model machine units_per_server redundant_servers power_in_colocation server_price "
        "hourly_price on_share unit_price residual_share network_share failures maintenance_share "
        "software idle_power busy_power host_power psu_efficiency staff_share capacity sizing "
        "accuracy "
        "note";
    anemo_cost_scenario *s = r->s;
    int32_t index = s->model.n_options;
    anemo_cost_choice *c = &s->choice[index];
    anemo_cost_option *o = &s->model.option[index];
    char role[16], where[32];
    snprintf(where, sizeof where, "options[%d]", index);
    scenario_text(r, option, where, "id", c->id, sizeof c->id, true);
    scenario_text(r, option, where, "role", role, sizeof role, true);
    scenario_text(r, option, where, "model", c->model, sizeof c->model, true);
    int kind = ANEMO_ROLE_COUNT;
    for (int k = 0; k < ANEMO_ROLE_HYBRID; k++)
        if (strcmp(role, anemo_cost_role_name((anemo_cost_role)k)) == 0)
            kind = k;
    if (kind == ANEMO_ROLE_COUNT)
        scenario_refuse(r, "%s.role is '%s'; accepted are in_use, equal, hosted, rented, owned",
                        where, role);
    for (int32_t i = 0; i < index; i++)
        if (strcmp(s->choice[i].id, c->id) == 0)
            scenario_refuse(r, "%s.id '%s' is there twice", where, c->id);
    if (r->status != ANEMO_OK)
        return;
    o->role = (anemo_cost_role)kind;
    o->first = s->model.n_inputs;
    o->cache_and_batch_stack = json_is_true(json_object_get(option, "cache_and_batch_stack"));
    s->model.n_options++;
    bool api = kind <= ANEMO_ROLE_HOSTED;
    s->model.n_inputs += api ? ANEMO_A_COUNT : ANEMO_B_COUNT;
    scenario_keys(r, option, where, api ? api_keys : box_keys);
    scenario_text(r, option, where, "provider", c->provider, sizeof c->provider, api);
    if (!api)
        scenario_text(r, option, where, "machine", c->machine, sizeof c->machine, true);
    read_accuracy(r, option, c);
    if (api)
        read_api(r, option, index);
    else
        read_box(r, option, index);
}

static void read_options(scenario_reader *r, const json_t *list) {
    anemo_cost_scenario *s = r->s;
    int32_t seen[ANEMO_ROLE_COUNT] = {0};
    if (!json_is_array(list) || json_array_size(list) > OPTIONS_IN_FILE) {
        scenario_refuse(r, "options is not a list of at most %d", OPTIONS_IN_FILE);
        return;
    }
    for (size_t i = 0; i < json_array_size(list) && r->status == ANEMO_OK; i++)
        read_option(r, json_array_get(list, i));
    for (int32_t i = 0; i < s->model.n_options; i++)
        if (seen[s->model.option[i].role]++ == 0 && s->model.option[i].role == ANEMO_ROLE_IN_USE)
            s->in_use = i;
    if (seen[ANEMO_ROLE_IN_USE] != 1)
        scenario_refuse(r, "options: %d with the role in_use; exactly one is today's bill",
                        seen[ANEMO_ROLE_IN_USE]);
    if (seen[ANEMO_ROLE_OWNED] == 0)
        scenario_refuse(r, "options: none with the role owned; there is nothing to buy");
}

/* For every machine that could be bought, with the API that makes it cheapest. */
static void add_hybrids(anemo_cost_scenario *s) {
    int32_t n = s->model.n_options;
    for (int32_t box = 0; box < n; box++) {
        int32_t index = s->model.n_options;
        anemo_cost_option *o = &s->model.option[index];
        double cheapest = INFINITY;
        anemo_cost_option best = {0};
        if (s->model.option[box].role != ANEMO_ROLE_OWNED || !s->choice[box].capacity.known ||
            index == ANEMO_COST_OPTIONS_MAX)
            continue;
        for (int32_t api = 0; api < n; api++) {
            if (s->model.option[api].role > ANEMO_ROLE_HOSTED)
                continue;
            *o = (anemo_cost_option){.role = ANEMO_ROLE_HYBRID, .box = box, .api = api};
            double pv = anemo_cost_plan_hybrid(&s->model, index, s->x);
            if (pv < cheapest) {
                cheapest = pv;
                best = *o;
            }
        }
        *o = best;
        const anemo_cost_choice own = s->choice[box], rest = s->choice[best.api];
        anemo_cost_choice *c = &s->choice[index];
        *c = (anemo_cost_choice){.capacity = own.capacity, .accuracy = own.accuracy};
        snprintf(c->id, sizeof c->id, "%.18s+%.18s", own.id, rest.id);
        snprintf(c->model, sizeof c->model, "%.46s, %.46s", own.model, rest.model);
        snprintf(c->machine, sizeof c->machine, "%s", own.machine);
        s->model.n_options++;
    }
}

/* ---------------------------------------------------------------- the file */

static void read_rule(scenario_reader *r, const json_t *root) {
    const json_t *rule = json_object_get(root, "rule");
    anemo_cost_rule *to = &r->s->rule;
    if (rule)
        scenario_keys(r, rule, "rule", "buy refuse dominate margin accuracy_waived_by");
    to->buy = scenario_plain(r, rule, "rule", "buy", 0.5, 1, 0.8);
    to->refuse = scenario_plain(r, rule, "rule", "refuse", 0, 0.5, 0.2);
    to->dominate = scenario_plain(r, rule, "rule", "dominate", 0.5, 1, 0.8);
    to->margin = scenario_plain(r, rule, "rule", "margin", 0, 1, ANEMO_COST_MARGIN);
    scenario_text(r, rule, "rule", "accuracy_waived_by", to->waived_by, sizeof to->waived_by,
                  false);
}

static bool is_currency(const char *code) {
    for (int i = 0; i < 3; i++)
        if (code[i] < 'A' || code[i] > 'Z')
            return false;
    return code[3] == 0;
}

static void read_root(scenario_reader *r, const json_t *root, char *region, size_t region_bytes) {
    anemo_cost_scenario *s = r->s;
    const json_t *workload = json_object_get(root, "workload"),
                 *site = json_object_get(root, "site");
    const json_t *limits = json_object_get(root, "limits");
    scenario_keys(
        r, root, "the file",
        "schema_version name example currency region origin workload site limits options rule "
        "rented_holds_sensitive note");
    if (json_integer_value(json_object_get(root, "schema_version")) != SCHEMA)
        scenario_refuse(r, "schema_version is missing, or not %d", SCHEMA);
    scenario_text(r, root, "the file", "name", s->name, sizeof s->name, true);
    scenario_text(r, root, "the file", "currency", s->currency, sizeof s->currency, true);
    scenario_text(r, root, "the file", "region", region, region_bytes, false);
    if (r->status == ANEMO_OK && !is_currency(s->currency))
        scenario_refuse(r, "currency is '%s'; expected a code of three letters such as EUR",
                        s->currency);
    scenario_exchange(r, "USD"); /* an unknown currency is told first */
    s->example = json_is_true(json_object_get(root, "example"));
    s->rented_holds_sensitive = json_is_true(json_object_get(root, "rented_holds_sensitive"));
    r->origin = (anemo_origin){.class_ = ANEMO_CLASS_ASSUMED, .as_of = s->day};
    snprintf(r->origin.source, sizeof r->origin.source, "%s", "the scenario file");
    r->origin = scenario_origin(r, json_object_get(root, "origin"), "origin");
    scenario_keys(r, workload, "workload",
                  "requests_per_month tokens_in tokens_out cached_share cache_write_share "
                  "batchable_share sensitive_share growth burst profile lengths");
    if (site)
        scenario_keys(r, site, "site",
                      "years discount_rate headroom kwh_price pue demand_charge colocation staff "
                      "staff_per_server staff_cost other error_loss");
    if (limits)
        scenario_keys(r, limits, "limits", "p95_ttft_s p95_tpot_s");
    s->limit_ttft_s = scenario_plain(r, limits, "limits", "p95_ttft_s", 1e-6, 1e4, 0);
    s->limit_tpot_s = scenario_plain(r, limits, "limits", "p95_tpot_s", 1e-6, 1e4, 0);
    if (r->status == ANEMO_OK)
        read_globals(r, root);
    if (r->status == ANEMO_OK) {
        read_profile(r, workload);
        read_lengths(r, workload);
        read_rule(r, root);
    }
    if (r->status == ANEMO_OK)
        read_options(r, json_object_get(root, "options"));
}

anemo_status anemo_cost_scenario_read(const char *path, const anemo_reference *reference,
                                      int32_t day, int32_t max_age, anemo_cost_scenario *out,
                                      anemo_error *err) {
    json_error_t where;
    char region[64];
    *out = (anemo_cost_scenario){.day = day, .model = {.n_inputs = ANEMO_G_COUNT}};
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return anemo_fail(err, ANEMO_E_INPUT, "%s:%d: %s", path, where.line, where.text);
    scenario_reader r = {.path = path,
                         .reference = reference,
                         .max_age = max_age,
                         .s = out,
                         .region = region,
                         .err = err};
    read_root(&r, root, region, sizeof region);
    json_decref(root);
    for (int32_t i = 0; i < out->model.n_inputs; i++)
        out->x[i] = out->number[i].value;
    if (r.status == ANEMO_OK)
        add_hybrids(out);
    return r.status;
}

int32_t anemo_cost_option_inputs(const anemo_cost_scenario *s, int32_t option, int32_t *first) {
    if (option < 0) {
        *first = 0;
        return ANEMO_G_COUNT;
    }
    const anemo_cost_option *o = &s->model.option[option];
    *first = o->first;
    if (o->role == ANEMO_ROLE_HYBRID)
        return 0;
    return o->role <= ANEMO_ROLE_HOSTED ? ANEMO_A_COUNT : ANEMO_B_COUNT;
}
