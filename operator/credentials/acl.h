// What the sidecars of a namespace may do in Redis, as rules of ACL SETUSER. Pure.
//
// Redis (7 and newer) checks a script's commands against its caller's rights, so the rules allow each command that our
// scripts run, on the keys where they run it, and the scripts themselves on all keys of the shards: in a script as
// outside, a bucket of another namespace's tenant cannot be read or written, nor its documents.
//
// With the credential of a namespace one can therefore: spend and distort the quotas of the tenants that this namespace
// may bill; append to the streams of usage, and empty them (XADD with MAXLEN; what was in them is sent again by those who
// wrote it); write the notes that all tenants of a shard share (who asked for funding, who has given a sign of life,
// which short windows exist, how far the ledger was known to be); look up which tenant a known API key or external id belongs to. Nothing else.
#pragma once

#include <string>
#include <vector>

namespace tallygate::credentials {

// "tallygate-ns.shop"
std::string acl_user(const std::string& name_space);
bool is_acl_user(const std::string& user);

// The words after the user's name, complete: they begin with `reset`. `lent`: ids of tenants, of whatever
// namespace, that policies of this one may bill beside its own. `passwords`: each is accepted; only their hashes are in the
// result. `former`: hashes, as Redis lists them, of others that are.
std::vector<std::string> acl_rules(const std::string& name_space, const std::vector<std::string>& lent,
                                   const std::vector<std::string>& passwords,
                                   const std::vector<std::string>& former = {});

}  // namespace tallygate::credentials
