// likeness.GEGLU: x [..., 2·C] becomes its first half times GELU of its second (Shazeer, 2020, https://arxiv.org/abs/2002.05202, section 2).
#include "activation.h"
#include "kernels.h"

namespace {

VECTORS void gate(const float* x, const float* by, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * gelu(by[i]);
}

constexpr int64_t kRows = 16;  // of a task

struct GEGLU : NoAttributes {
  static constexpr const char* name = "GEGLU";
  static constexpr size_t inputs = 1;
  static constexpr bool in_place = false;
  static constexpr size_t weights = kNone;

  static OrtStatus* compute(void*, OrtKernelContext* context) {
    Input x;
    CHECK(x.read(context, 0));
    auto dims = x.dims;
    if (dims.empty() || dims.back() % 2) return api->CreateStatus(ORT_INVALID_ARGUMENT, "GEGLU: the input has no halves");
    dims.back() /= 2;
    OrtValue* output;
    float* y;
    CHECK(api->KernelContext_GetOutput(context, 0, dims.data(), dims.size(), &output));
    CHECK(api->GetTensorMutableData(output, reinterpret_cast<void**>(&y)));
    const int64_t rows = x.rows(), size = dims.back();
    Threads each{context};
    each((rows + kRows - 1) / kRows, [&](int64_t task) {
      for (int64_t row = task * kRows, end = std::min(row + kRows, rows); row < end; row++)
        gate(x.data + 2 * row * size, x.data + (2 * row + 1) * size, size, y + row * size);
    });
    return each.status;
  }

  static OrtStatus* infer(OrtShapeInferContext* context) {
    std::vector<int64_t> dims;
    std::vector<const char*> symbols;
    CHECK(dims_of(context, 0, dims, &symbols));
    if (dims.empty() || dims.back() < 0) return nullptr;  // unknown
    dims.back() /= 2;
    return infer_dims(context, dims, symbols);
  }
};

}  // namespace

OrtCustomOp geglu() { return operation<GEGLU>(); }
