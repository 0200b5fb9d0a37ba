/* Narrow number formats, written from their definitions and independently of the kernels. */
#ifndef ANEMO_CHECK_NUMBER_H
#define ANEMO_CHECK_NUMBER_H

#include <stdint.h>

uint16_t check_to_f16(double x); /* round half to even; overflow gives infinity */
double check_from_f16(uint16_t bits);
uint16_t check_to_bf16(double x); /* round half to even */
double check_from_bf16(uint16_t bits);

#endif
