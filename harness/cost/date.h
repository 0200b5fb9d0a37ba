/* Calendar days: "2026", "2026-09" or "2026-09-01", counted from 1970-01-01. A date without month
 * or day means its first one, which is the careful end when an age is asked for. */
#ifndef ANEMO_COST_DATE_H
#define ANEMO_COST_DATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool anemo_date_parse(const char *text, int32_t *day);
void anemo_date_text(int32_t day, char *text, size_t text_bytes); /* "2026-09-01" */

#endif
