// Recognises the field names that the proxy acts upon.
#pragma once

#include <cstring>
#include <type_traits>

#include "core/http1/head.h"

namespace tallygate::http1 {

namespace detail {
// `name` holds token characters only, so that or-ing 0x20 lowers letters and cannot turn anything else into one, nor
// into '-' or a digit. Eight or four bytes at a time, the last ones overlapping.
template <size_t N>
inline bool same_name(const char* name, const char (&lower_name)[N]) {
  constexpr size_t kSize = N - 1;
  if constexpr (kSize < 4) {
    for (size_t i = 0; i < kSize; ++i) {
      if ((name[i] | 0x20) != lower_name[i]) return false;
    }
    return true;
  } else {
    using Block = std::conditional_t < kSize<8, uint32_t, uint64_t>;
    constexpr size_t kBlock = sizeof(Block);
    const auto block = [&](size_t at) {
      Block a, b;
      std::memcpy(&a, name + at, kBlock);
      std::memcpy(&b, lower_name + at, kBlock);
      return (a | static_cast<Block>(0x2020202020202020)) == b;
    };
    for (size_t at = 0; at + kBlock <= kSize; at += kBlock) {
      if (!block(at)) return false;
    }
    return kSize % kBlock == 0 || block(kSize - kBlock);
  }
}
}  // namespace detail

inline FieldId field_id(const char* name, size_t size) {
  using detail::same_name;
  switch (size) {
    case 2:
      return same_name(name, "te") ? FieldId::kTe : FieldId::kOther;
    case 3:
      return same_name(name, "via") ? FieldId::kProtected : FieldId::kOther;
    case 4:
      return same_name(name, "host") ? FieldId::kHost : FieldId::kOther;
    case 6:
      if (same_name(name, "expect")) return FieldId::kExpect;
      return same_name(name, "cookie") ? FieldId::kProtected : FieldId::kOther;
    case 7:
      return same_name(name, "upgrade") ? FieldId::kUpgrade : FieldId::kOther;
    case 9:
      return same_name(name, "forwarded") || same_name(name, "x-real-ip") ? FieldId::kProtected : FieldId::kOther;
    case 10:
      if (same_name(name, "connection")) return FieldId::kConnection;
      if (same_name(name, "set-cookie")) return FieldId::kProtected;
      return same_name(name, "keep-alive") ? FieldId::kKeepAlive : FieldId::kOther;
    case 12:
      if (same_name(name, "x-request-id")) return FieldId::kRequestId;
      return same_name(name, "content-type") ? FieldId::kProtected : FieldId::kOther;
    case 13:
      return same_name(name, "authorization") || same_name(name, "cache-control") ? FieldId::kProtected
                                                                                  : FieldId::kOther;
    case 14:
      if (same_name(name, "http2-settings")) return FieldId::kHttp2Settings;
      return same_name(name, "content-length") ? FieldId::kContentLength : FieldId::kOther;
    case 15:
      return same_name(name, "x-forwarded-for") ? FieldId::kForwardedFor : FieldId::kOther;
    case 16:
      if (same_name(name, "content-encoding") || same_name(name, "x-forwarded-host")) return FieldId::kProtected;
      return same_name(name, "proxy-connection") ? FieldId::kProxyConnection : FieldId::kOther;
    case 17:
      if (same_name(name, "transfer-encoding")) return FieldId::kTransferEncoding;
      return same_name(name, "x-forwarded-proto") ? FieldId::kForwardedProto : FieldId::kOther;
    case 18:
      return same_name(name, "proxy-authenticate") ? FieldId::kProxyAuthenticate : FieldId::kOther;
    case 19:
      return same_name(name, "proxy-authorization") ? FieldId::kProxyAuthorization : FieldId::kOther;
    default:
      return FieldId::kOther;
  }
}

}  // namespace tallygate::http1
