// A 3×3 convolution with stride 1 and padding 1 by Winograd's kernels, in tasks.
#pragma once

#include <atomic>

#include "pool.h"
#include "weights.h"
#include "winograd.h"

namespace winograd {

constexpr int64_t kGroups = 2;              // of as many tiles as there are lanes, whose points are in the processor's cache at a time
constexpr int64_t kSharedGroups = 8;        // up to which all tasks share all points
constexpr int64_t kInputsAtOnce = 72;       // whose weights are transformed and used at a time, where there are few tiles; no power of two, which would
                                            // have the planes of a panel in the same places of the cache
constexpr int64_t kPanelsFloats = 4 << 20;  // of the transformed weights that are kept at a time, where there are many

inline Pool panels_pool, products_pool;

// Convolution is of x [batch, in, height, width] with weight [out, in, 3, 3] or, turned, with the transpose of a float32 weight [in, out, 3, 3] with its
// taps in the opposite order, which gives the gradient by the image.
class Convolution {
 public:
  Convolution(const Shape& shape, const float* x, const Weights& weight, const float* bias, float* y, bool turned = false)
      : shape(shape), x(x), weight(weight), bias(bias), y(y), turned(turned) {}

  // run calls each(n, f), which calls f(0) … f(n-1) on all threads. It gives false where memory is short.
  template <class Each>
  bool run(Each& each) {
    return groups <= kSharedGroups ? run_few(each) : run_many(each);
  }

 private:
  Shape shape;
  const Kernels& kernels = widest(shape.tile);
  const float* x;
  Weights weight;
  const float* bias;
  float* y;
  bool turned;
  float *panels = nullptr, *points = nullptr;  // that all tasks share
  int64_t first_panel = 0, panel_count = 0;    // of those
  std::atomic<bool> failed{false};             // memory is short

  const int64_t lanes = balanced(shape.tiles(), kernels.lanes), groups = (shape.tiles() + lanes - 1) / lanes;
  const int64_t panel_floats = shape.points() * shape.in * kPanel, points_floats = shape.points() * shape.in * kernels.lanes;
  const int64_t products_floats = shape.points() * kOutputs * kernels.lanes;

  int64_t count(int64_t group) const { return std::min(lanes, shape.tiles() - group * lanes); }

  // Inputs [from, to) of a panel's weights; space is for space_floats.
  void transform_weight(int64_t panel, int64_t from, int64_t to, float* made, float* space) {
    const int64_t first = panel * kPanel, inputs = to - from;
    if (!space_floats(inputs)) return kernels.transform_weight(weight.floats() + first * shape.in * 9, shape.in, from, to, made);
    for (int64_t o = 0; o < kPanel; o++)
      if (turned)
        turn_weight(first + o, from, to, space + o * inputs * 9);
      else
        weight.widen(((first + o) * shape.in + from) * 9, inputs * 9, space + o * inputs * 9);
    kernels.transform_weight(space, inputs, 0, inputs, made);
  }
  void turn_weight(int64_t output, int64_t from, int64_t to, float* turned) {
    for (int64_t i = from; i < to; i++)
      for (int64_t tap = 0; tap < 9; tap++) *turned++ = weight.floats()[(i * shape.out + output) * 9 + 8 - tap];
  }
  int64_t space_floats(int64_t inputs) const { return turned || weight.type != Stored::float32 ? kPanel * inputs * 9 : 0; }
  void multiply(int64_t group, int64_t from, int64_t to, int64_t channels, const float* panels, const float* points, float* products) {
    kernels.multiply(shape.in, from, to, channels, panels, points, count(group), products);
  }
  void transform_output(int64_t group, int64_t channel, int64_t channels, const float* products) {
    kernels.transform_output(shape, products, bias, channel, channels, group * lanes, count(group), y);
  }

  // With few tiles the points are all made at first, by groups and quarters of the channels.
  void share_points(int64_t task) {
    const int64_t group = task / 4, quarter = task % 4;
    const int64_t from = shape.in * quarter / 4, to = shape.in * (quarter + 1) / 4;
    kernels.transform_input(shape, x, group * lanes, count(group), from, to, points + group * points_floats);
  }
  // Weights are then transformed for some inputs at a time and used while they are in the processor's cache.
  void compute_channels(int64_t task) {
    const int64_t channel = task * kOutputs, channels = std::min(kOutputs, shape.out - channel), size = products_floats;
    const int64_t made = shape.points() * kInputsAtOnce * channels;
    Buffer panels(panels_pool, made + space_floats(kInputsAtOnce)), products(products_pool, groups * size);
    if (!panels.data() || !products.data()) return void(failed = true);
    for (int64_t from = 0; from < shape.in; from += kInputsAtOnce) {
      const int64_t to = std::min(from + kInputsAtOnce, shape.in);
      for (int64_t o = 0; o < channels; o += kPanel)
        transform_weight((channel + o) / kPanel, from, to, panels.data() + o * shape.points() * (to - from), panels.data() + made);
      for (int64_t g = 0; g < groups; g++) multiply(g, from, to, channels, panels.data(), points + g * points_floats, products.data() + g * size);
    }
    for (int64_t g = 0; g < groups; g++) transform_output(g, channel, channels, products.data() + g * size);
  }

  // With many tiles the panels are made at first, as many as there is memory for.
  void share_panel(int64_t i) {
    float* made = panels + i * panel_floats;
    Buffer space(panels_pool, space_floats(shape.in));
    if (!space.data() && space_floats(shape.in)) return void(failed = true);
    transform_weight(first_panel + i, 0, shape.in, made, space.data());
  }
  // A task makes the points of its groups and uses them for all those panels.
  void compute_groups(int64_t task) {
    Buffer made(points_pool, kGroups * points_floats), products(products_pool, products_floats);
    if (!made.data() || !products.data()) return void(failed = true);
    const int64_t first = task * kGroups, last = std::min(first + kGroups, groups);
    for (int64_t g = first; g < last; g++)
      kernels.transform_input(shape, x, g * lanes, count(g), 0, shape.in, made.data() + (g - first) * points_floats);
    for (int64_t o = 0; o < panel_count * kPanel; o += kOutputs) {
      const int64_t channels = std::min(kOutputs, panel_count * kPanel - o);
      for (int64_t g = first; g < last; g++) {
        multiply(g, 0, shape.in, channels, panels + o / kPanel * panel_floats, made.data() + (g - first) * points_floats, products.data());
        transform_output(g, first_panel * kPanel + o, channels, products.data());
      }
    }
  }

  template <class Each>
  bool run_few(Each& each) {
    Buffer shared(points_pool, groups * points_floats);
    if (!(points = shared.data())) return false;
    each(groups * 4, [&](int64_t task) { share_points(task); });
    each((shape.out + kOutputs - 1) / kOutputs, [&](int64_t task) { compute_channels(task); });
    return !failed;
  }

  template <class Each>
  bool run_many(Each& each) {
    const int64_t all = shape.out / kPanel, most = std::min(all, std::max<int64_t>(kPanelsFloats / panel_floats, 1));
    Buffer shared(panels_pool, most * panel_floats);
    if (!(panels = shared.data())) return false;
    for (; first_panel < all; first_panel += most) {
      panel_count = std::min(most, all - first_panel);
      each(panel_count, [&](int64_t task) { share_panel(task); });
      each((groups + kGroups - 1) / kGroups, [&](int64_t task) { compute_groups(task); });
    }
    return !failed;
  }
};

}  // namespace winograd
