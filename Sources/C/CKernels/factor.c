// Small triangular factors: the diagonal blocks of a larger one.
#include "float_types.h"
#include "include/CKernels.h"

#include <math.h>

// Column by column from the last: what is left of a column when all later ones are taken out. In float64, as the rest
// of a large factor hangs on these few.
BODY int sluice_factor_upper_body(float *restrict a, size_t n, size_t stride, double *restrict work) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) work[i * n + j] = a[i * stride + j];
    for (size_t j = n; j-- > 0;) {
        double pivot = work[j * n + j];
        if (!(pivot > 0) || !isfinite(pivot)) return 0;
        double root = sqrt(pivot);
        work[j * n + j] = root;
        for (size_t i = 0; i < j; i++) work[i * n + j] /= root;
        // work[i][k] -= work[i][j] work[k][j] for i <= k < j; the column is copied to lie in a row.
        double *column = work + n * n;
        for (size_t i = 0; i < j; i++) column[i] = work[i * n + j];
        for (size_t i = 0; i < j; i++)
            for (size_t k = i; k < j; k++) work[i * n + k] -= column[i] * column[k];
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) {
            if (!isfinite((float)work[i * n + j])) return 0;
            a[i * stride + j] = (float)work[i * n + j];
        }
    return 1;
}
VARIANTS(int, sluice_factor_upper, (float *a, size_t n, size_t stride, double *work), (a, n, stride, work))

BODY void sluice_invert_upper_body(const float *restrict r, size_t n, size_t stride, float *restrict inverse,
                                   double *restrict work) {
    // Row i of the inverse from the rows below it: (e_i - sum over k > i of r[i][k] inverse[k]) / r[i][i].
    for (size_t i = n; i-- > 0;) {
        double *to = work + i * n;
        for (size_t j = 0; j < n; j++) to[j] = i == j;
        for (size_t k = i + 1; k < n; k++) {
            double share = r[i * stride + k];
            const double *from = work + k * n;
            for (size_t j = k; j < n; j++) to[j] -= share * from[j];
        }
        double pivot = r[i * stride + i];
        for (size_t j = i; j < n; j++) to[j] /= pivot;
        for (size_t j = 0; j < n; j++) inverse[i * n + j] = (float)to[j];
    }
}
VARIANTS(void, sluice_invert_upper, (const float *r, size_t n, size_t stride, float *inverse, double *work),
         (r, n, stride, inverse, work))
