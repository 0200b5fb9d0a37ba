/* What the commands about money share: the day, the reference data, tables. */
#ifndef ANEMO_CLI_MONEY_H
#define ANEMO_CLI_MONEY_H

#include "harness/cli/table.h"
#include "harness/cost/reference.h"

/* --as-of, or today when NULL; wrong dates are usage errors. */
int32_t anemo_money_day(const char *as_of);
/* The folder, or results/reference beside the source, or the installed one. */
anemo_status anemo_money_reference(const char *folder, anemo_reference *out, anemo_error *err);
/* Pairs of key and heading, ended by NULL. */
void anemo_money_columns(anemo_table *table, const char *const *key_and_heading);

#endif
