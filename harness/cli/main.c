/* anemo: picks the command; everything else lives in cmd_<name>.c. */
#include "harness/cli/command.h"

int main(int argc, char **argv) {
    (void)argc, (void)argv;
    return ANEMO_EXIT_USAGE;
}
