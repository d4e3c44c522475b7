// Texts as the API takes and gives them: moments, identifiers, cursors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tallygate::api {

// RFC 3339: "2026-11-21T10:07:46.5Z", any offset; years 1970 to 9999, no leap second. Nanoseconds since the epoch, at
// most until the year 2262.
std::optional<int64_t> parse_moment(std::string_view text);
// "2026-11-21T10:07:46.123456Z"; no fraction where it is 0.
std::string format_moment(int64_t wall_ns);
// The same from PostgreSQL's "2026-11-21 10:07:46.123456+00"; empty stays empty.
std::string format_moment_sql(std::string_view text);

// UTF-8 without control characters: PostgreSQL and logs take it.
bool is_clean_text(std::string_view text);
// 1 to 255 visible ASCII characters.
bool is_key(std::string_view text);

// Cursors mean nothing to clients; `kind` keeps those of one list from another.
std::string make_cursor(char kind, int64_t id);
std::optional<int64_t> read_cursor(char kind, std::string_view text);

// Digits only, within the bounds.
std::optional<int64_t> parse_integer(std::string_view text, int64_t min, int64_t max);

}  // namespace tallygate::api
