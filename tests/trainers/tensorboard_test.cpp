#include "trainers/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include <sys/resource.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support.h"

namespace zoo {
namespace {

/// The data of all records; fails where a length or a check is wrong.
std::vector<std::string> records_of(const std::string& path) {
  const std::string file = read_file(path);
  const auto masked = [](const std::string& bytes) {
    const uint32_t crc = crc32c(bytes);
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
  };
  std::vector<std::string> records;
  for (size_t at = 0; at < file.size();) {
    uint64_t length = 0;
    uint32_t length_check = 0, data_check = 0;
    std::memcpy(&length, file.data() + at, 8);
    std::memcpy(&length_check, file.data() + at + 8, 4);
    EXPECT_EQ(length_check, masked(file.substr(at, 8)));
    records.push_back(file.substr(at + 12, length));
    EXPECT_EQ(records.back().size(), length);
    std::memcpy(&data_check, file.data() + at + 12 + length, 4);
    EXPECT_EQ(data_check, masked(records.back()));
    at += 16 + length;
  }
  return records;
}

TEST(Tensorboard, CheckValueOfCrc32c) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(Tensorboard, RecordsStandInTheFileAfterFlush) {
  const std::string folder = test::scratch_dir("tensorboard");
  EventWriter writer(folder);
  EXPECT_TRUE(records_of(writer.path()).empty());
  writer.add_scalar("loss", 1.5, 7);
  writer.flush();
  writer.flush();
  const std::vector<std::string> records = records_of(writer.path());
  ASSERT_EQ(records.size(), 2u);
  EXPECT_THAT(records[0], testing::HasSubstr("brain.Event:2"));
  // field 2 (step) 7, then field 5 with 13 bytes: field 1 with 11: tag "loss", simple_value 1.5f
  EXPECT_EQ(records[1].substr(9),
            std::string("\x10\x07\x2A\x0D\x0A\x0B\x0A\x04loss\x15\x00\x00\xC0\x3F", 17));
}

TEST(Tensorboard, EveryWriterHasAFileOfItsOwn) {
  const std::string folder = test::scratch_dir("tensorboard");
  EventWriter first(folder), second(folder);
  EXPECT_NE(first.path(), second.path());
  char host[256] = "";
  ASSERT_EQ(::gethostname(host, sizeof host), 0);
  const std::string name = file_name(first.path());
  EXPECT_THAT(name, testing::StartsWith("events.out.tfevents."));
  EXPECT_THAT(name, testing::EndsWith("." + std::string(host) + "." + std::to_string(::getpid()) + ".0"));
}

TEST(Tensorboard, WhatCannotBeWrittenIsAnError) {
  EXPECT_THROW(EventWriter("/nowhere/at/all"), Error);
  EventWriter writer(test::scratch_dir("tensorboard"));
  EXPECT_THROW(writer.add_image("picture", "GIF89a, and some more bytes of it", 0), Error);
}

// With files limited to a size, as on a full disk: whole records remain, and what failed is written once
// there is room.
TEST(Tensorboard, FullDiskLeavesWholeRecords) {
  const std::string folder = test::scratch_dir("tensorboard");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  EventWriter writer(folder);
  writer.add_text("small", "text", 0);
  writer.flush();
  const rlimit limit{1000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  writer.add_text("large", std::string(5000, 'x'), 1);
  EXPECT_THROW(writer.flush(), Error);
  EXPECT_EQ(records_of(writer.path()).size(), 2u);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  writer.flush();
  EXPECT_EQ(records_of(writer.path()).size(), 3u);
}

}  // namespace
}  // namespace zoo
