#include <mutex>

#include "kernels.h"

const OrtApi* api;

// RegisterCustomOps is what ONNX Runtime calls of the library, for each session's options.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  static const OrtCustomOp operators[] = {geglu(), attention_op(), conv(), linear_layer(), lora_linear(), group_norm(), layer_norm()};
  static OrtCustomOpDomain* domain = nullptr;
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  api = base->GetApi(ORT_API_VERSION);
  if (!domain) {
    CHECK(api->CreateCustomOpDomain("likeness", &domain));
    for (const OrtCustomOp& op : operators) CHECK(api->CustomOpDomain_Add(domain, &op));
  }
  return api->AddCustomOpDomain(options, domain);
}
