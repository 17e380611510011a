//go:build torch

// The operations that gotch cannot ask for, or that libtorch is slow at.
#include "kernels.h"
#include "parallel.h"
#include "result.h"

#include <torch/torch.h>

#include <cmath>
#include <cstring>
#include <vector>

// Compiled for each kind of processor; the best is chosen when the program starts.
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

namespace {

using at::Tensor;
using bf16 = uint16_t;

inline float widen(bf16 x) {
  uint32_t bits = uint32_t(x) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

inline bf16 narrow(float f) { // to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return bf16((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Sums over the pixels of one sample, for each channel.
CLONES void sums(const bf16 *__restrict x, const bf16 *__restrict y, int64_t pixels, int64_t channels, float *__restrict sum_xy, float *__restrict sum_y) {
  for (int64_t p = 0; p < pixels; p++, x += channels, y += channels)
    for (int64_t c = 0; c < channels; c++) {
      float v = widen(y[c]);
      sum_xy[c] += widen(x[c]) * v;
      sum_y[c] += v;
    }
}

CLONES void scale(const bf16 *__restrict x, bf16 *__restrict out, int64_t pixels, int64_t channels, const float *__restrict by, const float *__restrict plus) {
  for (int64_t p = 0; p < pixels; p++, x += channels, out += channels)
    for (int64_t c = 0; c < channels; c++) out[c] = narrow(widen(x[c]) * by[c] + plus[c]);
}

CLONES void combine(const bf16 *__restrict x, const bf16 *__restrict y, bf16 *__restrict out, int64_t pixels, int64_t channels,
                    const float *__restrict by_x, const float *__restrict by_y, const float *__restrict plus) {
  for (int64_t p = 0; p < pixels; p++, x += channels, y += channels, out += channels)
    for (int64_t c = 0; c < channels; c++) out[c] = narrow(widen(x[c]) * by_x[c] + widen(y[c]) * by_y[c] + plus[c]);
}

Tensor channels_last(const Tensor &x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

const bf16 *data(const Tensor &x) { return reinterpret_cast<const bf16 *>(x.const_data_ptr()); }
bf16 *mutable_data(const Tensor &x) { return reinterpret_cast<bf16 *>(x.mutable_data_ptr()); }

// GroupNorm of bfloat16 images whose channels are neighbours in memory: libtorch takes ten times as long as on those whose pixels are.
// Everything but the images is float32.
struct GroupNorm : torch::autograd::Function<GroupNorm> {
  static Tensor forward(torch::autograd::AutogradContext *ctx, const Tensor &image, const Tensor &weight, const Tensor &bias, int64_t groups, double eps) {
    TORCH_CHECK(groups > 0 && image.size(1) % groups == 0, image.size(1), " channels in ", groups, " groups");
    TORCH_CHECK(weight.numel() == image.size(1) && bias.numel() == image.size(1), "weights of ", weight.numel(), " channels, image of ", image.size(1));
    Tensor x = channels_last(image), out = at::empty_like(x);
    int64_t channels = x.size(1), pixels = x.size(2) * x.size(3), width = channels / groups;
    Tensor moments = at::empty({x.size(0), 2, groups}, weight.options()); // mean, 1/deviation
    const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
    each(x.size(0), [&](int64_t i) {
      std::vector<float> by(channels), plus(channels);
      const bf16 *from = data(x) + i * pixels * channels;
      float *mean = moments.mutable_data_ptr<float>() + i * 2 * groups, *rstd = mean + groups;
      sums(from, from, pixels, channels, by.data(), plus.data());
      for (int64_t g = 0; g < groups; g++) {
        double squares = 0, total = 0, n = double(width * pixels);
        for (int64_t c = g * width; c < (g + 1) * width; c++) squares += by[c], total += plus[c];
        double m = total / n;
        mean[g] = float(m), rstd[g] = float(1 / std::sqrt(std::max(squares / n - m * m, 0.0) + eps));
        for (int64_t c = g * width; c < (g + 1) * width; c++) by[c] = rstd[g] * w[c], plus[c] = b[c] - mean[g] * by[c];
      }
      scale(from, mutable_data(out) + i * pixels * channels, pixels, channels, by.data(), plus.data());
    });
    ctx->save_for_backward({x, weight, moments});
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx, torch::autograd::variable_list gradients) {
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &moments = saved[2];
    Tensor dy = channels_last(gradients[0].to(at::kBFloat16)), dx = at::empty_like(x);
    int64_t channels = x.size(1), pixels = x.size(2) * x.size(3), groups = moments.size(2), width = channels / groups;
    Tensor dweight = at::empty({x.size(0), channels}, weight.options()), dbias = at::empty_like(dweight);
    const float *w = weight.const_data_ptr<float>();
    each(x.size(0), [&](int64_t i) {
      std::vector<float> sum_xy(channels), sum_y(channels), by_x(channels), by_y(channels), plus(channels);
      int64_t at = i * pixels * channels;
      const float *mean = moments.const_data_ptr<float>() + i * 2 * groups, *rstd = mean + groups;
      float *dw = dweight.mutable_data_ptr<float>() + i * channels, *db = dbias.mutable_data_ptr<float>() + i * channels;
      sums(data(x) + at, data(dy) + at, pixels, channels, sum_xy.data(), sum_y.data());
      for (int64_t g = 0; g < groups; g++) {
        float xy = 0, y = 0, n = float(width * pixels), m = mean[g], r = rstd[g];
        for (int64_t c = g * width; c < (g + 1) * width; c++) xy += sum_xy[c] * w[c], y += sum_y[c] * w[c];
        float of_x = (y * m - xy) * r * r * r / n;
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
          dw[c] = (sum_xy[c] - sum_y[c] * m) * r, db[c] = sum_y[c];
          by_x[c] = of_x, by_y[c] = r * w[c], plus[c] = -of_x * m - y * r / n;
        }
      }
      combine(data(x) + at, data(dy) + at, mutable_data(dx) + at, pixels, channels, by_x.data(), by_y.data(), plus.data());
    });
    return {dx, dweight.sum(0), dbias.sum(0), Tensor(), Tensor()};
  }
};

// Activation checkpointing, the reentrant form: the node keeps the block's inputs alone, and its backward pass runs the block again with a graph
// of its own. Leaves that the block reads besides gather their gradients there, so a leaf of no size makes sure that there is a node at all.
struct Checkpoint : torch::autograd::Function<Checkpoint> {
  static Tensor forward(torch::autograd::AutogradContext *ctx, at::TensorList inputs, const Tensor &leaf, const Tensor &result, int64_t handle) {
    ctx->save_for_backward(inputs.vec());
    ctx->saved_data["handle"] = handle;
    return result.detach();
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx, torch::autograd::variable_list gradients) {
    torch::autograd::variable_list inputs = ctx->get_saved_variables(), out(inputs.size() + 3);
    std::vector<void *> pointers(inputs.size());
    for (size_t i = 0; i < inputs.size(); i++) {
      bool needed = inputs[i].requires_grad();
      inputs[i] = inputs[i].detach().requires_grad_(needed);
      pointers[i] = &inputs[i];
    }
    at::AutoGradMode graph(true);
    void *made = nullptr;
    char *message = likenessRecompute(uintptr_t(ctx->saved_data["handle"].toInt()), pointers.data(), &made);
    if (message) {
      std::string text(message);
      free(message);
      TORCH_CHECK(false, text);
    }
    Tensor result = *static_cast<Tensor *>(made);
    delete static_cast<Tensor *>(made);
    if (result.requires_grad()) torch::autograd::backward({result}, {gradients[0]});
    for (size_t i = 0; i < inputs.size(); i++) out[i] = inputs[i].grad();
    return out;
  }
};

} // namespace

char *likeness_group_norm(void **out, void *x, void *weight, void *bias, int64_t groups, double eps) {
  return result(out, [&] { return GroupNorm::apply(tensor(x), tensor(weight), tensor(bias), groups, eps); });
}

char *likeness_channels_last(void **out, void *x) {
  return result(out, [&] { return channels_last(tensor(x)); });
}

char *likeness_half(void **out, void *x) {
  return result(out, [&] {
    auto format = tensor(x).dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Preserve;
    return tensor(x).to(at::kBFloat16, false, false, format);
  });
}

char *likeness_attention(void **out, void *query, void *key, void *value, void *mask) {
  return result(out, [&] {
    const Tensor &q = tensor(query), &k = tensor(key), &v = tensor(value);
    auto m = mask ? c10::optional<Tensor>(tensor(mask)) : c10::nullopt;
    // The fused kernel's gradient in bfloat16 takes three to ten times as long as that of its parts.
    if (!at::GradMode::is_enabled() || q.scalar_type() != at::kBFloat16) return at::scaled_dot_product_attention(q, k, v, m);
    Tensor scores = at::matmul(q * (1 / std::sqrt(double(q.size(-1)))), k.transpose(-2, -1));
    return at::matmul(at::softmax(m ? scores + *m : scores, -1), v);
  });
}

char *likeness_checkpoint(void **out, void *made, void **inputs, int64_t n, uintptr_t handle) {
  return result(out, [&] {
    torch::autograd::variable_list all;
    for (int64_t i = 0; i < n; i++) all.push_back(tensor(inputs[i]));
    return Checkpoint::apply(at::TensorList(all), at::empty({0}).requires_grad_(true), tensor(made), int64_t(handle));
  });
}

int likeness_requires_grad(void *x) { return tensor(x).requires_grad(); }

void likeness_forget_gradient(void *leaf) { tensor(leaf).mutable_grad().reset(); }
