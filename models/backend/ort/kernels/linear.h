// Weights [out, in] times the inputs of places, plus a bias. The lanes are places, so that weights are read as they lie, each once for all lanes.
// Places are the rows of x [., in] in a linear layer; in a convolution they are the result's, and their inputs what the kernel sees there.
#pragma once

#include <algorithm>

#include "vectors.h"

namespace linear {

// Image is what a convolution reads and makes: planes of height×width, places of rows×columns.
struct Image {
  int64_t height, width, kernel_height, kernel_width, stride, top, left, rows, columns;  // top and left are the padding there
  int64_t taps() const { return kernel_height * kernel_width; }
  int64_t places() const { return rows * columns; }
  // Where in a plane a place's tap lies, -1 outside of it.
  int64_t at(int64_t place, int64_t tap) const {
    const int64_t y = place / columns * stride - top + tap / kernel_width, x = place % columns * stride - left + tap % kernel_width;
    return y < 0 || y >= height || x < 0 || x >= width ? -1 : y * width + x;
  }
};

constexpr int64_t kSquare = sizeof(float8) / sizeof(float);  // rows and inputs that are transposed at once

// count rows of so many inputs of x [., in], the missing ones zeros.
INLINE void load_square(const float* x, int64_t in, int64_t count, int64_t inputs, float8* m) {
  if (count >= kSquare && inputs == kSquare) {
#pragma GCC unroll 8
    for (int64_t r = 0; r < kSquare; r++) std::memcpy(&m[r], x + r * in, sizeof(float8));
    return;
  }
  for (int64_t r = 0; r < kSquare; r++) {
    m[r] = float8{};
    if (r < count) std::memcpy(&m[r], x + r * in, inputs * sizeof(float));
  }
}

// Inputs [from, to) of count rows of x [., in] become those of points [in, lanes]; of the lanes past them, those that are computed along are zeros.
template <class S>
INLINE void pack_rows(const float* x, int64_t in, int64_t count, int64_t from, int64_t to, float* points) {
  constexpr int64_t width = std::max(kSquare, S::width), block = 64;
  const int64_t lanes = (count + width - 1) / width * width;
  for (int64_t first = from; first < to; first += block)  // of inputs, which stay in the nearest cache until all their lanes are there
    for (int64_t t = 0; t < lanes; t += kSquare)
      for (int64_t at = first; at < std::min(first + block, to); at += kSquare) {
        const int64_t inputs = std::min(kSquare, to - at);
        float8 m[kSquare];
        load_square(x + t * in + at, in, count - t, inputs, m);
        transpose(m);
        if (inputs == kSquare)
#pragma GCC unroll 8
          for (int64_t i = 0; i < kSquare; i++) std::memcpy(points + (at + i) * S::lanes + t, &m[i], sizeof(float8));
        else
          for (int64_t i = 0; i < inputs; i++) std::memcpy(points + (at + i) * S::lanes + t, &m[i], sizeof(float8));
      }
}

// Channels [from, to) of x [., height, width] at count places from the one at first on become points [channels·taps, lanes]; the other lanes are
// zeros.
template <class S>
INLINE void pack_image(const float* x, const Image& image, int64_t first, int64_t count, int64_t from, int64_t to, float* points) {
  const int64_t plane = image.height * image.width, taps = image.taps();
  for (int64_t tap = 0; tap < taps; tap++) {
    int64_t at[S::lanes];
    bool dense = count == S::lanes;
    for (int64_t t = 0; t < S::lanes; t++) {
      at[t] = t < count ? image.at(first + t, tap) : -1;
      dense = dense && at[0] >= 0 && at[t] == at[0] + t;
    }
    for (int64_t c = from; c < to; c++) {
      const float* own = x + c * plane;
      float* lanes = points + (c * taps + tap) * S::lanes;
      if (dense)
        std::memcpy(lanes, own + at[0], S::lanes * sizeof(float));
      else
        for (int64_t t = 0; t < S::lanes; t++) lanes[t] = at[t] < 0 ? 0 : own[at[t]];
    }
  }
}

// product [8, lanes] becomes columns of count rows, width apart, plus a bias if there is one.
template <class S>
INLINE void store_rows(const float* product, int64_t count, int64_t width, float* y, const float* bias = nullptr) {
  float8 shift{};
  if (bias) std::memcpy(&shift, bias, sizeof(shift));
  for (int64_t t = 0; t < count; t += kPanel) {
    float8 m[kPanel];
#pragma GCC unroll 8
    for (int64_t i = 0; i < kPanel; i++) std::memcpy(&m[i], product + i * S::lanes + t, sizeof(float8));
    transpose(m);
    for (int64_t r = 0; r < kPanel && t + r < count; r++) {
      m[r] += shift;
      std::memcpy(y + (t + r) * width, &m[r], sizeof(float8));
    }
  }
}

// lower [rank, lanes] is what down [in, rank] makes of points [in, lanes].
template <class S>
INLINE void compute_lower(const float* down, int64_t in, int64_t rank, const float* points, int64_t count, float* lower) {
  constexpr int together = 4;
  const int64_t most = rank / together * together;
  multiply<S, together>(in, most, down, kPanel, 1, rank, points, count, true, lower);
  multiply<S, 1>(in, rank - most, down + most, kPanel, 1, rank, points, count, true, lower + most * S::lanes);
}

// outputs from the one at first on, of count rows of y [., out]: their weight [outputs, in], points [in + rank, lanes], of which the last ones are
// those of up [rank, out].
template <class S>
INLINE void compute_rows(const float* weight, const float* bias, int64_t in, int64_t out, int64_t rank, const float* up, const float* points,
                         int64_t first, int64_t outputs, int64_t count, float* y) {
  alignas(64) float product[kOutputs * S::lanes];
  multiply<S>(in, outputs, weight, kPanel * in, in, 1, points, count, true, product);
  multiply<S>(rank, outputs, up + first, kPanel, 1, out, points + in * S::lanes, count, false, product);
  for (int64_t o = 0; o < outputs; o += kPanel) store_rows<S>(product + o * S::lanes, count, out, y + first + o, bias + first + o);
}

// The same of count places of y [out, places].
template <class S>
INLINE void compute_image(const float* weight, const float* bias, int64_t in, int64_t places, const float* points, int64_t first, int64_t outputs,
                           int64_t count, float* y) {
  alignas(64) float product[kOutputs * S::lanes];
  multiply<S>(in, outputs, weight, kPanel * in, in, 1, points, count, true, product);
  for (int64_t o = 0; o < outputs; o++)
    for (int64_t t = 0; t < count; t++) y[(first + o) * places + t] = product[o * S::lanes + t] + bias[first + o];
}

// Kernels are the functions above.
struct Kernels {
  int64_t lanes;
  void (*pack_rows)(const float* x, int64_t in, int64_t count, int64_t from, int64_t to, float* points);
  void (*pack_image)(const float* x, const Image& image, int64_t first, int64_t count, int64_t from, int64_t to, float* points);
  void (*compute_lower)(const float* down, int64_t in, int64_t rank, const float* points, int64_t count, float* lower);
  void (*compute_rows)(const float* weight, const float* bias, int64_t in, int64_t out, int64_t rank, const float* up, const float* points,
                       int64_t first, int64_t outputs, int64_t count, float* y);
  void (*compute_image)(const float* weight, const float* bias, int64_t in, int64_t places, const float* points, int64_t first, int64_t outputs,
                        int64_t count, float* y);
};

#define LINEAR(name, set, ...)                                                                                                                   \
  __VA_ARGS__ static void name##_pack_rows(const float* x, int64_t in, int64_t count, int64_t from, int64_t to, float* points) {                 \
    pack_rows<set>(x, in, count, from, to, points);                                                                                              \
  }                                                                                                                                              \
  __VA_ARGS__ static void name##_pack_image(const float* x, const Image& image, int64_t first, int64_t count, int64_t from, int64_t to,          \
                                            float* points) {                                                                                     \
    pack_image<set>(x, image, first, count, from, to, points);                                                                                   \
  }                                                                                                                                              \
  __VA_ARGS__ static void name##_compute_lower(const float* down, int64_t in, int64_t rank, const float* points, int64_t count, float* lower) {  \
    compute_lower<set>(down, in, rank, points, count, lower);                                                                                    \
  }                                                                                                                                              \
  __VA_ARGS__ static void name##_compute_rows(const float* weight, const float* bias, int64_t in, int64_t out, int64_t rank, const float* up,    \
                                              const float* points, int64_t first, int64_t outputs, int64_t count, float* y) {                    \
    compute_rows<set>(weight, bias, in, out, rank, up, points, first, outputs, count, y);                                                        \
  }                                                                                                                                              \
  __VA_ARGS__ static void name##_compute_image(const float* weight, const float* bias, int64_t in, int64_t places, const float* points,          \
                                               int64_t first, int64_t outputs, int64_t count, float* y) {                                        \
    compute_image<set>(weight, bias, in, places, points, first, outputs, count, y);                                                              \
  }                                                                                                                                              \
  static const Kernels name = {set::lanes, name##_pack_rows, name##_pack_image, name##_compute_lower, name##_compute_rows, name##_compute_image};
FOR_EACH_SET(LINEAR)

}  // namespace linear
