//go:build torch

// 3×3 convolutions of float32 images with stride 1 and padding 1 by Winograd's algorithm, and their gradients by the image, which are such
// convolutions too. libtorch's own take twice as long, and keep the image even where no gradient of the weights is wanted.
#include "winograd.h" // of models/backend/ort/kernels, whose changes Go does not notice: `go clean -cache` after them

#include "kernels.h"
#include "parallel.h"
#include "result.h"

#include <cstdlib>
#include <memory>

namespace {

using at::Tensor;
using winograd::kLanes;
using winograd::kPanel;
using winograd::kPoints;
using winograd::Shape;

constexpr int64_t kFewTiles = 16;          // in all, below which transforming the weights costs more than it saves
constexpr int64_t kGroups = 2;             // of 32 tiles, whose points are in the processor's cache at a time
constexpr int64_t kSharedGroups = 8;       // up to which all tasks share all points
constexpr int64_t kPanelsFloats = 4 << 20; // of the transformed weights that are kept at a time

// scratch is memory of the calling thread, until it asks again.
float *scratch(int64_t floats) {
  struct Kept {
    std::unique_ptr<float, decltype(&std::free)> data{nullptr, std::free};
    int64_t floats = 0;
  };
  thread_local Kept kept;
  if (kept.floats < floats) {
    kept.data.reset(static_cast<float *>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)));
    kept.floats = kept.data ? floats : 0;
    TORCH_CHECK(kept.data, "out of memory");
  }
  return kept.data.get();
}

// Convolution is one of x with weight [out, in, 3, 3], or, turned, with its transpose [in, out, 3, 3] whose taps are in the opposite order.
struct Convolution {
  Shape shape;
  const float *x, *weight, *bias;
  bool turned;
  float *y;
  const winograd::Kernels &kernels = winograd::kernels();

  int64_t groups() const { return (shape.tiles() + kLanes - 1) / kLanes; }
  int64_t panel_floats() const { return kPoints * shape.in * kPanel; }
  int64_t points_floats() const { return kPoints * shape.in * kLanes; }
  int64_t turned_floats() const { return turned ? kPanel * shape.in * 9 : 0; }

  // The weights of eight channels from the one at channel on; space is for turned_floats.
  void make_panel(int64_t channel, float *panel, float *space) const {
    if (!turned) return kernels.transform_weight(weight + channel * shape.in * 9, shape.in, panel);
    for (int64_t i = 0; i < shape.in; i++)
      for (int64_t o = 0; o < kPanel; o++)
        for (int64_t tap = 0; tap < 9; tap++) space[(o * shape.in + i) * 9 + tap] = weight[(i * shape.out + channel + o) * 9 + 8 - tap];
    kernels.transform_weight(space, shape.in, panel);
  }

  // With few tiles the points are all made at first, and a panel is used as soon as it is made.
  void few() const {
    Tensor all = at::empty({groups() * points_floats()}, at::kFloat);
    float *points = all.data_ptr<float>();
    each(groups() * 4, [&](int64_t task) { // by groups and quarters of the channels
      const int64_t group = task / 4, quarter = task % 4;
      kernels.transform_input(shape, x, group * kLanes, shape.in * quarter / 4, shape.in * (quarter + 1) / 4, points + group * points_floats());
    });
    each(shape.out / kPanel, [&](int64_t p) {
      float *panel = scratch(panel_floats() + turned_floats());
      make_panel(p * kPanel, panel, panel + panel_floats());
      for (int64_t g = 0; g < groups(); g++) kernels.compute_panel(shape, panel, points + g * points_floats(), bias, p * kPanel, g * kLanes, y);
    });
  }

  // With many the panels are, as many as there is memory for; a task makes the points of its groups and uses them for all those panels.
  void many() const {
    const int64_t all = shape.out / kPanel, most = std::min(all, std::max<int64_t>(kPanelsFloats / panel_floats(), 1));
    Tensor made = at::empty({most * panel_floats()}, at::kFloat);
    float *panels = made.data_ptr<float>();
    for (int64_t first = 0; first < all; first += most) {
      const int64_t count = std::min(most, all - first);
      each(count, [&](int64_t p) { make_panel((first + p) * kPanel, panels + p * panel_floats(), scratch(turned_floats())); });
      each((groups() + kGroups - 1) / kGroups, [&](int64_t task) {
        float *points = scratch(kGroups * points_floats());
        const int64_t from = task * kGroups, own = std::min(kGroups, groups() - from);
        for (int64_t g = 0; g < own; g++) kernels.transform_input(shape, x, (from + g) * kLanes, 0, shape.in, points + g * points_floats());
        for (int64_t p = 0; p < count; p++)
          for (int64_t g = 0; g < own; g++)
            kernels.compute_panel(shape, panels + p * panel_floats(), points + g * points_floats(), bias, (first + p) * kPanel,
                                  (from + g) * kLanes, y);
      });
    }
  }
};

bool suits(const Tensor &x, int64_t in, int64_t out) {
  return x.dim() == 4 && x.size(1) == in && x.numel() > 0 && out % kPanel == 0 &&
         Shape{x.size(0), in, out, x.size(2), x.size(3)}.tiles() >= kFewTiles;
}

Tensor convolve(const Tensor &image, const Tensor &weight, const Tensor &bias, bool turned) {
  Tensor x = image.contiguous(), w = weight.contiguous();
  const int64_t in = x.size(1), out = w.size(turned ? 1 : 0);
  Tensor b = bias.defined() ? bias.contiguous() : at::zeros({out}, at::kFloat), y = at::empty({x.size(0), out, x.size(2), x.size(3)}, at::kFloat);
  const Shape shape{x.size(0), in, out, x.size(2), x.size(3)};
  Convolution c{shape, x.const_data_ptr<float>(), w.const_data_ptr<float>(), b.const_data_ptr<float>(), turned,
                y.mutable_data_ptr<float>()};
  c.groups() <= kSharedGroups ? c.few() : c.many();
  return y;
}

struct Conv3x3 : torch::autograd::Function<Conv3x3> {
  static Tensor forward(torch::autograd::AutogradContext *ctx, const Tensor &x, const Tensor &weight, const Tensor &bias) {
    ctx->save_for_backward({weight.requires_grad() ? x : Tensor(), weight});
    ctx->saved_data["dims"] = x.sizes().vec();
    return convolve(x, weight, bias, false);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx, torch::autograd::variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &dy = gradients[0], &weight = saved[1];
    Tensor x = saved[0], dx;
    bool of_x = ctx->needs_input_grad(0);
    const bool of_weight = ctx->needs_input_grad(1), of_bias = ctx->needs_input_grad(2);
    if (of_x && suits(dy, weight.size(0), weight.size(1))) dx = convolve(dy, weight, Tensor(), true), of_x = false;
    if (!of_x && !of_weight && !of_bias) return {dx, Tensor(), Tensor()};
    if (!x.defined()) x = dy.new_empty({1}).expand(ctx->saved_data["dims"].toIntVector()); // nothing but its dims is read
    auto [own, dweight, dbias] = at::convolution_backward(dy, x, weight, at::IntArrayRef{weight.size(0)}, {1, 1}, {1, 1}, {1, 1}, false, {0, 0}, 1,
                                                          {of_x, of_weight, of_bias});
    return {of_x ? own : dx, dweight, dbias};
  }
};

} // namespace

char *likeness_conv3x3(void **out, void *x, void *weight, void *bias) {
  return result(out, [&] {
    const Tensor &image = tensor(x), &w = tensor(weight), b = bias ? tensor(bias) : at::zeros({w.size(0)}, at::kFloat);
    TORCH_CHECK(b.dim() == 1 && b.size(0) == w.size(0), "bias of dims ", b.sizes(), ", weight of dims ", w.sizes());
    return suits(image, w.size(1), w.size(0)) ? Conv3x3::apply(image, w, b) : at::conv2d(image, w, b, {1, 1}, {1, 1});
  });
}
