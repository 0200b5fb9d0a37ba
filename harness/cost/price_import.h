/* Price rows from public machine-readable lists, from the user's own copy of the file. */
#ifndef ANEMO_COST_PRICE_IMPORT_H
#define ANEMO_COST_PRICE_IMPORT_H

#include "harness/cost/reference.h"

typedef enum anemo_price_format {
    ANEMO_PRICES_LITELLM,      /* model_prices_and_context_window.json */
    ANEMO_PRICES_GENAI_PRICES, /* prices/data.json of pydantic/genai-prices */
    ANEMO_PRICES_MODELS_DEV,   /* api.json of models.dev */
    ANEMO_PRICES_LLM_PRICES,   /* data/<vendor>.json of simonw/llm-prices */
    ANEMO_PRICES_OPENROUTER,   /* /api/v1/models */
    ANEMO_PRICES_FORMAT_COUNT
} anemo_price_format;
const char *anemo_price_format_name(anemo_price_format format); /* "litellm" */

typedef struct anemo_price_import_report {
    int32_t taken, aliases, without_price; /* models; aliases are left out: they move */
} anemo_price_import_report;

/* Appends to `into`; rows are published, as of `day` unless the list dates them, with `source`.
 * ANEMO_E_INPUT: not JSON, or not of that form, or nothing in it. */
anemo_status anemo_price_import(const char *path, anemo_price_format format, int32_t day,
                                const char *source, anemo_reference *into,
                                anemo_price_import_report *report, anemo_error *err);
/* One row of prices.jsonl, without a line end; the caller frees it. NULL: no memory. */
char *anemo_price_json(const anemo_price *price);

#endif
