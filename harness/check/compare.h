/* Comparing results: element by element against bounds, in the mean, as a whole, and bit for bit.
 */
#ifndef ANEMO_CHECK_COMPARE_H
#define ANEMO_CHECK_COMPARE_H

#include "harness/check/op.h"

/* got against want; `scales` is the oracle's result, whose fields hold the scales. `label` begins
 * the sentence of a failure ("", "on 1 thread: "). */
void check_compare(const check_result *got, const check_result *want, const check_result *scales,
                   check_tolerance tolerance, const char *label, check_outcome *outcome);
/* mean |got - want| / mean spread of all float fields together <= limit; nothing below 32 elements.
 */
void check_compare_mean(const check_result *got, const check_result *want,
                        const check_result *scales, double limit, const char *label,
                        check_outcome *outcome);
/* A common factor on all elements, which hides in the noise of a narrow format element by element:
 * the regression of got on want must have a slope of 1 +- 2 c sqrt(sum spread^2 want^2) / sum
 * want^2, which is 12 times what independent errors of c / 6 spreads give it. Nothing if c is 0 or
 * below 32 elements. */
void check_compare_gain(const check_result *got, const check_result *want,
                        const check_result *scales, check_tolerance tolerance, const char *label,
                        check_outcome *outcome);
/* Rows of `part`, which holds rows [begin, begin + its rows) of `whole`, have the same bits; `but`:
 * why they should. */
void check_compare_bits(const check_result *part, const check_result *whole, int64_t begin,
                        const char *label, const char *but, check_outcome *outcome);

#endif
