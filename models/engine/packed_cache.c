/* Packed weights on the disk, so that packing is paid once per model and machine.
 *
 * File (little-endian, as the machine that packed it; it is no exchange format):
 *     preamble 64   magic, version, offset and bytes of the index, first half of the index' SHA-256
 *     matrices      each at a multiple of 64 bytes, as its layout has it in memory
 *     index         the key (text, NUL), then one `entry` per matrix, in the order of packing
 * The key says what was packed: name, size and time of every file of the model, the SHA-256 of
 * their headers, how they were requantised, and the ABI of the layouts. A file with another key is
 * refused and written anew; so is one whose next entry is not the matrix and layout that the plan
 * asks for (another processor, --with).
 *
 * A version number does not notice a packer that somebody changed, nor a size and time a byte that
 * somebody changed. Hence one row of every matrix (another one per matrix) is unpacked by today's
 * code and compared bit by bit with the same row of the source: a few kilobytes per matrix. Of the
 * packed file the kernel is asked for the block of rows around it and no more (advise); where a
 * disk reads 8 MB ahead of each fault, opening would otherwise read half of both files.
 *
 * Written under a temporary name and renamed when the last byte is on the disk. Rejected: a hash of
 * all data, which would read 4 GB to save reading 4 GB; names by hash of the key, which leave one
 * orphan behind for every download. A mapping has no huge pages, so the first steps fault page by
 * page and a GEMV stays slower than on memory that anemo packed itself: opening is what this is
 * for. */
#include "models/engine/packed_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC     "ANEMOPAK"
#define VERSION   1
#define ALIGNMENT 64

typedef struct preamble {
    char magic[8];
    uint64_t version, index_at, index_bytes;
    char index_sha256[32]; /* the first 32 hex digits */
} preamble;

typedef struct entry {
    char layout[48];
    anemo_weight_type type;
    int64_t n, k;
    uint64_t at, bytes;
} entry;

struct anemo_packed_cache {
    char *path, *temporary, *key;
    char refused[200];
    /* Reading. */
    const uint8_t *data;
    size_t bytes;
    const uint8_t *entries; /* unaligned */
    /* Writing. */
    FILE *file;
    uint64_t at;
    entry *written;
    size_t n, capacity; /* entries; reading: all of them */
    size_t next;
};

/* ---------------------------------------------------------------- key */

static char *make_key(const anemo_model *model) {
    char *stamp = anemo_checkpoint_stamp(model->checkpoint), *key = NULL;
    if (stamp != NULL && asprintf(&key, "abi %d.%d\nrequantised %s\n%s", ANEMO_ABI_MAJOR,
                                  ANEMO_ABI_MINOR, model->requantised_as, stamp) < 0) {
        key = NULL;
    }
    free(stamp);
    return key;
}

static char *make_path(const char *directory, const anemo_model *model) {
    char *path = NULL;
    const anemo_model_info *info = &model->info;
    const char *as = model->requantised_as;
    const int n = asprintf(&path, "%s/%s-%.16s%s%s.packed", directory, info->name,
                           info->source_sha256, as[0] != '\0' ? "-" : "", as);
    return n < 0 ? NULL : path;
}

/* ---------------------------------------------------------------- reading */

static bool refuse(anemo_packed_cache *cache, const char *why) {
    snprintf(cache->refused, sizeof cache->refused, "%s", why);
    return false;
}

/* What will be read of a mapping; advice, so nobody asks whether it was taken. */
static void advise(const void *at, size_t bytes, int advice) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)at / page * page;
    madvise((void *)begin, (uintptr_t)at - begin + bytes, advice);
}

static bool read_index(anemo_packed_cache *cache) {
    preamble p;
    if (cache->bytes < sizeof p) {
        return refuse(cache, "it is too short");
    }
    memcpy(&p, cache->data, sizeof p);
    if (memcmp(p.magic, MAGIC, sizeof p.magic) != 0 || p.version != VERSION) {
        return refuse(cache, "it is not of this version");
    }
    if (p.index_at > cache->bytes || p.index_bytes != cache->bytes - p.index_at) {
        return refuse(cache, "its length is not what it says");
    }
    const char *index = (const char *)cache->data + p.index_at;
    char hex[65];
    advise(index, p.index_bytes, MADV_WILLNEED);
    anemo_sha256_of(index, p.index_bytes, hex);
    if (memcmp(hex, p.index_sha256, sizeof p.index_sha256) != 0) {
        return refuse(cache, "its index is damaged");
    }
    const size_t key_bytes = strnlen(index, p.index_bytes) + 1;
    if (key_bytes > p.index_bytes || (p.index_bytes - key_bytes) % sizeof(entry) != 0) {
        return refuse(cache, "its index is damaged");
    }
    if (strcmp(index, cache->key) != 0) {
        return refuse(cache, "it was packed from other files, or by another version of anemo");
    }
    cache->entries = (const uint8_t *)index + key_bytes;
    cache->n = (p.index_bytes - key_bytes) / sizeof(entry);
    return true;
}

/* false: there is none, or it was refused. */
static bool map_file(anemo_packed_cache *cache) {
    struct stat info;
    const int fd = open(cache->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    void *data = MAP_FAILED;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0) {
        data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    close(fd);
    if (data == MAP_FAILED) {
        return refuse(cache, "it cannot be mapped");
    }
    cache->data = data;
    cache->bytes = (size_t)info.st_size;
    advise(data, cache->bytes, MADV_RANDOM); /* until a matrix was compared */
    return read_index(cache);
}

/* Today's code on yesterday's bytes: is this row still that of the source? */
static bool same_row(const anemo_weight *weight, const anemo_layout *layout, const void *packed,
                     int64_t row) {
    const size_t k = (size_t)weight->k;
    const size_t groups = (size_t)anemo_weight_groups(&weight->type, weight->k);
    const size_t floats = k + 2 * groups;
    float *a = calloc(2 * floats, sizeof *a);
    uint8_t *codes = calloc(2, k);
    bool same = false;
    if (a != NULL && codes != NULL) {
        float *b = a + floats;
        weight->read_row(weight, row, a, codes, a + k, a + k + groups);
        same = layout->unpack(&weight->type, weight->n, weight->k, packed, row, b, codes + k, b + k,
                              b + k + groups) == ANEMO_OK &&
               memcmp(a, b, floats * sizeof *a) == 0 && memcmp(codes, codes + k, k) == 0;
    }
    free(a);
    free(codes);
    return same;
}

const void *anemo_packed_cache_next(anemo_packed_cache *cache, const anemo_weight *weight,
                                    const anemo_layout *layout, size_t bytes) {
    entry e;
    if (cache->next == cache->n) {
        refuse(cache, "it has fewer matrices than this plan packs");
        return NULL;
    }
    memcpy(&e, cache->entries + cache->next * sizeof e, sizeof e);
    if (strncmp(e.layout, layout->name, sizeof e.layout) != 0 || e.n != weight->n ||
        e.k != weight->k || memcmp(&e.type, &weight->type, sizeof e.type) != 0) {
        refuse(cache, "it holds other layouts than this plan chose");
        return NULL;
    }
    if (e.bytes != bytes || e.at % ALIGNMENT != 0 || e.at > cache->bytes ||
        bytes > cache->bytes - e.at) {
        refuse(cache, "its index is damaged");
        return NULL;
    }
    const uint8_t *packed = cache->data + e.at;
    const int64_t row = (int64_t)(cache->next * 7919 % (size_t)weight->n);
    const int64_t blocks = (weight->n + layout->row_block - 1) / layout->row_block;
    const size_t block = bytes / (size_t)blocks;
    advise(packed + (size_t)(row / layout->row_block) * block, block, MADV_WILLNEED);
    if (!same_row(weight, layout, packed, row)) {
        refuse(cache, "a row of it is not what the source holds");
        return NULL;
    }
    advise(packed, bytes, MADV_NORMAL);
    cache->next++;
    return packed;
}

/* ---------------------------------------------------------------- writing */

static anemo_status write_failed(const anemo_packed_cache *cache, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_IO, "%s: cannot write packed weights: %s", cache->temporary,
                      strerror(errno));
}

static bool put_aligned(anemo_packed_cache *cache, const void *data, size_t bytes) {
    static const uint8_t zeros[ALIGNMENT];
    const size_t pad = (ALIGNMENT - (cache->at + bytes) % ALIGNMENT) % ALIGNMENT;
    cache->at += bytes + pad;
    return fwrite(data, 1, bytes, cache->file) == bytes &&
           fwrite(zeros, 1, pad, cache->file) == pad;
}

static anemo_status begin_file(anemo_packed_cache *cache, anemo_error *err) {
    const preamble empty = {{0}, 0, 0, 0, {0}};
    if (asprintf(&cache->temporary, "%s.partial-%ld", cache->path, (long)getpid()) < 0) {
        cache->temporary = NULL;
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a path");
    }
    cache->file = fopen(cache->temporary, "wbx");
    if (cache->file == NULL || !put_aligned(cache, &empty, sizeof empty)) {
        return write_failed(cache, err);
    }
    return ANEMO_OK;
}

anemo_status anemo_packed_cache_put(anemo_packed_cache *cache, const anemo_weight *weight,
                                    const anemo_layout *layout, const void *packed, size_t bytes,
                                    anemo_error *err) {
    if (cache->n == cache->capacity) {
        const size_t capacity = cache->capacity > 0 ? 2 * cache->capacity : 256;
        entry *more = realloc(cache->written, capacity * sizeof *more);
        if (more == NULL) {
            return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the index of packed weights");
        }
        cache->written = more;
        cache->capacity = capacity;
    }
    entry *e = &cache->written[cache->n++];
    memset(e, 0, sizeof *e);
    snprintf(e->layout, sizeof e->layout, "%s", layout->name);
    e->type = weight->type;
    e->n = weight->n, e->k = weight->k;
    e->at = cache->at, e->bytes = bytes;
    return put_aligned(cache, packed, bytes) ? ANEMO_OK : write_failed(cache, err);
}

/* The index, then the preamble that makes the file valid. */
static bool write_index(anemo_packed_cache *cache) {
    const size_t key_bytes = strlen(cache->key) + 1, table_bytes = cache->n * sizeof(entry);
    char *index = malloc(key_bytes + table_bytes);
    if (index == NULL) {
        return false;
    }
    memcpy(index, cache->key, key_bytes);
    if (table_bytes > 0) {
        memcpy(index + key_bytes, cache->written, table_bytes);
    }
    char hex[65];
    anemo_sha256_of(index, key_bytes + table_bytes, hex);
    preamble p = {
        .version = VERSION, .index_at = cache->at, .index_bytes = key_bytes + table_bytes};
    memcpy(p.magic, MAGIC, sizeof p.magic);
    memcpy(p.index_sha256, hex, sizeof p.index_sha256);
    const bool written = fwrite(index, 1, p.index_bytes, cache->file) == p.index_bytes &&
                         fseek(cache->file, 0, SEEK_SET) == 0 &&
                         fwrite(&p, sizeof p, 1, cache->file) == 1;
    free(index);
    return written;
}

anemo_status anemo_packed_cache_finish(anemo_packed_cache *cache, anemo_error *err) {
    if (anemo_packed_cache_reads(cache)) {
        if (cache->next == cache->n) {
            return ANEMO_OK;
        }
        refuse(cache, "it has more matrices than this plan packs");
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s", cache->path, cache->refused);
    }
    bool written =
        write_index(cache) && fflush(cache->file) == 0 && fsync(fileno(cache->file)) == 0;
    written = fclose(cache->file) == 0 && written;
    cache->file = NULL;
    written = written && rename(cache->temporary, cache->path) == 0;
    if (!written) {
        const anemo_status status = write_failed(cache, err);
        remove(cache->temporary);
        return status;
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- opening */

anemo_status anemo_packed_cache_open(const char *directory, const anemo_model *model, bool anew,
                                     anemo_packed_cache **out, anemo_error *err) {
    *out = NULL;
    if (model->info.synthetic) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--packed-cache: %s is made in memory; accepted: a model in files",
                          model->info.name);
    }
    anemo_packed_cache *cache = calloc(1, sizeof *cache);
    if (cache != NULL) {
        cache->key = make_key(model);
        cache->path = make_path(directory, model);
    }
    if (cache == NULL || cache->key == NULL || cache->path == NULL) {
        anemo_packed_cache_close(cache);
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a packed cache");
    }
    if (!anew && map_file(cache)) {
        *out = cache;
        return ANEMO_OK;
    }
    cache->n = 0;
    const anemo_status status = begin_file(cache, err);
    if (status != ANEMO_OK) {
        anemo_packed_cache_close(cache);
        return status;
    }
    *out = cache;
    return ANEMO_OK;
}

void anemo_packed_cache_close(anemo_packed_cache *cache) {
    if (cache == NULL) {
        return;
    }
    if (cache->file != NULL) {
        fclose(cache->file);
        remove(cache->temporary);
    }
    if (cache->data != NULL) {
        munmap((void *)(uintptr_t)cache->data, cache->bytes);
    }
    free(cache->written);
    free(cache->temporary);
    free(cache->path);
    free(cache->key);
    free(cache);
}

bool anemo_packed_cache_reads(const anemo_packed_cache *cache) {
    return cache->entries != NULL;
}

const char *anemo_packed_cache_refused(const anemo_packed_cache *cache) {
    return cache->refused;
}

const char *anemo_packed_cache_path(const anemo_packed_cache *cache) {
    return cache->path;
}
