/* Canonical composition (NFC) with utf8proc, as the tokenizers of Qwen ask for. */
#include "models/tokenizers/internal.h"

#include "anemo_config.h"

#include <stdlib.h>

#if ANEMO_HAVE_UTF8PROC
#include <utf8proc.h>

anemo_status anemo_normalize_available(const char *path, anemo_error *err) {
    (void)path, (void)err;
    return ANEMO_OK;
}

anemo_status anemo_normalize_nfc(const char *text, size_t bytes, char **out, size_t *out_bytes,
                                 anemo_error *err) {
    size_t ascii = 0;
    while (ascii < bytes && (unsigned char)text[ascii] < 0x80)
        ++ascii;
    *out = NULL;
    *out_bytes = bytes;
    if (ascii == bytes)
        return ANEMO_OK;
    utf8proc_uint8_t *composed = NULL;
    const utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes,
                                            &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0)
        return anemo_fail(err, n == UTF8PROC_ERROR_NOMEM ? ANEMO_E_MEMORY : ANEMO_E_UNSUPPORTED,
                          "composing a text of %zu bytes failed: %s", bytes, utf8proc_errmsg(n));
    *out = (char *)composed;
    *out_bytes = (size_t)n;
    return ANEMO_OK;
}

#else

anemo_status anemo_normalize_available(const char *path, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_LIBRARY,
                      "%s: the tokenizer composes text (NFC), which needs utf8proc, not in this "
                      "build; install libutf8proc-dev and rebuild",
                      path);
}

anemo_status anemo_normalize_nfc(const char *text, size_t bytes, char **out, size_t *out_bytes,
                                 anemo_error *err) {
    (void)text;
    *out = NULL;
    *out_bytes = bytes;
    return anemo_normalize_available("NFC", err);
}
#endif
