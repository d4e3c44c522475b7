#include "sidecar/init/nftables.h"

#include <dlfcn.h>

namespace tallygate::sidecar {
namespace {

constexpr unsigned kOutputJson = 1u << 4;  // NFT_CTX_OUTPUT_JSON of nftables/libnftables.h

std::string first_line(const char* text) {
  std::string line(text == nullptr ? "" : text);
  return line.substr(0, line.find('\n'));
}

}  // namespace

// The library's interface, nftables/libnftables.h, stable since 0.9.
struct Nftables::Library {
  using Context = void;
  void* handle = nullptr;
  Context* context = nullptr;
  Context* (*ctx_new)(uint32_t) = nullptr;
  void (*ctx_free)(Context*) = nullptr;
  void (*set_flags)(Context*, unsigned) = nullptr;
  int (*buffer_output)(Context*) = nullptr;
  int (*buffer_error)(Context*) = nullptr;
  const char* (*get_output)(Context*) = nullptr;
  const char* (*get_error)(Context*) = nullptr;
  int (*run)(Context*, const char*) = nullptr;

  template <class Function>
  bool find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(handle, name));
    return function != nullptr;
  }
  bool find_all() {
    return find("nft_ctx_new", ctx_new) && find("nft_ctx_free", ctx_free) &&
           find("nft_ctx_output_set_flags", set_flags) && find("nft_ctx_buffer_output", buffer_output) &&
           find("nft_ctx_buffer_error", buffer_error) && find("nft_ctx_get_output_buffer", get_output) &&
           find("nft_ctx_get_error_buffer", get_error) && find("nft_run_cmd_from_buffer", run);
  }
  ~Library() {
    if (context != nullptr) ctx_free(context);
    if (handle != nullptr) ::dlclose(handle);
  }
};

Nftables::Nftables(std::unique_ptr<Library> library) : library_(std::move(library)) {}
Nftables::~Nftables() = default;

Result<std::unique_ptr<Nftables>> Nftables::load() {
  auto library = std::make_unique<Library>();
  library->handle = ::dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library->handle == nullptr) {
    const char* why = ::dlerror();
    return fail(Errc::kNotFound, std::string("libnftables cannot be loaded: ") + (why == nullptr ? "" : why));
  }
  if (!library->find_all()) return fail(Errc::kNotFound, "libnftables lacks functions that are needed");
  library->context = library->ctx_new(0);
  if (library->context == nullptr) return fail(Errc::kExhausted, "no memory for libnftables");
  library->set_flags(library->context, kOutputJson);
  library->buffer_output(library->context);
  library->buffer_error(library->context);
  return std::unique_ptr<Nftables>(new Nftables(std::move(library)));
}

Result<std::string> Nftables::run(const std::string& commands) {
  Library& library = *library_;
  const int code = library.run(library.context, commands.c_str());
  const std::string output = library.get_output(library.context);
  const std::string error = first_line(library.get_error(library.context));
  if (code == 0) return output;
  return fail(Errc::kUnavailable, error.empty() ? "nftables refuses the rules" : error);
}

}  // namespace tallygate::sidecar
