// An independent reading of HTTP/1.1 messages for checking what the proxy sends: slow, plain, and sharing no code with
// it. Whatever is not exactly what the proxy may write is an error.
#pragma once

#include <cctype>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tallygate::testing {

struct StrictMessage {
  enum class State { kIncomplete, kComplete, kBroken };
  State state = State::kIncomplete;
  std::string why;        // of kBroken
  std::string start_line;
  std::vector<std::pair<std::string, std::string>> fields;  // names in lower case
  std::string body;       // decoded
  size_t size = 0;        // on the wire
  bool until_close = false;  // a response whose end is the connection's

  size_t count(const std::string& lower_name) const {
    size_t n = 0;
    for (const auto& field : fields) n += field.first == lower_name;
    return n;
  }
  std::string get(const std::string& lower_name) const {
    for (const auto& field : fields) {
      if (field.first == lower_name) return field.second;
    }
    return {};
  }
  int status() const { return start_line.size() >= 12 ? std::atoi(start_line.c_str() + 9) : 0; }
};

namespace strict_detail {

inline StrictMessage broken(StrictMessage message, std::string why) {
  message.state = StrictMessage::State::kBroken;
  message.why = std::move(why);
  return message;
}

inline bool is_token(std::string_view text) {
  for (const char c : text) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && std::string_view("!#$%&'*+-.^_`|~").find(c) == std::string::npos) {
      return false;
    }
  }
  return !text.empty();
}

// Fills body and size from the chunks at `at`; says why they are broken, or nothing.
inline std::string read_chunks(std::string_view bytes, size_t at, StrictMessage& message) {
  for (;;) {
    const size_t end = bytes.find("\r\n", at);
    if (end == std::string_view::npos) return {};
    const std::string_view digits = bytes.substr(at, end - at);
    if (digits.empty() || digits.size() > 15) return "chunk size";
    uint64_t size = 0;
    for (const char c : digits) {
      if (!std::isxdigit(static_cast<unsigned char>(c))) return "chunk size";
      size = size * 16 + static_cast<uint64_t>(std::isdigit(static_cast<unsigned char>(c)) ? c - '0' : (c | 32) - 'a' + 10);
    }
    at = end + 2;
    if (size == 0) break;
    if (bytes.size() - at < size + 2) return {};
    message.body.append(bytes.substr(at, size));
    if (bytes.substr(at + size, 2) != "\r\n") return "chunk end";
    at += size + 2;
  }
  for (;;) {  // trailers
    const size_t end = bytes.find("\r\n", at);
    if (end == std::string_view::npos) return {};
    const std::string_view line = bytes.substr(at, end - at);
    at = end + 2;
    if (line.empty()) break;
    if (!is_token(line.substr(0, line.find(':')))) return "trailer";
  }
  message.size = at;
  message.state = StrictMessage::State::kComplete;
  return {};
}

inline std::string read_fields(std::string_view head, StrictMessage& message) {
  for (const char c : head) {
    const auto u = static_cast<unsigned char>(c);
    if ((u < 0x20 && c != '\r' && c != '\n' && c != '\t') || u == 0x7f) return "control character";
  }
  size_t at = head.find("\r\n");
  message.start_line = head.substr(0, at);
  if (message.start_line.find_first_of("\r\n") != std::string::npos) return "line end";
  at += 2;
  while (at < head.size()) {
    const size_t end = head.find("\r\n", at);
    const std::string_view line = head.substr(at, end - at);
    at = end + 2;
    if (line.find_first_of("\r\n") != std::string_view::npos) return "line end";
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return "field name";
    if (line.size() < colon + 2 || line[colon + 1] != ' ') return "field is not 'Name: value'";
    std::string name(line.substr(0, colon));
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const std::string value(line.substr(colon + 2));
    if (!value.empty() && (std::isspace(value.front()) || std::isspace(value.back()))) return "white space in " + name;
    message.fields.emplace_back(std::move(name), value);
  }
  return {};
}

}  // namespace strict_detail

// The first message in `bytes`. `head_request`: a response to HEAD.
inline StrictMessage read_strict(std::string_view bytes, bool response, bool head_request = false) {
  using namespace strict_detail;
  StrictMessage message;
  const size_t blank = bytes.find("\r\n\r\n");
  if (blank == std::string_view::npos) return message;
  if (std::string why = read_fields(bytes.substr(0, blank + 2), message); !why.empty()) return broken(message, why);
  const std::string& line = message.start_line;
  if (response) {
    if (line.size() < 13 || line.substr(0, 9) != "HTTP/1.1 ") return broken(message, "status line");
  } else {
    const size_t first = line.find(' ');
    const size_t last = line.rfind(' ');
    if (first == last || first == std::string::npos || line.substr(last) != " HTTP/1.1" ||
        !is_token(line.substr(0, first)) || line.find(' ', first + 1) != last) {
      return broken(message, "request line");
    }
    const std::string target = line.substr(first + 1, last - first - 1);
    if (target != "*" && target[0] != '/') return broken(message, "target form");
    if (message.count("host") != 1) return broken(message, "host");
    for (const char* name : {"upgrade", "keep-alive", "proxy-connection", "proxy-authorization", "http2-settings"}) {
      if (message.count(name) != 0) return broken(message, std::string(name) + " was forwarded");
    }
  }
  const size_t encodings = message.count("transfer-encoding");
  const size_t lengths = message.count("content-length");
  if (encodings + lengths > 1) return broken(message, "framed twice");
  const size_t at = blank + 4;
  const int status = message.status();
  if (response && (head_request || status == 204 || status == 304 || status < 200)) {
    message.size = at;
    message.state = StrictMessage::State::kComplete;
    return message;
  }
  if (encodings == 1) {
    if (message.get("transfer-encoding") != "chunked") return broken(message, "transfer encoding");
    if (std::string why = read_chunks(bytes, at, message); !why.empty()) return broken(message, why);
    return message;
  }
  if (response && lengths == 0) {
    message.until_close = true;
    message.body = bytes.substr(at);
    message.size = bytes.size();
    message.state = StrictMessage::State::kComplete;
    return message;
  }
  uint64_t length = 0;
  if (lengths == 1) {
    const std::string text = message.get("content-length");
    if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos) {
      return broken(message, "content length");
    }
    length = std::stoull(text);
  }
  if (bytes.size() - at < length) return message;
  message.body = bytes.substr(at, length);
  message.size = at + length;
  message.state = StrictMessage::State::kComplete;
  return message;
}

}  // namespace tallygate::testing
