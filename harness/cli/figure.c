/* Asking, drawing and showing figures. See figure.h.
 *
 * gnuplot runs in a fresh folder of its own: data.csv (the query's table), the figure's file of
 * plots/ and what it draws. Nothing of a record reaches a command line or gnuplot's language: words
 * are read from the CSV file as strings, and gnuplot escapes them in the drawing. */
#include "harness/cli/figure.h"

#include "anemo_config.h"
#include "harness/cli/html.h"
#include "harness/cli/report_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LABEL_BYTES 64

enum { SCENARIO = 1, RECORDS = 0 };

static const figure figures[] = {
#define ANEMO_FIGURE(name, of, title, needs) {#name, title, needs, of, figure_query_##name},
#include "harness/cli/figures.inc"
#undef ANEMO_FIGURE
};
#define N_FIGURES (int32_t)(sizeof figures / sizeof *figures)

const figure *figure_at(int32_t index) {
    return index >= 0 && index < N_FIGURES ? &figures[index] : NULL;
}

const figure *figure_find(const char *name) {
    for (int32_t i = 0; i < N_FIGURES; i++)
        if (strcmp(figures[i].name, name) == 0)
            return &figures[i];
    return NULL;
}

void figure_ask(const figure *f, const anemo_report *report, figure_data *data) {
    *data = (figure_data){.table = anemo_table_create(f->name, f->title)};
    f->query(report, data);
}

void figure_label(anemo_table *table, const char *format, ...) {
    char text[256];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    for (char *c = text; *c; c++)
        if (*c == '"' || *c == ',' || (unsigned char)*c < ' ')
            *c = *c == '"' ? '\'' : ' ';
    if (strlen(text) > LABEL_BYTES) { /* at the end of a character */
        size_t n = LABEL_BYTES;
        while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
            n--;
        snprintf(text + n, sizeof text - n, "…");
    }
    anemo_table_text(table, "%s", text);
}

/* ---------------------------------------------------------------- drawing */

static const char *plots_folder(void) {
    static const char source[] = ANEMO_SOURCE_DIR "/plots";
    return access(source, R_OK) == 0 ? source : ANEMO_DATA_DIR "/plots";
}

static char *text_at(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *text_at(const char *format, ...) {
    char *text = NULL;
    va_list list;
    va_start(list, format);
    if (vasprintf(&text, format, list) < 0)
        abort();
    va_end(list);
    return text;
}

/* Letters, digits and a few signs: what may stand in a string of gnuplot. */
static void plain(const char *text, char *out, size_t out_bytes) {
    size_t n = 0;
    for (; *text && n + 1 < out_bytes; text++)
        out[n++] = strchr("'\"\\`$@{}\n", *text) ? ' ' : *text;
    out[n] = 0;
}

/* Runs gnuplot in `folder`; what it says goes to log.txt there. -1: there is no gnuplot. */
static int run_gnuplot(const char *folder, const char *file, const char *settings) {
    extern char **environ;
    posix_spawn_file_actions_t actions;
    pid_t child;
    int code = -1;
    char *const argv[] = {"gnuplot", "-d", "-e", (char *)settings, (char *)file, NULL};
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, folder);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "log.txt", O_WRONLY | O_CREAT, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (posix_spawnp(&child, "gnuplot", &actions, NULL, argv, environ) == 0) {
        while (waitpid(child, &code, 0) < 0 && errno == EINTR)
            ;
        if (WIFEXITED(code) && WEXITSTATUS(code) == 127)
            code = -1;
    }
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

static anemo_status draw_in(const char *folder, const figure *f, const figure_data *data,
                            const char *mark, const char *terminal, char **bytes, size_t *n_bytes,
                            anemo_error *err) {
    char word[64], unit[32];
    size_t n_log = 0;
    char *csv = text_at("%s/data.csv", folder), *drawn = text_at("%s/figure", folder);
    char *log = text_at("%s/log.txt", folder), *file = text_at("%s/%s.gp", plots_folder(), f->name);
    plain(mark ? mark : "", word, sizeof word);
    word[strcspn(word, ":,")] = 0;
    plain(data->unit, unit, sizeof unit);
    char *settings = text_at("kind='%s'; mark='%s'; unit='%s'", terminal, word, unit);
    FILE *out = fopen(csv, "w");
    anemo_status status = ANEMO_OK;
    if (out)
        anemo_table_print((const anemo_table *const[]){data->table}, 1, ANEMO_FORMAT_CSV, out);
    if (!out || fclose(out) != 0)
        status = anemo_fail(err, ANEMO_E_IO, "%s: %s", csv, strerror(errno));
    setenv("GNUPLOT_LIB", plots_folder(), 1); /* where it finds style.gp */
    int code = status == ANEMO_OK ? run_gnuplot(folder, file, settings) : 0;
    if (status == ANEMO_OK && code == -1)
        status = anemo_fail(err, ANEMO_E_IO,
                            "figure %s: gnuplot is not here; install it (Debian, Ubuntu: "
                            "gnuplot-nox)",
                            f->name);
    else if (status == ANEMO_OK && (code != 0 || !(*bytes = report_file(drawn, n_bytes)))) {
        char *said = report_file(log, &n_log);
        status = anemo_fail(err, ANEMO_E_IO, "figure %s: gnuplot could not draw it: %.200s",
                            f->name, said ? said : "it said nothing");
        free(said);
    }
    unlink(csv), unlink(drawn), unlink(log);
    free(csv), free(drawn), free(log), free(file), free(settings);
    return status;
}

/* gnuplot's svg terminal knows no transparent words: the mark comes in a colour of its own, which
 * becomes a transparent red of the same length. */
static void fade_mark(char *svg) {
    static const char own[] = "fill=\"rgb(1,2,3)\"";
    static const char faded[] = "fill=\"#c94f4f44\" ";
    _Static_assert(sizeof own == sizeof faded, "in place");
    for (char *at = svg; (at = strstr(at, own));)
        memcpy(at, faded, sizeof faded - 1);
}

anemo_status figure_draw(const figure *f, const figure_data *data, const char *mark,
                         const char *terminal, char **bytes, size_t *n_bytes, anemo_error *err) {
    const char *base = getenv("TMPDIR");
    char *folder = text_at("%s/anemo-plot-XXXXXX", base && *base ? base : "/tmp");
    *bytes = NULL;
    anemo_status status = ANEMO_OK;
    if (!mkdtemp(folder))
        status = anemo_fail(err, ANEMO_E_IO, "%s: %s", folder, strerror(errno));
    else {
        status = draw_in(folder, f, data, mark, terminal, bytes, n_bytes, err);
        rmdir(folder);
    }
    if (status == ANEMO_OK && strcmp(terminal, "svg") == 0)
        fade_mark(*bytes);
    free(folder);
    return status;
}

/* ---------------------------------------------------------------- on a page */

static void placeholder(page *p, const figure *f, const char *why) {
    p->placeholders++;
    if (p->form == PAGE_MD) {
        page_text(p, "Figure %s: not drawn: %s. Its numbers:", f->name, why);
        return;
    }
    fprintf(p->out, "<figure id=\"figure-%s\" class=\"missing\"><p>", f->name);
    html_text(p->out, "not drawn: ");
    html_text(p->out, why);
    fputs(". Its numbers stand below.</p><figcaption>", p->out);
    html_text(p->out, f->title);
    fputs("</figcaption></figure>\n", p->out);
}

static bool show_svg(page *p, const figure *f, const figure_data *data, const char *svg) {
    char *drawing = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&drawing, &n);
    bool good = memory && html_svg(memory, svg, f->name, data->described);
    if (memory)
        fclose(memory);
    if (good) {
        fprintf(p->out,
                "<figure id=\"figure-%s\"><div class=\"scroll\" role=\"region\" tabindex=\"0\" "
                "aria-label=\"figure\">%s</div><figcaption>",
                f->name, drawing);
        if (p->mark) {
            fputs("<span class=\"mark\">", p->out);
            html_text(p->out, p->mark);
            fputs("</span> ", p->out);
        }
        html_text(p->out, f->title);
        fputs(". ", p->out);
        html_text(p->out, data->described);
        fputs("</figcaption></figure>\n", p->out);
    }
    free(drawing);
    return good;
}

void page_figure(page *p, const figure *f, const anemo_report *report) {
    figure_data data;
    anemo_error err = {0};
    char *svg = NULL;
    size_t n = 0;
    int32_t placeholders = p->placeholders;
    figure_ask(f, report, &data);
    if (!data.described[0]) {
        page_text(p, "No figure %s (%s): it needs %s.", f->name, f->title, f->needs);
        anemo_table_free(data.table);
        return;
    }
    if (p->form == PAGE_MD)
        page_text(p, "Figure %s: %s. %s Draw it: anemo plot %s FILE... -o %s.svg", f->name,
                  f->title, data.described, f->name, f->name);
    else if (figure_draw(f, &data, p->mark, "svg", &svg, &n, &err) != ANEMO_OK)
        placeholder(p, f, err.text);
    else if (!show_svg(p, f, &data, svg))
        placeholder(p, f, "gnuplot's drawing has something in it that this page does not take");
    free(svg);
    page_numbers(p, data.table, p->placeholders > placeholders);
}
