// Chooses a handler by path and method.
//
//   http::Router router;
//   router.add("GET", "/v1/tenants/{tenant}/balance", [&](const http::Request& r) { return balance(r.param("tenant"));
//   }); router.add("GET", "/ui/{file...}", serve_file);   // the last segment may take the rest of the path, slashes
//   and all
//
// A literal segment beats a {parameter}, which beats a {rest...}; a parameter matches one segment that is not empty. An
// unknown path is a 404, a known one with another method a 405 with Allow; a path with a broken escape or a "." or ".."
// segment is a 400. HEAD is answered by the GET handler, without the body.
// Threading: add() before the server starts; afterwards handle() runs on many threads at once, and so do the handlers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/http/message.h"

namespace tallygate::http {

using Handler = std::function<Response(const Request&)>;

class Router {
 public:
  Router();
  ~Router();
  Router(Router&&) noexcept;
  Router& operator=(Router&&) noexcept;

  // Asserts that the pattern is well-formed and new.
  void add(std::string method, std::string pattern, Handler handler);
  // Fills the request's params and route.
  Response handle(Request& request) const;

 private:
  struct Node;
  struct Match;
  static bool find(const Node& node, const std::vector<std::string>& segments, size_t at, Match& match);
  std::unique_ptr<Node> root_;
};

}  // namespace tallygate::http
