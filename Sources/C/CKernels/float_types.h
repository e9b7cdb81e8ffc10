// bfloat16, IEEE half and float8_e4m3fn, by their bits.
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

// float8_e4m3fn: 1 sign, 4 exponent (bias 7), 3 fraction bits; no infinities, and NaN where all but the sign are ones.
// Source: Micikevicius et al., FP8 formats for deep learning (arXiv:2209.05433), section 3.
BODY float e4m3_to_float(uint8_t code) {
    uint32_t magnitude = code & 0x7fu;
    // Below 8 the exponent is 0, and there is no leading one.
    float value = magnitude < 8 ? (float)(int32_t)magnitude * 0x1p-9f : float_of((magnitude << 20) + (120u << 23));
    uint32_t bits = magnitude == 0x7fu ? 0x7fc00000u : bits_of(value);
    return float_of(bits | (uint32_t)(code & 0x80u) << 24);
}

#endif
