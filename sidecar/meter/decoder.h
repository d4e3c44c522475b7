// Content codings (RFC 9110 8.4.1), undone to count what passes: the body itself goes on as it came.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace tallygate::meter {

enum class Coding : uint8_t {
  kIdentity,
  kGzip,
  kDeflate,  // with zlib's wrapper as the RFC says, or raw as some servers send it
  kBrotli,
  kZstd,
  kUnknown,  // another one, or several in a row
};
// Of a Content-Encoding field; empty is kIdentity.
Coding coding_of(std::string_view content_encoding);
// What a request may offer an app whose answers are to be counted: "gzip, deflate, br, zstd".
inline constexpr std::string_view kReadableCodings = "gzip, deflate, br, zstd";

class Decoder {
 public:
  struct Limits {
    uint64_t bytes_max = 256ull * 1024 * 1024;  // decoded
    uint32_t ratio_max = 1'100;  // decoded to coded, once kRatioFrom bytes are decoded; deflate ends at 1,032
  };
  static constexpr uint64_t kRatioFrom = 1024 * 1024;
  // Memory of a window: 8 MiB for zstd (RFC 9659), 16 MiB at most for br, 32 KiB for the others.
  static constexpr int kZstdWindowLog = 23;

  enum class Step : uint8_t {
    kMore,  // all that was given is read
    kData,  // `decoded` bytes are in `out`
    // Nothing more comes, what was decoded before stands:
    kMalformed,  // broken from here on
    kTooLarge,   // past Limits::bytes_max
    kBomb,       // past Limits::ratio_max
    kTrailing,   // complete, but something follows that is no further member
    kTruncated,  // finish(): the body ended in the middle
  };

  explicit Decoder(Coding coding) : Decoder(coding, Limits()) {}
  Decoder(Coding coding, Limits limits);  // not kUnknown
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  // Takes from the front of `coded`, until kMore. An error stays.
  Step next(std::string_view& coded, std::span<char> out, size_t& decoded);
  // After the last kMore: kMore where the body is complete, or an error.
  Step finish();
  uint64_t decoded_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tallygate::meter
