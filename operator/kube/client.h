// One API server, call by call. Blocks its caller; any number of threads.
//
// Errors, beside those of HttpClient (kUnavailable, kTimeout, kExhausted):
//   kNotFound     404; of a list or a watch: the server does not know the type (its CRD is gone)
//   kConflict     409, also AlreadyExists; of a list or a watch: it cannot go on from there, list again (410, a version
//                 that the server has not reached, an event that cannot be read)
//   kInvalid      400, 401, 403, 404 of the type where one object was asked for, 405, 415, 422: repeating changes
//                 nothing
//   kUnavailable  429 and 5xx after the retries below; an answer that cannot be read
// The message is the Status object's, with method and path before it. Never a credential.
//
// Retries by itself, within the call's time-out: 429 and 503 with Retry-After (as long as it says, jittered), a GET
// whose connection failed (a few times). Credentials are read again when their files change, and once more after a 401
// or a failed connection. The certificate authorities may change under running watches: the next connection uses the
// new ones.
//
// Metrics, under the names that client-go's dashboards know: rest_client_requests_total{code,host,method},
// rest_client_request_duration_seconds{host,verb} (to the head), rest_client_request_retries_total{code,host,verb}.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "core/env.h"
#include "core/result.h"
#include "core/telemetry/metrics.h"
#include "operator/http_client/http_client.h"
#include "operator/kube/config.h"
#include "operator/kube/object.h"

namespace tallygate::kube {

struct Selector {
  std::string labels = {};  // as kubectl's -l
  std::string fields = {};  // as kubectl's --field-selector
};

struct ListRequest {
  ResourceType type = {};
  std::string name_space = {};  // empty: all
  Selector selector = {};
  bool metadata_only = false;  // PartialObjectMetadata: no spec, no status
  int64_t page_size = 500;
  std::string continue_from = {};
};
struct Page {
  std::vector<Object> objects;
  std::string resource_version;  // of the list
  std::string continue_from;     // empty: the last page
};

struct WatchRequest {
  ResourceType type = {};
  std::string name_space = {};
  Selector selector = {};
  bool metadata_only = false;
  std::string resource_version = {};
  int64_t timeout_s = 300;       // asked of the server, which then ends the watch in order
  int64_t silence_ms = 130'000;  // longest time without a byte: two bookmarks, which come each minute
};
struct WatchEvent {
  enum class Type : uint8_t { kAdded, kModified, kDeleted, kBookmark };
  Type type = Type::kAdded;
  Object object;
};

// What a write does. Apply is server-side apply by our field manager; `force` takes over what others own of it.
struct ApplyOptions {
  std::string subresource = {};  // "status" or empty
  bool force = true;
  bool dry_run = false;
};

class Client {
 public:
  // `field_manager` of every write. kInvalid: the credentials cannot be used.
  static Result<std::unique_ptr<Client>> create(Env& env, Config config, std::string field_manager,
                                                metrics::Registry& registry);
  virtual ~Client() = default;

  virtual Result<Object> get(const ResourceType& type, const ObjectName& name) = 0;
  virtual Result<Page> list(const ListRequest& request, std::stop_token stop = {}) = 0;
  // Until the server ends it (a value: no error), `take` says false, or it fails. `take` gets what came together, first
  // of all nothing, once the watch is open.
  using TakeEvents = std::function<bool(std::vector<WatchEvent> events)>;
  virtual Result<void> watch(const WatchRequest& request, const TakeEvents& take, std::stop_token stop = {}) = 0;
  // `json`: the whole object to apply, with apiVersion, kind and metadata.name. Each returns the object as it is now.
  virtual Result<Object> apply(const ResourceType& type, const ObjectName& name, std::string_view json,
                               const ApplyOptions& options = {}) = 0;
  virtual Result<Object> create_object(const ResourceType& type, const std::string& name_space,
                                       std::string_view json) = 0;
  // PUT: fails with kConflict where metadata.resourceVersion is not the current one.
  virtual Result<Object> replace(const ResourceType& type, const ObjectName& name, std::string_view json,
                                 std::string_view subresource = {}) = 0;
  // A JSON merge patch (RFC 7386); with metadata.resourceVersion in it, kConflict as above.
  virtual Result<Object> merge_patch(const ResourceType& type, const ObjectName& name, std::string_view json,
                                     std::string_view subresource = {}) = 0;
  // `uid` and `resource_version`, where given, are preconditions.
  virtual Result<void> remove(const ResourceType& type, const ObjectName& name, const std::string& uid = {},
                              const std::string& resource_version = {}) = 0;
  // Anything else: "/version", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews". → the body of a 2xx. `headers`
  // are for who is behind the server's proxy.
  virtual Result<std::string> raw(const std::string& method, const std::string& path, std::string_view json = {},
                                  const HttpHeaders& headers = {}) = 0;

  virtual const Config& config() const = 0;
};

}  // namespace tallygate::kube
