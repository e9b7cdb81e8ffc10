// The exponential function, for loops that vectorise.
#ifndef SLUICE_EXPONENTIAL_H
#define SLUICE_EXPONENTIAL_H

#include "float_types.h"

// exp(x) with a relative error below 2e-7: 2^n * p(r), r in [-ln2/2, ln2/2], p the Taylor polynomial of degree 7.
BODY float exponential(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer in the low bits
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * float_of((uint32_t)((int32_t)(bits_of(shifted) - bits_of(12582912.0f)) + 127) << 23);
}

#endif
