/* Assertions that cmocka lacks; include cmocka.h before they are used. */
#ifndef ANEMO_TEST_ASSERTS_H
#define ANEMO_TEST_ASSERTS_H

#include <math.h>
#include <string.h>

/* `part` stands in `text`, which is shown where it does not. */
#define assert_contains(text, part)                                                                \
    do {                                                                                           \
        const char *text_ = (text), *part_ = (part);                                               \
        if (!text_ || !strstr(text_, part_))                                                       \
            fail_msg("'%s' is not in:\n%s", part_, text_ ? text_ : "NULL");                        \
    } while (0)

/* |x - y| <= tolerance; a NaN is near nothing. */
#define assert_near(x, y, tolerance)                                                               \
    do {                                                                                           \
        const double x_ = (x), y_ = (y);                                                           \
        if (!(fabs(x_ - y_) <= (tolerance)))                                                       \
            fail_msg("%s = %.12g, expected %.12g", #x, x_, y_);                                    \
    } while (0)

#endif
