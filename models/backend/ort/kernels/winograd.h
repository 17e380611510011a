// Convolution of 3×3 with stride 1 and padding 1 by Winograd's minimal filtering F(M×M, 3×3) (Lavin and Gray, 2015,
// https://arxiv.org/abs/1509.09308, section 4): (M+2)² multiplications give the M×M outputs of a tile that take 9·M² otherwise. Tiles are counted
// along the rows, then down, then through the batch. Every output is the same sum whatever else is in the batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace winograd {

// Filter<M> has the transforms of F(M, 3), for numbers and vectors of them: of M+2 inputs, of 3 taps, and of M+2 products to M outputs.
template <int M>
struct Filter;

// At the points 0, ±1 and infinity.
template <>
struct Filter<2> {
  static constexpr int64_t M = 2, P = 4;
  template <class T>
  INLINE void input(const T* x, T* to) {
    to[0] = x[0] - x[2], to[1] = x[1] + x[2], to[2] = x[2] - x[1], to[3] = x[1] - x[3];
  }
  template <class T>
  INLINE void taps(const T* g, T* to) {
    const T even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
    to[0] = g[0], to[1] = even + odd, to[2] = even - odd, to[3] = g[2];
  }
  template <class T>
  INLINE void output(const T* m, T* to) {
    to[0] = m[0] + m[1] + m[2], to[1] = m[1] - m[2] - m[3];
  }
};

// At the points 0, ±√½, ±√2 and infinity: with the usual ±1 and ±2 the error is twice as large (compare Barabasz et al., 2018,
// https://arxiv.org/abs/1803.10986, section 5).
template <>
struct Filter<4> {
  static constexpr int64_t M = 4, P = 6;
  static constexpr float kRoot = 1.41421356f, kHalf = 0.707106781f;
  template <class T>
  INLINE void input(const T* x, T* to) {
    const T a = x[4] - 2 * x[2], b = kHalf * (x[3] - 2 * x[1]), c = x[4] - 0.5f * x[2], d = kRoot * (x[3] - 0.5f * x[1]);
    to[0] = x[0] - 2.5f * x[2] + x[4], to[1] = a + b, to[2] = a - b, to[3] = c + d, to[4] = c - d, to[5] = x[1] - 2.5f * x[3] + x[5];
  }
  template <class T>
  INLINE void taps(const T* g, T* to) {
    const T a = -2 / 3.0f * g[0] - 1 / 3.0f * g[2], b = -2 / 3.0f * kHalf * g[1], c = 1 / 6.0f * g[0] + 1 / 3.0f * g[2], d = 1 / 6.0f * kRoot * g[1];
    to[0] = g[0], to[1] = a + b, to[2] = a - b, to[3] = c + d, to[4] = c - d, to[5] = g[2];
  }
  template <class T>
  INLINE void output(const T* m, T* to) {
    const T a = m[1] + m[2], b = kHalf * (m[1] - m[2]), c = m[3] + m[4], d = kRoot * (m[3] - m[4]);
    to[0] = m[0] + a + c, to[1] = b + d, to[2] = 0.5f * a + 2 * c, to[3] = 0.5f * b + 2 * d + m[5];
  }
};

struct Shape {
  int64_t batch, in, out, height, width;  // out is a multiple of kPanel
  int64_t tile;                           // M: 2 or 4
  int64_t rows() const { return (height + tile - 1) / tile; }
  int64_t columns() const { return (width + tile - 1) / tile; }
  int64_t tiles() const { return batch * rows() * columns(); }
  int64_t points() const { return (tile + 2) * (tile + 2); }
};

constexpr int64_t kWeightTiles = 8;  // whose products take as long as transforming the weights

// The tile that takes least for so many images of a size, 0 where it is a convolution as it is defined that does.
static inline int64_t cheapest_tile(int64_t images, int64_t height, int64_t width) {
  int64_t least = 9 * images * height * width, best = 0;
  for (int64_t tile : {2, 4}) {
    const Shape s{images, 0, 0, height, width, tile};
    const int64_t cost = s.points() * (s.tiles() + kWeightTiles);
    if (cost < least) least = cost, best = tile;
  }
  return best;
}

// Run is a part of a row of tiles.
struct Run {
  int64_t image, row, column, length;
};

// The run of at most limit tiles from a tile on.
static inline Run run_at(const Shape& s, int64_t tile, int64_t limit) {
  const int64_t column = tile % s.columns(), row = tile / s.columns();
  return {row / s.rows(), row % s.rows(), column, std::min(limit, s.columns() - column)};
}

constexpr int64_t kInputs = 8;  // whose weights are transformed together

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

// Channels [from, to) of weight [8, in, 3, 3] become panel [P², to-from, 8].
template <class F>
INLINE void transform_weight(const float* weight, int64_t in, int64_t from, int64_t to, float* panel) {
  constexpr int64_t P = F::P;
  float8 taps[9 * kInputs];
  for (int64_t first = from; first < to; first += kInputs) {
    const int64_t inputs = std::min(kInputs, to - first);
    load_taps(weight + first * 9, in * 9, inputs, taps);
    for (int64_t i = 0; i < inputs; i++) {
      const float8* g = taps + 9 * i;
      float8 h[3][P], made[P];  // columns of the kernel, transformed
#pragma GCC unroll 8
      for (int c = 0; c < 3; c++) {
        const float8 column[] = {g[c], g[3 + c], g[6 + c]};
        F::taps(column, h[c]);
      }
#pragma GCC unroll 8
      for (int r = 0; r < P; r++) {
        const float8 row[] = {h[0][r], h[1][r], h[2][r]};
        F::taps(row, made);
#pragma GCC unroll 8
        for (int c = 0; c < P; c++) std::memcpy(panel + ((P * r + c) * (to - from) + first - from + i) * kPanel, &made[c], sizeof(float8));
      }
    }
  }
}

// The rows of a plane that a run of tiles sees, with zeros around the image, each in M parts of every Mth column: line [P, M, wide].
template <class F, int64_t wide>
INLINE void load_lines(const Shape& s, const float* plane, const Run& run, float line[F::P][F::M][wide]) {
  constexpr int64_t M = F::M;
  float padded[M * wide];
  const int64_t columns = M * run.length + 2, left = M * run.column - 1;
  const int64_t from = std::max<int64_t>(left, 0), to = std::min(left + columns, s.width);
  for (int64_t r = 0; r < F::P; r++) {
    const int64_t y = M * run.row - 1 + r;
    if (y < 0 || y >= s.height) {
      std::memset(line[r], 0, sizeof(line[r]));
      continue;
    }
    const float* row = plane + y * s.width + from;
    if (from > left || left + M * (run.length + 1) > s.width) {
      padded[0] = 0;
      std::memcpy(padded + (from - left), row, (to - from) * sizeof(float));
      for (int64_t c = to - left; c < M * (run.length + 1); c++) padded[c] = 0;
      row = padded;
    }
    for (int64_t t = 0; t <= run.length; t++)
#pragma GCC unroll 4
      for (int64_t c = 0; c < M; c++) line[r][c][t] = row[M * t + c];
  }
}

// Channels [from, to) of count tiles from the one at first on of x [batch, in, height, width] become those of points [P², in, lanes]; the
// other lanes are left as they are.
template <class S, class F>
INLINE void transform_input(const Shape& s, const float* x, int64_t first, int64_t count, int64_t from, int64_t to, float* points) {
  constexpr int64_t M = F::M, P = F::P, lanes = S::lanes, wide = lanes + 1;
  const int64_t step = s.in * lanes;
  float line[P][M][wide], half[P][M][wide];
  for (int64_t at = 0; at < count;) {
    const Run run = run_at(s, first + at, count - at);
    for (int64_t i = from; i < to; i++) {
      load_lines<F, wide>(s, x + (run.image * s.in + i) * s.height * s.width, run, line);
      for (int64_t c = 0; c < M; c++)
        for (int64_t t = 0; t <= run.length; t++) {
          float seen[P], made[P];
          for (int64_t r = 0; r < P; r++) seen[r] = line[r][c][t];
          F::input(seen, made);
          for (int64_t r = 0; r < P; r++) half[r][c][t] = made[r];
        }
      for (int64_t r = 0; r < P; r++) {
        float* own = points + P * r * step + i * lanes + at;
        for (int64_t t = 0; t < run.length; t++) {
          float seen[P], made[P];
          for (int64_t c = 0; c < P; c++) seen[c] = half[r][c % M][t + c / M];
          F::input(seen, made);
          for (int64_t c = 0; c < P; c++) own[c * step + t] = made[c];
        }
      }
    }
    at += run.length;
  }
}

// products [P², 32, lanes] of count tiles from the one at first on become channels of y from the one at channel on.
template <class S, class F>
INLINE void transform_output(const Shape& s, const float* products, const float* bias, int64_t channel, int64_t channels, int64_t first,
                             int64_t count, float* y) {
  constexpr int64_t M = F::M, P = F::P, lanes = S::lanes, step = kOutputs * lanes;
  for (int64_t o = 0; o < channels; o++) {
    float out[M][M * lanes], half[M][P][lanes];
    const float *m = products + o * lanes, shift = bias[channel + o];
    for (int64_t c = 0; c < P; c++)
      for (int64_t t = 0; t < lanes; t++) {
        float column[P], made[M];
        for (int64_t r = 0; r < P; r++) column[r] = m[(P * r + c) * step + t];
        F::output(column, made);
        for (int64_t r = 0; r < M; r++) half[r][c][t] = made[r];
      }
    for (int64_t r = 0; r < M; r++)
      for (int64_t t = 0; t < lanes; t++) {
        float row[P], made[M];
        for (int64_t c = 0; c < P; c++) row[c] = half[r][c][t];
        F::output(row, made);
        for (int64_t c = 0; c < M; c++) out[r][M * t + c] = made[c] + shift;
      }
    for (int64_t at = 0; at < count;) {
      const Run run = run_at(s, first + at, count - at);
      float* plane = y + (run.image * s.out + channel + o) * s.height * s.width;
      for (int64_t r = 0; r < M && M * run.row + r < s.height; r++)
        std::memcpy(plane + (M * run.row + r) * s.width + M * run.column, out[r] + M * at,
                    std::min(M * run.length, s.width - M * run.column) * sizeof(float));
      at += run.length;
    }
  }
}

// products [P², 32, lanes] are, or gain, what channels [from, to) of points [P², in, lanes] give with panels [., P², to-from, 8] of so many outputs.
template <class S, class F>
INLINE void multiply_points(int64_t in, int64_t from, int64_t to, int64_t outputs, const float* panels, const float* points, int64_t count,
                            float* products) {
  constexpr int64_t all = F::P * F::P;
  const int64_t plane = (to - from) * kPanel;
  for (int64_t e = 0; e < all; e++)
    multiply<S>(to - from, outputs, panels + e * plane, all * plane, 1, kPanel, points + (e * in + from) * S::lanes, count, from == 0,
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
};

#define WINOGRAD(name, set, F, ...)                                                                                                           \
  __VA_ARGS__ static void name##_weight(const float* weight, int64_t in, int64_t from, int64_t to, float* panel) {                            \
    transform_weight<F>(weight, in, from, to, panel);                                                                                         \
  }                                                                                                                                           \
  __VA_ARGS__ static void name##_input(const Shape& s, const float* x, int64_t first, int64_t count, int64_t from, int64_t to,                \
                                       float* points) {                                                                                       \
    transform_input<set, F>(s, x, first, count, from, to, points);                                                                            \
  }                                                                                                                                           \
  __VA_ARGS__ static void name##_multiply(int64_t in, int64_t from, int64_t to, int64_t outputs, const float* panels, const float* points,    \
                                          int64_t count, float* products) {                                                                   \
    multiply_points<set, F>(in, from, to, outputs, panels, points, count, products);                                                          \
  }                                                                                                                                           \
  __VA_ARGS__ static void name##_output(const Shape& s, const float* products, const float* bias, int64_t channel, int64_t channels,          \
                                        int64_t first, int64_t count, float* y) {                                                             \
    transform_output<set, F>(s, products, bias, channel, channels, first, count, y);                                                          \
  }                                                                                                                                           \
  static const Kernels name = {set::lanes, name##_weight, name##_input, name##_multiply, name##_output};

namespace tiles_of_2 {
#define OF_2(name, set, ...) WINOGRAD(name, set, Filter<2>, __VA_ARGS__)
FOR_EACH_SET(OF_2)
}
namespace tiles_of_4 {
#define OF_4(name, set, ...) WINOGRAD(name, set, Filter<4>, __VA_ARGS__)
FOR_EACH_SET(OF_4)
}

// The kernels for tiles of a size.
static inline const Kernels& widest(int64_t tile) { return tile == 2 ? WIDEST(tiles_of_2) : WIDEST(tiles_of_4); }

}  // namespace winograd
