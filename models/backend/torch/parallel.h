// The threads of OpenMP, which comes with libtorch under a name of its own, so that it is not linked but looked up.
#pragma once

#include <dlfcn.h>

#include <atomic>
#include <cstdint>

// each runs f(0) … f(n-1) on them.
template <class F> void each(int64_t n, const F &f) {
  using Parallel = void (*)(void (*)(void *), void *, unsigned, unsigned);
  static const auto parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  struct Work {
    const F &f;
    int64_t n;
    std::atomic<int64_t> next{0};
  } work{f, n};
  auto run = [](void *p) {
    auto &w = *static_cast<Work *>(p);
    for (int64_t i; (i = w.next++) < w.n;) w.f(i);
  };
  parallel ? parallel(run, &work, 0, 0) : run(&work);
}
