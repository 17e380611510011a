// Holds every set of kernels that the processor can run against the definition of a convolution, and prints each set's worst difference
// relative to the largest sum of absolute products; ends with 1 where one is over 1e-6.
#include <cmath>
#include <cstdio>
#include <vector>

#include "../winograd.h"

using namespace winograd;

static std::vector<float> filled(int64_t n) {
  static uint32_t state = 1;
  std::vector<float> v(n);
  for (float& x : v) state = state * 1664525 + 1013904223, x = float(state >> 8) / (1 << 24) - 0.5f;
  return v;
}

static std::vector<float> by_kernels(const Kernels& k, const Shape& s, const float* x, const float* w, const float* bias) {
  const float unset = NAN;
  std::vector<float> y(s.batch * s.out * s.height * s.width, unset), panel(kPoints * s.in * kPanel, unset), points(kPoints * s.in * kLanes, unset);
  for (int64_t channel = 0; channel < s.out; channel += kPanel) {
    k.transform_weight(w + channel * s.in * 9, s.in, panel.data());
    for (int64_t first = 0; first < s.tiles(); first += kLanes) {
      k.transform_input(s, x, first, 0, s.in / 2, points.data());
      k.transform_input(s, x, first, s.in / 2, s.in, points.data());
      k.compute_panel(s, panel.data(), points.data(), bias, channel, first, y.data());
    }
  }
  return y;
}

static double worst(const Shape& s, const float* x, const float* w, const float* bias, const std::vector<float>& y) {
  double worst = 0, scale = 0;
  size_t at = 0;
  for (int64_t n = 0; n < s.batch; n++)
    for (int64_t o = 0; o < s.out; o++)
      for (int64_t r = 0; r < s.height; r++)
        for (int64_t c = 0; c < s.width; c++) {
          double sum = bias[o], size = std::fabs(bias[o]);
          for (int64_t i = 0; i < s.in; i++)
            for (int64_t k = 0; k < 9; k++) {
              const int64_t row = r + k / 3 - 1, column = c + k % 3 - 1;
              if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
              const double product = double(x[((n * s.in + i) * s.height + row) * s.width + column]) * w[(o * s.in + i) * 9 + k];
              sum += product, size += std::fabs(product);
            }
          const double difference = std::fabs(sum - y[at++]);
          if (!(difference <= worst)) worst = difference;  // NaN too
          scale = std::max(scale, size);
        }
  return worst / scale;
}

int main() {
  std::vector<std::pair<const char*, const Kernels*>> sets = {{"plain", &plain}};
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back({"avx2", &avx2});
  if (&kernels() == &avx512) sets.push_back({"avx512", &avx512});
#endif
  const Shape shapes[] = {{1, 16, 8, 8, 8}, {2, 20, 16, 5, 7}, {3, 17, 8, 1, 1}, {1, 9, 24, 2, 130}, {2, 32, 8, 33, 3}, {1, 64, 16, 24, 24}};
  bool fine = true;
  for (const auto& [name, set] : sets) {
    double all = 0;
    for (const Shape& s : shapes) {
      const auto x = filled(s.batch * s.in * s.height * s.width), w = filled(s.out * s.in * 9), bias = filled(s.out);
      const double found = worst(s, x.data(), w.data(), bias.data(), by_kernels(*set, s, x.data(), w.data(), bias.data()));
      if (!(found <= all)) all = found;
    }
    std::printf("%s: %.2g\n", name, all);
    fine = fine && all <= 1e-6;
  }
  return !fine;
}
