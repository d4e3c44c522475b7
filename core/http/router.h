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
//
// A Handler may block: it runs on a worker. An AsyncHandler runs on the connection's I/O thread, must not block, and
// answers when it can (reply.h).
// Threading: add() before the server starts; afterwards find() runs on many threads at once, and so do the handlers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "core/http/message.h"
#include "core/http/reply.h"

namespace tallygate::http {

using Handler = std::function<Response(const Request&)>;
using AsyncHandler = std::function<void(const Request&, Reply)>;
// What the server does before a handler sees a request.
struct RouteRules {
  size_t body_bytes_max = 0;  // 0: the server's
  bool is_probe = false;      // answered even where all places are taken but the kept ones
  // Its body is read before it can be known whose it is: such ones have a quarter of the bodies' memory, so that
  // strangers cannot have all of it.
  bool is_for_strangers = false;
  // Called where the head is there and the body is still to come: the refusal, if it can be told already. On the
  // connection's I/O thread, must not block. The handler asks again: a request that came at once is not looked at
  // twice.
  std::function<std::optional<Response>(const Request&)> check_head = nullptr;
};
// One of the handlers.
struct Endpoint {
  Handler blocking;
  AsyncHandler async;
  RouteRules rules;
};

class Router {
 public:
  Router();
  ~Router();
  Router(Router&&) noexcept;
  Router& operator=(Router&&) noexcept;

  // Asserts that the pattern is well-formed and new.
  void add(std::string method, std::string pattern, Handler handler, RouteRules rules = {}) {
    insert(std::move(method), std::move(pattern), {std::move(handler), nullptr, std::move(rules)});
  }
  void add_async(std::string method, std::string pattern, AsyncHandler handler, RouteRules rules = {}) {
    insert(std::move(method), std::move(pattern), {nullptr, std::move(handler), std::move(rules)});
  }
  // Who answers the request; else the answer. Fills its params and route.
  tl::expected<const Endpoint*, Response> find(Request& request) const;

 private:
  struct Node;
  struct Match;
  void insert(std::string method, std::string pattern, Endpoint endpoint);
  static bool descend(const Node& node, const std::vector<std::string>& segments, size_t at, Match& match);
  std::unique_ptr<Node> root_;
};

}  // namespace tallygate::http
