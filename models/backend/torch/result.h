// How functions of kernels.h take and leave tensors.
#pragma once

#include <torch/torch.h>

#include <cstring>

static inline at::Tensor &tensor(void *p) { return *static_cast<at::Tensor *>(p); }

// result stores a new tensor, or returns what went wrong.
template <class F> char *result(void **out, const F &f) {
  try {
    *out = new at::Tensor(f());
    return nullptr;
  } catch (const std::exception &e) {
    return strdup(e.what());
  }
}
