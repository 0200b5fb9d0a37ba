/* What `demo` shows of `anemo doctor`. */
#ifndef ANEMO_CLI_DOCTOR_H
#define ANEMO_CLI_DOCTOR_H

#include <stdio.h>

/* Four lines: the processor, memory and power, what is measured with, and what cannot be. */
void anemo_doctor_summary(FILE *out);

#endif
