#include "harness/record/junit.h"

static void write_text(FILE *out, const char *text) {
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '<' || c == '>' || c == '&' || c == '"') {
            fputs(c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : "&quot;", out);
        } else {
            fputc(c < ' ' ? ' ' : c, out);
        }
    }
}

static void write_case(FILE *out, const char *suite, const anemo_junit_case *c) {
    static const char *const elements[] = {"system-out", "failure", "error", "skipped"};
    fputs("  <testcase classname=\"", out);
    write_text(out, suite);
    fputc('.', out);
    write_text(out, c->group);
    fputs("\" name=\"", out);
    write_text(out, c->name);
    fprintf(out, "\" time=\"%.6f\"", c->seconds);
    if (c->outcome != ANEMO_JUNIT_PASSED) {
        fprintf(out, "><%s message=\"", elements[c->outcome]);
        write_text(out, c->message);
        fputs("\"/></testcase>\n", out);
    } else if (c->message[0]) {
        fprintf(out, "><%s>", elements[c->outcome]);
        write_text(out, c->message);
        fprintf(out, "</%s></testcase>\n", elements[c->outcome]);
    } else {
        fputs("/>\n", out);
    }
}

void anemo_junit_write(FILE *out, const char *suite, const anemo_junit_case *cases, int64_t n) {
    int64_t count[ANEMO_JUNIT_SKIPPED + 1] = {0};
    double seconds = 0;
    for (int64_t i = 0; i < n; i++) {
        count[cases[i].outcome]++;
        seconds += cases[i].seconds;
    }
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"", out);
    write_text(out, suite);
    fprintf(out,
            "\" tests=\"%lld\" failures=\"%lld\" errors=\"%lld\" skipped=\"%lld\" "
            "time=\"%.6f\">\n",
            (long long)n, (long long)count[ANEMO_JUNIT_FAILURE],
            (long long)count[ANEMO_JUNIT_ERROR], (long long)count[ANEMO_JUNIT_SKIPPED], seconds);
    for (int64_t i = 0; i < n; i++) {
        write_case(out, suite, &cases[i]);
    }
    fputs("</testsuite>\n</testsuites>\n", out);
}
