#include "core/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "core/error.h"
#include "tests/support.h"

namespace zoo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

using test::error_of;

TEST(Files, PartsOfPaths) {
  EXPECT_EQ(join_path("a/b", "c.jpg"), "a/b/c.jpg");
  EXPECT_EQ(join_path("a/", "c.jpg"), "a/c.jpg");
  EXPECT_EQ(join_path("", "c.jpg"), "c.jpg");
  EXPECT_EQ(join_path("a", "/c.jpg"), "/c.jpg");
  EXPECT_EQ(file_name("a/b/c.tar.gz"), "c.tar.gz");
  EXPECT_EQ(file_stem("a/b/c.jpg"), "c");
  EXPECT_EQ(parent_folder("a/b/c.jpg"), "a/b");
  EXPECT_EQ(parent_folder("c.jpg"), ".");
}

TEST(Files, WriteReplacesAndReadsBack) {
  const std::string folder = test::scratch_dir("files"), path = folder + "/a.txt";
  write_file(path, "first");
  write_file(path, std::string("sec\0nd", 6));
  EXPECT_EQ(read_file(path), std::string("sec\0nd", 6));
  EXPECT_THAT(list_folder(folder), ElementsAre("a.txt"));
  write_file(folder + "/empty", "");
  EXPECT_EQ(read_file(folder + "/empty"), "");
  EXPECT_EQ(MappedFile(folder + "/empty").size(), 0u);
}

TEST(Files, LargeWritesPassTheBufferUnchanged) {
  const std::string path = test::scratch_dir("large") + "/a";
  std::string expected;
  AtomicFile file(path);
  for (size_t i = 0; i < 40; ++i) {
    const std::string part(i * 7919, static_cast<char>('a' + i % 26));  // 6 MB in uneven parts
    file.write(part);
    expected += part;
  }
  file.commit();
  EXPECT_EQ(read_file(path), expected);
}

TEST(Files, NothingIsLeftWithoutCommit) {
  const std::string folder = test::scratch_dir("uncommitted"), path = folder + "/a";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
    EXPECT_EQ(list_folder(folder).size(), 2u);
  }
  EXPECT_THAT(list_folder(folder), ElementsAre("a"));
  EXPECT_EQ(read_file(path), "old");
}

TEST(Files, AWriteThatFailsKeepsTheOldFile) {
  const std::string folder = test::scratch_dir("full"), path = folder + "/a";
  write_file(path, "old");
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 4096;  // as a full disk: write fails with EFBIG once the signal is ignored
  std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = error_of([&] { write_file(path, std::string(10'000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_DFL);
  EXPECT_THAT(message, StartsWith("cannot write " + path + ": write: "));
  EXPECT_EQ(read_file(path), "old");
  EXPECT_THAT(list_folder(folder), ElementsAre("a"));
}

TEST(Files, ErrorsNamePathAndReason) {
  const std::string folder = test::scratch_dir("errors");
  EXPECT_EQ(error_of([&] { read_file(folder + "/none"); }),
            "cannot read " + folder + "/none: No such file or directory");
  EXPECT_EQ(error_of([&] { read_file(folder); }), "cannot read " + folder + ": it is a folder");
  EXPECT_THAT(error_of([&] { list_folder(folder + "/none"); }),
              StartsWith("cannot read folder " + folder + "/none: "));
  EXPECT_THAT(error_of([&] { write_file(folder + "/none/a", "x"); }), HasSubstr("No such file or directory"));
  write_file(folder + "/file", "x");
  EXPECT_THAT(error_of([&] { make_folders(folder + "/file/sub"); }), StartsWith("cannot create folder "));
  EXPECT_THAT(error_of([&] { make_folders(folder + "/file"); }), StartsWith("cannot create folder "));
  make_folders(folder + "/x/y/z");
  EXPECT_TRUE(is_directory(folder + "/x/y/z"));
  EXPECT_FALSE(file_exists(folder + "/x/none"));
}

TEST(Files, APipeIsRefusedWithoutWaitingForItsWriter) {
  const std::string pipe = join_path(test::scratch_dir("files-pipe"), "pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(test::error_of([&] { MappedFile file(pipe); }).find("not a regular file"), std::string::npos);
}

TEST(Files, AMappingOutlivesTheName) {
  const std::string path = test::scratch_dir("mapping") + "/a";
  write_file(path, "hello");
  MappedFile file(path);
  std::filesystem::remove(path);
  const MappedFile moved(std::move(file));
  EXPECT_EQ(moved.text(), "hello");
  EXPECT_EQ(moved.path(), path);
}

}  // namespace
}  // namespace zoo
