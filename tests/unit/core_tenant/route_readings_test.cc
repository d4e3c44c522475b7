// Whatever a path is made of: if a route is found for it, then every stack of a list that is written here by itself,
// naively and without a look at core/path, gets to that route.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "core/env.h"
#include "core/tenant/route_table.h"

namespace tallygate::tenant {
namespace {

using Text = std::string;
using Parts = std::vector<Text>;

Parts split(const Text& text, char by) {
  Parts parts(1);
  for (const char c : text) {
    if (c == by)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

Text join(const Parts& parts) {
  Text text;
  for (const Text& part : parts) text += "/" + part;
  return text.empty() ? "/" : text;
}

// Without the empty text before the first slash.
Parts segments(const Text& path) {
  Parts parts = split(path, '/');
  parts.erase(parts.begin());
  return parts;
}

Text unescape(const Text& path, const Text& but = "") {
  Text out;
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '%' && i + 2 < path.size() && isxdigit(path[i + 1]) && isxdigit(path[i + 2])) {
      const char c = static_cast<char>(std::stoi(path.substr(i + 1, 2), nullptr, 16));
      if (but.find(c) == Text::npos) {
        out += c;
        i += 2;
        continue;
      }
    }
    out += path[i];
  }
  return out;
}

Text all(const Text& path) { return unescape(path); }
Text decode_uri(const Text& path) { return unescape(path, ";/?:@&=+$,#"); }
Text all_but_slash(const Text& path) { return unescape(path, "/"); }
Text all_but_percent(const Text& path) { return unescape(path, "%"); }
Text backslashes(Text path) {
  std::replace(path.begin(), path.end(), '\\', '/');
  return path;
}
Text without_parameters(const Text& path) {
  Parts parts = segments(path);
  for (Text& part : parts) part = split(part, ';')[0];
  return join(parts);
}
Text merged(Text path) {
  for (size_t at; (at = path.find("//")) != Text::npos;) path.erase(at, 1);
  return path;
}
Text before_semicolon(const Text& path) { return split(path, ';')[0]; }
Text before_query(const Text& path) { return split(split(path, '?')[0], '#')[0]; }
Text without_authority(Text path) {
  if (!path.starts_with("//")) return path;
  path.erase(0, path.find_first_not_of('/'));
  path.erase(0, path.find('/'));
  return path.empty() ? "/" : path;
}

// ".." at the root stays there, as browsers have it. `escaped`: as WHATWG URLs do, "%2e" is a dot in a dot segment.
Text dots(const Text& path, bool escaped) {
  Parts out;
  const Parts in = segments(path);
  for (size_t i = 0; i < in.size(); ++i) {
    Text part = in[i];
    for (const char* dot : {"%2e", "%2E"}) {
      for (size_t at; escaped && (at = part.find(dot)) != Text::npos;) part.replace(at, 3, ".");
    }
    if (part == "..") {
      if (!out.empty()) out.pop_back();
    } else if (part != ".") {
      out.push_back(in[i]);
      continue;
    }
    if (i + 1 == in.size()) out.emplace_back();
  }
  return join(out);
}
Text resolved(const Text& path) { return dots(path, false); }
Text url_resolved(const Text& path) { return dots(path, true); }

// Go's path.Clean: no slash at the end either.
Text cleaned(const Text& path) {
  Text out = resolved(merged(path));
  if (out.size() > 1 && out.back() == '/') out.pop_back();
  return out;
}

using Steps = std::vector<std::function<Text(const Text&)>>;

const std::vector<std::pair<const char*, Steps>>& stacks() {
  static const std::vector<std::pair<const char*, Steps>> kStacks = {
      {"as it comes", {}},
      {"decoded", {all}},
      {"decoded twice", {all, all}},
      {"nginx", {all, merged, resolved}},
      {"nginx, merge_slashes off", {all, resolved}},
      {"nginx, then an app that decodes again", {all, merged, resolved, all}},
      {"a proxy that resolves, an app that decodes", {resolved, all}},
      {"a proxy that resolves, an app that decodes and resolves", {resolved, all, resolved}},
      {"WHATWG URL", {backslashes, url_resolved}},
      {"WHATWG URL of a network path", {backslashes, without_authority, url_resolved}},
      {"WHATWG URL, decodeURI", {backslashes, url_resolved, decode_uri}},
      {"WHATWG URL, decodeURIComponent", {backslashes, url_resolved, all}},
      {"decodeURI", {decode_uri}},
      {"decodeURI, then resolved", {decode_uri, resolved}},
      {"urlsplit, unquote", {without_authority, all}},
      {"find-my-way", {before_semicolon, decode_uri}},
      {"find-my-way, slashes merged", {before_semicolon, merged, decode_uri}},
      {"Tomcat", {without_parameters, all, merged, resolved}},
      {"Tomcat, slashes passed through", {without_parameters, all_but_slash, merged, resolved}},
      {"Tomcat on Windows", {without_parameters, all, backslashes, merged, resolved}},
      {"Jetty", {resolved, without_parameters, all}},
      {"a servlet filter by getRequestURI", {before_semicolon, all}},
      {"parameters behind a decoder", {all, without_parameters, resolved}},
      {"Go's ServeMux", {all, cleaned}},
      {"Go's EscapedPath", {cleaned}},
      {"Apache, AllowEncodedSlashes NoDecode", {all_but_slash, merged, resolved}},
      {"IIS", {all, backslashes, merged, resolved}},
      {"IIS, allowDoubleEscaping", {all, all, backslashes, merged, resolved}},
      {"a rewrite that is parsed again", {all, before_query}},
      {"a rewrite that is parsed again and resolved", {all, before_query, merged, resolved}},
      {"percent signs left", {all_but_percent, resolved}},
      {"Envoy: normalize_path, merge_slashes, UNESCAPE", {resolved, merged, all}},
      {"Envoy, then nginx", {url_resolved, merged, all, merged, resolved}},
  };
  return kStacks;
}

Text run(const Steps& steps, Text path) {
  for (const auto& step : steps) path = step(path);
  return path;
}

// The table of routes, once more: an exact path with or without a slash at its end, or whole segments.
int naive_route(const Text& path) {
  if (path == "/health") return 0;
  if (path == "/v1/a:b") return 1;
  if (path == "/a" || path.starts_with("/a/")) return 2;
  if (path == "/v1/x" || path.starts_with("/v1/x/")) return 3;
  return 4;
}
Text lowered(Text path) {
  for (char& c : path) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
  return path;
}
int without_slash(const Text& path) {
  return naive_route(path.size() > 1 && path.back() == '/' ? path.substr(0, path.size() - 1) : path);
}

Policy policy() {
  Policy p;
  const std::pair<const char*, PathMatch> kRoutes[] = {{"/health", PathMatch::kExact},
                                                       {"/v1/a:b", PathMatch::kExact},
                                                       {"/a", PathMatch::kPrefix},
                                                       {"/v1/x", PathMatch::kPrefix}};
  for (const auto& [path, kind] : kRoutes) p.routes.emplace_back().matches.push_back({{}, kind, path});
  return p;
}

Text random_path(ManualEnv& rng) {
  static const char* const kPieces[] = {
      "/",     "/",    "/",     "/a",     "/v1", "/x",    "/health", "/v1/x",    "/v1/a:b", "/a/",   "..",
      ".",     "/..",  "/../",  "//",     "%2e", "%2E",   "%2e%2e",  "/%2e%2e/", "%2f",     "%2F",   "%5c",
      "\\",    ";",    ";x",    "%3b",    "%61", "%3A",   "%252e",   "%252f",    "%253b",   "%255c", "%25",
      "%3f",   "%23",  "%2561", "health", "b",   "%20",   "%c3%a9",  "%68ealth", "..;",     "/..;/", "/.;/",
      "%2e;x", "//b/", "/\\b/", "x",      "/A",  "/V1/x", "/HEALTH", "X",        "%41"};
  Text path = "/";
  for (uint64_t n = 1 + rng.random_below(8); n > 0; --n) path += kPieces[rng.random_below(std::size(kPieces))];
  return path;
}

TEST(RouteReadings, WhereARouteIsFoundEveryStackGetsToIt) {
  Policy p = policy();
  size_t admitted[3] = {}, moved = 0;
  for (const auto rule : {AmbiguousPath::kRefuseIfRoutesDiffer, AmbiguousPath::kRefuse, AmbiguousPath::kNormalise}) {
    p.paths.ambiguous = rule;
    const RouteTable table(p);
    ManualEnv rng(20'261'201);
    std::string room;
    for (int i = 0; i < 12'000; ++i) {
      const Text path = random_path(rng);
      const auto found = table.find("GET", path, &room);
      if (!found.fault.empty()) continue;
      ++admitted[static_cast<size_t>(rule)];
      const Text forwarded = found.forward.data() == nullptr ? path : Text(found.forward);
      moved += forwarded != path;
      const int charged = found.route == RouteTable::kDefaultRoute ? 4 : static_cast<int>(found.route);
      for (const auto& [name, steps] : stacks()) {
        const Text read = run(steps, forwarded);
        ASSERT_EQ(naive_route(read), charged) << path << " → " << forwarded << ", read as " << read << " by: " << name;
        ASSERT_EQ(without_slash(read), charged)
            << path << " → " << forwarded << ", read as " << read << " by: " << name;
        ASSERT_EQ(without_slash(lowered(read)), charged) << path << ", read as " << read << " whatever the case";
      }
    }
  }
  // The test would say nothing if nothing passed.
  EXPECT_GT(admitted[0], 1'500u);
  EXPECT_GT(admitted[1], 100u);
  EXPECT_GT(admitted[2], admitted[0]);
  EXPECT_GT(moved, 300u);
}

}  // namespace
}  // namespace tallygate::tenant
