//go:build torch

// The passes over all weights that follow each training step. Compiled for each kind of processor; the best is chosen at the start.
#include "adamw.h"

#include <math.h>

#pragma GCC optimize("no-math-errno") // so that roots are vectors too
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

CLONES void likeness_adamw(float *restrict weights, const float *restrict gradient, float *restrict first, float *restrict second, int64_t n,
                           struct likeness_adamw_step s) {
  for (int64_t i = 0; i < n; i++) {
    float g = gradient[i] * s.scale;
    first[i] += s.rate1 * (g - first[i]);
    second[i] += s.rate2 * (g * g - second[i]);
    weights[i] = s.keep * weights[i] - s.size * first[i] / (sqrtf(second[i]) * s.root + s.eps);
  }
}

CLONES void likeness_approach(float *restrict average, const float *restrict weights, int64_t n, float by) {
  for (int64_t i = 0; i < n; i++) average[i] += by * (weights[i] - average[i]);
}

CLONES double likeness_sum_squares(const float *restrict values, int64_t n) {
  enum { lanes = 16 }; // sums of their own, so that the loop is one of vectors
  double sums[lanes] = {0}, sum = 0;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; j++) sums[j] += (double)values[i + j] * values[i + j];
  for (; i < n; i++) sum += (double)values[i] * values[i];
  for (int j = 0; j < lanes; j++) sum += sums[j];
  return sum;
}
