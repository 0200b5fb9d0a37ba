/* model.safetensors.index.json: which shard holds which tensor.
 *
 *     {"metadata": {"total_size": ...}, "weight_map": {"lm_head.weight": "model-00003-of-...",
 * ...}}
 *
 * A shard's name is untrusted: it must name a file in the same directory. The map and the shards
 * must agree exactly, both ways; metadata is not used (published files have wrong totals). */
#include "models/formats/json.h"

#include <stdlib.h>

#define SHARD_LIMIT      4096
#define SHARD_NAME_LIMIT 128 /* survives anemo_show_path().text */

static anemo_status check_shard_name(const char *path, const char *tensor, const json_t *value,
                                     anemo_error *err) {
    const char *name = json_string_value(value);
    if (name && name[0] != '\0' && name[0] != '.' && strlen(name) <= SHARD_NAME_LIMIT &&
        !strchr(name, '/') && !strstr(name, ".."))
        return ANEMO_OK;
    return anemo_fail(err, ANEMO_E_INPUT,
                      "%s: weight_map.%s is %s; accepted: the name of a file in the same "
                      "directory",
                      path, anemo_show(tensor).text, anemo_show_json(value).text);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Shard names, sorted and each once; they point into the JSON tree. */
static anemo_status collect_shards(const char *path, json_t *map, anemo_shard_index *out,
                                   anemo_error *err) {
    const char *tensor;
    json_t *value;
    size_t n = 0;
    out->names = calloc(json_object_size(map) + 1, sizeof *out->names);
    if (!out->names)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    json_object_foreach(map, tensor, value) {
        ANEMO_TRY(check_shard_name(path, tensor, value, err));
        out->names[n++] = (char *)(uintptr_t)json_string_value(value);
    }
    qsort(out->names, n, sizeof *out->names, by_text);
    for (size_t i = 0; i < n; ++i)
        if (i == 0 || strcmp(out->names[i], out->names[out->n - 1]) != 0)
            out->names[out->n++] = out->names[i];
    if (out->n == 0 || out->n > SHARD_LIMIT)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: weight_map names %zu files; accepted: 1 to %d",
                          path, out->n, SHARD_LIMIT);
    return ANEMO_OK;
}

anemo_status anemo_shard_index_parse(const char *path, const void *json, size_t bytes,
                                     anemo_shard_index *out, anemo_error *err) {
    memset(out, 0, sizeof *out);
    json_t *root = anemo_json_object(path, "", json, bytes, err);
    if (!root)
        return ANEMO_E_INPUT;
    json_t *map = json_object_get(root, "weight_map");
    out->weight_map = json_incref(map); /* takes NULL */
    anemo_status status;
    if (json_is_object(map))
        status = collect_shards(path, map, out, err);
    else
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "%s: weight_map is %s; accepted: an object, tensor name to file name",
                            path, anemo_show_json(map).text);
    json_decref(root);
    if (status != ANEMO_OK)
        anemo_shard_index_free(out);
    return status;
}

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

anemo_status anemo_shard_index_check(const anemo_shard_index *index, const char *path,
                                     const anemo_tensors *tensors, anemo_error *err) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)index->weight_map, name, value) {
        const anemo_tensor *tensor = anemo_tensors_find(tensors, name);
        const char *shard = json_string_value(value);
        if (!tensor || strcmp(file_name(tensor->path), shard) != 0)
            return anemo_fail(
                err, ANEMO_E_INPUT,
                "%s: weight_map.%s is %s, but the tensor is in %s; accepted: the file "
                "that holds it",
                path, anemo_show(name).text, anemo_show(shard).text,
                tensor ? file_name(tensor->path) : "no shard");
    }
    for (size_t i = 0; i < tensors->n; ++i)
        if (!json_object_get(index->weight_map, tensors->items[i].name))
            return anemo_fail(
                err, ANEMO_E_INPUT,
                "%s: tensor %s is not in weight_map of %s; accepted: tensors that are",
                tensors->items[i].path, anemo_show(tensors->items[i].name).text, path);
    return ANEMO_OK;
}

void anemo_shard_index_free(anemo_shard_index *index) {
    free(index->names);
    json_decref(index->weight_map);
    memset(index, 0, sizeof *index);
}
