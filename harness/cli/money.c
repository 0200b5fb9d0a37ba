/* See money.h. */
#include "harness/cli/money.h"

#include "anemo_config.h"
#include "harness/cost/date.h"

#include <time.h>
#include <unistd.h>

int32_t anemo_money_day(const char *as_of) {
    int32_t day = (int32_t)(time(NULL) / 86400);
    if (as_of && !anemo_date_parse(as_of, &day))
        anemo_cli_usage("--as-of '%s': expected a date such as 2026-11-22", as_of);
    return day;
}

anemo_status anemo_money_reference(const char *folder, anemo_reference *out, anemo_error *err) {
    const char *installed = ANEMO_DATA_DIR "/reference";
    const char *source = ANEMO_SOURCE_DIR "/results/reference";
    if (!folder)
        folder = access(source, R_OK) == 0 ? source : installed;
    return anemo_reference_read_folder(folder, out, err);
}

void anemo_money_columns(anemo_table *table, const char *const *key_and_heading) {
    for (; *key_and_heading; key_and_heading += 2)
        anemo_table_column(table, key_and_heading[0], key_and_heading[1]);
}
