// Records of usage and names of buckets: what is taken is what the encoder would have written, to the byte (make fuzz).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "core/redis_contract/bucket_id.h"
#include "core/redis_contract/record.h"

namespace {

void require(bool condition, std::string_view what) {
  if (condition) return;
  std::cerr << "fuzz_records: " << what << "\n";
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tallygate::redis_contract;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto record = decode(text);
  if (record) {
    require(encode(*record) == text, "a record was taken that encode() does not write");
    require(decode(encode(*record)).value() == *record, "a record reads back as another");
  }
  const auto whose = decode_identity(text);
  if (record && whose) {
    require(whose->incarnation == record->incarnation && whose->seq == record->seq && whose->kind == record->kind,
            "a record's identity is another one's");
  }
  require(!record || whose, "a record that can be read says whose it is");
  if (const auto bucket = BucketId::parse(text))
    require(bucket->str() == text, "a bucket's name reads back as another");
  return 0;
}
