// Messages of application/vnd.amazon.eventstream, as AWS would write them.
#pragma once

#include <zlib.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tallygate::meter {

inline std::string big_endian(size_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

inline std::string aws_header(std::string_view name, std::string_view value) {
  return big_endian(name.size(), 1) + std::string(name) + '\x07' + big_endian(value.size(), 2) + std::string(value);
}

inline std::string aws_message_raw(std::string_view headers, std::string_view payload) {
  const auto crc = [](const std::string& bytes) {
    return big_endian(::crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())), 4);
  };
  std::string message = big_endian(16 + headers.size() + payload.size(), 4) + big_endian(headers.size(), 4);
  message += crc(message);
  message.append(headers).append(payload);
  return message + crc(message);
}

inline std::string aws_message(const std::vector<std::pair<std::string, std::string>>& headers,
                               std::string_view payload) {
  std::string all;
  for (const auto& [name, value] : headers) all += aws_header(name, value);
  return aws_message_raw(all, payload);
}

}  // namespace tallygate::meter
