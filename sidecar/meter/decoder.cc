#include "sidecar/meter/decoder.h"

#include <brotli/decode.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <string>
#include <utility>

#include "core/result.h"

namespace tallygate::meter {

using Step = Decoder::Step;

namespace {

struct InflateEnd {
  void operator()(z_stream* stream) const {
    inflateEnd(stream);
    delete stream;
  }
};
struct BrotliEnd {
  void operator()(BrotliDecoderState* state) const { BrotliDecoderDestroyInstance(state); }
};
struct ZstdEnd {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

constexpr int kGzipWindow = 15 + 16, kZlibWindow = 15, kRawWindow = -15;

std::unique_ptr<z_stream, InflateEnd> make_inflate(int window) {
  std::unique_ptr<z_stream, InflateEnd> stream(new z_stream{});
  TG_ASSERT(inflateInit2(stream.get(), window) == Z_OK);
  return stream;
}

// The first two bytes of zlib's wrapper (RFC 1950 2.2). A raw stream that begins so would be a stored block with a bit
// set in its padding, which compressors leave zero.
bool begins_zlib(unsigned char first, unsigned char second) {
  return (first & 0x0f) == 8 && (first >> 4) <= 7 && (first * 256 + second) % 31 == 0;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

}  // namespace

Coding coding_of(std::string_view content_encoding) {
  std::string name;
  for (const char c : content_encoding) {
    if (c != ' ' && c != '\t') name += lower(c);
  }
  if (name.empty() || name == "identity") return Coding::kIdentity;
  if (name == "gzip" || name == "x-gzip") return Coding::kGzip;
  if (name == "deflate") return Coding::kDeflate;
  if (name == "br") return Coding::kBrotli;
  return name == "zstd" ? Coding::kZstd : Coding::kUnknown;
}

struct Decoder::State {
  Coding coding = Coding::kIdentity;
  Limits limits;
  Step error = Step::kMore, error_due = Step::kMore;  // due: what was decoded before it goes first
  uint64_t coded = 0, decoded = 0;
  bool complete = true;  // nothing is missing: at the start of an empty body too
  bool ended = false;    // one member is complete
  std::unique_ptr<z_stream, InflateEnd> inflate{};
  std::unique_ptr<BrotliDecoderState, BrotliEnd> brotli{};
  std::unique_ptr<ZSTD_DStream, ZstdEnd> zstd{};
  int first_byte = -1;  // deflate: held until the second tells which form it is

  Step decode(std::string_view& in, std::span<char> out, size_t& size);
  Step run_inflate(std::string_view& in, std::span<char> out, size_t& size);
  Step inflate_some(std::string_view& in, std::span<char> out, size_t& size);
  Step run_brotli(std::string_view& in, std::span<char> out, size_t& size);
  Step run_zstd(std::string_view& in, std::span<char> out, size_t& size);
};

Decoder::Decoder(Coding coding, Limits limits) : state_(std::make_unique<State>()) {
  TG_ASSERT(coding != Coding::kUnknown);
  state_->coding = coding;
  state_->limits = limits;
  if (coding == Coding::kGzip) state_->inflate = make_inflate(kGzipWindow);
  if (coding == Coding::kBrotli) {
    state_->brotli.reset(BrotliDecoderCreateInstance(nullptr, nullptr, nullptr));
    TG_ASSERT(state_->brotli != nullptr);
  }
  if (coding == Coding::kZstd) {
    state_->zstd.reset(ZSTD_createDStream());
    TG_ASSERT(state_->zstd != nullptr);
    TG_ASSERT(ZSTD_isError(ZSTD_DCtx_setParameter(state_->zstd.get(), ZSTD_d_windowLogMax, kZstdWindowLog)) == 0);
  }
}

Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

uint64_t Decoder::decoded_bytes() const { return state_->decoded; }

Step Decoder::next(std::string_view& coded, std::span<char> out, size_t& decoded) {
  TG_ASSERT(!out.empty());
  State& s = *state_;
  decoded = 0;
  if (s.error != Step::kMore) {
    coded = {};
    return s.error;
  }
  const size_t before = coded.size();
  Step step = s.error_due;
  while (step == Step::kMore) {
    step = s.decode(coded, out, decoded);
    if (coded.empty()) break;
  }
  s.coded += before - coded.size();
  s.decoded += decoded;
  if (step != Step::kMore && decoded != 0) {
    if (step != Step::kData) s.error_due = step;
    const bool bomb = s.decoded > kRatioFrom && s.decoded / s.limits.ratio_max > s.coded;
    if (s.decoded <= s.limits.bytes_max && !bomb) return Step::kData;
    decoded = 0;
    step = bomb ? Step::kBomb : Step::kTooLarge;
  }
  if (step != Step::kMore) {
    s.error = step;
    coded = {};
  }
  return step;
}

Step Decoder::finish() {
  State& s = *state_;
  if (s.error == Step::kMore && !s.complete) s.error = Step::kTruncated;
  return s.error;
}

Step Decoder::State::decode(std::string_view& in, std::span<char> out, size_t& size) {
  switch (coding) {
    case Coding::kIdentity:
      size = in.copy(out.data(), out.size());
      in.remove_prefix(size);
      return size == 0 ? Step::kMore : Step::kData;
    case Coding::kGzip:
    case Coding::kDeflate:
      return run_inflate(in, out, size);
    case Coding::kBrotli:
      return run_brotli(in, out, size);
    default:
      return run_zstd(in, out, size);
  }
}

Step Decoder::State::run_inflate(std::string_view& in, std::span<char> out, size_t& size) {
  if (inflate == nullptr) {  // deflate: which form?
    if (in.empty()) return Step::kMore;
    complete = false;
    if (first_byte < 0) {
      first_byte = static_cast<unsigned char>(in[0]);
      in.remove_prefix(1);
      if (in.empty()) return Step::kMore;
    }
    const auto first = static_cast<unsigned char>(first_byte);
    inflate = make_inflate(begins_zlib(first, static_cast<unsigned char>(in[0])) ? kZlibWindow : kRawWindow);
    const char held = static_cast<char>(first);
    std::string_view one(&held, 1);
    const Step step = inflate_some(one, out, size);
    if (step != Step::kMore) return step;
  }
  while (ended && !in.empty()) {
    // RFC 1952 2.2: members follow each other. Nothing else may follow.
    if (coding != Coding::kGzip || in[0] != '\x1f') return Step::kTrailing;
    inflateReset(inflate.get());
    ended = false;
  }
  return inflate_some(in, out, size);
}

Step Decoder::State::inflate_some(std::string_view& in, std::span<char> out, size_t& size) {
  z_stream& z = *inflate;
  if (ended) return Step::kMore;
  if (!in.empty()) complete = false;
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
  z.avail_in = static_cast<uInt>(std::min<size_t>(in.size(), 1u << 30));
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(std::min<size_t>(out.size(), 1u << 30));
  const uInt room = z.avail_out, given = z.avail_in;
  const int code = ::inflate(&z, Z_NO_FLUSH);
  in.remove_prefix(given - z.avail_in);
  size = room - z.avail_out;
  if (code == Z_STREAM_END) ended = complete = true;
  if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return Step::kMalformed;
  return size != 0 ? Step::kData : Step::kMore;
}

Step Decoder::State::run_brotli(std::string_view& in, std::span<char> out, size_t& size) {
  if (ended) return in.empty() ? Step::kMore : Step::kTrailing;
  if (!in.empty()) complete = false;
  size_t left = in.size(), room = out.size();
  auto* from = reinterpret_cast<const uint8_t*>(in.data());
  auto* to = reinterpret_cast<uint8_t*>(out.data());
  const auto result = BrotliDecoderDecompressStream(brotli.get(), &left, &from, &room, &to, nullptr);
  in.remove_prefix(in.size() - left);
  size = out.size() - room;
  if (result == BROTLI_DECODER_RESULT_ERROR) return Step::kMalformed;
  if (result == BROTLI_DECODER_RESULT_SUCCESS) ended = complete = true;
  return size != 0 ? Step::kData : Step::kMore;
}

// Frames follow each other, some of them to be skipped: the library's affair.
Step Decoder::State::run_zstd(std::string_view& in, std::span<char> out, size_t& size) {
  ZSTD_inBuffer from{in.data(), in.size(), 0};
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  if (in.empty() && complete) return Step::kMore;
  const size_t result = ZSTD_decompressStream(zstd.get(), &to, &from);
  size = to.pos;
  if (ZSTD_isError(result) != 0) {
    const bool no_frame = ended && complete && ZSTD_getErrorCode(result) == ZSTD_error_prefix_unknown;
    in = {};
    return no_frame ? Step::kTrailing : Step::kMalformed;
  }
  in.remove_prefix(from.pos);
  complete = result == 0;
  ended |= complete;
  return size != 0 ? Step::kData : Step::kMore;
}

}  // namespace tallygate::meter
