/* The engine: the one door of models/ for the harness.
 *
 *   model    an opened checkpoint: immutable, shared by plans
 *   plan     a model on a device under limits: variants chosen, weights packed, one workspace.
 * Every refusal comes from plan_create, none from a step session  one timeline of tokens and its KV
 * pages step     any mix of prefill chunks and decode tokens of any number of sessions of one plan
 *
 * Thread safety: a model may be shared; a plan and its sessions belong to one thread at a time.
 */
#ifndef ANEMO_ENGINE_H
#define ANEMO_ENGINE_H

#include "kernels/device.h"
#include "kernels/kernel.h"

/* ---------------------------------------------------------------- model */

typedef struct anemo_model anemo_model;
typedef struct anemo_tokenizer anemo_tokenizer;

typedef struct anemo_model_options {
    const char *requantise; /* NULL, "q8_0" or "q4_0": every matrix but the router is requantised
                               when opened */
    /* -1: as the model says; 0: none; N > 0: N keys, the token itself included, in the layers that
     * have a window (all, when none has) */
    int64_t window;
} anemo_model_options;

/* What a checkpoint says of itself, after validation. */
typedef struct anemo_model_info {
    char name[128];         /* directory or file name, or the synth: URI */
    char architecture[32];  /* "mistral", "mixtral", "gpt-oss", ...: anemo_model_architecture() */
    char weights[32];       /* "bf16", "q4_0", "mixed": what most matrix bytes are stored as */
    char source_sha256[65]; /* of the (first) weight file's header and config: identity, not
                               integrity; "" for synth */
    bool synthetic;         /* accuracy is not applicable */
    int64_t vocab, d, ffn, layers, heads, kv_heads, head_dim;
    int64_t experts, experts_per_token; /* 0, 0 when dense */
    int64_t window;                     /* 0 = none; of the layers that have one */
    int64_t full_layers;                /* layers that see everything */
    int64_t context_max;
    int32_t bos, eos[8], n_eos; /* bos -1: none */
    char skipped[160]; /* a multimodal checkpoint's tensors beside the text path; "" = none */
    double parameters, active_parameters;
    double weight_bytes;        /* canonical bytes of all tensors */
    double active_weight_bytes; /* what a decode step of one token reads: no embedding table, top-k
                                   of the experts */
} anemo_model_info;

/* path: a directory (HF safetensors + config.json), a .gguf file, or
 * "synth:PRESET:TYPE[:layers=N]..." (formats/synth_uri.c). ANEMO_E_INPUT names file, field, value
 * and what is accepted. */
anemo_status anemo_model_open(const char *path, const anemo_model_options *options,
                              anemo_model **out, anemo_error *err);
void anemo_model_close(anemo_model *model);
/* Names of the synth: presets; NULL at the end. */
const char *anemo_model_preset(int32_t index);
/* Names of the architectures, in the order of anemo_arch; NULL at the end. */
const char *anemo_model_architecture(int32_t index);
const anemo_model_info *anemo_model_describe(const anemo_model *model);
/* NULL when the model has none (synth:, or a directory opened without one); `why` then says so. */
const anemo_tokenizer *anemo_model_tokenizer(const anemo_model *model, anemo_error *why);
/* Why it has none: ANEMO_E_INPUT, or ANEMO_E_LIBRARY when this build cannot read it. */
anemo_status anemo_model_tokenizer_status(const anemo_model *model);

/* ---------------------------------------------------------------- quantising files */

/* "q4:g32", "q4:g128", "q8:g32", "q8:row", "q4_0", "q4_k", "q6_k"; NULL at the end. */
const char *anemo_quantise_target(int32_t index);
/* After each matrix, in values done and in all; false: stop. */
typedef bool (*anemo_quantise_progress)(void *context, double done, double total,
                                        const char *tensor);
/* What else there is to say of a model that was written. */
typedef struct anemo_quantise_report {
    int64_t fallbacks; /* matrices that got another type: rows that are no multiple of its block */
    anemo_error no_tokenizer; /* why what was written has none of its own; "": it has one */
} anemo_quantise_report;
/* Writes the model `in` with every matrix but the router as `to`: a GGUF file where `out` ends in
 * .gguf, else a new directory of safetensors (compressed-tensors layout; the embedding stays
 * floats). Matrices that are in that form already are copied code by code. `out` must not exist,
 * and appears only when it is complete. The tokenizer of a directory becomes the vocabulary of the
 * GGUF, so that it gives the same ids; where that cannot be, its file lies beside. A vocabulary in
 * GGUF becomes no tokenizer of a directory. exec: threads that make the rows of a GGUF; NULL: the
 * caller's alone. The bytes are the same. */
anemo_status anemo_quantise_model(const char *in, const char *out, const char *to,
                                  const anemo_exec *exec, anemo_quantise_progress progress,
                                  void *context, anemo_quantise_report *report, anemo_error *err);

/* Writes a synth: model to a GGUF file, with a vocabulary made for it, so that other engines can
 * run the same shape; `out` as above. */
anemo_status anemo_synth_model(const char *uri, const char *out, anemo_quantise_progress progress,
                               void *context, anemo_error *err);

/* ---------------------------------------------------------------- tokenizer */

/* Opens tokenizer.json, tekken.json, a SentencePiece tokenizer.model, or the vocabulary of a .gguf:
 * by content, not by name. ANEMO_E_LIBRARY names the package that a byte-level one needs. */
anemo_status anemo_tokenizer_open(const char *path, anemo_tokenizer **out, anemo_error *err);
void anemo_tokenizer_close(anemo_tokenizer *tokenizer);
int32_t anemo_tokenizer_vocab(const anemo_tokenizer *tokenizer);
/* The token that stands before a text; -1: the tokenizer puts none there. */
int32_t anemo_tokenizer_bos(const anemo_tokenizer *tokenizer);
int32_t anemo_tokenizer_eos(const anemo_tokenizer *tokenizer);
/* Text never becomes a control token. add_bos puts BOS first exactly once (ANEMO_E_INPUT where the
 * tokenizer has none). *ids is malloc'ed. Any bytes are accepted: what is not UTF-8 becomes byte
 * tokens, and decode gives the same bytes back (with a vocabulary that has byte tokens and keeps
 * white space, which all of Llama and Mistral are). */
anemo_status anemo_tokenizer_encode(const anemo_tokenizer *tokenizer, const char *text,
                                    size_t text_bytes, bool add_bos, int32_t **ids, size_t *n_ids,
                                    anemo_error *err);
/* Control tokens are left out; *text is malloc'ed, `\0` behind *text_bytes. Bytes as they are, also
 * invalid UTF-8. */
anemo_status anemo_tokenizer_decode(const anemo_tokenizer *tokenizer, const int32_t *ids,
                                    size_t n_ids, char **text, size_t *text_bytes,
                                    anemo_error *err);
/* The piece as stored ("\u2581the", "<0x0A>", "</s>"), of a byte-level tokenizer the bytes it
 * stands for; NULL out of range. */
const char *anemo_tokenizer_piece(const anemo_tokenizer *tokenizer, int32_t id, size_t *bytes);

/* ---------------------------------------------------------------- chats, fill-in-the-middle */

typedef struct anemo_chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *text;
    size_t bytes;
} anemo_chat_message;

typedef struct anemo_chat_options {
    const char *template_name; /* one of anemo_chat_template_name(); NULL: as the files tell */
    const char *date;          /* "2025-06-28", which harmony tells the model; NULL: it does not */
    const char *effort;        /* of reasoning: harmony, mistral-v15; NULL: "medium", the file's */
} anemo_chat_options;

typedef struct anemo_chat {
    int32_t *ids; /* malloc'ed; BOS first where the template has one */
    size_t n_ids;
    const char *template_name; /* which was used */
    int32_t end;               /* the token that ends the answer; -1: none */
} anemo_chat;

/* Names of the built-in templates; NULL at the end. */
const char *anemo_chat_template_name(int32_t index);
/* The prompt up to where the answer begins. ANEMO_E_INPUT: a chat that the user does not begin and
 * end, a role or template that is not known, a template that does not fit the tokenizer, files that
 * do not tell the template. Text never becomes a control token. */
anemo_status anemo_chat_encode(const anemo_tokenizer *tokenizer, const anemo_chat_options *options,
                               const anemo_chat_message *messages, size_t n, anemo_chat *out,
                               anemo_error *err);
/* What stands between prefix and suffix is to be generated (Codestral): BOS [SUFFIX] suffix
 * [PREFIX] prefix. *ids is malloc'ed. ANEMO_E_INPUT where the tokenizer lacks these control tokens.
 */
anemo_status anemo_fim_encode(const anemo_tokenizer *tokenizer, const char *prefix,
                              size_t prefix_bytes, const char *suffix, size_t suffix_bytes,
                              int32_t **ids, size_t *n_ids, anemo_error *err);

/* SHA-256 of some bytes in hex: how records name a text or a task file. */
void anemo_sha256_of(const void *data, size_t bytes, char hex[65]);

/* ---------------------------------------------------------------- plan */

typedef struct anemo_plan anemo_plan;

typedef struct anemo_limits {
    int64_t tokens_per_step; /* rows of one step at most */
    int32_t sessions;        /* sessions alive at most */
    int64_t context;         /* positions of one session at most; 0 = the model's */
    int64_t kv_tokens;       /* positions held by all sessions together; 0 = sessions * context
                                (window-bounded) */
    int32_t kv_type;         /* anemo_kv_type */
    int64_t logits_rows;     /* logits rows of one step at most; 0 = tokens_per_step */
} anemo_limits;

/* Sees the router's choice of each MoE layer of a step (host memory): [tokens, top_k] expert ids
 * and weights. */
typedef void (*anemo_route_observer)(void *ctx, int32_t layer, int64_t tokens, int32_t top_k,
                                     const int32_t *experts, const float *weights);

/* While weights are packed: canonical bytes done and in all; false stops (ANEMO_E_CANCELLED). */
typedef bool (*anemo_pack_progress)(void *ctx, double done, double total);

typedef struct anemo_plan_options {
    anemo_limits limits;
    /* n_with rules "OP[@ROLE][:m=LO..HI]=VARIANT"; one that cannot be met refuses the plan.
     * "batch-invariant" among them: a token gets the same bits whatever else is in its step, chunk
     * or batch. Without, many rows may be multiplied more exactly, and faster, than few. */
    const char *const *with;
    int32_t n_with;
    /* n_choices rules of the same form, as measured for this machine: one that meets no call, or
     * one that `with` overrules, is no error. One that its call refuses is. */
    const char *const *choices;
    int32_t n_choices;
    anemo_route_observer on_route;
    void *on_route_ctx;
    anemo_pack_progress on_pack; /* may be NULL */
    void *on_pack_ctx;
    /* A directory in which packed weights are kept: read when they are this model's, else written.
     * NULL: none. A model in memory (synth:) is refused. */
    const char *packed_cache;
} anemo_plan_options;

anemo_status anemo_plan_create(anemo_model *model, anemo_device *device,
                               const anemo_plan_options *options, anemo_plan **out,
                               anemo_error *err);
void anemo_plan_free(anemo_plan *plan);
/* Which variant runs each (op, role, m range): "qgemm@gate_up:m=1..4=qgemm_w4a8_tile_avx512vnni".
 * NULL at the end. */
const char *anemo_plan_choice(const anemo_plan *plan, int32_t index);
/* A call: op and role as in `--with`, and the problem that it was resolved for. Layers that agree
 * share one; quantize_act has its format for a role. role and problem live as long as the plan. */
typedef struct anemo_plan_call {
    anemo_op op;
    const char *role;
    const void *problem;
    size_t problem_bytes;
    int64_t m_max; /* rows of one call at most */
} anemo_plan_call;
bool anemo_plan_call_at(const anemo_plan *plan, int32_t index, anemo_plan_call *out);
/* Which variant it runs for m rows; NULL beyond m_max. */
const anemo_variant *anemo_plan_call_variant(const anemo_plan *plan, int32_t index, int64_t m);
/* KV pages of the pool, and how many of them sessions hold. */
int64_t anemo_plan_kv_pages(const anemo_plan *plan, int64_t *held);
int32_t anemo_plan_page_tokens(void);

/* ---------------------------------------------------------------- watching a step */

/* What a step consists of: X(op, role, class), op and role as in `--with`. The quantisation of a
 * call's input counts to that call's class and is a phase of its own. */
/* clang-format off */
#define ANEMO_PHASE_CLASS_LIST(X)                                                                        \
    X(HOST, "launch/host")   /* checks, page tables, copies to and from the device */              \
    X(EMBED, "embed")                                                                              \
    X(NORMS, "norms")                                                                              \
    X(QKV, "qkv")                                                                                  \
    X(ROPE, "rope")                                                                                \
    X(ATTENTION, "attention")                                                                      \
    X(ATTENTION_OUT, "attention out")                                                              \
    X(ROUTER, "router")                                                                            \
    X(DISPATCH, "dispatch")                                                                        \
    X(EXPERTS, "experts")    /* of a dense model: its feed-forward block */                        \
    X(OUTPUT, "output")                                                                            \
    X(SAMPLING, "sampling")
#define ANEMO_CALL_LIST(X)                                                                         \
    X(EMBED, "", EMBED)                                                                            \
    X(ADD_RMSNORM, "layer", NORMS)                                                                 \
    X(ADD_RMSNORM, "q", NORMS)                                                                     \
    X(ADD_RMSNORM, "k", NORMS)                                                                     \
    X(ADD_RMSNORM, "output", NORMS)                                                                \
    X(QGEMM, "qkv", QKV)                                                                           \
    X(ROPE_APPEND, "", ROPE)                                                                       \
    X(SWA, "", ATTENTION)                                                                          \
    X(SWA, "window", ATTENTION)                                                                    \
    X(SWA, "full", ATTENTION)                                                                      \
    X(QGEMM, "o", ATTENTION_OUT)                                                                   \
    X(QGEMM, "router", ROUTER)                                                                     \
    X(MOE_ROUTE, "", DISPATCH)                                                                     \
    X(MOE_COMBINE, "", DISPATCH)                                                                   \
    X(MOE_EXPERTS, "", EXPERTS)                                                                    \
    X(QGEMM, "gate_up", EXPERTS)                                                                   \
    X(QGEMM, "down", EXPERTS)                                                                      \
    X(QGEMM, "output", OUTPUT)                                                                     \
    X(SAMPLE, "", SAMPLING)
/* clang-format on */

typedef enum anemo_phase_class {
#define ANEMO_PHASE_CLASS_ENUM(id, name) ANEMO_PHASE_CLASS_##id,
    ANEMO_PHASE_CLASS_LIST(ANEMO_PHASE_CLASS_ENUM)
#undef ANEMO_PHASE_CLASS_ENUM
        ANEMO_PHASE_CLASS_COUNT
} anemo_phase_class;
const char *anemo_phase_class_name(anemo_phase_class class);

enum {
#define ANEMO_CALL_ONE(op, role, class) +1
    ANEMO_CALLS = 0 ANEMO_CALL_LIST(ANEMO_CALL_ONE),
#undef ANEMO_CALL_ONE
    ANEMO_PHASE_NONE = -1,
    /* 0 .. CALLS-1: the calls; CALLS .. 2 CALLS-1: quantising the input of each */
    ANEMO_PHASE_HOST = 2 * ANEMO_CALLS,
    ANEMO_PHASES
};

typedef struct anemo_phase {
    anemo_phase_class class;
    anemo_op op;       /* ANEMO_OP_COUNT: host */
    anemo_op consumer; /* of quantize_act: who reads it; else op */
    const char *role;  /* of the consumer */
} anemo_phase;
anemo_phase anemo_phase_describe(int32_t phase);

/* From the next step on, mark(exec, phase) is called when a phase begins and mark(exec,
 * ANEMO_PHASE_NONE) when it ends; exec->mark_ctx is `ctx`. What is between phases belongs to none.
 * mark NULL: nothing is called, which is how a plan begins. */
void anemo_plan_mark(anemo_plan *plan, void (*mark)(const anemo_exec *exec, int32_t phase),
                     void *ctx);
/* From the next step on `on_route` sees what the routers choose; NULL: nobody does. Instead of what
 * the options said. A step that is watched takes longer. */
void anemo_plan_observe(anemo_plan *plan, anemo_route_observer on_route, void *ctx);
/* What became of the packed cache: "FILE: packed weights read", or written, and why an older file
 * was refused; "" without one. */
const char *anemo_plan_cache_note(const anemo_plan *plan);
double anemo_plan_resident_bytes(const anemo_plan *plan); /* packed weights (also
 mapped ones) + KV + workspace */

/* ---------------------------------------------------------------- session */

typedef struct anemo_session anemo_session;
anemo_status anemo_session_create(anemo_plan *plan, anemo_session **out, anemo_error *err);
/* A second timeline with the same past; full pages are shared, the tail page is copied when either
 * writes. */
anemo_status anemo_session_fork(anemo_session *session, anemo_session **out, anemo_error *err);
void anemo_session_free(anemo_session *session);
int64_t anemo_session_length(const anemo_session *session);

/* ---------------------------------------------------------------- step */

typedef enum anemo_want {
    ANEMO_WANT_NONE,        /* only append to the KV (all but the last prefill chunk) */
    ANEMO_WANT_SAMPLE,      /* a sampled id after the last token */
    ANEMO_WANT_LOGITS_LAST, /* logits after the last token */
    ANEMO_WANT_LOGITS_ALL   /* logits after each token */
} anemo_want;

typedef struct anemo_step_entry {
    anemo_session *session; /* each session at most once per step */
    const int32_t *tokens; /* NULL: one token, the id sampled for this session by the step before */
    int32_t n_tokens;
    anemo_want want;
    anemo_sample_params sample;
} anemo_step_entry;

typedef struct anemo_step_result {
    int32_t id;          /* WANT_SAMPLE, else -1 */
    const float *logits; /* [rows, vocab] in host memory until the next step of the plan, or NULL */
    int64_t rows;
} anemo_step_result;

/* ANEMO_E_INPUT: a token outside the vocabulary, limits exceeded, a session twice: nothing has
 * changed then. ANEMO_E_NUMERIC (from wait): logits with NaN. */
anemo_status anemo_step_submit(anemo_plan *plan, const anemo_step_entry *entries, int32_t n_entries,
                               anemo_error *err);
anemo_status anemo_step_wait(anemo_plan *plan, anemo_step_result *results,
                             anemo_error *err); /* n_entries results */

#endif
