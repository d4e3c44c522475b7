// What to do about an error reply of Redis that comes of how the server is set up, or of what our user may do there.
#pragma once

#include <string>
#include <string_view>

namespace tallygate::redis {

// Empty where nothing is known that helps.
std::string advice(std::string_view error_reply);

// The reply, with the advice behind it.
std::string with_advice(std::string_view error_reply);

}  // namespace tallygate::redis
