// The most that a core can do: chains of products in registers, and memory that is only read.
#ifndef SLUICE_PEAKS_H
#define SLUICE_PEAKS_H

#include <stddef.h>
#include <stdint.h>

// Floating-point operations of `rounds` rounds, done; 0 where the CPU lacks the instructions. The widest there are:
// AVX-512 or AVX2 for float32, AVX512_BF16 for bf16.
double peak_f32(size_t rounds);
double peak_bf16(size_t rounds);
// Float32 by 256-bit vectors, whatever else the core has.
double peak_avx2(size_t rounds);

// Reads `count` numbers from memory once; their sum, so that nothing is left out.
uint64_t read_through(const uint64_t *x, size_t count);

#endif
