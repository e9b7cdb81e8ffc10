// Products of bf16 numbers summed in float32: packing, and the kernel over what was packed.
//
// A product is cut along its depth into blocks of SLUICE_DEPTH. Within a block one operand lies row by row, whose
// elements the kernel broadcasts in pairs; the other lies in panels of SLUICE_PANEL columns, pair by pair, which it
// loads as vectors. An element of the result is the sum over blocks, in order, of the sum over the block's pairs, in
// order: neither the cut into rows and columns nor the number of rows changes a bit of it.
#include "float_types.h"
#include "include/CKernels.h"

#include <string.h>

enum { LANES = 16 };

BODY size_t padded(size_t depth) { return (depth + 31) / 32 * 32; }

BODY size_t least(size_t a, size_t b) { return a < b ? a : b; }

// ---- Portable: what the vector kernels are held against.

static void pack_rows_portable(const float *x, size_t rows, size_t depth, size_t stride, uint16_t *packed) {
    for (size_t row = 0; row < rows; row++) {
        uint16_t *to = packed + row * SLUICE_ROW_STRIDE;
        for (size_t k = 0; k < depth; k++) to[k] = float_to_bf16(x[row * stride + k]);
        for (size_t k = depth; k < padded(depth); k++) to[k] = 0;
    }
}

static void pack_columns_portable(const float *x, size_t columns, size_t depth, size_t stride, uint16_t *packed) {
    for (size_t column = 0; column < columns; column++) {
        uint16_t *to = packed + column * SLUICE_ROW_STRIDE;
        for (size_t k = 0; k < depth; k++) to[k] = float_to_bf16(x[k * stride + column]);
        for (size_t k = depth; k < padded(depth); k++) to[k] = 0;
    }
}

BODY uint16_t *panel_element(uint16_t *packed, size_t column, size_t k) {
    return packed + column / SLUICE_PANEL * SLUICE_PANEL * SLUICE_DEPTH + k / 2 * 2 * SLUICE_PANEL +
           column % SLUICE_PANEL * 2 + k % 2;
}

static void pack_panels_portable(const uint16_t *w, size_t columns, size_t depth, size_t stride, uint16_t *packed) {
    size_t all = (columns + SLUICE_PANEL - 1) / SLUICE_PANEL * SLUICE_PANEL;
    for (size_t column = 0; column < all; column++)
        for (size_t k = 0; k < padded(depth); k++)
            *panel_element(packed, column, k) = column < columns && k < depth ? w[column * stride + k] : 0;
}

static void pack_column_panels_portable(const float *x, size_t columns, size_t depth, size_t stride,
                                         uint16_t *packed) {
    size_t all = (columns + SLUICE_PANEL - 1) / SLUICE_PANEL * SLUICE_PANEL;
    for (size_t column = 0; column < all; column++)
        for (size_t k = 0; k < padded(depth); k++)
            *panel_element(packed, column, k) =
                column < columns && k < depth ? float_to_bf16(x[k * stride + column]) : 0;
}

static void multiply_packed_portable(const uint16_t *a, const uint16_t *b, size_t rows, size_t columns, size_t depth,
                                      int add, float *restrict c, size_t stride) {
    for (size_t start = 0; start < columns; start += SLUICE_PANEL) {
        const uint16_t *panel = b + start * SLUICE_DEPTH;
        size_t width = least(SLUICE_PANEL, columns - start);
        for (size_t row = 0; row < rows; row++) {
            const uint16_t *from = a + row * SLUICE_ROW_STRIDE;
            float *to = c + row * stride + start;
            float sums[SLUICE_PANEL] = {0};
            for (size_t pair = 0; pair < (depth + 1) / 2; pair++) {
                float first = bf16_to_float(from[2 * pair]), second = bf16_to_float(from[2 * pair + 1]);
                const uint16_t *at = panel + pair * 2 * SLUICE_PANEL;
                for (size_t i = 0; i < SLUICE_PANEL; i++) {
                    sums[i] += second * bf16_to_float(at[2 * i + 1]);
                    sums[i] += first * bf16_to_float(at[2 * i]);
                }
            }
            for (size_t i = 0; i < width; i++) to[i] = add ? to[i] + sums[i] : sums[i];
        }
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"))), \
                             apply_to = function)

// 32 bf16 from two vectors of floats, in order.
BODY __m512i rounded(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

BODY __mmask16 first_lanes(size_t count) { return (__mmask16)(count >= LANES ? 0xffff : (1u << count) - 1); }

static void pack_rows_vector(const float *x, size_t rows, size_t depth, size_t stride, uint16_t *packed) {
    for (size_t row = 0; row < rows; row++) {
        const float *from = x + row * stride;
        uint16_t *to = packed + row * SLUICE_ROW_STRIDE;
        size_t k = 0;
        for (; k + 32 <= depth; k += 32)
            _mm512_store_si512(to + k, rounded(_mm512_loadu_ps(from + k), _mm512_loadu_ps(from + k + LANES)));
        if (k == depth) continue;
        size_t left = depth - k;
        __m512 low = _mm512_maskz_loadu_ps(first_lanes(left), from + k);
        __m512 high = _mm512_setzero_ps();
        if (left > LANES) high = _mm512_maskz_loadu_ps(first_lanes(left - LANES), from + k + LANES);
        _mm512_store_si512(to + k, rounded(low, high));
    }
}

// rows[i] lane j becomes rows[j] lane i.
BODY void transpose(__m512i rows[LANES]) {
    __m512i t[LANES];
    for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // rows[4 g + i] holds, in its 128-bit lane l, lane 4 l + i of rows 4 g .. 4 g + 3.
    for (int i = 0; i < 4; i++) {
        __m512i low = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
        __m512i high = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
        __m512i low2 = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
        __m512i high2 = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
        t[i] = _mm512_shuffle_i32x4(low, low2, 0x88);
        t[8 + i] = _mm512_shuffle_i32x4(low, low2, 0xdd);
        t[4 + i] = _mm512_shuffle_i32x4(high, high2, 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(high, high2, 0xdd);
    }
    for (int i = 0; i < LANES; i++) rows[i] = t[i];
}

static void pack_panels_vector(const uint16_t *w, size_t columns, size_t depth, size_t stride, uint16_t *packed) {
    size_t all = (columns + SLUICE_PANEL - 1) / SLUICE_PANEL * SLUICE_PANEL;
    for (size_t start = 0; start < all; start += LANES) {
        size_t width = start < columns ? least(LANES, columns - start) : 0;
        uint32_t *to = (uint32_t *)panel_element(packed, start, 0);
        for (size_t k = 0; k < depth; k += 32) {
            __mmask32 mask = depth - k >= 32 ? 0xffffffffu : (1u << (depth - k)) - 1;
            __m512i rows[LANES];
            if (width == LANES && mask == 0xffffffffu) {
                for (size_t i = 0; i < LANES; i++) rows[i] = _mm512_loadu_si512(w + (start + i) * stride + k);
            } else {
                for (size_t i = 0; i < LANES; i++)
                    rows[i] = i < width ? _mm512_maskz_loadu_epi16(mask, w + (start + i) * stride + k)
                                        : _mm512_setzero_si512();
            }
            transpose(rows);
            for (size_t i = 0; i < LANES; i++) _mm512_store_si512(to + (k / 2 + i) * SLUICE_PANEL, rows[i]);
        }
    }
}

// Pairs of rows k and k + 1 of x, for 16 columns.
BODY __m512i row_pairs(const float *x, __mmask16 mask, size_t k, size_t depth, size_t stride) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512 first = k < depth ? _mm512_maskz_loadu_ps(mask, x + k * stride) : _mm512_setzero_ps();
    __m512 second = k + 1 < depth ? _mm512_maskz_loadu_ps(mask, x + (k + 1) * stride) : _mm512_setzero_ps();
    return _mm512_permutexvar_epi16(order, rounded(first, second));
}

static void pack_columns_vector(const float *x, size_t columns, size_t depth, size_t stride, uint16_t *packed) {
    for (size_t start = 0; start < columns; start += LANES) {
        size_t width = least(LANES, columns - start);
        for (size_t k = 0; k < depth; k += 32) {
            __m512i rows[LANES];
            for (size_t i = 0; i < LANES; i++)
                rows[i] = row_pairs(x + start, first_lanes(width), k + 2 * i, depth, stride);
            transpose(rows);
            for (size_t i = 0; i < width; i++)
                _mm512_store_si512(packed + (start + i) * SLUICE_ROW_STRIDE + k, rows[i]);
        }
    }
}

static void pack_column_panels_vector(const float *x, size_t columns, size_t depth, size_t stride, uint16_t *packed) {
    size_t all = (columns + SLUICE_PANEL - 1) / SLUICE_PANEL * SLUICE_PANEL;
    for (size_t start = 0; start < all; start += LANES) {
        __mmask16 mask = first_lanes(start < columns ? columns - start : 0);
        uint16_t *to = panel_element(packed, start, 0);
        for (size_t k = 0; k < padded(depth); k += 2)
            _mm512_store_si512(to + k * SLUICE_PANEL, row_pairs(x + start, mask, k, depth, stride));
    }
}

BODY __m512bh broadcast_pair(const uint16_t *at) {
    int pair;
    memcpy(&pair, at, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

BODY void finish(__m512 sum, int add, __mmask16 mask, float *c) {
    if (add) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), sum);
    _mm512_mask_storeu_ps(c, mask, sum);
}

// `count` rows, which the compiler knows, times one panel: their sums stay in registers.
BODY void multiply_rows(int count, const uint16_t *a, const uint16_t *panel, size_t pairs, int add, float *c,
                        size_t stride, size_t width) {
    __m512 low[SLUICE_TILE_ROWS], high[SLUICE_TILE_ROWS];
    for (int i = 0; i < count; i++) {
        low[i] = high[i] = _mm512_setzero_ps();
        if (add) {
            _mm_prefetch((const char *)(c + (size_t)i * stride), _MM_HINT_T0);
            _mm_prefetch((const char *)(c + (size_t)i * stride + LANES), _MM_HINT_T0);
        }
    }
    for (size_t pair = 0; pair < pairs; pair++) {
        __m512bh first = (__m512bh)_mm512_load_si512(panel + pair * 2 * SLUICE_PANEL);
        __m512bh second = (__m512bh)_mm512_load_si512(panel + pair * 2 * SLUICE_PANEL + 2 * LANES);
        // What comes next lies behind these rows.
        _mm_prefetch((const char *)(a + count * SLUICE_ROW_STRIDE + 32 * pair), _MM_HINT_T1);
        for (int i = 0; i < count; i++) {
            __m512bh x = broadcast_pair(a + i * SLUICE_ROW_STRIDE + 2 * pair);
            low[i] = _mm512_dpbf16_ps(low[i], x, first);
            high[i] = _mm512_dpbf16_ps(high[i], x, second);
        }
    }
    for (int i = 0; i < count; i++) {
        finish(low[i], add, first_lanes(width), c + (size_t)i * stride);
        if (width > LANES) finish(high[i], add, first_lanes(width - LANES), c + (size_t)i * stride + LANES);
    }
}

static void multiply_packed_vector(const uint16_t *a, const uint16_t *b, size_t rows, size_t columns, size_t depth,
                                   int add, float *c, size_t stride) {
    size_t pairs = (depth + 1) / 2, tiles = (rows + SLUICE_TILE_ROWS - 1) / SLUICE_TILE_ROWS;
    size_t row = 0;
    for (size_t tile = 0; tile < tiles; tile++) {
        // As even as they come: a last tile of one row would wait for its sums.
        size_t end = rows * (tile + 1) / tiles, count = end - row;
        for (size_t start = 0; start < columns; start += SLUICE_PANEL) {
            const uint16_t *from = a + row * SLUICE_ROW_STRIDE, *panel = b + start * SLUICE_DEPTH;
            float *to = c + row * stride + start;
            size_t width = least(SLUICE_PANEL, columns - start);
#define ROWS(n)                                                             \
    case n:                                                                 \
        multiply_rows(n, from, panel, pairs, add, to, stride, width); \
        break;
            switch (count) { ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11)
                             ROWS(12) ROWS(13) ROWS(14) }
#undef ROWS
        }
        row = end;
    }
}

#pragma clang attribute pop
#define VECTOR(name, arguments)                    \
    if (sluice_level() >= SLUICE_AVX512_BF16) {    \
        name##_vector arguments;                   \
        return;                                    \
    }
#else
#define VECTOR(name, arguments)
#endif

#define PRODUCT(name, parameters, arguments) \
    void sluice_##name parameters {          \
        VECTOR(name, arguments)              \
        name##_portable arguments;           \
    }

PRODUCT(pack_rows, (const float *x, size_t rows, size_t depth, size_t stride, uint16_t *packed),
        (x, rows, depth, stride, packed))
PRODUCT(pack_columns, (const float *x, size_t columns, size_t depth, size_t stride, uint16_t *packed),
        (x, columns, depth, stride, packed))
PRODUCT(pack_panels, (const uint16_t *w, size_t columns, size_t depth, size_t stride, uint16_t *packed),
        (w, columns, depth, stride, packed))
PRODUCT(pack_column_panels, (const float *x, size_t columns, size_t depth, size_t stride, uint16_t *packed),
        (x, columns, depth, stride, packed))
PRODUCT(multiply_packed,
        (const uint16_t *a, const uint16_t *b, size_t rows, size_t columns, size_t depth, int add, float *c,
         size_t stride),
        (a, b, rows, columns, depth, add, c, stride))
