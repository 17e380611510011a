// What the operators of domain likeness share. Each is for the CPU, has an output, all of float32 but for weights, and is a struct of
//   name           the operator's
//   create         what a node needs, made of its attributes; destroy frees it
//   compute        one run
//   infer          the dims of the output, where they are known before a run
//   inputs         how many
//   in_place       whether the output may be in the memory of the first input
//   weights        the input that may be of another type than float32: one of Stored; kNone where none may
#pragma once

#include <atomic>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "onnxruntime_c_api.h"
#include "weights.h"

extern const OrtApi* api;

#define CHECK(call) \
  if (OrtStatus* status = (call)) return status

inline OrtStatus* out_of_memory(const char* op) { return api->CreateStatus(ORT_FAIL, (std::string(op) + ": out of memory").c_str()); }

// Threads runs f(0) … f(n-1) on all threads of a run, for a call each(n, f); status is the error, or null.
struct Threads {
  OrtKernelContext* context;
  OrtStatus* status = nullptr;

  template <class F>
  void operator()(int64_t n, const F& f) {
    if (status) return;
    status = api->KernelContext_ParallelFor(
        context, [](void* f, size_t task) { (*static_cast<const F*>(f))(task); }, n, 0, const_cast<F*>(&f));
  }

  // The error of an operator's calls, for which memory may have been short; null where there is none.
  OrtStatus* end(const char* op, bool short_of_memory) const { return status || !short_of_memory ? status : out_of_memory(op); }
};

constexpr size_t kNone = -1;

// Input is one of a run's.
struct Input {
  std::vector<int64_t> dims;
  const float* data;
  Stored type = Stored::float32;
  Weights weights() const { return {data, type}; }

  // How many there are of the last axis.
  int64_t rows() const { return std::accumulate(dims.begin(), dims.end() - 1, int64_t{1}, std::multiplies<>()); }

  // Weights may be of any type that is Stored.
  OrtStatus* read(OrtKernelContext* context, size_t index, bool weights = false) {
    const OrtValue* value;
    CHECK(api->KernelContext_GetInput(context, index, &value));
    OrtTensorTypeAndShapeInfo* info;
    CHECK(api->GetTensorTypeAndShape(value, &info));
    size_t rank = 0;
    OrtStatus* status = api->GetDimensionsCount(info, &rank);
    dims.resize(rank);
    if (!status) status = api->GetDimensions(info, dims.data(), rank);
    ONNXTensorElementDataType element;
    if (!status) status = api->GetTensorElementType(info, &element);
    api->ReleaseTensorTypeAndShapeInfo(info);
    if (status) return status;
    if (weights && element == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16) type = Stored::float16;
    else if (weights && element == ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16) type = Stored::bfloat16;
    else if (element != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) return api->CreateStatus(ORT_INVALID_ARGUMENT, "an input is of another type than floats");
    return api->GetTensorMutableData(const_cast<OrtValue*>(value), reinterpret_cast<void**>(const_cast<float**>(&data)));
  }
};

// NoAttributes is what an operator without them needs: nothing.
struct NoAttributes {
  static OrtStatus* create(const OrtKernelInfo*, void** kernel) {
    *kernel = nullptr;
    return nullptr;
  }
  static void destroy(void*) {}
};

constexpr int kNoAxis = -1;

// The dims of an input, where they are known; symbols are the names of sizes that are not, and may be null.
static inline OrtStatus* dims_of(OrtShapeInferContext* context, size_t index, std::vector<int64_t>& dims, std::vector<const char*>* symbols) {
  OrtTensorTypeAndShapeInfo* info;
  size_t rank;
  CHECK(api->ShapeInferContext_GetInputTypeShape(context, index, &info));
  CHECK(api->GetDimensionsCount(info, &rank));
  dims.resize(rank);
  CHECK(api->GetDimensions(info, dims.data(), rank));
  if (!symbols) return nullptr;
  symbols->resize(rank);
  return api->GetSymbolicDimensions(info, symbols->data(), rank);
}

// The output has these dims; -1 is a size that is not known, of that name, and one without a name gets one that no other has.
inline OrtStatus* infer_dims(OrtShapeInferContext* context, const std::vector<int64_t>& dims, std::vector<const char*> symbols) {
  static std::atomic<int> made{0};  // for all files: the function must not be static
  std::vector<std::string> names(dims.size());
  for (size_t i = 0; i < dims.size(); i++)
    if (dims[i] < 0 && !*symbols[i]) {
      names[i] = "/likeness_" + std::to_string(made++);
      symbols[i] = names[i].c_str();
    }
  OrtTensorTypeAndShapeInfo* y;
  CHECK(api->CreateTensorTypeAndShapeInfo(&y));
  OrtStatus* status = api->SetTensorElementType(y, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  if (!status) status = api->SetDimensions(y, dims.data(), dims.size());
  if (!status) status = api->SetSymbolicDimensions(y, symbols.data(), dims.size());
  if (!status) status = api->ShapeInferContext_SetOutputTypeShape(context, 0, y);
  api->ReleaseTensorTypeAndShapeInfo(y);
  return status;
}

// The output has the dims of the first input, but on an axis, counted from the end, as many as the second one's first, and behind it sizes that are
// not known where the operator changes them.
static inline OrtStatus* infer_like_first(OrtShapeInferContext* context, int axis, bool resized = false) {
  std::vector<int64_t> dims, weight;
  std::vector<const char*> symbols;
  CHECK(dims_of(context, 0, dims, &symbols));
  CHECK(dims_of(context, 1, weight, nullptr));
  const size_t rank = dims.size();
  if (rank < 2 || axis >= static_cast<int>(rank) || weight.empty()) return nullptr;  // unknown
  if (axis != kNoAxis) dims[rank - 1 - axis] = weight[0], symbols[rank - 1 - axis] = "";
  for (size_t i = rank - axis; resized && i < rank; i++) dims[i] = -1, symbols[i] = "";
  return infer_dims(context, dims, symbols);
}

template <class Operator>
OrtCustomOp operation() {
  OrtCustomOp op{};
  op.version = ORT_API_VERSION;
  op.GetName = [](const OrtCustomOp*) { return Operator::name; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU's
  op.GetInputTypeCount = [](const OrtCustomOp*) { return Operator::inputs; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetInputType = [](const OrtCustomOp*, size_t i) {
    return i == Operator::weights ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  };
  op.GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
  op.GetInputCharacteristic = op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  op.GetStartVersion = op.GetEndVersion = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info, void** kernel) { return Operator::create(info, kernel); };
  op.KernelComputeV2 = Operator::compute;
  op.KernelDestroy = Operator::destroy;
  op.GetMayInplace = [](int** inputs, int** outputs) -> size_t {
    static int first[] = {0};
    *inputs = *outputs = first;
    return Operator::in_place;
  };
  op.ReleaseMayInplace = [](int*, int*) {};
  op.InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) { return Operator::infer(context); };
  return op;
}

namespace linear {
struct Image;
}
// The convolution of an image of any kind, of linear.cpp: x [batch, channels, height, width], weight [out, channels, taps], out a multiple of 8.
OrtStatus* convolve(OrtKernelContext* context, const linear::Image& image, int64_t batch, int64_t channels, int64_t out, const float* x,
                    const Weights& weight, const float* bias, float* y);

// The operators, of activation.cpp, attention.cpp, conv.cpp, linear.cpp and norm.cpp.
OrtCustomOp geglu();
OrtCustomOp attention_op();
OrtCustomOp conv();
OrtCustomOp linear_layer();
OrtCustomOp lora_linear();
OrtCustomOp group_norm();
OrtCustomOp layer_norm();
