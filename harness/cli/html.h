/* The pieces of an HTML page that know nothing of what stands on it: escaping, the frame with style
 * and script, drawings. See page.h for the page itself. */
#ifndef ANEMO_CLI_HTML_H
#define ANEMO_CLI_HTML_H

#include <stdbool.h>
#include <stdio.h>

/* Writes text so that it is text wherever it comes from, in an element or in a quoted attribute:
 * & < > " ' become entities; what is no UTF-8, and control characters, become U+FFFD. */
void html_text(FILE *out, const char *text);

/* Everything before and after the content. The policy in the head allows no request to anywhere and
 * no script but the one of this page, by its hash: what a record might smuggle in does not run.
 * mark: written across the page and above it; NULL: none. */
void html_begin(FILE *out, const char *title, const char *mark);
void html_end(FILE *out);

/* A drawing of gnuplot's `svg` terminal, made part of the page: prolog and comments fall away, ids
 * get `name` before them (they would meet those of other drawings), black becomes the colour of the
 * text, and `described` is what a screen reader says. false: this is no such drawing. */
bool html_svg(FILE *out, const char *svg, const char *name, const char *described);

#endif
