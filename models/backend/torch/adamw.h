#include <stdint.h>

// The numbers of one step of AdamW, the same for all weights but keep.
struct likeness_adamw_step {
  float scale;        // of the gradient, for clipping
  float rate1, rate2; // 1 - β1, 1 - β2
  float size;         // learning rate over the first average's bias correction
  float root;         // one over the root of the second's
  float eps;
  float keep; // what weight decay leaves of a weight
};

// One step of AdamW, in place.
void likeness_adamw(float *weights, const float *gradient, float *first, float *second, int64_t n, struct likeness_adamw_step s);

// average moves towards weights by a part of their distance.
void likeness_approach(float *average, const float *weights, int64_t n, float by);

double likeness_sum_squares(const float *values, int64_t n);
