/* Shared by export*.c only. */
#ifndef ANEMO_EXPORT_INTERNAL_H
#define ANEMO_EXPORT_INTERNAL_H

#include "harness/record/export.h"

#include <jansson.h>

/* "" when it is absent. */
const char *export_text(const anemo_record *record, const char *section, const char *key);
/* 0 when it is absent: only for fields whose form wants a number and means nothing by 0. */
int64_t export_integer(const anemo_record *record, const char *section, const char *key);
bool export_passed(const anemo_record *record);
/* The raw samples of a metric by name, free them; *n 0: none. */
anemo_status export_samples(const anemo_record *record, const char *metric, double **samples,
                            int64_t *n, anemo_error *err);
void export_leave_out(anemo_export_report *report, const anemo_record *record, const char *why);
/* Mean, and the standard deviation of a sample (0 for one). */
void export_mean(const double *values, int64_t n, double *mean, double *deviation);

/* Appends what an exporter makes of a record to the list; it may leave it out. */
typedef anemo_status (*export_visitor)(const anemo_record *record, json_t *list,
                                       anemo_export_report *report, anemo_error *err);
/* Visits all; *list is NULL after a failure. `tool` is for the sentence when nothing is in it. */
anemo_status export_list(anemo_record *const *records, int64_t n, const char *tool,
                         export_visitor visit, json_t **list, anemo_export_report *report,
                         anemo_error *err);
/* Writes the document, newline at its end, and gives it back. NULL: no memory. */
anemo_status export_write(json_t *document, FILE *out, anemo_error *err);

#endif
