// Loops that do nothing but multiply, or read: what the fastest program could reach on this core.

#include "include/peaks.h"

#if defined(__x86_64__)
#include <immintrin.h>

// Enough chains to hide the latency of one: 24 sums and two operands fill the registers.
enum { CHAINS = 24 };

#define PEAK(name, instructions, vector, start, step, operations)                                     \
    __attribute__((target(instructions), noinline)) static double name(size_t rounds) {               \
        vector sums[CHAINS];                                                                          \
        for (int i = 0; i < CHAINS; i++) sums[i] = start((float)i);                                   \
        for (size_t round = 0; round < rounds; round++) {                                             \
            _Pragma("clang loop unroll(full)") for (int i = 0; i < CHAINS; i++) sums[i] = step;       \
            for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+v"(sums[i]));                    \
        }                                                                                             \
        return (double)rounds * CHAINS * operations;                                                  \
    }

#define ONES_512 _mm512_set1_ps(1)
#define ONES_256 _mm256_set1_ps(1)
#define ONES_BF16 ((__m512bh)_mm512_set1_epi32(0x3f803f80))

PEAK(f32_512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps(ONES_512, ONES_512, sums[i]), 32)
PEAK(bf16_512, "avx512f,avx512bf16", __m512, _mm512_set1_ps, _mm512_dpbf16_ps(sums[i], ONES_BF16, ONES_BF16), 64)

// Sixteen registers: twelve chains, twice a round.
__attribute__((target("avx2,fma"), noinline)) static double f32_256(size_t rounds) {
    __m256 sums[12];
    for (int i = 0; i < 12; i++) sums[i] = _mm256_set1_ps((float)i);
    for (size_t round = 0; round < 2 * rounds; round++) {
        _Pragma("clang loop unroll(full)") for (int i = 0; i < 12; i++)
            sums[i] = _mm256_fmadd_ps(ONES_256, ONES_256, sums[i]);
        for (int i = 0; i < 12; i++) __asm__ volatile("" : "+x"(sums[i]));
    }
    return (double)rounds * 24 * 16;
}

double peak_avx2(size_t rounds) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? f32_256(rounds) : 0;
}

double peak_f32(size_t rounds) { return __builtin_cpu_supports("avx512f") ? f32_512(rounds) : peak_avx2(rounds); }

double peak_bf16(size_t rounds) { return __builtin_cpu_supports("avx512bf16") ? bf16_512(rounds) : 0; }
#else
double peak_avx2(size_t rounds) { return 0; }
double peak_f32(size_t rounds) { return 0; }
double peak_bf16(size_t rounds) { return 0; }
#endif

uint64_t read_through(const uint64_t *x, size_t count) {
    uint64_t sums[32] = {0};
    for (size_t i = 0; i + 32 <= count; i += 32)
        for (size_t k = 0; k < 32; k++) sums[k] += x[i + k];
    uint64_t sum = 0;
    for (size_t k = 0; k < 32; k++) sum += sums[k];
    return sum;
}
