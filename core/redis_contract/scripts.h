// The Lua scripts of core/lua/, embedded at build time. Each file's head states its KEYS, ARGV and reply; every script
// checks first and writes last, so that a refused call changes nothing (I5 DenialIsFree).
#pragma once

#include <string_view>

namespace tallygate::redis_contract {

struct Script {
  std::string_view name;
  std::string_view source;
  std::string_view sha1;  // 40 lower-case hex digits, for EVALSHA; on NOSCRIPT send EVAL
};

extern const Script kOpen;
extern const Script kRenew;
extern const Script kRegister;
extern const Script kLease;
extern const Script kClose;
extern const Script kGiveBack;
extern const Script kStat;
extern const Script kFund;
extern const Script kRecall;
extern const Script kAck;
extern const Script kPulse;
extern const Script kSeal;
extern const Script kTell;
extern const Script kVoid;
extern const Script kTryOut;

}  // namespace tallygate::redis_contract
