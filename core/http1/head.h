// A strict, resumable, single-pass parser of HTTP/1.1 heads (RFC 9110, RFC 9112), in place.
//
// parse() is called with all bytes of the head that have arrived, from its first on; they may have moved since the last
// call, but not changed. Lines are parsed once each, and bytes of an unfinished line scanned once each, so a head that
// trickles in costs no more than one that comes whole, and the verdict does not depend on how the bytes were split.
// Everything is kept as offsets from the first byte.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/http1/limits.h"
#include "core/http1/parse_error.h"

namespace tallygate::http1 {

// Fields that the proxy acts upon; all others are kOther.
enum class FieldId : uint8_t {
  kOther,
  kHost,
  kContentLength,
  kTransferEncoding,
  kConnection,
  kKeepAlive,
  kProxyConnection,
  kTe,
  kUpgrade,
  kProxyAuthenticate,
  kProxyAuthorization,
  kHttp2Settings,
  kExpect,
  kForwardedFor,
  kForwardedProto,
  kRequestId,
  kProtected,  // end to end whatever Connection says: credentials, cookies, Forwarded, Via and the like
};

struct Field {
  uint32_t line;        // offset of the name
  uint32_t value;       // offset of the value without surrounding white space
  uint32_t value_size;  //
  uint16_t name_size;
  FieldId id;
  bool plain : 1;       // the line is exactly "name: value\r\n"
  bool hop_by_hop : 1;  // not to be forwarded
};
static_assert(sizeof(Field) == 16);

struct Slice {
  uint32_t offset = 0;
  uint32_t size = 0;
};

enum class Progress : uint8_t { kNeedMore, kComplete, kError };

class Head {
 public:
  enum class Kind : uint8_t { kRequest, kResponse, kTrailer };

  // Forgets the last head. Must precede the first parse().
  void start(Kind kind);
  Progress parse(const char* data, size_t size, const Limits& limits);
  ParseError error() const { return error_; }

  // The rest is valid after kComplete, with `data` as then.
  size_t size() const { return line_; }  // with the blank line
  std::string_view view(const char* data, Slice slice) const { return {data + slice.offset, slice.size}; }
  std::string_view name(const char* data, const Field& field) const { return {data + field.line, field.name_size}; }
  std::string_view value(const char* data, const Field& field) const { return {data + field.value, field.value_size}; }

  Slice method;  // request
  Slice path;    // request: as it is to be forwarded; empty stands for "/" ("*" with OPTIONS)
  Slice query;   // request: after the question mark
  bool has_query = false;
  Slice authority;  // request: of an absolute-form target, else of Host; may be empty on 1.0
  bool absolute_form = false;
  int status = 0;  // response
  Slice reason;    // response
  int minor_version = 1;
  int64_t content_length = -1;  // -1: no such field
  bool chunked = false;
  bool close = false;       // Connection: close
  bool keep_alive = false;  // Connection: keep-alive
  bool upgrade = false;     // Connection: upgrade, and Upgrade names something else than h2c
  bool te_trailers = false;
  bool has_expect = false;
  bool expect_continue = false;
  bool has_forwarded_for = false;
  bool has_forwarded_proto = false;
  bool lists_fields() const { return listed_count_ > 0; }  // Connection names fields, which are hop_by_hop thereby
  int request_id_count = 0;
  Slice request_id;  // the first
  size_t field_count = 0;
  std::array<Field, kFieldsCapacity> fields;

 private:
  static constexpr size_t kListedMax = 16;
  bool fail(ParseError error) {
    error_ = error;
    return false;
  }
  Progress failed(ParseError error) {
    error_ = error;
    return Progress::kError;
  }
  Progress wait(const char* data, const char* scanned, bool at_cap);
  Progress parse_first_line(const char* data, size_t size, const Limits& limits);
  Progress parse_fields(const char* data, size_t size, const Limits& limits);
  bool parse_request_line(const char* data, uint32_t end, const Limits& limits);
  bool parse_target(const char* data, uint32_t begin, uint32_t end);
  bool parse_absolute_target(const char* data, uint32_t begin, uint32_t end);
  bool set_path(const char* data, uint32_t begin, uint32_t end);
  bool parse_status_line(const char* data, uint32_t end);
  bool add_field(const char* data, const char* begin, const char* stop, const char* end, const Limits& limits);
  ParseError line_error(const char* begin, const char* colon, const char* stop) const;
  bool note_field(const char* data, Field& field);
  bool note_length(std::string_view value);
  bool note_connection(const char* data, const Field& field);
  bool finish(const char* data);
  void drop_listed(const char* data);

  Kind kind_ = Kind::kRequest;
  ParseError error_ = ParseError::kNone;
  bool first_line_done_ = false;
  bool skipped_blank_ = false;
  bool host_seen_ = false;
  bool connection_upgrade_ = false;
  bool upgrade_other_ = false;
  uint8_t listed_count_ = 0;
  uint32_t line_ = 0;                     // offset of the first line not yet parsed
  uint32_t scanned_ = 0;                  // up to here there is no control character after line_
  std::array<Slice, kListedMax> listed_;  // names in Connection
};

// Whether `text` is a host with an optional port (RFC 3986 3.2.2, 3.2.3), not empty, without userinfo.
bool valid_authority(std::string_view text);

}  // namespace tallygate::http1
