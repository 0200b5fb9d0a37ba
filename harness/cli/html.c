/* Escaping, frame and drawings of an HTML page. See html.h.
 *
 * One file without a neighbour: it must be readable from a mail attachment, years later, offline.
 * So style and script stand in it, drawings are part of it, and fonts are the reader's own. The
 * colours have a contrast of at least 4.5 to 1 to their ground, in light and in dark. The page is
 * whole without the script, which does one thing: it lets tables be sorted. */
#include "harness/cli/html.h"

#include "models/engine.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- text */

/* Bytes of the well-formed UTF-8 character at `s`, 0 when there is none. */
static size_t utf8_length(const unsigned char *s) {
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } forms[] = {{0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};
    if (*s < 0x80)
        return 1;
    for (size_t f = 0; f < 3; f++) {
        if ((*s & forms[f].mask) != forms[f].lead)
            continue;
        uint32_t c = *s & (unsigned char)~forms[f].mask;
        for (size_t i = 1; i <= f + 1; i++) {
            if ((s[i] & 0xC0) != 0x80)
                return 0;
            c = c << 6 | (s[i] & 0x3F);
        }
        bool surrogate = c >= 0xD800 && c < 0xE000;
        return c < forms[f].least || c > 0x10FFFF || surrogate ? 0 : f + 2;
    }
    return 0;
}

void html_text(FILE *out, const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t n = utf8_length(s);
        bool control = (*s < 0x20 && *s != '\n' && *s != '\t') || *s == 0x7F;
        if (*s == '&')
            fputs("&amp;", out);
        else if (*s == '<')
            fputs("&lt;", out);
        else if (*s == '>')
            fputs("&gt;", out);
        else if (*s == '"')
            fputs("&quot;", out);
        else if (*s == '\'')
            fputs("&#39;", out);
        else if (n == 0 || control)
            fputs("\xEF\xBF\xBD", out);
        else
            fwrite(s, 1, n, out);
        s += n ? n : 1;
    }
}

/* ---------------------------------------------------------------- the frame */

static const char style[] =
    ":root{color-scheme:light dark;--ground:#fff;--text:#1b1f24;--soft:#57606a;--line:#d0d7de;"
    "--band:#f3f5f8;--link:#0b5cad;--note:#8a4b00;--note-ground:#fff4e0}\n"
    "@media(prefers-color-scheme:dark){:root{--ground:#11151a;--text:#e6edf3;--soft:#a3adb8;"
    "--line:#3a424c;--band:#1a2027;--link:#7ab8ff;--note:#ffc98a;--note-ground:#33240f}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:68rem;padding:1rem 1.2rem 3rem;background:var(--ground);"
    "color:var(--text);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}\n"
    "h1{font-size:1.5rem;line-height:1.25;margin:.6rem 0}h2{font-size:1.25rem;margin:2rem 0 .5rem;"
    "border-bottom:1px solid var(--line)}h3{font-size:1.05rem;margin:1.2rem 0 .3rem}\n"
    "a{color:var(--link)}a:focus-visible,button:focus-visible,.scroll:focus-visible{outline:3px "
    "solid var(--link);outline-offset:2px}\n"
    ".skip{position:absolute;left:-99rem}.skip:focus{position:static}\n"
    "nav{font-size:.9rem;margin:.5rem 0}nav a{margin-right:.9rem;white-space:nowrap}\n"
    ".first{list-style:none;padding:0;margin:0}.first>li{margin:.55rem 0}\n"
    ".lead{font-size:1.2rem;line-height:1.4}\n"
    ".soft{color:var(--soft);font-size:.9rem}\n"
    ".mark{color:var(--note);font-weight:700}\n"
    ".banner{background:var(--note-ground);color:var(--note);font-weight:700;padding:.4rem .8rem;"
    "border-left:.3rem solid var(--note)}\n"
    ".watermark{position:fixed;inset:0;display:flex;align-items:center;justify-content:center;"
    "transform:rotate(-28deg);font-size:min(14vw,9rem);font-weight:800;letter-spacing:.1em;"
    "opacity:.07;pointer-events:none;user-select:none;z-index:1}\n"
    ".scroll{overflow-x:auto;margin:.6rem 0}\n"
    "table{border-collapse:collapse;font-size:.88rem;overflow-wrap:normal;width:max-content}\n"
    "caption{text-align:left;font-weight:600;padding:.2rem 0;caption-side:top}\n"
    "th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left;"
    "vertical-align:top;max-width:26rem}\n"
    "tbody th{font-weight:400}thead th{border-bottom:2px solid var(--line);font-weight:600}\n"
    ".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\n"
    "tbody tr:nth-child(even){background:var(--band)}\n"
    "th button{all:unset;cursor:pointer;font-weight:600}\n"
    "th button::after{content:\" \\2195\";color:var(--soft)}"
    "th[aria-sort=ascending] button::after{content:\" \\2191\"}"
    "th[aria-sort=descending] button::after{content:\" \\2193\"}\n"
    "summary{cursor:pointer;color:var(--link);padding:.2rem 0}summary:focus-visible{outline:3px "
    "solid "
    "var(--link)}\n"
    "figure{margin:1rem 0}figcaption{font-size:.9rem;color:var(--soft)}\n"
    "figure svg{display:block;width:100%;max-width:52rem;height:auto;min-width:34rem}\n"
    ".missing{border:2px dashed var(--line);padding:1rem;color:var(--note)}\n"
    ".bar{display:flex;height:2.2rem;max-width:46rem;border:1px solid var(--line)}\n"
    ".bar span{overflow:hidden;white-space:nowrap;font-size:.8rem;line-height:2.1rem;text-align:"
    "center;color:#fff}\n"
    ".measured{background:#1a6b3c}.quoted{background:#0b5cad}.published{background:#5b4a9e}"
    ".asking{background:#8a4b00}.assumed{background:#9b2c2c}.projected{background:repeating-linear-"
    "gradient(45deg,#4a4f57 0 8px,#5d636c 8px 16px)}\n"
    "pre{background:var(--band);padding:.6rem .8rem;overflow-x:auto;font-size:.85rem;white-space:"
    "pre-wrap}\n"
    "footer{margin-top:2.5rem;border-top:2px solid var(--line);font-size:.85rem}\n"
    "@media(max-width:40rem){body{padding:.6rem .7rem 2rem;font-size:15px}.lead{font-size:1.08rem}"
    "nav a{display:inline-block;padding:.35rem 0}th button{padding:.3rem 0}}\n"
    "@media print{:root{--ground:#fff;--text:#000;--soft:#444;--line:#999;--band:#f3f3f3;"
    "--note:#7a4200;--note-ground:#fff;--link:#000}body{max-width:none;padding:0;font-size:10pt}"
    "nav,"
    ".skip{display:none}.scroll{overflow:visible}table{font-size:8pt;width:auto;overflow-wrap:"
    "anywhere}th,td{white-space:normal}"
    "figure svg{min-width:0;max-width:16cm}figure,tr,.first>li{break-inside:avoid}h2,h3,caption{"
    "break-after:avoid}#evidence{break-before:page}th button::after{content:\"\"!important}"
    ".bar,.measured,.quoted,.published,.asking,.assumed,.projected{print-color-adjust:exact;"
    "-webkit-print-color-adjust:exact}}\n";

/* Column headings of tables with at least two rows become buttons that sort it; numbers by their
 * full value, absent ones last in both directions. */
static const char script[] =
    "for(const table of document.querySelectorAll('table')){\n"
    " const body=table.tBodies[0];\n"
    " if(body.rows.length<2)continue;\n"
    " [...table.tHead.rows[0].cells].forEach((th,i)=>{\n"
    "  const b=document.createElement('button');\n"
    "  b.type='button';b.textContent=th.textContent;th.replaceChildren(b);\n"
    "  b.addEventListener('click',()=>{\n"
    "   const down=th.getAttribute('aria-sort')==='ascending';\n"
    "   for(const o of table.tHead.rows[0].cells)o.removeAttribute('aria-sort');\n"
    "   th.setAttribute('aria-sort',down?'descending':'ascending');\n"
    "   const key=r=>{const c=r.cells[i];return c.dataset.v!==undefined?Number(c.dataset.v):"
    "c.textContent==='-'?null:c.textContent};\n"
    "   const cmp=(a,b)=>typeof a==='number'&&typeof b==='number'?a-b:"
    "String(a).localeCompare(String(b),undefined,{numeric:true});\n"
    "   [...body.rows].sort((r,s)=>{const a=key(r),b=key(s);\n"
    "    return a===null?(b===null?0:1):b===null?-1:down?cmp(b,a):cmp(a,b)}).forEach(r=>body."
    "append(r));\n"
    "  });\n"
    " });\n"
    "}\n";

/* SHA-256 in base64, as a content security policy names a script. */
static void script_hash(char text[45]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char hex[65];
    unsigned char raw[33] = {0};
    anemo_sha256_of(script, sizeof script - 1, hex);
    for (int i = 0; i < 32; i++) {
        const char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        raw[i] = (unsigned char)strtoul(two, NULL, 16);
    }
    for (int i = 0, o = 0; i < 33; i += 3) {
        uint32_t three = (uint32_t)raw[i] << 16 | (uint32_t)raw[i + 1] << 8 | raw[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            text[o++] = digits[three >> shift & 63];
    }
    text[43] = '='; /* the 33rd byte is no part of the hash */
    text[44] = 0;
}

void html_begin(FILE *out, const char *title, const char *mark) {
    char hash[45];
    script_hash(hash);
    fprintf(out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
            "'unsafe-inline'; script-src 'sha256-%s'; base-uri 'none'; form-action 'none'\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
            hash);
    html_text(out, title);
    fprintf(out,
            "</title>\n<style>\n%s</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#content\">"
            "Skip to the content</a>\n",
            style);
    if (mark) {
        fputs("<div class=\"watermark\" aria-hidden=\"true\">", out);
        char word[32];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(mark, " :,"), mark);
        html_text(out, word);
        fputs("</div>\n<p class=\"banner\" role=\"note\">", out);
        html_text(out, mark);
        fputs("</p>\n", out);
    }
    fputs("<main id=\"content\">\n", out);
}

void html_end(FILE *out) {
    fprintf(out, "<script>%s</script>\n</body>\n</html>\n", script);
}

/* ---------------------------------------------------------------- drawings */

/* Does `tag` (from < to >, n bytes) hold what must not be in a drawing? gnuplot writes nothing of
 * the kind; a drawing that does is not shown. */
static bool tag_is_strange(const char *tag, size_t n) {
    static const char *const allowed[] = {"svg",      "title",  "desc", "g",     "rect",
                                          "defs",     "use",    "text", "path",  "line",
                                          "clipPath", "circle", "a",    "tspan", "polygon"};
    const char *name = tag + 1 + (n > 1 && tag[1] == '/');
    size_t length = 0;
    while (isalnum((unsigned char)name[length]))
        length++;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (strlen(allowed[i]) == length && strncmp(allowed[i], name, length) == 0) {
            for (size_t k = 1; k + 3 < n; k++) /* on...= : a handler */
                if (isspace((unsigned char)tag[k - 1]) && strncasecmp(tag + k, "on", 2) == 0)
                    return true;
            return memmem(tag, n, "href='#", 7) == NULL && memmem(tag, n, "href", 4) != NULL;
        }
    return true;
}

/* The tag with the ids set apart and black as the text's colour. */
static void write_tag(FILE *out, const char *tag, size_t n, const char *name) {
    static const char *const own[] = {"id='", "id=\"", "url(#", "href='#"};
    static const char *const black[] = {"'black'", "\"black\"", "'rgb(  0,   0,   0)'",
                                        "\"rgb(0,0,0)\""};
    for (size_t i = 0; i < n;) {
        size_t skipped = 0;
        for (size_t k = 0; k < 4 && !skipped; k++)
            if (strncmp(tag + i, own[k], strlen(own[k])) == 0) {
                skipped = strlen(own[k]);
                fprintf(out, "%s%s-", own[k], name);
            }
        for (size_t k = 0; k < 4 && !skipped; k++)
            if (strncmp(tag + i, black[k], strlen(black[k])) == 0) {
                skipped = strlen(black[k]);
                fputs("\"currentColor\"", out);
            }
        if (!skipped)
            fputc(tag[i], out);
        i += skipped ? skipped : 1;
    }
}

/* The <filter>s that gnuplot defines for boxes around text are not used here. */
static const char *after_filter(const char *at) {
    const char *end = strncmp(at, "<filter", 7) == 0 ? strstr(at, "</filter>") : NULL;
    return end ? end + 9 : NULL;
}

bool html_svg(FILE *out, const char *svg, const char *name, const char *described) {
    const char *at = strstr(svg, "<svg"), *end = at ? strstr(at, "</svg>") : NULL;
    if (!end)
        return false;
    for (const char *p = at; p < end;) {
        const char *over = after_filter(p);
        size_t n = strcspn(p, ">") + 1;
        if (*p == '<' && !over && tag_is_strange(p, n))
            return false;
        p = over ? over : *p == '<' ? p + n : p + 1;
    }
    const char *box = strstr(at, "viewBox=\"");
    if (!box || box > strchr(at, '>'))
        return false;
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/"
                 "xlink\" role=\"img\" aria-label=\"");
    html_text(out, described);
    fprintf(out, "\" viewBox=\"%.*s\">", (int)strcspn(box + 9, "\""), box + 9);
    at = strchr(at, '>') + 1;
    while (at < end) {
        const char *over = after_filter(at);
        size_t n = strcspn(at, ">") + 1;
        const char *title = strncmp(at, "<title>", 7) == 0  ? "</title>"
                            : strncmp(at, "<desc>", 6) == 0 ? "</desc>"
                                                            : NULL;
        if (title && strstr(at, title)) /* the page says it better */
            at = strstr(at, title) + strlen(title);
        else if (over)
            at = over;
        else if (*at == '<') {
            write_tag(out, at, n, name);
            at += n;
        } else
            fputc(*at++, out);
    }
    fputs("</svg>\n", out);
    return true;
}
