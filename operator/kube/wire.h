// What an API server sends, taken apart. Internal to the client; fuzzed and tested on its own.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "operator/kube/client.h"

namespace tallygate::kube::wire {

// A metav1.Status, or whatever else came with a status that is not 2xx.
struct Status {
  int code = 0;
  std::string message;         // for people; of a body that is no Status, its beginning
  bool about_object = false;   // it names the object that is meant
  bool version_ahead = false;  // the resource version is one that the server has not reached
};
Status read_status(int code, std::string_view body);

// kUnavailable: not an object with metadata.name, or not a list.
Result<Object> read_object(std::string_view json, const ResourceType& type);
Result<Page> read_page(std::string_view json, const ResourceType& type);

// A line of a watch. An ERROR event is an error: kConflict as in client.h, or kUnavailable.
Result<WatchEvent> read_event(std::string_view line, const ResourceType& type);

// Splits what comes in pieces into lines.
class Lines {
 public:
  static constexpr size_t kBytesMax = 64u << 20;
  // Each whole line, without its end; none that is empty. False: `on_line` said so, or a line is longer than kBytesMax.
  bool take(std::string_view piece, const std::function<bool(std::string_view line)>& on_line);

 private:
  std::string begun_;  // of a line whose end has not come
};

}  // namespace tallygate::kube::wire
