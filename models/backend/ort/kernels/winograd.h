// Convolution of 3×3 with stride 1 and padding 1 by Winograd's minimal filtering F(2×2, 3×3) (Lavin and Gray, 2015,
// https://arxiv.org/abs/1509.09308, section 4.1): 16 multiplications give the 2×2 outputs of a tile that take 36 otherwise. Tiles are counted
// along the rows, then down, then through the batch. Every output is the same sum whatever else is in the batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace winograd {

constexpr int64_t kPoints = 16;  // of a transformed tile

struct Shape {
  int64_t batch, in, out, height, width;  // out is a multiple of kPanel
  int64_t rows() const { return (height + 1) / 2; }
  int64_t columns() const { return (width + 1) / 2; }
  int64_t tiles() const { return batch * rows() * columns(); }
};

// Run is a part of a row of tiles.
struct Run {
  int64_t image, row, column, length;
};

// The run of at most limit tiles from a tile on.
static inline Run run_at(const Shape& s, int64_t tile, int64_t limit) {
  const int64_t column = tile % s.columns(), row = tile / s.columns();
  return {row / s.rows(), row % s.rows(), column, std::min(limit, s.columns() - column)};
}

constexpr int64_t kInputs = 8;  // whose weights are transformed together, so that stores to the planes of a panel are of whole cache lines

// kernel [8 outputs, inputs, 9], the outputs stride apart, becomes taps [inputs·9, 8 outputs].
INLINE void load_taps(const float* kernel, int64_t stride, int64_t inputs, float8* taps) {
  int64_t at = 0;
  for (; at + 8 <= 9 * inputs; at += 8) {
    float8 m[8];
#pragma GCC unroll 8
    for (int64_t o = 0; o < kPanel; o++) std::memcpy(&m[o], kernel + o * stride + at, sizeof(float8));
    transpose(m);
    std::memcpy(taps + at, m, sizeof(m));
  }
  for (; at < 9 * inputs; at++)
    for (int64_t o = 0; o < kPanel; o++) taps[at][o] = kernel[o * stride + at];
}

// Channels [from, to) of weight [8, in, 3, 3] become panel [16, to-from, 8].
INLINE void transform_weight(const float* weight, int64_t in, int64_t from, int64_t to, float* panel) {
  float8 taps[9 * kInputs], points[kPoints][kInputs];
  for (int64_t first = from; first < to; first += kInputs) {
    const int64_t inputs = std::min(kInputs, to - first);
    load_taps(weight + first * 9, in * 9, inputs, taps);
    for (int64_t i = 0; i < inputs; i++) {
      const float8* g = taps + 9 * i;
      float8 h[4][3];
#pragma GCC unroll 8
      for (int c = 0; c < 3; c++) {
        const float8 sum = 0.5f * (g[c] + g[6 + c]), middle = 0.5f * g[3 + c];
        h[0][c] = g[c], h[1][c] = sum + middle, h[2][c] = sum - middle, h[3][c] = g[6 + c];
      }
#pragma GCC unroll 8
      for (int r = 0; r < 4; r++) {
        const float8 sum = 0.5f * (h[r][0] + h[r][2]), middle = 0.5f * h[r][1];
        points[4 * r][i] = h[r][0], points[4 * r + 1][i] = sum + middle, points[4 * r + 2][i] = sum - middle, points[4 * r + 3][i] = h[r][2];
      }
    }
    for (int64_t e = 0; e < kPoints; e++) std::memcpy(panel + (e * (to - from) + first - from) * kPanel, points[e], inputs * sizeof(float8));
  }
}

// The four rows of a plane that a run of tiles sees, with zeros around the image: line [4][2·length + 2].
template <int64_t Wide>
INLINE void load_lines(const Shape& s, const float* plane, const Run& run, float line[4][Wide]) {
  const int64_t wide = 2 * run.length + 2, left = 2 * run.column - 1;
  const int64_t from = std::max<int64_t>(left, 0), to = std::min(left + wide, s.width);
  for (int64_t r = 0; r < 4; r++) {
    const int64_t y = 2 * run.row - 1 + r;
    if (y < 0 || y >= s.height) {
      std::memset(line[r], 0, wide * sizeof(float));
      continue;
    }
    line[r][0] = 0;
    std::memcpy(line[r] + (from - left), plane + y * s.width + from, (to - from) * sizeof(float));
    for (int64_t c = to - left; c < wide; c++) line[r][c] = 0;
  }
}

// Channels [from, to) of count tiles from the one at first on of x [batch, in, height, width] become those of points [16, in, lanes]; the
// other lanes are left as they are.
template <class S>
INLINE void transform_input(const Shape& s, const float* x, int64_t first, int64_t count, int64_t from, int64_t to, float* points) {
  constexpr int64_t lanes = S::lanes, wide = 2 * lanes + 2;
  const int64_t step = s.in * lanes;
  float line[4][wide], half[4][wide];
  for (int64_t at = 0; at < count;) {
    const Run run = run_at(s, first + at, count - at);
    for (int64_t i = from; i < to; i++) {
      load_lines<wide>(s, x + (run.image * s.in + i) * s.height * s.width, run, line);
      for (int64_t c = 0; c < 2 * run.length + 2; c++) {
        const float a = line[0][c], b = line[1][c], d = line[2][c], e = line[3][c];
        half[0][c] = a - d, half[1][c] = b + d, half[2][c] = d - b, half[3][c] = b - e;
      }
      for (int64_t r = 0; r < 4; r++) {
        float *p0 = points + 4 * r * step + i * lanes + at, *p1 = p0 + step, *p2 = p1 + step, *p3 = p2 + step;
        for (int64_t t = 0; t < run.length; t++) {
          const float a = half[r][2 * t], b = half[r][2 * t + 1], d = half[r][2 * t + 2], e = half[r][2 * t + 3];
          p0[t] = a - d, p1[t] = b + d, p2[t] = d - b, p3[t] = b - e;
        }
      }
    }
    at += run.length;
  }
}

// products [16, 32, lanes] of count tiles from the one at first on become channels of y from the one at channel on.
template <class S>
INLINE void transform_output(const Shape& s, const float* products, const float* bias, int64_t channel, int64_t channels, int64_t first,
                             int64_t count, float* y) {
  constexpr int64_t lanes = S::lanes, step = kOutputs * lanes;
  for (int64_t o = 0; o < channels; o++) {
    float out[2][2 * lanes];
    const float *m = products + o * lanes, shift = bias[channel + o];
    for (int64_t t = 0; t < lanes; t++) {
      float h[2][4];
      for (int64_t c = 0; c < 4; c++) {
        const float a = m[c * step + t], b = m[(4 + c) * step + t], d = m[(8 + c) * step + t], e = m[(12 + c) * step + t];
        h[0][c] = a + b + d, h[1][c] = b - d - e;
      }
      for (int64_t r = 0; r < 2; r++) {
        out[r][2 * t] = h[r][0] + h[r][1] + h[r][2] + shift;
        out[r][2 * t + 1] = h[r][1] - h[r][2] - h[r][3] + shift;
      }
    }
    for (int64_t at = 0; at < count;) {
      const Run run = run_at(s, first + at, count - at);
      float* plane = y + (run.image * s.out + channel + o) * s.height * s.width;
      for (int64_t r = 0; r < 2 && 2 * run.row + r < s.height; r++)
        std::memcpy(plane + (2 * run.row + r) * s.width + 2 * run.column, out[r] + 2 * at,
                    std::min(2 * run.length, s.width - 2 * run.column) * sizeof(float));
      at += run.length;
    }
  }
}

// products [16, 32, lanes] are, or gain, what channels [from, to) of points [16, in, lanes] give with panels [., 16, to-from, 8] of so many outputs.
template <class S>
INLINE void multiply_points(int64_t in, int64_t from, int64_t to, int64_t outputs, const float* panels, const float* points, int64_t count,
                            float* products) {
  const int64_t plane = (to - from) * kPanel;
  for (int64_t e = 0; e < kPoints; e++)
    multiply<S>(to - from, outputs, panels + e * plane, kPoints * plane, 1, kPanel, points + (e * in + from) * S::lanes, count, from == 0,
                products + e * kOutputs * S::lanes);
}

// Kernels are the functions above.
struct Kernels {
  int64_t lanes;
  void (*transform_weight)(const float* weight, int64_t in, int64_t from, int64_t to, float* panel);
  void (*transform_input)(const Shape& s, const float* x, int64_t first, int64_t count, int64_t from, int64_t to, float* points);
  void (*multiply)(int64_t in, int64_t from, int64_t to, int64_t outputs, const float* panels, const float* points, int64_t count, float* products);
  void (*transform_output)(const Shape& s, const float* products, const float* bias, int64_t channel, int64_t channels, int64_t first, int64_t count,
                           float* y);
  int64_t products_floats() const { return kPoints * kOutputs * lanes; }
};

#define WINOGRAD(name, set, ...)                                                                                                              \
  __VA_ARGS__ static void name##_weight(const float* weight, int64_t in, int64_t from, int64_t to, float* panel) {                            \
    transform_weight(weight, in, from, to, panel);                                                                                            \
  }                                                                                                                                           \
  __VA_ARGS__ static void name##_input(const Shape& s, const float* x, int64_t first, int64_t count, int64_t from, int64_t to,                 \
                                       float* points) {                                                                                       \
    transform_input<set>(s, x, first, count, from, to, points);                                                                                      \
  }                                                                                                                                           \
  __VA_ARGS__ static void name##_multiply(int64_t in, int64_t from, int64_t to, int64_t outputs, const float* panels, const float* points,    \
                                          int64_t count, float* products) {                                                                   \
    multiply_points<set>(in, from, to, outputs, panels, points, count, products);                                                             \
  }                                                                                                                                           \
  __VA_ARGS__ static void name##_output(const Shape& s, const float* products, const float* bias, int64_t channel, int64_t channels,          \
                                        int64_t first, int64_t count, float* y) {                                                             \
    transform_output<set>(s, products, bias, channel, channels, first, count, y);                                                                    \
  }                                                                                                                                           \
  static const Kernels name = {set::lanes, name##_weight, name##_input, name##_multiply, name##_output};
FOR_EACH_SET(WINOGRAD)

}  // namespace winograd
