#include <stdint.h>

// Sums of the squares of a matrix [rows, columns] by row and by column; both are added to.
void likeness_squares_by(const float *matrix, int64_t rows, int64_t columns, double *row, float *column);

// The sum of the squares of matrix, each row times row's factor and each column times column's.
double likeness_scaled_squares(const float *matrix, int64_t rows, int64_t columns, const float *row, const float *column);

// weights = keep · weights - size · (gradient, scaled so).
void likeness_scaled_step(float *weights, const float *gradient, int64_t rows, int64_t columns, const float *row, const float *column, float size, float keep);
