#include "tests/support/test_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *test_data_path(const char *relative) {
    const char *root = getenv("ANEMO_TEST_DATA");
    if (!root || !*root)
        root = ANEMO_TEST_DIR "/../../shared/data";
    char *path = malloc(strlen(root) + strlen(relative) + 2);
    if (!path)
        abort();
    sprintf(path, "%s/%s", root, relative);
    if (access(path, R_OK) == 0)
        return path;
    free(path);
    return NULL;
}
