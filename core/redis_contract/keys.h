// Every key of ours in Redis. Nothing else in the tree spells one.
//
// Shards: all keys of a tenant share the hash tag of one of 64 shards, so that a script stays atomic on Redis Cluster
// and the pump reads 64 streams, not one per tenant. What no tenant owns (policies, identities, the change index) is
// under {pub}. What an epoch owns carries its number in the key: a new epoch starts with nothing, and needs nobody's
// memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tallygate::redis_contract {

inline constexpr int kShards = 64;

// FNV-1a, 64 bits, of "namespace/name", modulo 64.
int shard_of(std::string_view tenant);

// "tg:{s07}:"
std::string shard_prefix(int shard);

// HASH n (number), run, repl (the ids of the server that it was opened on), off (how many ms the ledger's clock is
// ahead of that server's), since (the ledger's ms when it was opened; 0: there was none before it).
std::string epoch_key(int shard);
// STREAM of records, one field "r".
std::string usage_key(int shard);
// HASH incarnation → the highest record number of the contiguous prefix that the ledger has booked.
std::string watermark_key(int shard);
std::string heard_key(int shard);  // ZSET incarnation → when it last gave a sign of life, in s of Redis's clock
// HASH id (which ledger), gen, mark (how far it says it is: generation and mark), cid, cgen, claimed (how far sidecars
// know it to have been, where that is more), all (the mark that every shard was told), behind (1: it has gone back),
// sealed (the epoch that was in force when that was found), odd (the last claim that was refused).
std::string ledger_key(int shard);
// HASH of what sidecars know while the ledger is behind: "l:<incarnation>" → its last record, first_claim() → the first
// that it can still send, "c:<epoch>:<incarnation>:<member()>" → the most units it will ever report there.
std::string claims_key(int shard);
// Of one generation of the ledger: a later recovery, from an older backup, may lack more than this sidecar was asked for.
std::string first_claim(int64_t generation, std::string_view incarnation);
// STRING the tenant's document (core/tenant/wire.h).
std::string tenant_key(std::string_view tenant);

// Of one epoch:
std::string registered_key(int shard, int64_t epoch);  // SET of incarnations that may lease
std::string closed_key(int shard, int64_t epoch);      // SET of incarnations that never will again
std::string want_key(int shard, int64_t epoch);        // ZSET member() → the ledger's ms at the last request
std::string held_key(
    int shard, int64_t epoch,
    std::string_view incarnation);  // ZSET: member()s it has leased from, by when that no longer matters, in s
std::string minted_key(int shard,
                       int64_t epoch);  // HASH "tenant|limit+length" → starts of the two latest windows minted
// HASH f (funded, cumulative), rc (recalled, cumulative), free, avail (what the ledger could still fund, as last told),
// used (ledger's count, for display), dry (version of the ledger's "exhausted"; absent: not exhausted), low (free below
// which funding is asked for), kick (1: asked), need (units of the largest request that went short since the last
// funding), ro (1: lives in Redis alone), g:<incarnation> and r:<incarnation> (granted and returned, cumulative),
// s:<incarnation> (spent of them, as it last told), lying (Σ g − r − s of those who told), told (ledger's s at the last).
// Invariant: f = free + rc + Σ (g − r).
std::string bucket_key(int shard, int64_t epoch, std::string_view tenant, std::string_view bucket);
// "tenant|bucket": how a bucket is named in `want`, `held` and on the channel.
std::string member(std::string_view tenant, std::string_view bucket);

// Of the publication:
std::string meta_key();                           // HASH generation, version, sig (signature.h)
std::string changes_key();                        // ZSET "T<tenant>", "P<policy>", "I<kind>:<value>" → version
std::string policy_key(std::string_view policy);  // STRING the policy's document
std::string identity_key(std::string_view kind, std::string_view value);  // STRING the tenant's id
// STRING the signature of what tenant_key(), policy_key() or identity_key() holds (signature.h), in the same slot: both are
// written by one MSET and read by one MGET.
std::string signature_key(std::string_view key);

// Pub/sub: "NN tenant|bucket" when a bucket needs funding. A lost message heals: the funder scans `want` each second.
std::string want_channel();
// Pub/sub: "<version>" after each publication. A lost message heals: sidecars poll `changes` each second.
std::string publish_channel();

inline constexpr const char* kConsumerGroup = "pump";

}  // namespace tallygate::redis_contract
