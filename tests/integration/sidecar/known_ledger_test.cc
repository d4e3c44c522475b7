// What a data folder remembers of the ledger.
#include "sidecar/escrow/known_ledger.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/env.h"

namespace tallygate::sidecar {
namespace {

TEST(LedgerMemory, WhatCouldNotBeWrittenIsToldAndWrittenLater) {
  const std::string folder = std::filesystem::temp_directory_path() / ("tg-memory-" + system_env().random_hex(8));
  const LedgerMark mark{"feed", 2, 40};
  LedgerMemory memory(folder);
  const auto told = memory.remember(mark, 1);
  ASSERT_FALSE(told);
  EXPECT_NE(told.error().message.find("ledger-mark"), std::string::npos);
  EXPECT_EQ(memory.mark(), mark) << "here it is known";
  std::filesystem::create_directory(folder);
  ASSERT_TRUE(memory.remember(mark, 1)) << "though nothing has changed";
  EXPECT_EQ(LedgerMemory(folder).mark(), mark);
  EXPECT_EQ(LedgerMemory(folder).resent(), 1);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tallygate::sidecar
