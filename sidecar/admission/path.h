// Paths as routes match them. The app gets the path as it came; but many an app reads "/v1/%63hat", "//v1/chat" and
// "/x/../v1/chat" as "/v1/chat", and must not be reached past the route of that name.
#pragma once

#include <string>
#include <string_view>

namespace tallygate::sidecar {

// `path` in its plain form: percent-encodings of unreserved characters decoded (RFC 3986, 6.2.2.2), runs of slashes made
// one, "." and ".." segments resolved (RFC 3986, 5.2.4). `room` holds the answer where it differs from `path`.
std::string_view plain_path(std::string_view path, std::string* room);

}  // namespace tallygate::sidecar
