#include "core/yaml/read.h"

#include "operator/manifest/formats.h"
#include "operator/manifest/read.h"
#include "operator/manifest/tree.h"

namespace tallygate::manifest {
namespace {

Fault syntax(const std::string& file, int line, std::string message, std::string fix) {
  return {file, line, "", "", Reason::kSyntax, std::move(message), std::move(fix)};
}

}  // namespace

std::vector<Node> parse_yaml(const std::string& file, std::string_view text, Faults* faults) {
  if (text.size() > kMaxFileBytes) {
    faults->push_back(syntax(file, 0, "larger than " + std::to_string(kMaxFileBytes >> 20) + " MiB", "split the file"));
    return {};
  }
  if (const int bad = first_bad_utf8_line(text); bad != 0) {
    faults->push_back(syntax(file, bad, "bytes that are not UTF-8 text", "save the file as UTF-8"));
    return {};
  }
  auto read = yaml::read(text, {kMaxNodesPerFile, kMaxDepth});
  if (read.fault) faults->push_back(syntax(file, read.fault->line, read.fault->message, read.fault->fix));
  return std::move(read.documents);
}

}  // namespace tallygate::manifest
