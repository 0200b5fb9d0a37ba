/* Figures: a query over what a report holds, drawn by gnuplot with the small file of plots/ that
 * bears the figure's name. figures.inc lists them. */
#ifndef ANEMO_CLI_FIGURE_H
#define ANEMO_CLI_FIGURE_H

#include "harness/cli/page.h"
#include "harness/cli/report.h"

typedef struct figure_data {
    anemo_table *table;  /* what is drawn: the columns that plots/NAME.gp asks for by their keys */
    char described[600]; /* the drawing in words, for who cannot see it; "": there is nothing */
    char unit[16];       /* of money, or "" */
} figure_data;

typedef struct figure {
    const char *name, *title;
    const char *needs; /* what it takes to have one, when there is nothing to draw */
    bool of_scenario;  /* else of records */
    void (*query)(const anemo_report *report, figure_data *data);
} figure;

/* NULL at the end. */
const figure *figure_at(int32_t index);
const figure *figure_find(const char *name);

/* Asks; the table is the caller's. data->described is "" when there is nothing to draw. */
void figure_ask(const figure *f, const anemo_report *report, figure_data *data);

/* Draws it: terminal "svg" or "png", into *bytes (malloc). ANEMO_E_IO says what is missing:
 * gnuplot, the file of plots/, or what gnuplot complained about. */
anemo_status figure_draw(const figure *f, const figure_data *data, const char *mark,
                         const char *terminal, char **bytes, size_t *n_bytes, anemo_error *err);

/* The figure with its caption, and with_table the numbers below it. What cannot be drawn is a named
 * placeholder with the table, counted in p->placeholders. A figure without data: a sentence. */
void page_figure(page *p, const figure *f, const anemo_report *report);

/* For queries: a text cell that a CSV file of gnuplot can hold, longer ones cut at the end. */
void figure_label(anemo_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define ANEMO_FIGURE(name, of, title, needs)                                                       \
    void figure_query_##name(const anemo_report *report, figure_data *data);
#include "harness/cli/figures.inc"
#undef ANEMO_FIGURE

#endif
