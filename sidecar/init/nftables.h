// libnftables, loaded when it is first needed: a running sidecar has no use for it.
#pragma once

#include <memory>
#include <string>

#include "core/result.h"

namespace tallygate::sidecar {

class Nftables {
 public:
  // kNotFound: the library is not installed.
  static Result<std::unique_ptr<Nftables>> load();
  ~Nftables();
  Nftables(const Nftables&) = delete;
  Nftables& operator=(const Nftables&) = delete;

  // Commands in the language of nft(8), as one transaction, in this process's network namespace. → what they print,
  // as JSON. kUnavailable: the kernel refuses; the message is the library's, shortened to one line.
  Result<std::string> run(const std::string& commands);

 private:
  struct Library;
  explicit Nftables(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace tallygate::sidecar
