/* See date.h. Civil days by the usual shift of the year's beginning to March. */
#include "harness/cost/date.h"

#include <stdio.h>
#include <string.h>

static int32_t days_from_civil(int32_t y, int32_t m, int32_t d) {
    y -= m <= 2;
    int32_t era = y / 400, of_era = y - era * 400;
    int32_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool digits(const char *text, int32_t n, int32_t *value) {
    *value = 0;
    for (int32_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *value = *value * 10 + text[i] - '0';
    }
    return true;
}

bool anemo_date_parse(const char *text, int32_t *day) {
    static const int32_t longest[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    size_t n = text ? strlen(text) : 0;
    int32_t y, m = 1, d = 1;
    if ((n != 4 && n != 7 && n != 10) || !digits(text, 4, &y) || y < 1970 || y > 2200)
        return false;
    if (n >= 7 && (text[4] != '-' || !digits(text + 5, 2, &m)))
        return false;
    if (n == 10 && (text[7] != '-' || !digits(text + 8, 2, &d)))
        return false;
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    if (m < 1 || m > 12 || d < 1 || d > longest[m - 1] || (m == 2 && d == 29 && !leap))
        return false;
    *day = days_from_civil(y, m, d);
    return true;
}

void anemo_date_text(int32_t day, char *text, size_t text_bytes) {
    int32_t z = day + 719468, era = z / 146097, of_era = z - era * 146097;
    int32_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int32_t of_year = of_era - (365 * y + y / 4 - y / 100), shifted = (5 * of_year + 2) / 153;
    int32_t d = of_year - (153 * shifted + 2) / 5 + 1, m = shifted < 10 ? shifted + 3 : shifted - 9;
    snprintf(text, text_bytes, "%04d-%02d-%02d", y + era * 400 + (m <= 2), m, d);
}
