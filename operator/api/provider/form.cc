#include "operator/api/provider/form.h"

#include "core/http/message.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

constexpr size_t kParametersMax = 100, kBytesMax = 4096;

// Its values may hold line breaks: they are signed, so they must be decoded all the same.
std::optional<std::string> decode(std::string_view text) {
  auto decoded = http::percent_decode(text, true, true);
  if (!decoded || decoded->size() > kBytesMax) return std::nullopt;
  std::string without_breaks = *decoded;
  std::erase_if(without_breaks, [](char c) { return c == '\t' || c == '\n' || c == '\r'; });
  return is_clean_text(without_breaks) ? std::move(decoded) : std::nullopt;
}

}  // namespace

std::optional<std::map<std::string, std::string>> parse_form(std::string_view text) {
  std::map<std::string, std::string> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find('&'), text.size());
    const std::string_view pair = text.substr(0, end);
    const bool more = end < text.size();
    text.remove_prefix(more ? end + 1 : end);
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos || equals == 0 || out.size() == kParametersMax || (more && text.empty())) {
      return std::nullopt;
    }
    const auto name = decode(pair.substr(0, equals));
    const auto value = decode(pair.substr(equals + 1));
    if (!name || !value || !out.emplace(*name, *value).second) return std::nullopt;
  }
  return out;
}

}  // namespace tallygate::api
