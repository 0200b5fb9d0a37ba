/* Packed weights on the disk: the matrices of one plan in the layouts that it chose, in the order
 * in which it packs them. A plan reads such a file (maps it) or writes one, never both. */
#ifndef ANEMO_PACKED_CACHE_H
#define ANEMO_PACKED_CACHE_H

#include "models/engine/model.h"

typedef struct anemo_packed_cache anemo_packed_cache;

/* Maps the model's file in `directory` when there is one and its key is right; else, and always
 * with `anew`, begins to write one. *out is NULL on an error, and closed by the caller otherwise.
 */
anemo_status anemo_packed_cache_open(const char *directory, const anemo_model *model, bool anew,
                                     anemo_packed_cache **out, anemo_error *err);
void anemo_packed_cache_close(anemo_packed_cache *cache); /* an unfinished file goes away */

bool anemo_packed_cache_reads(const anemo_packed_cache *cache);
/* Why the file that was there was not taken; "" while it is. Once set it stays, and the plan must
 * be made again with `anew`. */
const char *anemo_packed_cache_refused(const anemo_packed_cache *cache);
const char *anemo_packed_cache_path(const anemo_packed_cache *cache);

/* Reading: the next matrix, in the mapped file; one row of it was compared with the source. NULL:
 * it is not what the file has next (refused says why). */
const void *anemo_packed_cache_next(anemo_packed_cache *cache, const anemo_weight *weight,
                                    const anemo_layout *layout, size_t bytes);
/* Writing: the next matrix. */
anemo_status anemo_packed_cache_put(anemo_packed_cache *cache, const anemo_weight *weight,
                                    const anemo_layout *layout, const void *packed, size_t bytes,
                                    anemo_error *err);
/* Everything was read or written. Writing: the file gets its name. Reading: nothing may be left
 * over. */
anemo_status anemo_packed_cache_finish(anemo_packed_cache *cache, anemo_error *err);

#endif
