/* Loading plug-ins.
 *
 * RTLD_NOW: a plug-in that needs a symbol nobody has is refused here, not in the middle of a run.
 * RTLD_LOCAL: two plug-ins may use the same internal names. A path without a slash means a file
 * here, not one on the library search path, as it does for every other file option. */
#include "harness/cli/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The loader's message starts with the path, which our sentence names already. */
static const char *loader_message(const char *path) {
    const char *text = dlerror();
    if (!text)
        return "unknown reason";
    size_t n = strlen(path);
    if (strncmp(text, path, n) == 0 && strncmp(text + n, ": ", 2) == 0)
        return text + n + 2;
    return text;
}

static anemo_status refuse(void *handle, anemo_error *err, const char *path, const char *why) {
    dlclose(handle);
    return anemo_fail(err, ANEMO_E_INPUT, "plug-in %s: %s", path, why);
}

anemo_status anemo_plugin_load(const char *path, anemo_error *err) {
    char local[PATH_MAX];
    struct stat info;
    if (stat(path, &info) != 0)
        return anemo_fail(err, ANEMO_E_INPUT, "plug-in %s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return anemo_fail(err, ANEMO_E_INPUT, "plug-in %s: not a file", path);
    if (snprintf(local, sizeof local, "%s%s", strchr(path, '/') ? "" : "./", path) >=
        (int)sizeof local)
        return anemo_fail(err, ANEMO_E_INPUT, "plug-in %.64s...: the path is too long", path);
    void *handle = dlopen(local, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return anemo_fail(err, ANEMO_E_INPUT, "plug-in %s: cannot be loaded as a shared object: %s",
                          path, loader_message(local));
    anemo_plugin_entry_fn entry;
    void *symbol = dlsym(handle, ANEMO_PLUGIN_SYMBOL);
    if (!symbol)
        return refuse(handle, err, path,
                      "has no symbol " ANEMO_PLUGIN_SYMBOL "; see kernels/kernel.h");
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from object to function pointer */
    const anemo_plugin *plugin = entry();
    if (!plugin)
        return refuse(handle, err, path, ANEMO_PLUGIN_SYMBOL "() returned NULL");
    anemo_error inner = {{0}};
    anemo_status status = anemo_registry_add(plugin, &inner);
    if (status != ANEMO_OK)
        return refuse(handle, err, path, inner.text);
    return ANEMO_OK;
}
