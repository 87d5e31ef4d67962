// Installs zoo and builds tests/package, a program of ten lines that uses the models alone.
#include <gtest/gtest.h>

#include "core/files.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::CommandResult;
using test::run_command;

void expect_done(const std::vector<std::string>& command) {
  const CommandResult result = run_command(command);
  ASSERT_EQ(result.exit_code, 0) << command[0] << " " << command[1] << "\n" << result.out << result.err;
}

TEST(Package, AnotherProgramBuildsWithTheInstalledLibrary) {
  const std::string folder = test::scratch_dir("package"), prefix = join_path(folder, "prefix"),
                    build = join_path(folder, "build"), run = join_path(folder, "run");
  ASSERT_NO_FATAL_FAILURE(expect_done({"cmake", "--install", test::binary_dir(), "--prefix", prefix}));
  const std::string zoo = join_path(prefix, "bin/zoo");
  ASSERT_NO_FATAL_FAILURE(expect_done({zoo, "--version"}));
  ASSERT_NO_FATAL_FAILURE(expect_done({zoo, "train", "--model", "detr-tiny", "--data", "shapes,train=4,val=2",
                                       "--max-steps", "1", "--batch-size", "2", "--output", run}));
  // The package says where the torch is that zoo was built with.
  ASSERT_NO_FATAL_FAILURE(
      expect_done({"cmake", "-G", "Ninja", "-S", join_path(test::source_dir(), "tests/package"), "-B", build,
                   "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_PREFIX_PATH=" + prefix}));
  ASSERT_NO_FATAL_FAILURE(expect_done({"cmake", "--build", build}));
  const CommandResult result =
      run_command({join_path(build, "zoo_user"), join_path(run, "best.safetensors")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("[1, 1, 25, 7]"), std::string::npos) << result.out;
}

}  // namespace
}  // namespace zoo
