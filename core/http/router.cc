#include "core/http/router.h"

#include <algorithm>
#include <map>

#include "core/result.h"

namespace tallygate::http {

// A tree by segment. Each pattern that ends here has handlers by method.
struct Router::Node {
  std::map<std::string, std::unique_ptr<Node>, std::less<>> literals;
  std::unique_ptr<Node> parameter, rest;
  std::string pattern;             // of the routes that end here
  std::vector<std::string> names;  // of its parameters, in order
  std::map<std::string, Endpoint> methods;
};

struct Router::Match {
  const Node* node = nullptr;
  std::vector<std::string> values;
};

namespace {

std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> segments;
  path.remove_prefix(1);
  while (true) {
    const size_t slash = path.find('/');
    segments.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return segments;
    path.remove_prefix(slash + 1);
  }
}

tl::unexpected<Response> refuse(const Problem& problem, Headers headers = {}) {
  return tl::unexpected<Response>(problem_response(problem, std::move(headers)));
}

std::string allowed(const std::map<std::string, Endpoint>& methods) {
  std::string out;
  for (const auto& [method, handler] : methods) {
    out += (out.empty() ? "" : ", ") + method;
    if (method == "GET" && methods.count("HEAD") == 0) out += ", HEAD";
  }
  return out;
}

}  // namespace

Router::Router() : root_(std::make_unique<Node>()) {}
Router::~Router() = default;
Router::Router(Router&&) noexcept = default;
Router& Router::operator=(Router&&) noexcept = default;

void Router::insert(std::string method, std::string pattern, Endpoint endpoint) {
  TG_ASSERT(pattern.starts_with('/') && is_token(method));
  Node* node = root_.get();
  std::vector<std::string> names;
  for (const std::string_view segment : split(pattern)) {
    if (!segment.starts_with('{')) {
      auto& next = node->literals[std::string(segment)];
      if (!next) next = std::make_unique<Node>();
      node = next.get();
      continue;
    }
    TG_ASSERT(segment.size() > 2 && segment.ends_with('}'));
    std::string_view name = segment.substr(1, segment.size() - 2);
    const bool takes_rest = name.ends_with("...");
    if (takes_rest) name.remove_suffix(3);
    TG_ASSERT(!takes_rest || pattern.ends_with(segment));
    names.emplace_back(name);
    auto& next = takes_rest ? node->rest : node->parameter;
    if (!next) next = std::make_unique<Node>();
    node = next.get();
  }
  // One spelling per place in the tree, so that a route's name is clear.
  TG_ASSERT(node->methods.empty() || node->pattern == pattern);
  TG_ASSERT(node->methods.count(method) == 0);
  node->pattern = std::move(pattern);
  node->names = std::move(names);
  node->methods.emplace(std::move(method), std::move(endpoint));
}

bool Router::descend(const Node& node, const std::vector<std::string>& segments, size_t at, Match& match) {
  if (at == segments.size()) {
    if (node.methods.empty()) return false;
    match.node = &node;
    return true;
  }
  if (const auto literal = node.literals.find(segments[at]); literal != node.literals.end()) {
    if (descend(*literal->second, segments, at + 1, match)) return true;
  }
  if (node.parameter && !segments[at].empty()) {
    match.values.push_back(segments[at]);
    if (descend(*node.parameter, segments, at + 1, match)) return true;
    match.values.pop_back();
  }
  if (!node.rest) return false;
  std::string rest = segments[at];
  for (size_t i = at + 1; i < segments.size(); ++i) rest += "/" + segments[i];
  match.values.push_back(std::move(rest));
  match.node = node.rest.get();
  return true;
}

tl::expected<const Endpoint*, Response> Router::find(Request& request) const {
  static constexpr size_t kSegmentsMax = 64;
  if (!request.path.starts_with('/')) return refuse({404, "NotFound", "There is nothing here."});
  std::vector<std::string> segments;
  for (const std::string_view raw : split(request.path)) {
    auto segment = percent_decode(raw);
    if (!segment || *segment == "." || *segment == ".." || segments.size() == kSegmentsMax) {
      return refuse({400, "MalformedPath", "The path has a broken escape or a dot segment."});
    }
    segments.push_back(std::move(*segment));
  }
  Match match;
  if (!descend(*root_, segments, 0, match)) return refuse({404, "NotFound", "There is nothing here."});
  request.route = match.node->pattern;
  for (size_t i = 0; i < match.values.size(); ++i) {
    request.params.emplace_back(match.node->names[i], std::move(match.values[i]));
  }
  const auto& methods = match.node->methods;
  auto found = methods.find(request.method);
  if (found == methods.end() && request.method == "HEAD") {
    found = methods.find("GET");
    request.head = found != methods.end();
  }
  if (found == methods.end()) {
    return refuse({405, "MethodNotAllowed", "This path does not take that method."}, {{"Allow", allowed(methods)}});
  }
  return &found->second;
}

}  // namespace tallygate::http
