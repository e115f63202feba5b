// SPDX-License-Identifier: Apache-2.0
// To compile a plugin takes many times the memory that the plugin takes then. Envoy's allocator, which its modules get too, keeps
// what has been freed and exports nothing that would give it back: its malloc_trim does nothing. So the module has the allocator of
// the C library, by functions that stand for Envoy's inside the module and that nobody else sees.

#include "memory.h"

#include <dlfcn.h>
#include <malloc.h>

#include <climits>
#include <cstddef>
#include <cstdlib>
#include <cstring>

// AddressSanitizer brings an allocator of its own.
#ifndef __SANITIZE_ADDRESS__

namespace {

// A function of the C library itself, whoever has put another in its place.
class c_function {
 public:
  explicit c_function(const char *name) : name_(name) {}
  template <typename Function>
  operator Function *() const {
    // Where there is none, null: what all of the process has.
    void *library = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    return reinterpret_cast<Function *>(dlsym(library, name_));
  }

 private:
  const char *name_;
};

struct c_library {
  decltype(::malloc) *malloc = c_function("malloc");
  decltype(::calloc) *calloc = c_function("calloc");
  decltype(::realloc) *realloc = c_function("realloc");
  decltype(::free) *free = c_function("free");
  decltype(::aligned_alloc) *aligned_alloc = c_function("aligned_alloc");
  decltype(::posix_memalign) *posix_memalign = c_function("posix_memalign");
  decltype(::malloc_trim) *malloc_trim = c_function("malloc_trim");
  decltype(::realpath) *realpath = c_function("realpath");
};

const c_library &library() {
  static const c_library one;
  return one;
}

}  // namespace

extern "C" {

void *malloc(std::size_t size) noexcept { return library().malloc(size); }
void *calloc(std::size_t count, std::size_t size) noexcept { return library().calloc(count, size); }
void *realloc(void *block, std::size_t size) noexcept { return library().realloc(block, size); }
void free(void *block) noexcept { library().free(block); }

void *aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return library().aligned_alloc(alignment, size);
}

int posix_memalign(void **block, std::size_t alignment, std::size_t size) noexcept {
  return library().posix_memalign(block, alignment, size);
}

// Those whose answer is to be freed: inside of the C library, Envoy's allocator is called. check-symbols.sh looks for others.

char *strdup(const char *text) noexcept {
  const std::size_t size = std::strlen(text) + 1;
  auto *copy = static_cast<char *>(malloc(size));
  return copy == nullptr ? nullptr : static_cast<char *>(std::memcpy(copy, text, size));
}

char *realpath(const char *path, char *room) noexcept {
  char found[PATH_MAX];
  if (room != nullptr) {
    return library().realpath(path, room);
  }
  return library().realpath(path, found) == nullptr ? nullptr : strdup(found);
}

}  // extern "C"

void proxywasm_envoy::give_back_memory() noexcept {
  if (library().malloc_trim != nullptr) {
    (void)library().malloc_trim(0);
  }
}

#else

void proxywasm_envoy::give_back_memory() noexcept {}

#endif
