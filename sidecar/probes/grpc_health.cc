#include "sidecar/probes/grpc_health.h"

#include <algorithm>
#include <utility>

namespace tallygate::sidecar {
namespace {

enum Frame : uint8_t { kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6, kGoAway = 7 };
constexpr uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8;
constexpr size_t kHeadBytes = 9, kPayloadMax = 16'384, kTextMax = 120;  // a length of seven bits in HPACK

void append_frame(std::string* out, uint8_t type, uint8_t flags, char stream, std::string_view payload) {
  const auto size = static_cast<uint32_t>(payload.size());
  for (const int shift : {16, 8, 0}) out->push_back(static_cast<char>(size >> shift & 0xff));
  out->push_back(static_cast<char>(type));
  out->push_back(static_cast<char>(flags));
  out->append({0, 0, 0, stream});
  out->append(payload);
}

void append_text(std::string* out, std::string_view text) {
  text = text.substr(0, kTextMax);
  out->push_back(static_cast<char>(text.size()));  // not Huffman-coded
  out->append(text);
}

// RFC 7541, 6.2.2: a field that is not indexed; its name by an index below 15 of the static table, or as a text.
void append_field(std::string* out, char name_index, std::string_view name, std::string_view value) {
  out->push_back(name_index);
  if (name_index == 0) append_text(out, name);
  append_text(out, value);
}

// HealthCheckResponse: field 1, a varint; 1 is SERVING. Absent means 0, UNKNOWN.
bool is_serving(std::string_view message) { return message.size() >= 2 && message[0] == 0x08 && message[1] == 1; }

}  // namespace

std::string GrpcHealthCall::request(const std::string& authority, const std::string& service) {
  std::string fields = "\x83\x86";  // :method POST, :scheme http
  append_field(&fields, 4, "", "/grpc.health.v1.Health/Check");
  append_field(&fields, 1, "", authority);
  append_field(&fields, 0, "content-type", "application/grpc");
  append_field(&fields, 0, "te", "trailers");
  std::string message;
  if (!service.empty()) {
    message.push_back(0x0a);  // field 1, a text
    append_text(&message, service);
  }
  std::string data(4, '\0');  // not compressed; the length's upper bytes
  data.push_back(static_cast<char>(message.size()));
  data += message;

  std::string out = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  append_frame(&out, kSettings, 0, 0, "");
  append_frame(&out, kHeaders, kEndHeaders, 1, fields);
  append_frame(&out, kData, kEndStream, 1, data);
  return out;
}

std::string GrpcHealthCall::replies() { return std::exchange(replies_, {}); }

Result<std::optional<bool>> GrpcHealthCall::take(std::string_view bytes) {
  unread_ += bytes;
  while (unread_.size() >= kHeadBytes) {
    const auto byte = [this](size_t i) { return static_cast<uint8_t>(unread_[i]); };
    const size_t size = static_cast<size_t>(byte(0)) << 16 | static_cast<size_t>(byte(1)) << 8 | byte(2);
    if (size > kPayloadMax) return fail(Errc::kInvalid, "the app does not speak gRPC on this port");
    if (unread_.size() < kHeadBytes + size) break;
    auto answer = frame(byte(3), byte(4), std::string_view(unread_).substr(kHeadBytes, size));
    if (!answer || answer->has_value()) return answer;
    unread_.erase(0, kHeadBytes + size);
  }
  return std::nullopt;
}

Result<std::optional<bool>> GrpcHealthCall::frame(uint8_t type, uint8_t flags, std::string_view payload) {
  switch (type) {
    case kSettings:
      if ((flags & kAck) == 0) append_frame(&replies_, kSettings, kAck, 0, "");
      break;
    case kPing:
      if ((flags & kAck) == 0) append_frame(&replies_, kPing, kAck, 0, payload);
      break;
    case kReset:
    case kGoAway:
      return fail(Errc::kInvalid, "the app refuses the health check");
    case kData: {
      if ((flags & kPadded) != 0 && !payload.empty()) {
        const size_t padding = static_cast<uint8_t>(payload[0]);
        payload.remove_prefix(1);
        payload.remove_suffix(std::min(padding, payload.size()));
      }
      message_ += payload;
      // A byte and the length go before the message.
      if (message_.size() < 5) break;
      const size_t size = static_cast<uint8_t>(message_[4]);
      if (message_.compare(0, 4, std::string(4, '\0')) != 0) return fail(Errc::kInvalid, "no answer to a health check");
      if (message_.size() < 5 + size) break;
      return std::optional(is_serving(std::string_view(message_).substr(5, size)));
    }
    case kHeaders:
      // Trailers without an answer: not implemented, an unknown service.
      if ((flags & kEndStream) != 0) return fail(Errc::kInvalid, "the app does not know this health check");
      break;
    default:
      break;
  }
  return std::nullopt;
}

}  // namespace tallygate::sidecar
