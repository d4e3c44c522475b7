// The table of malformed manifests; malformed_test.cc has the documents that they spoil.
#pragma once

#include <vector>

#include "operator/manifest/fault.h"

namespace tallygate::manifest {

enum class Base : uint8_t { kPlan, kTenant, kPolicy };

struct Malformed {
  const char* name;
  Base base;
  const char* piece;        // of the good document
  const char* replacement;  // ^ marks the line of the fault
  const char* field;
  Reason reason;
  const char* fix;  // part of it
};

const std::vector<Malformed>& malformed_cases();

}  // namespace tallygate::manifest
