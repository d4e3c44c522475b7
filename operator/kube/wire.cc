#include "operator/kube/wire.h"

#include <nlohmann/json.hpp>

#include "core/telemetry/json_text.h"
#include "operator/kube/json_scan.h"

namespace tallygate::kube {
namespace {

constexpr size_t kMessageBytesMax = 1024;

std::string api_version(const ResourceType& type) {
  return type.group.empty() ? type.version : type.group + "/" + type.version;
}

// The items of a list of built-in types go without.
std::string with_kind(std::string_view json, const ResourceType& type) {
  std::string out = R"({"kind":)";
  append_json_string(out, type.kind);
  out += R"(,"apiVersion":)";
  append_json_string(out, api_version(type));
  out += ',';
  out += json.substr(1);
  return out;
}

std::string_view member(std::string_view json, std::string_view name) {
  std::string_view found;
  json::each_member(json, [&](std::string_view key, std::string_view value) {
    if (key != name) return true;
    found = value;
    return false;
  });
  return found;
}

}  // namespace

void drop_managed_fields(Object& object) {
  const std::string_view metadata = member(object.json, "metadata");
  const std::string_view fields = member(metadata, "managedFields");
  if (fields.empty()) return;
  size_t begin = static_cast<size_t>(fields.data() - object.json.data());
  size_t end = begin + fields.size();
  // With its key, and the comma before it, or where it is the first one, behind it.
  begin = object.json.rfind("\"managedFields\"", begin);
  const size_t before = object.json.find_last_not_of(" \n\t\r", begin - 1);
  const size_t after = object.json.find_first_not_of(" \n\t\r", end);
  if (object.json[before] == ',') {
    begin = before;
  } else if (object.json[after] == ',') {
    end = after + 1;
  }
  std::string less;
  less.reserve(object.json.size() - (end - begin));
  less.append(object.json, 0, begin).append(object.json, end);
  object.json = std::move(less);
}

namespace wire {

Status read_status(int code, std::string_view body) {
  Status status{code, {}};
  const auto json = nlohmann::json::parse(body, nullptr, false);
  const auto text_in = [](const nlohmann::json& in, const char* name) {
    const auto found = in.is_object() ? in.find(name) : in.end();
    return found != in.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  status.message = text_in(json, "message");
  if (status.message.empty()) status.message = body.substr(0, body.find_first_of("\r\n"));
  if (status.message.size() > kMessageBytesMax) status.message.resize(kMessageBytesMax);
  if (!json.is_object() || !json.contains("details") || !json["details"].is_object()) return status;
  const auto& details = json["details"];
  status.about_object = !text_in(details, "name").empty();
  if (details.contains("causes") && details["causes"].is_array()) {
    for (const auto& cause : details["causes"])
      status.version_ahead |= text_in(cause, "reason") == "ResourceVersionTooLarge";
  }
  return status;
}

Result<Object> read_object(std::string_view json, const ResourceType& type) {
  Object object;
  bool has_kind = false;
  bool read = true;
  const bool whole = json::each_member(json, [&](std::string_view key, std::string_view value) {
    has_kind |= key == "kind";
    if (key != "metadata") return true;
    read = json::each_member(value, [&](std::string_view name, std::string_view of) {
      if (name == "name") object.name.name = json::string_of(of);
      if (name == "namespace") object.name.name_space = json::string_of(of);
      if (name == "uid") object.uid = json::string_of(of);
      if (name == "resourceVersion") object.resource_version = json::string_of(of);
      if (name == "generation") object.generation = json::integer_of(of);
      if (name == "deletionTimestamp") object.deleting = of != "null";
      return true;
    });
    return true;
  });
  if (!whole || !read) return fail(Errc::kUnavailable, "the server sent something that is not a JSON object");
  object.json = has_kind ? std::string(json) : with_kind(json, type);
  return object;
}

Result<Page> read_page(std::string_view json, const ResourceType& type) {
  Page page;
  std::optional<Error> bad;
  bool has_items = false, read = true;
  const bool whole = json::each_member(json, [&](std::string_view key, std::string_view value) {
    if (key == "metadata") {
      read &= json::each_member(value, [&](std::string_view name, std::string_view of) {
        if (name == "resourceVersion") page.resource_version = json::string_of(of);
        if (name == "continue") page.continue_from = json::string_of(of);
        return true;
      });
    } else if (key == "items") {
      has_items = true;
      read &= value == "null" || json::each_item(value, [&](std::string_view item) {
                auto object = read_object(item, type);
                if (!object || object->name.name.empty()) {
                  bad = object ? Error{Errc::kUnavailable, "the server sent an object without a name"} : object.error();
                  return false;
                }
                page.objects.push_back(std::move(*object));
                return true;
              });
    }
    return !bad;
  });
  if (bad) return tl::unexpected<Error>(*bad);
  if (!whole || !read || !has_items || page.resource_version.empty()) {
    return fail(Errc::kUnavailable, "the server sent something that is not a list");
  }
  return page;
}

Result<WatchEvent> read_event(std::string_view line, const ResourceType& type) {
  std::string kind;
  std::string_view of;
  const bool whole = json::each_member(line, [&](std::string_view key, std::string_view value) {
    if (key == "type") kind = json::string_of(value);
    if (key == "object") of = value;
    return true;
  });
  if (whole && kind == "ERROR") {
    const Status status = read_status(static_cast<int>(json::integer_of(member(of, "code"))), of);
    const bool again = status.code == 410 || status.version_ahead;
    return fail(again ? Errc::kConflict : Errc::kUnavailable, std::to_string(status.code) + ": " + status.message);
  }
  WatchEvent event;
  bool known = true;
  if (kind == "ADDED") {
    event.type = WatchEvent::Type::kAdded;
  } else if (kind == "MODIFIED") {
    event.type = WatchEvent::Type::kModified;
  } else if (kind == "DELETED") {
    event.type = WatchEvent::Type::kDeleted;
  } else if (kind == "BOOKMARK") {
    event.type = WatchEvent::Type::kBookmark;
  } else {
    known = false;
  }
  auto object = read_object(of, type);
  if (!whole || !known || !object || object->resource_version.empty() ||
      (event.type != WatchEvent::Type::kBookmark && object->name.name.empty())) {
    return fail(Errc::kConflict, "the server sent a watch event that cannot be read");
  }
  event.object = std::move(*object);
  return event;
}

bool Lines::take(std::string_view piece, const std::function<bool(std::string_view line)>& on_line) {
  while (!piece.empty()) {
    const size_t end = piece.find('\n');
    if (end == std::string_view::npos) {
      begun_.append(piece);
      return begun_.size() <= kBytesMax;
    }
    std::string_view line = piece.substr(0, end);
    piece.remove_prefix(end + 1);
    std::string whole;
    if (!begun_.empty()) {
      whole = std::move(begun_);
      begun_.clear();
      line = whole.append(line);
    }
    if (!line.empty() && line != "\r" && !on_line(line)) return false;
  }
  return true;
}

}  // namespace wire
}  // namespace tallygate::kube
