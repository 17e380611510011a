//go:build torch

// The passes of Adafactor over a matrix and its gradient. Compiled for each kind of processor; the best is chosen at the start.
#include "adafactor.h"

#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

enum { lanes = 16 }; // sums of their own, so that loops are ones of vectors

CLONES void likeness_squares_by(const float *restrict matrix, int64_t rows, int64_t columns, double *restrict row, float *restrict column) {
  for (int64_t r = 0; r < rows; r++, matrix += columns) {
    float sums[lanes] = {0};
    int64_t c = 0;
    for (; c + lanes <= columns; c += lanes)
      for (int j = 0; j < lanes; j++) {
        float square = matrix[c + j] * matrix[c + j];
        sums[j] += square;
        column[c + j] += square;
      }
    double sum = 0;
    for (; c < columns; c++) {
      sum += matrix[c] * matrix[c];
      column[c] += matrix[c] * matrix[c];
    }
    for (int j = 0; j < lanes; j++) sum += sums[j];
    row[r] += sum;
  }
}

CLONES double likeness_scaled_squares(const float *restrict matrix, int64_t rows, int64_t columns, const float *restrict row, const float *restrict column) {
  double all = 0;
  for (int64_t r = 0; r < rows; r++, matrix += columns) {
    float sums[lanes] = {0};
    int64_t c = 0;
    double sum = 0;
    for (; c + lanes <= columns; c += lanes)
      for (int j = 0; j < lanes; j++) {
        float x = matrix[c + j] * row[r] * column[c + j];
        sums[j] += x * x;
      }
    for (; c < columns; c++) {
      double x = matrix[c] * row[r] * column[c];
      sum += x * x;
    }
    for (int j = 0; j < lanes; j++) sum += sums[j];
    all += sum;
  }
  return all;
}

CLONES void likeness_scaled_step(float *restrict weights, const float *restrict gradient, int64_t rows, int64_t columns, const float *restrict row,
                                 const float *restrict column, float size, float keep) {
  for (int64_t r = 0; r < rows; r++, weights += columns, gradient += columns) {
    float by = size * row[r];
    for (int64_t c = 0; c < columns; c++) weights[c] = keep * weights[c] - by * column[c] * gradient[c];
  }
}
