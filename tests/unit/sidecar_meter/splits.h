// What a reader makes of a text must not depend on how it comes: whole, byte by byte, in two parts at each place.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tallygate::meter {

using Pieces = std::vector<std::string_view>;

// `read` reads the pieces with a new reader and tells all that it found, as text. Returns what it told of the whole.
inline std::string same_at_each_split(std::string_view text, const std::function<std::string(const Pieces&)>& read) {
  const std::string whole = read({text});
  Pieces bytes;
  for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
  EXPECT_EQ(read(bytes), whole) << "byte by byte: " << text.substr(0, 200);
  for (size_t at = 1; at < text.size(); ++at) {
    const std::string parts = read({text.substr(0, at), text.substr(at)});
    if (parts == whole) continue;
    ADD_FAILURE() << "split at " << at << " of: " << text.substr(0, 200) << "\nread: " << parts << "\nnot:  " << whole;
    break;
  }
  return whole;
}

}  // namespace tallygate::meter
