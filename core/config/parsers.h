// Texts to typed values, for settings from flags, the environment and files. A parser that refuses says what is wrong
// and how to put it right; it never throws. Also usable alone: `duration_ms()("1m30s")`.
//
// A refusal may quote its input, escaped and shortened, except where the input may hold a password (url()): there it
// does not.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

namespace tallygate::config {

struct Refusal {
  std::string problem;  // "\"5\" has no unit"
  std::string fix;      // "write a duration such as 250ms, 5s, 1m30s or 24h"
};

template <class T>
using Parsed = tl::expected<T, Refusal>;

inline tl::unexpected<Refusal> refuse(std::string problem, std::string fix) {
  return tl::unexpected<Refusal>(Refusal{std::move(problem), std::move(fix)});
}

template <class T>
struct Parser {
  std::function<Parsed<T>(std::string_view)> parse;
  std::string placeholder;  // for the help, e.g. DURATION; empty for a switch, which takes no value
  // Whether this text holds a secret, so that it may come neither from the command line nor from a configuration file,
  // and is never shown. Null: never.
  std::function<bool(std::string_view)> holds_secret = nullptr;

  Parsed<T> operator()(std::string_view text) const { return parse(text); }
};

// Where to listen. An empty host means every address; port 0 lets the kernel choose.
struct ListenAddress {
  std::string host;
  uint16_t port = 0;
  bool operator==(const ListenAddress&) const = default;
};
std::string to_string(const ListenAddress& address);

struct Url {
  std::string text;              // as given: holds the password
  std::string scheme;            // lower case
  std::string user;              // percent-decoded
  std::string password;          // percent-decoded
  std::string host;              // without brackets; for postgresql with several hosts the list as given
  uint16_t port = 0;             // 0: not given
  std::string path;              // as given, with the leading slash; for unix the socket's path
  std::string query;             // without the question mark
  std::string redacted() const;  // for people and logs: user and password left out
};

// A Kubernetes object's address.
struct ObjectName {
  std::string space, name;
  bool operator==(const ObjectName&) const = default;
};

// A compound value such as dir:PATH: `tag` is "dir", `value` is "PATH".
struct Tagged {
  std::string tag, value;
  bool operator==(const Tagged&) const = default;
};

enum class Must : uint8_t { kNothing, kExist };

Parser<std::string> text(size_t length_min = 1, size_t length_max = 4096);
Parser<bool> boolean();  // a switch: --x, --no-x; elsewhere true, false, yes, no, on, off, 1, 0
Parser<int64_t> integer(int64_t min, int64_t max);
// "250ms", "5s", "1m30s", "24h", "7d"; whole milliseconds.
Parser<int64_t> duration_ms(int64_t min_ms = 0, int64_t max_ms = int64_t{366} * 24 * 3600 * 1000);
// "65536", "64KiB", "512MiB", "1GiB".
Parser<int64_t> byte_size(int64_t min, int64_t max);
Parser<ListenAddress> listen_address();
// An address to dial: as above, but with a host and a port.
Parser<ListenAddress> host_port();
// Schemes without "://": {"redis", "rediss", "unix", "postgresql", "https"}.
Parser<Url> url(std::vector<std::string> schemes);
Parser<ObjectName> object_name();
Parser<std::string> directory(Must must = Must::kNothing);
Parser<std::string> file(Must must = Must::kNothing);
// {"dir", "PATH"} accepts dir:PATH; {"none", ""} the bare word; {"kubernetes", "[FILE]"} both forms.
Parser<Tagged> tagged(std::vector<std::pair<std::string, std::string>> tags);
Parser<size_t> choice_index(std::vector<std::string> words);

// Whether what is sent there stays on this machine.
bool is_loopback(const std::string& host);

// An integer that fits a smaller type.
template <class T>
Parser<T> integer_as(T min, T max) {
  auto base = integer(static_cast<int64_t>(min), static_cast<int64_t>(max));
  return {[base](std::string_view in) { return base(in).map([](int64_t v) { return static_cast<T>(v); }); },
          base.placeholder};
}

// One of the words, each standing for a value.
template <class T>
Parser<T> one_of(std::vector<std::pair<std::string, T>> choices) {
  std::vector<std::string> words;
  for (const auto& [word, value] : choices) words.push_back(word);
  auto base = choice_index(std::move(words));
  return {[base, choices](std::string_view in) { return base(in).map([&](size_t i) { return choices[i].second; }); },
          base.placeholder};
}

// Splits at the separator ('\0': not at all), drops white space around items. An option with a list may be repeated.
std::vector<std::string_view> split_items(std::string_view list, char separator);

template <class T>
Parser<std::vector<T>> list_of(Parser<T> item, char separator = ',') {
  auto parse = [item, separator](std::string_view in) -> Parsed<std::vector<T>> {
    std::vector<T> all;
    std::optional<Refusal> refusal;  // of every item that is refused
    for (const auto part : split_items(in, separator)) {
      auto one = item(part);
      if (one) {
        all.push_back(std::move(*one));
      } else if (refusal) {
        refusal->problem += "; " + one.error().problem;
      } else {
        refusal = std::move(one.error());
      }
    }
    if (refusal) return tl::unexpected<Refusal>(std::move(*refusal));
    return all;
  };
  return {std::move(parse), item.placeholder + (separator == '\0' ? "" : std::string(1, separator) + "..."),
          item.holds_secret};
}

// The text between quotes, control characters escaped, shortened to about 60 bytes.
std::string quoted(std::string_view text);
// The candidate that `word` was probably meant to be; empty if none is near.
std::string_view nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace tallygate::config
