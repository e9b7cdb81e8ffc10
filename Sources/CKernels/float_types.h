// bfloat16 and IEEE half, by their bits.
#ifndef SLUICE_FLOAT_TYPES_H
#define SLUICE_FLOAT_TYPES_H

#include "variants.h"

#include <stdint.h>
#include <string.h>

BODY uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

BODY float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// bfloat16 is the upper half of a float: 1 sign, 8 exponent, 7 fraction bits.
BODY float bf16_to_float(uint16_t half) { return float_of((uint32_t)half << 16); }

BODY uint16_t float_to_bf16(float value) {
    uint32_t bits = bits_of(value);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet_nan = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
}

BODY float f16_to_float(uint16_t half) {
    _Float16 value;
    memcpy(&value, &half, sizeof value);
    return (float)value;
}

BODY uint16_t float_to_f16(float value) {
    _Float16 narrowed = (_Float16)value;
    uint16_t half;
    memcpy(&half, &narrowed, sizeof half);
    return half;
}

#endif
