// Memory that is kept from run to run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <vector>

// Pool keeps memory from run to run.
class Pool {
 public:
  struct Buffer {
    float* data = nullptr;
    int64_t floats = 0;
  };
  // The last given that is large enough, or the last in another size. No data where memory is short, or none is wanted.
  Buffer take(int64_t floats) {
    if (floats == 0) return {};
    Buffer b;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto fits = std::find_if(spare_.rbegin(), spare_.rend(), [=](const Buffer& s) { return s.floats >= floats; });
      if (fits != spare_.rend()) std::swap(*fits, spare_.back());
      if (!spare_.empty()) b = spare_.back(), spare_.pop_back();
    }
    if (b.floats >= floats) return b;
    std::free(b.data);
    b.data = static_cast<float*>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64));
    b.floats = b.data ? floats : 0;
    return b;
  }
  void give(Buffer b) {
    if (!b.data) return;
    std::lock_guard<std::mutex> lock(mutex_);
    spare_.push_back(b);
  }
  ~Pool() {
    for (Buffer& b : spare_) std::free(b.data);
  }

 private:
  std::mutex mutex_;
  std::vector<Buffer> spare_;
};

// Buffer is a pool's memory for as long as it lives.
class Buffer {
 public:
  Buffer(Pool& pool, int64_t floats) : pool_(pool), buffer_(pool.take(floats)) {}
  ~Buffer() { pool_.give(buffer_); }
  Buffer(const Buffer&) = delete;
  float* data() const { return buffer_.data; }

 private:
  Pool& pool_;
  Pool::Buffer buffer_;
};

inline Pool points_pool;
