/* The example plug-in, as the tests load it. */
#include "examples/plugin/qgemm_wxa32_example_c.c"
