//go:build torch

// 3×3 convolutions of float32 images with stride 1 and padding 1 by Winograd's algorithm, and their gradients by the image, which are such
// convolutions too. libtorch's own take twice as long, and keep the image even where no gradient of the weights is wanted.
#include "convolution.h" // of models/backend/ort/kernels, by a link, so that Go notices its changes

#include "kernels.h"
#include "parallel.h"
#include "result.h"

namespace {

using at::Tensor;

struct Threads {
  template <class F> void operator()(int64_t n, const F &f) const { each(n, f); }
};

int64_t tile(const Tensor &x) { return winograd::cheapest_tile(x.size(0), x.size(2), x.size(3)); }

bool suits(const Tensor &x, int64_t in, int64_t out) {
  return x.dim() == 4 && x.size(1) == in && x.numel() > 0 && out % kPanel == 0 && tile(x);
}

Tensor convolve(const Tensor &image, const Tensor &weight, const Tensor &bias, bool turned) {
  Tensor x = image.contiguous(), w = weight.contiguous();
  const int64_t in = x.size(1), out = w.size(turned ? 1 : 0);
  Tensor b = bias.defined() ? bias.contiguous() : at::zeros({out}, at::kFloat), y = at::empty({x.size(0), out, x.size(2), x.size(3)}, at::kFloat);
  winograd::Convolution c({x.size(0), in, out, x.size(2), x.size(3), tile(image)}, x.const_data_ptr<float>(), {w.const_data_ptr<float>()},
                          b.const_data_ptr<float>(), y.mutable_data_ptr<float>(), turned);
  const Threads threads;
  TORCH_CHECK(c.run(threads), "out of memory");
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
