#include "core/redis_client/reply.h"

#include <charconv>

namespace tallygate::redis {

int64_t Reply::to_integer(int64_t otherwise) const {
  if (type == Type::kInteger) return integer;
  if (!is_text()) return otherwise;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : otherwise;
}

}  // namespace tallygate::redis
