// What can be wrong with a message. One table says how a client is answered; from the app, each of them becomes a 502.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tallygate::http1 {

enum class ParseError : uint8_t {
  kNone,
  kControlCharacter,
  kBareLineEnd,
  kRequestLine,
  kMethod,
  kMethodCase,
  kMethodTooLong,
  kConnectMethod,
  kTarget,
  kTargetTooLong,
  kVersion,
  kHttp2Preface,
  kStatusLine,
  kFieldName,
  kFieldLine,
  kObsoleteFold,
  kHeadTooLarge,
  kTooManyFields,
  kHostMissing,
  kHostRepeated,
  kHostInvalid,
  kContentLength,
  kTransferEncoding,
  kLengthAndEncoding,
  kConnectionField,
  kChunkSize,
  kChunkEnd,
  kChunkExtension,
  kTrailer,
  kCount,
};

struct ParseErrorInfo {
  int status;          // to the client that sent it
  const char* reason;  // constant, for programs: in the problem's `reason` and as the metric's label
  const char* detail;  // for people
};

const ParseErrorInfo& info(ParseError error);

}  // namespace tallygate::http1
