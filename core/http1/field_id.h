// Recognises the field names that the proxy acts upon.
#pragma once

#include <cstring>

#include "core/http1/head.h"

namespace tallygate::http1 {

namespace detail {
// `name` holds token characters only, so that or-ing 0x20 lowers letters and cannot turn anything else into one, nor
// into '-' or a digit. Eight bytes at a time, the last eight overlapping.
template <size_t N>
inline bool same_name(const char* name, const char (&lower_name)[N]) {
  constexpr size_t kSize = N - 1;
  constexpr uint64_t kLower = 0x2020202020202020;
  if constexpr (kSize < 8) {
    for (size_t i = 0; i < kSize; ++i) {
      if ((name[i] | 0x20) != lower_name[i]) return false;
    }
    return true;
  } else {
    const auto block = [&](size_t at) {
      uint64_t a, b;
      std::memcpy(&a, name + at, 8);
      std::memcpy(&b, lower_name + at, 8);
      return (a | kLower) == b;
    };
    for (size_t at = 0; at + 8 <= kSize; at += 8) {
      if (!block(at)) return false;
    }
    return kSize % 8 == 0 || block(kSize - 8);
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
