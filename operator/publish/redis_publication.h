// The publication in Redis: reads what is there and applies changes in an order in which no reader ever sees a half.
//
//   1. documents that are new or changed     2. identities that are new or changed
//   3. what was removed: identities, then documents
//   4. in one MULTI: the change index, meta, the notice on the channel
// Whoever follows an identity finds its document; whoever hears of a version finds everything of it, removals included
// (which is why they come before the index: a reader that saw the index first would never look again).
//
// Each value is written with its signature, and so is the head of the index (core/redis_contract/signature.h).
//
// A wipe in the middle is noticed afterwards: intact() compares meta and the index's size with what should be there,
// and apply() looks again for each key that it wrote. Threading: one thread at a time. Blocks.
#pragma once

#include <cstdint>
#include <string>

#include "core/redis_client/client.h"
#include "core/redis_contract/signature.h"
#include "operator/publish/documents.h"

namespace tallygate::publish {

struct Meta {
  std::string generation;  // empty: there is no publication
  int64_t version = 0;
  std::string signature;  // of both

  void sign(const redis_contract::Signer& signer, int64_t ledger_generation);
  // Whether `signer` signed it as it is.
  bool is_signed_by(const redis_contract::Signer& signer) const;
};

// What values are signed with, and as what edition.
struct Signing {
  const redis_contract::Signer& signer;
  int64_t ledger_generation = 0;
};

class RedisPublication {
 public:
  RedisPublication(Env& env, redis::Endpoint endpoint);

  Result<Meta> meta();
  // Everything that the change index names. `trusted` false: the last publication may be half there, so that nothing
  // counts as known. What `signer` has not signed never does.
  struct Loaded {
    Holding held;
    size_t index_size = 0;
  };
  Result<Loaded> load(bool trusted, const redis_contract::Signer& signer);
  // Writes `changes` as version meta.version. `new_generation`: the index starts anew, so that readers start anew.
  // Fails with kConflict where what was written is not there afterwards.
  Result<void> apply(const Changes& changes, const plan::Compiled& compiled, const Desired& desired, const Meta& meta,
                     bool new_generation, const Signing& signing);
  // Whether the publication with this meta and so many names in its index is still there.
  Result<bool> intact(const Meta& meta, size_t names);

 private:
  // Sends in batches; fails with the first error.
  Result<void> send(const std::vector<redis::Command>& commands);
  Result<void> announce(const Changes& changes, const Meta& meta, bool new_generation);
  Result<bool> all_exist(const std::vector<std::string>& names);
  redis::Client client_;
};

}  // namespace tallygate::publish
