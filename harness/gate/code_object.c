/* Reading objects and archives, and the walk. See code_object.h for the idea.
 *
 * Pooled constants (SHF_MERGE: .rodata.cst16, .rodata.str1.1) are shared by a whole file, so that
 * hashing the pool would make every function of a file change with one of them: there the entry
 * that is referred to is written down instead. On x86 a PC-relative reference carries 4 bytes of
 * bias, and up to 2 more when an immediate follows the address; entries have 4 bytes at least. */
#include "harness/gate/code_object.h"

#include "models/engine.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct code_section {
    const uint8_t *data;        /* NULL: zeros (NOBITS) */
    size_t bytes, align, entry; /* entry: of a pool, else 0 */
    bool is_code, is_strings;
    const Elf64_Rela *rela; /* sorted by place, [n_rela] */
    size_t n_rela;
    int32_t object;
    int32_t visit; /* its number in this walk; -1 */
} code_section;

typedef struct code_object {
    const Elf64_Sym *symbols;
    size_t n_symbols;
    const char *names;
    size_t name_bytes;
    int32_t first, n; /* sections: index of the first in code->sections, number */
    uint16_t machine;
} code_object;

typedef struct code_global {
    const char *name;
    int32_t object;
    uint32_t symbol;
} code_global;

struct anemo_code_objects {
    code_object *objects;
    int32_t n_objects;
    code_section *sections;
    int32_t n_sections;
    code_global *globals; /* sorted by name */
    int32_t n_globals;
    void **copies; /* files, members, sorted relocations */
    int32_t n_copies;
    char path[192];
};

/* ---------------------------------------------------------------- growing */

static void *grown(void *array, int32_t n, size_t item_bytes) {
    if (n & (n - 1)) { /* capacity is the next power of two */
        return array;
    }
    return realloc(array, (size_t)(n ? 2 * n : 1) * item_bytes);
}

#define APPEND(code, array, count, item, err)                                                      \
    do {                                                                                           \
        void *more_ = grown((code)->array, (code)->count, sizeof *(code)->array);                  \
        if (!more_) {                                                                              \
            return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for its sections",               \
                              (code)->path);                                                       \
        }                                                                                          \
        (code)->array = more_;                                                                     \
        (code)->array[(code)->count++] = (item);                                                   \
    } while (0)

/* ---------------------------------------------------------------- one object */

static int by_place(const void *a, const void *b) {
    const Elf64_Rela *x = a, *y = b;
    return x->r_offset < y->r_offset ? -1 : x->r_offset > y->r_offset;
}

static anemo_status broken(const anemo_code_objects *code, const char *what, anemo_error *err) {
    return anemo_fail(
        err, ANEMO_E_INPUT,
        "%s: %s; expected 64-bit little-endian relocatable ELF objects, or an archive "
        "of them",
        code->path, what);
}

static anemo_status take_relocations(anemo_code_objects *code, const uint8_t *at,
                                     const Elf64_Shdr *header, const code_object *object,
                                     anemo_error *err) {
    if (header->sh_info >= (uint32_t)object->n || header->sh_entsize != sizeof(Elf64_Rela)) {
        return broken(code, "a relocation section leads nowhere", err);
    }
    code_section *section = &code->sections[object->first + (int32_t)header->sh_info];
    const size_t n = header->sh_size / sizeof(Elf64_Rela);
    Elf64_Rela *copy = malloc(n * sizeof *copy + 1);
    if (!copy) {
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for relocations", code->path);
    }
    memcpy(copy, at + header->sh_offset, n * sizeof *copy);
    qsort(copy, n, sizeof *copy, by_place);
    section->rela = copy;
    section->n_rela = n;
    APPEND(code, copies, n_copies, (void *)copy, err);
    return ANEMO_OK;
}

static anemo_status take_section(anemo_code_objects *code, const uint8_t *at, const Elf64_Shdr *h,
                                 anemo_error *err) {
    const bool pool = (h->sh_flags & SHF_MERGE) && h->sh_entsize > 0;
    code_section section = {.data = h->sh_type == SHT_NOBITS ? NULL : at + h->sh_offset,
                            .bytes = h->sh_size,
                            .align = h->sh_addralign,
                            .entry = pool ? h->sh_entsize : 0,
                            .is_code = (h->sh_flags & SHF_EXECINSTR) != 0,
                            .is_strings = pool && (h->sh_flags & SHF_STRINGS),
                            .object = code->n_objects,
                            .visit = -1};
    APPEND(code, sections, n_sections, section, err);
    return ANEMO_OK;
}

static anemo_status take_globals(anemo_code_objects *code, const code_object *object,
                                 anemo_error *err) {
    for (uint32_t i = 0; i < object->n_symbols; i++) {
        const Elf64_Sym *symbol = &object->symbols[i];
        if (symbol->st_name >= object->name_bytes) {
            return broken(code, "a symbol's name lies outside the table", err);
        }
        if (ELF64_ST_BIND(symbol->st_info) != STB_LOCAL && symbol->st_shndx != SHN_UNDEF) {
            const code_global global = {object->names + symbol->st_name, code->n_objects, i};
            APPEND(code, globals, n_globals, global, err);
        }
    }
    return ANEMO_OK;
}

static anemo_status take_object(anemo_code_objects *code, const uint8_t *at, size_t bytes,
                                anemo_error *err) {
    Elf64_Ehdr head;
    if (bytes < sizeof head) {
        return broken(code, "an object is cut off", err);
    }
    memcpy(&head, at, sizeof head);
    if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: a member is no ELF object (link-time optimisation?)", code->path);
    }
    if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB ||
        head.e_type != ET_REL || head.e_shentsize != sizeof(Elf64_Shdr) || head.e_shoff > bytes ||
        head.e_shnum > (bytes - head.e_shoff) / sizeof(Elf64_Shdr) || (uintptr_t)at % 2) {
        return broken(code, "an object of another kind", err);
    }
    Elf64_Shdr *headers = malloc(head.e_shnum * sizeof *headers + 1);
    if (!headers) {
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for its sections", code->path);
    }
    memcpy(headers, at + head.e_shoff, head.e_shnum * sizeof *headers);
    code_object object = {.first = code->n_sections, .n = head.e_shnum, .machine = head.e_machine};
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; !status && i < object.n; i++) {
        const Elf64_Shdr *h = &headers[i];
        if (h->sh_type != SHT_NOBITS &&
            (h->sh_offset > bytes || h->sh_size > bytes - h->sh_offset)) {
            status = broken(code, "a section lies outside its object", err);
        }
        status = status ? status : take_section(code, at, h, err);
        if (!status && h->sh_type == SHT_SYMTAB && h->sh_link < head.e_shnum) {
            object.symbols = (const Elf64_Sym *)(at + h->sh_offset);
            object.n_symbols = h->sh_size / sizeof(Elf64_Sym);
            object.names = (const char *)at + headers[h->sh_link].sh_offset;
            object.name_bytes = headers[h->sh_link].sh_size;
        }
    }
    for (int32_t i = 0; !status && i < object.n; i++) {
        if (headers[i].sh_type == SHT_RELA) {
            status = take_relocations(code, at, &headers[i], &object, err);
        } else if (headers[i].sh_type == SHT_REL) {
            status = broken(code, "relocations without addends", err);
        }
    }
    free(headers);
    if (!status && object.name_bytes && object.names[object.name_bytes - 1] != '\0') {
        status = broken(code, "a symbol's name does not end", err);
    }
    status = status ? status : take_globals(code, &object, err);
    if (status) {
        return status;
    }
    APPEND(code, objects, n_objects, object, err);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- a file */

/* ar: a line of 60 bytes before each member, which starts at an even place. Members are copied to
 * 8-byte boundaries, because ELF structures are read in place. */
enum { AR_MAGIC = 8, AR_HEADER = 60 };

static anemo_status take_members(anemo_code_objects *code, const uint8_t *file, size_t file_bytes,
                                 anemo_error *err) {
    for (size_t at = AR_MAGIC; at + AR_HEADER <= file_bytes;) {
        char digits[11] = "";
        memcpy(digits, file + at + 48, 10);
        const size_t bytes = strtoull(digits, NULL, 10);
        const uint8_t *name = file + at;
        at += AR_HEADER;
        if (bytes > file_bytes - at) {
            return broken(code, "a member is cut off", err);
        }
        if (name[0] != '/' || (name[1] >= '0' && name[1] <= '9')) { /* not the index */
            uint8_t *copy = malloc(bytes + 1);
            if (!copy) {
                return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for a member", code->path);
            }
            memcpy(copy, file + at, bytes);
            APPEND(code, copies, n_copies, (void *)copy, err);
            const anemo_status status = take_object(code, copy, bytes, err);
            if (status) {
                return status;
            }
        }
        at += bytes + (bytes & 1);
    }
    return ANEMO_OK;
}

static anemo_status read_file(anemo_code_objects *code, const char *path, uint8_t **data,
                              size_t *data_bytes, anemo_error *err) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s", path, strerror(errno));
    }
    long bytes = -1;
    *data = NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (bytes = ftell(file)) >= 0) {
        rewind(file);
        *data = malloc((size_t)bytes + 1);
    }
    const bool read = *data && fread(*data, 1, (size_t)bytes, file) == (size_t)bytes;
    fclose(file);
    *data_bytes = read ? (size_t)bytes : 0;
    if (*data) {
        APPEND(code, copies, n_copies, (void *)*data, err);
    }
    return read ? ANEMO_OK : anemo_fail(err, ANEMO_E_IO, "%s: cannot be read", path);
}

static int by_name(const void *a, const void *b) {
    const code_global *x = a, *y = b;
    const int order = strcmp(x->name, y->name);
    return order ? order : x->object - y->object;
}

static anemo_status take_file(anemo_code_objects *code, const char *path, anemo_error *err) {
    uint8_t *data = NULL;
    size_t bytes = 0;
    snprintf(code->path, sizeof code->path, "%s", path);
    const anemo_status status = read_file(code, path, &data, &bytes, err);
    if (status) {
        return status;
    }
    if (bytes >= AR_MAGIC && memcmp(data, "!<arch>\n", AR_MAGIC) == 0) {
        return take_members(code, data, bytes, err);
    }
    return take_object(code, data, bytes, err);
}

anemo_status anemo_code_open(const char *const *paths, int32_t n, anemo_code_objects **out,
                             anemo_error *err) {
    *out = NULL;
    anemo_code_objects *code = calloc(1, sizeof *code);
    anemo_status status =
        code ? ANEMO_OK : anemo_fail(err, ANEMO_E_MEMORY, "no memory to read objects");
    for (int32_t i = 0; !status && i < n; i++) {
        status = take_file(code, paths[i], err);
    }
    if (status) {
        anemo_code_close(code);
        return status;
    }
    if (code->n_globals) {
        qsort(code->globals, (size_t)code->n_globals, sizeof *code->globals, by_name);
    }
    *out = code;
    return ANEMO_OK;
}

void anemo_code_close(anemo_code_objects *code) {
    if (!code) {
        return;
    }
    for (int32_t i = 0; i < code->n_copies; i++) {
        free(code->copies[i]);
    }
    free(code->copies);
    free(code->globals);
    free(code->sections);
    free(code->objects);
    free(code);
}

/* ---------------------------------------------------------------- the walk */

typedef struct walk {
    anemo_code_objects *code;
    int32_t *order; /* sections in the order of their numbers, [n] */
    int32_t n;
    char *text; /* what is hashed */
    size_t text_bytes, text_room;
    anemo_code_answer *answer;
    bool no_memory;
} walk;

static void put(walk *w, const void *data, size_t bytes) {
    if (w->text_bytes + bytes > w->text_room) {
        const size_t room = 2 * (w->text_bytes + bytes) + 4096;
        char *more = w->no_memory ? NULL : realloc(w->text, room);
        if (!more) {
            w->no_memory = true;
            return;
        }
        w->text = more;
        w->text_room = room;
    }
    if (bytes) {
        memcpy(w->text + w->text_bytes, data, bytes);
        w->text_bytes += bytes;
    }
}

static void put_tag(walk *w, char tag, int64_t a, int64_t b) {
    put(w, &tag, 1);
    put(w, &a, sizeof a);
    put(w, &b, sizeof b);
}

static int32_t number_of(walk *w, int32_t section) {
    code_section *s = &w->code->sections[section];
    if (s->visit < 0) {
        s->visit = w->n;
        w->order[w->n++] = section;
    }
    return s->visit;
}

/* The global of this name; NULL: it is outside. */
static const code_global *find_global(const anemo_code_objects *code, const char *name) {
    int32_t low = 0, high = code->n_globals;
    while (low < high) {
        const int32_t middle = (low + high) / 2;
        if (strcmp(code->globals[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < code->n_globals && strcmp(code->globals[low].name, name) == 0 ? &code->globals[low]
                                                                               : NULL;
}

/* Bytes that a reference of this type points short of its target. */
static int64_t bias_of(uint16_t machine, uint32_t type) {
    if (machine != EM_X86_64) {
        return 0;
    }
    return type == R_X86_64_PC32 || type == R_X86_64_PLT32 || type == R_X86_64_GOTPCREL ||
                   type == R_X86_64_GOTPCRELX || type == R_X86_64_REX_GOTPCRELX
               ? 4
               : 0;
}

static void put_pooled(walk *w, const code_section *pool, int64_t place, bool biased) {
    const int64_t limit = (int64_t)pool->bytes, entry = (int64_t)pool->entry;
    if (place < 0 || place >= limit) {
        put_tag(w, 'X', place, 0);
        return;
    }
    if (pool->is_strings) {
        const size_t n = strnlen((const char *)pool->data + place, (size_t)(limit - place));
        put_tag(w, 'T', (int64_t)n, 0);
        put(w, pool->data + place, n);
        w->answer->constant_bytes += (int64_t)n + 1;
        return;
    }
    const int64_t start = (place + (biased && entry >= 4 ? 2 : 0)) / entry * entry;
    put_tag(w, 'C', entry, place - start);
    if (start + entry <= limit) {
        put(w, pool->data + start, (size_t)entry);
        w->answer->constant_bytes += entry;
    }
}

static void put_outside(walk *w, const char *name, int64_t addend) {
    const size_t n = strlen(name);
    put_tag(w, 'U', addend, (int64_t)n);
    put(w, name, n);
    if (strncmp(name, "cblas_", 6) == 0 || strncmp(name, "openblas_", 9) == 0) {
        w->answer->calls_blas = true;
    }
}

static void put_target(walk *w, int32_t object, uint32_t symbol_index, uint32_t type,
                       int64_t addend) {
    const code_object *o = &w->code->objects[object];
    if (symbol_index >= o->n_symbols) {
        put_tag(w, 'X', symbol_index, addend);
        return;
    }
    const Elf64_Sym *symbol = &o->symbols[symbol_index];
    const char *name = o->names + symbol->st_name;
    if (symbol->st_shndx == SHN_UNDEF && symbol_index) {
        const code_global *global = find_global(w->code, name);
        if (!global) {
            put_outside(w, name, addend);
            return;
        }
        o = &w->code->objects[global->object];
        symbol = &o->symbols[global->symbol];
    }
    if (symbol->st_shndx == SHN_UNDEF || symbol->st_shndx >= (uint32_t)o->n) { /* SHN_ABS, COMMON */
        put_tag(w, 'A', (int64_t)symbol->st_value, (int64_t)symbol->st_size);
        return;
    }
    const int32_t section = o->first + symbol->st_shndx;
    const code_section *target = &w->code->sections[section];
    const int64_t bias = bias_of(o->machine, type);
    if (target->entry && target->data) {
        put_pooled(w, target, (int64_t)symbol->st_value + addend + bias, bias > 0);
    } else {
        put_tag(w, 'N', number_of(w, section), (int64_t)symbol->st_value + addend);
    }
}

/* skipped: a place whose relocation is left out, or SIZE_MAX */
static void put_section(walk *w, int32_t index, size_t skipped) {
    const code_section *s = &w->code->sections[index];
    put_tag(w, s->is_code ? 'F' : 'D', (int64_t)s->bytes, (int64_t)s->align);
    if (s->data) {
        put(w, s->data, s->bytes);
    }
    *(s->is_code ? &w->answer->code_bytes : &w->answer->constant_bytes) += (int64_t)s->bytes;
    for (size_t i = 0; i < s->n_rela; i++) {
        const Elf64_Rela *r = &s->rela[i];
        if (r->r_offset != skipped) {
            put_tag(w, 'R', (int64_t)r->r_offset, (int64_t)ELF64_R_TYPE(r->r_info));
            put_target(w, s->object, (uint32_t)ELF64_R_SYM(r->r_info),
                       (uint32_t)ELF64_R_TYPE(r->r_info), r->r_addend);
        }
    }
}

/* Device code lies in a section of its own, which the host's code does not refer to: whoever
 * reaches an object that has one reaches it. */
static void reach_device_code(walk *w, int32_t object) {
    const code_object *o = &w->code->objects[object];
    for (uint32_t i = 0; i < o->n_symbols; i++) {
        const Elf64_Sym *symbol = &o->symbols[i];
        if (symbol->st_shndx > SHN_UNDEF && symbol->st_shndx < (uint32_t)o->n &&
            strcmp(o->names + symbol->st_name, "fatbinData") == 0) {
            number_of(w, o->first + symbol->st_shndx);
        }
    }
}

static anemo_status walk_from(walk *w, const char *const *symbols, int32_t n, size_t skipped,
                              anemo_error *err) {
    int32_t skipped_section = -1;
    size_t skipped_place = SIZE_MAX;
    for (int32_t i = 0; i < n; i++) {
        const code_global *root = find_global(w->code, symbols[i]);
        const code_object *o = root ? &w->code->objects[root->object] : NULL;
        const Elf64_Sym *symbol = o ? &o->symbols[root->symbol] : NULL;
        if (!symbol || symbol->st_shndx >= (uint32_t)o->n) {
            return anemo_fail(err, ANEMO_E_INPUT, "%s: has no symbol %s", w->code->path,
                              symbols[i]);
        }
        const int32_t section = o->first + symbol->st_shndx;
        put_tag(w, 'S', number_of(w, section), (int64_t)symbol->st_value);
        if (i == 0 && skipped != SIZE_MAX) {
            skipped_section = section;
            skipped_place = symbol->st_value + skipped;
        }
    }
    for (int32_t i = 0; i < w->n; i++) { /* grows as sections are met */
        const int32_t section = w->order[i];
        put_section(w, section, section == skipped_section ? skipped_place : SIZE_MAX);
        reach_device_code(w, w->code->sections[section].object);
    }
    return ANEMO_OK;
}

anemo_status anemo_code_hash(anemo_code_objects *code, const char *const *symbols, int32_t n,
                             size_t skipped, const char *note, anemo_code_answer *answer,
                             anemo_error *err) {
    *answer = (anemo_code_answer){{0}};
    walk w = {.code = code, .answer = answer};
    w.order = malloc((size_t)code->n_sections * sizeof *w.order + 1);
    if (!w.order) {
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory to walk it", code->path);
    }
    for (int32_t i = 0; i < code->n_sections; i++) {
        code->sections[i].visit = -1;
    }
    anemo_status status = walk_from(&w, symbols, n, skipped, err);
    put(&w, note, strlen(note) + 1);
    if (!status && w.no_memory) {
        status = anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory to walk it", code->path);
    }
    if (!status) {
        anemo_sha256_of(w.text, w.text_bytes, answer->hex);
        answer->sections = w.n;
    }
    free(w.text);
    free(w.order);
    return status;
}
