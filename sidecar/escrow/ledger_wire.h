// What a sidecar says to POST /v1/leases, and hears (openapi/openapi.yaml). Totals are cumulative per incarnation,
// bucket and epoch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace tallygate::sidecar {

struct LeaseRequest {
  struct Bucket {
    std::string bucket;
    int64_t least = 0, best = 0, returned = 0;
  };
  struct Closed {  // a lease settled for good
    std::string bucket;
    int64_t epoch = 0, spent = 0;
  };
  std::string incarnation;
  int64_t epoch = 0;
  int64_t version = 0;  // of the tenant's document that is known here
  std::vector<Bucket> buckets;
  std::vector<Closed> closed;
};

enum class LeaseStatus : uint8_t { kGrant, kDry, kWait, kEpoch, kNotRegistered, kSuspended };

struct LeaseAnswer {
  struct Bucket {
    std::string bucket;
    int64_t granted = 0, returned = 0, remaining = 0;
  };
  LeaseStatus status = LeaseStatus::kWait;
  int64_t epoch = 0;
  int64_t version = 0;
  bool suspended = false;  // or deleted
  std::string tenant;      // the document, where its version is another than the request named
  std::vector<Bucket> buckets;
  std::vector<int64_t> absorbed;  // of each closed lease, in the request's order
};

std::string to_json(const LeaseRequest& request);
// Refuses an answer that does not fit the request.
Result<LeaseAnswer> lease_answer(const LeaseRequest& request, std::string_view body);

}  // namespace tallygate::sidecar
