// Products of a tile of a float32 matrix with a few columns: nothing is packed, since both lie in the nearest cache.
//
// An element of the result is the sum over its terms in order, each added with one rounding. So every cut into tiles, and
// every instruction set, gives the same bits.
#include <math.h>

#include "include/CKernels.h"
#include "variants.h"

enum { LANES = 16 };

#define PARAMETERS                                                                                    \
    const float *a, size_t row_stride, size_t term_stride, const float *next, size_t rows, size_t terms, \
        const float *b, size_t columns, int add, float *c
#define ARGUMENTS a, row_stride, term_stride, next, rows, terms, b, columns, add, c

static void multiply_tile_portable(PARAMETERS) {
    (void)next;
    for (size_t row = 0; row < rows; row++)
        for (size_t column = 0; column < columns; column++) {
            float sum = add ? c[row * columns + column] : 0;
            for (size_t k = 0; k < terms; k++)
                sum = fmaf(a[row * row_stride + k * term_stride], b[k * columns + column], sum);
            c[row * columns + column] = sum;
        }
}

#if defined(__x86_64__)
#include <immintrin.h>

// What a function takes that multiplies some rows and 16 columns, whose sums stay in registers. One of the strides is 1,
// and `stride` is the other one.
#define PART const float *a, size_t stride, size_t terms, const float *b, size_t columns, int add, float *c
typedef void (*part_function)(PART);

// The element of row i and term k. Which stride is 1 is known to the compiler, as is i.
#define ELEMENT(i, k) (by_rows ? a + (size_t)(i) * stride + (k) : a + (k) * stride + (i))

#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
BODY void part_avx2(int count, int by_rows, PART) {
    __m256 low[6], high[6];
    for (int i = 0; i < count; i++) {
        const float *from = c + (size_t)i * columns;
        low[i] = add ? _mm256_loadu_ps(from) : _mm256_setzero_ps();
        high[i] = add ? _mm256_loadu_ps(from + 8) : _mm256_setzero_ps();
    }
#define TERM(k)                                                                           \
    do {                                                                                  \
        const float *at = b + (k) * columns;                                              \
        __m256 first = _mm256_loadu_ps(at), second = _mm256_loadu_ps(at + 8);             \
        for (int i = 0; i < count; i++) {                                                 \
            __m256 x = _mm256_broadcast_ss(ELEMENT(i, k));                                \
            low[i] = _mm256_fmadd_ps(x, first, low[i]);                                   \
            high[i] = _mm256_fmadd_ps(x, second, high[i]);                                \
        }                                                                                 \
    } while (0)
    size_t k = 0;
    for (; k + 4 <= terms; k += 4) {
        TERM(k);
        TERM(k + 1);
        TERM(k + 2);
        TERM(k + 3);
    }
    for (; k < terms; k++) TERM(k);
#undef TERM
    for (int i = 0; i < count; i++) {
        _mm256_storeu_ps(c + (size_t)i * columns, low[i]);
        _mm256_storeu_ps(c + (size_t)i * columns + 8, high[i]);
    }
}
#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
BODY void part_avx512(int count, int by_rows, PART) {
    __m512 sums[12];
    for (int i = 0; i < count; i++) sums[i] = add ? _mm512_loadu_ps(c + (size_t)i * columns) : _mm512_setzero_ps();
    for (size_t k = 0; k < terms; k++) {
        __m512 x = _mm512_loadu_ps(b + k * columns);
        for (int i = 0; i < count; i++) sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(*ELEMENT(i, k)), x, sums[i]);
    }
    for (int i = 0; i < count; i++) _mm512_storeu_ps(c + (size_t)i * columns, sums[i]);
}
#pragma clang attribute pop

#define FUNCTION(name, instructions, count, by_rows)                                                          \
    __attribute__((target(instructions), noinline)) static void name##_##count##_##by_rows(PART) {            \
        name(count, by_rows, a, stride, terms, b, columns, add, c);                                           \
    }
#define AVX2(count) FUNCTION(part_avx2, "avx2,fma", count, 0) FUNCTION(part_avx2, "avx2,fma", count, 1)
#define AVX512(count) FUNCTION(part_avx512, "avx512f", count, 0) FUNCTION(part_avx512, "avx512f", count, 1)
AVX2(1) AVX2(2) AVX2(3) AVX2(4) AVX2(5) AVX2(6)
AVX512(1) AVX512(2) AVX512(3) AVX512(4) AVX512(5) AVX512(6)
AVX512(7) AVX512(8) AVX512(9) AVX512(10) AVX512(11) AVX512(12)

#define BOTH(name, count) {name##_##count##_0, name##_##count##_1}
// By the number of rows, and whether terms lie side by side.
static const part_function avx2[][2] = {BOTH(part_avx2, 1), BOTH(part_avx2, 2), BOTH(part_avx2, 3),
                                        BOTH(part_avx2, 4), BOTH(part_avx2, 5), BOTH(part_avx2, 6)};
static const part_function avx512[][2] = {
    BOTH(part_avx512, 1), BOTH(part_avx512, 2), BOTH(part_avx512, 3),  BOTH(part_avx512, 4),
    BOTH(part_avx512, 5), BOTH(part_avx512, 6), BOTH(part_avx512, 7),  BOTH(part_avx512, 8),
    BOTH(part_avx512, 9), BOTH(part_avx512, 10), BOTH(part_avx512, 11), BOTH(part_avx512, 12)};

// By at most as many rows as keep their sums in registers.
static void multiply_tile_vector(const part_function functions[][2], size_t most, PARAMETERS) {
    int by_rows = term_stride == 1;
    size_t stride = by_rows ? row_stride : term_stride;
    size_t parts = (rows + most - 1) / most, row = 0;
    // The next tile comes from far away: some of its lines are asked for beside each part of this one.
    size_t lines = rows * terms / 16, asked = 0, turns = parts * (columns / LANES), turn = 0;
    for (size_t part = 0; part < parts; part++) {
        // As even as they come: a last part of one row would wait for its sums.
        size_t end = rows * (part + 1) / parts;
        part_function multiply = functions[end - row - 1][by_rows];
        for (size_t start = 0; start < columns; start += LANES) {
            turn++;
            for (; next && asked < lines * turn / turns; asked++) _mm_prefetch((const char *)(next + 16 * asked), _MM_HINT_T1);
            multiply(by_rows ? a + row * row_stride : a + row, stride, terms, b + start, columns, add,
                     c + row * columns + start);
        }
        row = end;
    }
}
#endif

void sluice_multiply_tile(PARAMETERS) {
#if defined(__x86_64__)
    if (sluice_level() >= SLUICE_AVX512) return multiply_tile_vector(avx512, 12, ARGUMENTS);
    if (sluice_level() >= SLUICE_AVX2) return multiply_tile_vector(avx2, 6, ARGUMENTS);
#endif
    multiply_tile_portable(ARGUMENTS);
}
