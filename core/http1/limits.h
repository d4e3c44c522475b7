// Every bound on what a peer may send, in one place.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tallygate::http1 {

struct Limits {
  uint32_t request_line_bytes_max = 8 * 1024;       // beyond: 414
  uint32_t request_head_bytes_max = 16 * 1024;      // with the request line and the blank line; beyond: 431
  uint32_t response_head_bytes_max = 64 * 1024;     // beyond: 502
  uint32_t fields_max = 100;                        // at most kFieldsCapacity; beyond: 431, or 502
  uint32_t method_bytes_max = 32;                   // beyond: 501
  uint32_t chunk_extension_bytes_max = 256;         // of one chunk
  uint32_t chunk_extensions_bytes_max = 16 * 1024;  // of one message
  uint32_t trailer_bytes_max = 8 * 1024;            // of one message
};

inline constexpr size_t kFieldsCapacity = 128;

}  // namespace tallygate::http1
