/* Splitting by regular expression, with PCRE2.
 *
 * A file names its splitter by the whole expression (tokenizer.json, tekken.json) or by a label
 * (GGUF). Only expressions of the table below are accepted: another one might mean something else
 * to PCRE2 than to the engine it was written for, and the ids would differ without a word. What
 * does differ between the engines is mended here: \s is Unicode's White_Space for all of them, but
 * to PCRE2 also U+180E, so it is written out as a class.
 *
 * The expressions look at one code point at a time and never nest repetitions, so matching is
 * linear in the word; PCRE2 compiles them to machine code where the system lets it. */
#include "models/tokenizers/splitter.h"

#include "anemo_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LETTERS                                                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define CAPITALS                                                                                   \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

struct anemo_split_rule {
    const char *pre;     /* the label in GGUF */
    const char *aliases; /* other labels of old files, separated by spaces */
    const char *pattern;
    bool whole_words, adds_bos, nfc; /* what a GGUF label implies */
};

static const anemo_split_rule rules[] = {
    {"gpt-2", "gpt2",
     "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", false,
     false, false},
    {"llama-bpe", "llama3 llama-v3",
     CONTRACTION
     "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
     true, true, false},
    {"qwen2", "deepseek-r1-qwen",
     CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
     false, false, true},
    {"tekken", "", LETTERS "|" CAPITALS "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES, true,
     true, false},
    {"gpt-4o", "",
     LETTERS CONTRACTION "?|" CAPITALS CONTRACTION
                         "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES,
     true, false, false},
};
const char anemo_split_rule_names[] = "the expressions of GPT-2, Llama 3, Qwen 2 and 3, tekken, "
                                      "o200k (gpt-oss)";
const char anemo_split_pre_names[] = "gpt-2, llama-bpe, qwen2, tekken, gpt-4o";

/* ---------------------------------------------------------------- rules by name */

const anemo_split_rule *anemo_split_rule_of_pattern(const char *pattern, size_t bytes) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; ++i)
        if (strlen(rules[i].pattern) == bytes && memcmp(rules[i].pattern, pattern, bytes) == 0)
            return &rules[i];
    return NULL;
}

static bool is_label(const anemo_split_rule *rule, const char *pre, size_t bytes) {
    if (strlen(rule->pre) == bytes && memcmp(rule->pre, pre, bytes) == 0)
        return true;
    for (const char *name = rule->aliases; *name; name += strspn(name, " ")) {
        const size_t length = strcspn(name, " ");
        if (length == bytes && memcmp(name, pre, bytes) == 0)
            return true;
        name += length;
    }
    return false;
}

const anemo_split_rule *anemo_split_rule_of_pre(const char *pre, size_t bytes) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; ++i)
        if (is_label(&rules[i], pre, bytes))
            return &rules[i];
    return NULL;
}

const char *anemo_split_rule_pre(const anemo_split_rule *rule) {
    return rule->pre;
}

const anemo_split_rule *anemo_split_rule_gpt2(void) {
    return &rules[0];
}

bool anemo_split_rule_whole_words(const anemo_split_rule *rule) {
    return rule->whole_words;
}

bool anemo_split_rule_adds_bos(const anemo_split_rule *rule) {
    return rule->adds_bos;
}

bool anemo_split_rule_nfc(const anemo_split_rule *rule) {
    return rule->nfc;
}

/* ---------------------------------------------------------------- PCRE2 */

#if ANEMO_HAVE_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define JIT_STACK_BYTES ((size_t)16 << 20)
#define WHITE_SPACE                                                                                \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"

struct anemo_splitter {
    const anemo_split_rule *rule;
    pcre2_code *code;
};

struct anemo_split_walk {
    const pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* \s and \S written out; malloc'ed, NULL without memory. */
static char *spell_out(const char *pattern) {
    char *out = malloc(strlen(pattern) * sizeof WHITE_SPACE), *to = out;
    bool in_class = false;
    for (const char *c = pattern; out && *c; ++c) {
        if (c[0] == '\\' && (c[1] == 's' || c[1] == 'S')) {
            to += sprintf(to, in_class ? "%s" WHITE_SPACE "%s" : "[%s" WHITE_SPACE "%s",
                          c[1] == 'S' ? "^" : "", in_class ? "" : "]");
            ++c;
            continue;
        }
        in_class = c[0] == '[' || (in_class && c[0] != ']');
        *to++ = *c;
        if (c[0] == '\\')
            *to++ = *++c;
    }
    if (out)
        *to = '\0';
    return out;
}

anemo_status anemo_splitter_create(const anemo_split_rule *rule, const char *path,
                                   anemo_splitter **out, anemo_error *err) {
    char *pattern = spell_out(rule->pattern);
    anemo_splitter *splitter = *out = pattern ? calloc(1, sizeof *splitter) : NULL;
    int code = 0;
    PCRE2_SIZE at = 0;
    if (splitter)
        splitter->rule = rule;
    if (splitter)
        splitter->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                       PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    free(pattern);
    if (!splitter)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    if (!splitter->code)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: this PCRE2 does not compile the splitter (error %d at %zu); "
                          "accepted: PCRE2 10.30 or newer with Unicode",
                          path, code, (size_t)at);
    pcre2_jit_compile(splitter->code, PCRE2_JIT_COMPLETE); /* without it matching is slower */
    return ANEMO_OK;
}

const anemo_split_rule *anemo_splitter_rule(const anemo_splitter *splitter) {
    return splitter->rule;
}

void anemo_splitter_free(anemo_splitter *splitter) {
    if (!splitter)
        return;
    pcre2_code_free(splitter->code);
    free(splitter);
}

anemo_split_walk *anemo_split_begin(const anemo_splitter *splitter) {
    anemo_split_walk *walk = calloc(1, sizeof *walk);
    if (!walk)
        return NULL;
    walk->code = splitter->code;
    walk->match = pcre2_match_data_create(1, NULL);
    walk->context = pcre2_match_context_create(NULL);
    walk->stack = pcre2_jit_stack_create(32768, JIT_STACK_BYTES, NULL); /* NULL: no JIT here */
    if (!walk->match || !walk->context) {
        anemo_split_end(walk);
        return NULL;
    }
    if (walk->stack)
        pcre2_jit_stack_assign(walk->context, NULL, walk->stack);
    pcre2_set_match_limit(walk->context, UINT32_MAX); /* a run of a million spaces is no attack */
    return walk;
}

anemo_status anemo_split_next(anemo_split_walk *walk, const char *text, size_t bytes, size_t at,
                              size_t *end, anemo_error *err) {
    const int code = pcre2_match(walk->code, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK,
                                 walk->match, walk->context);
    if (code < 0 && code != PCRE2_ERROR_NOMATCH)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "splitting a text of %zu bytes failed at byte %zu (PCRE2 error %d)",
                          bytes, at, code);
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(walk->match);
    if (code == PCRE2_ERROR_NOMATCH)
        *end = bytes;
    else
        *end = found[0] > at ? found[0] : found[1]; /* what lies between words is a word */
    return ANEMO_OK;
}

void anemo_split_end(anemo_split_walk *walk) {
    if (!walk)
        return;
    pcre2_match_data_free(walk->match);
    pcre2_match_context_free(walk->context);
    pcre2_jit_stack_free(walk->stack);
    free(walk);
}

#else

anemo_status anemo_splitter_create(const anemo_split_rule *rule, const char *path,
                                   anemo_splitter **out, anemo_error *err) {
    (void)rule;
    *out = NULL;
    return anemo_fail(err, ANEMO_E_LIBRARY,
                      "%s: a byte-level tokenizer needs PCRE2, which is not in this build; install "
                      "libpcre2-dev and rebuild",
                      path);
}

const anemo_split_rule *anemo_splitter_rule(const anemo_splitter *splitter) {
    (void)splitter; /* none is ever made */
    return NULL;
}

void anemo_splitter_free(anemo_splitter *splitter) {
    (void)splitter;
}

anemo_split_walk *anemo_split_begin(const anemo_splitter *splitter) {
    (void)splitter;
    return NULL;
}

anemo_status anemo_split_next(anemo_split_walk *walk, const char *text, size_t bytes, size_t at,
                              size_t *end, anemo_error *err) {
    (void)walk, (void)text, (void)bytes, (void)at, (void)end;
    return anemo_fail(err, ANEMO_E_LIBRARY, "no PCRE2 in this build");
}

void anemo_split_end(anemo_split_walk *walk) {
    (void)walk;
}
#endif
