// Sums over rows and columns, accumulated in float64.
#include "float_types.h"
#include "include/CKernels.h"

#include <math.h>

// Short float32 runs go into float64 sums: vector speed without losing small terms after many rows.
enum { RUN = 32, STRIP = 256, LANES = 16 };

BODY void sluice_add_moments_body(const float *restrict x, const float *restrict weight, size_t rows, size_t cols,
                                  size_t stride, double *restrict absolute_sum, double *restrict square_sum) {
    for (size_t start = 0; start < cols; start += STRIP) {
        size_t width = cols - start < STRIP ? cols - start : STRIP;
        for (size_t first = 0; first < rows; first += RUN) {
            size_t last = rows - first < RUN ? rows : first + RUN;
            float absolute[STRIP] = {0}, square[STRIP] = {0};
            for (size_t row = first; row < last; row++) {
                const float *from = x + row * stride + start;
                float share = weight ? weight[row] : 1;
                for (size_t c = 0; c < width; c++) {
                    float weighted = share * from[c];
                    absolute[c] += fabsf(weighted);
                    square[c] += weighted * from[c];
                }
            }
            for (size_t c = 0; c < width; c++) {
                absolute_sum[start + c] += absolute[c];
                square_sum[start + c] += square[c];
            }
        }
    }
}
VARIANTS(void, sluice_add_moments,
         (const float *x, const float *weight, size_t rows, size_t cols, size_t stride, double *absolute_sum,
          double *square_sum),
         (x, weight, rows, cols, stride, absolute_sum, square_sum))

BODY void sluice_add_relative_magnitude_body(const float *restrict w, size_t cols, size_t group, double *restrict sum) {
    for (size_t start = 0; start < cols; start += group) {
        size_t end = start + group < cols ? start + group : cols;
        uint32_t largest = 0;  // the bits of |w| order as the values do
        for (size_t c = start; c < end; c++) {
            uint32_t magnitude = bits_of(w[c]) & 0x7fffffffu;
            largest = magnitude > largest ? magnitude : largest;
        }
        float divisor = float_of(largest) + 1e-6f;
        for (size_t c = start; c < end; c++) sum[c] += fabsf(w[c]) / divisor;
    }
}
VARIANTS(void, sluice_add_relative_magnitude, (const float *w, size_t cols, size_t group, double *sum),
         (w, cols, group, sum))

BODY double sluice_dot_body(const float *restrict a, const float *restrict b, size_t count) {
    double total = 0;
    for (size_t start = 0; start < count; start += STRIP) {
        size_t end = count - start < STRIP ? count : start + STRIP;
        float lanes[LANES] = {0};
        size_t i = start;
        for (; i + LANES <= end; i += LANES)
            for (int lane = 0; lane < LANES; lane++) lanes[lane] += a[i + lane] * b[i + lane];
        for (; i < end; i++) lanes[i % LANES] += a[i] * b[i];
        for (int lane = 0; lane < LANES; lane++) total += lanes[lane];
    }
    return total;
}
VARIANTS(double, sluice_dot, (const float *a, const float *b, size_t count), (a, b, count))

BODY double sluice_weighted_squares_body(const float *restrict x, const float *restrict weight, size_t count) {
    double total = 0;
    for (size_t start = 0; start < count; start += STRIP) {
        size_t end = count - start < STRIP ? count : start + STRIP;
        float lanes[LANES] = {0};
        size_t i = start;
        for (; i + LANES <= end; i += LANES)
            for (int lane = 0; lane < LANES; lane++) lanes[lane] += x[i + lane] * x[i + lane] * weight[i + lane];
        for (; i < end; i++) lanes[i % LANES] += x[i] * x[i] * weight[i];
        for (int lane = 0; lane < LANES; lane++) total += lanes[lane];
    }
    return total;
}
VARIANTS(double, sluice_weighted_squares, (const float *x, const float *weight, size_t count), (x, weight, count))

BODY size_t sluice_first_nonfinite_body(const float *x, size_t count) {
    for (size_t start = 0; start < count; start += STRIP) {
        size_t end = count - start < STRIP ? count : start + STRIP;
        uint32_t largest = 0;
        for (size_t i = start; i < end; i++) {
            uint32_t magnitude = bits_of(x[i]) & 0x7fffffffu;
            largest = magnitude > largest ? magnitude : largest;
        }
        if (largest < 0x7f800000u) continue;
        for (size_t i = start; i < end; i++)
            if ((bits_of(x[i]) & 0x7fffffffu) >= 0x7f800000u) return i;
    }
    return count;
}
VARIANTS(size_t, sluice_first_nonfinite, (const float *x, size_t count), (x, count))
