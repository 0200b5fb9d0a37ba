/* Reference data: prices of APIs, and facts about machines, sites and currencies, each with source,
 * date and class. Read strictly: an unknown key, a wrong type, a value outside its range, a date
 * that is none, a unit that is not known are refused with one sentence. */
#ifndef ANEMO_COST_REFERENCE_H
#define ANEMO_COST_REFERENCE_H

#include "kernels/kernel.h"

/* Best evidence first. A result is worth what its worst input is. */
typedef enum anemo_class {
    ANEMO_CLASS_MEASURED,
    ANEMO_CLASS_QUOTED,
    ANEMO_CLASS_PUBLISHED,
    ANEMO_CLASS_ASKING,
    ANEMO_CLASS_ASSUMED,
    ANEMO_CLASS_PROJECTED,
    ANEMO_SOURCE_CLASSES
} anemo_class;
const char *anemo_class_name(anemo_class class_);
bool anemo_class_parse(const char *text, anemo_class *class_);

#define ANEMO_SOURCE_BYTES 320

/* Where a number comes from. */
typedef struct anemo_origin {
    anemo_class class_;
    int32_t as_of;    /* day */
    int32_t from, to; /* effective from `from` on, before `to`; INT32_MIN, INT32_MAX: unlimited */
    char source[ANEMO_SOURCE_BYTES];
} anemo_origin;

/* A price another source gives for the same row. */
typedef struct anemo_other_price {
    double input, output;
    int32_t as_of;
    char source[ANEMO_SOURCE_BYTES];
} anemo_other_price;

#define ANEMO_OTHER_PRICES 4

/* Prices of one model at one provider, per million tokens; NaN: not published. */
typedef struct anemo_price {
    char provider[64], model[96], currency[4], tier[16];
    double bracket; /* for requests with more input than this; 0: the ordinary row */
    double input, cached, write, output;
    double batch_ratio, priority_ratio, region_eu, region_us;
    anemo_origin origin;
    anemo_other_price other[ANEMO_OTHER_PRICES];
    int32_t n_others;
} anemo_price;

/* One number about a subject: a machine ("hgx-h100-8"), "machine", "api", "workload" (any of them),
 * a site ("site", "eu"), or a currency. */
typedef struct anemo_fact {
    char subject[64], what[40], unit[24], note[208];
    double value, low, high; /* low = high = value: no range */
    anemo_origin origin;
} anemo_fact;

typedef struct anemo_reference {
    anemo_price *price;
    int32_t n_prices;
    anemo_fact *fact;
    int32_t n_facts;
} anemo_reference;

/* Appends the rows of a file, prices or facts: told by their keys. ANEMO_E_INPUT "FILE:LINE: ...".
 */
anemo_status anemo_reference_read(const char *path, anemo_reference *into, anemo_error *err);
/* prices.jsonl, machines.jsonl and site.jsonl of a folder, and checks them against each other. */
anemo_status anemo_reference_read_folder(const char *folder, anemo_reference *into,
                                         anemo_error *err);
void anemo_reference_free(anemo_reference *reference);

/* The row in force on `day` with this bracket; of several the latest as_of. NULL: none. */
const anemo_price *anemo_price_find(const anemo_reference *r, const char *provider,
                                    const char *model, const char *tier, double bracket,
                                    int32_t day);
/* The bracket above the ordinary row that is in force, or NULL. */
const anemo_price *anemo_price_bracket(const anemo_reference *r, const anemo_price *base,
                                       int32_t day);
/* The fact in force, of several the best class, then the latest. NULL: none. */
const anemo_fact *anemo_fact_find(const anemo_reference *r, const char *subject, const char *what,
                                  int32_t day);
/* A name that moves from model to model ("mistral-large-latest"). */
bool anemo_price_is_alias(const char *model);

#endif
