// JSON written piece by piece, for log lines and small documents; no tree, no allocation beyond the output.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tallygate {

// Appends the text between quotes. Control characters, quotes and backslashes are escaped; bytes that are not valid
// UTF-8 become U+FFFD, so that the output is always valid JSON.
void append_json_string(std::string& out, std::string_view text);
// The shortest text that reads back as the same number; null for infinities and NaN.
void append_json_number(std::string& out, double value);

// Writes one document; commas are its own affair. Keys and values must alternate as JSON wants it.
//   JsonWriter json; json.begin_object(); json.key("status"); json.value("ok"); json.end_object(); json.text();
class JsonWriter {
 public:
  void begin_object() { open('{'); }
  void end_object() { close('}'); }
  void begin_array() { open('['); }
  void end_array() { close(']'); }
  void key(std::string_view name);
  void value(std::string_view text);
  void value(const char* text) { value(std::string_view(text)); }
  void value(const std::string& text) { value(std::string_view(text)); }
  void value(bool flag);
  void value(int64_t number);
  void value(uint64_t number);
  void value(int number) { value(int64_t{number}); }
  void value(double number);
  void null();
  template <class T>
  void member(std::string_view name, const T& of) {
    key(name);
    value(of);
  }
  const std::string& text() const { return out_; }
  std::string take() { return std::move(out_); }

 private:
  void separate();
  void open(char bracket);
  void close(char bracket);
  std::string out_;
  bool needs_comma_ = false;
};

}  // namespace tallygate
