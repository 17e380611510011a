// Functions of single values, which the compiler makes vectors of in a loop of a VECTORS function.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __x86_64__
#define VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORS
#endif

// eˣ for x within ±87, the nearest of which stands for others, as Cephes' expf computes it: 2ⁿ times a polynomial of what is left, to 2 units in
// the last place.
inline float exponential(float x) {
  x = x > -87 ? x : -87;  // not std::max, of which the compiler makes two instructions
  x = x < 87 ? x : 87;
  const float magic = 12582912.0f;  // 1.5·2²³, to which adding rounds
  const float n = (x * 1.44269504f + magic) - magic, r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float e = 1.9875691500e-4f;
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) e = e * r + c;
  e = e * r * r + r + 1;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return e * power;
}

// x·sigmoid(x).
inline float silu(float x) { return x / (1 + exponential(-x)); }

// x·Φ(x), with erfc to 1.2e-7 of itself (Numerical Recipes in C, second edition, section 6.2: erfcc).
inline float gelu(float x) {
  const float z = std::fabs(x) * 0.70710678f, t = 1 / (1 + 0.5f * z);
  float p = 0.17087277f * t - 0.82215223f;
  p = ((p * t + 1.48851587f) * t - 1.13520398f) * t + 0.27886807f;
  p = ((p * t - 0.18628806f) * t + 0.09678418f) * t + 0.37409196f;
  p = (p * t + 1.00002368f) * t - 1.26551223f;
  const float tail = 0.5f * t * exponential(p - z * z);  // of the distribution beyond |x|
  return x * (x < 0 ? tail : 1 - tail);
}
