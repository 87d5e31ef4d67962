#include "datasets/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/error.h"

namespace zoo {
namespace {

using ::testing::HasSubstr;

std::string usage_error(const std::string& text) {
  try {
    parse_data_spec(text);
  } catch (const UsageError& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
  ADD_FAILURE() << "no UsageError for " << text;
  return "";
}

TEST(Spec, EmbeddedSet) {
  const DataSpec spec = parse_data_spec("shapes");
  EXPECT_EQ(spec.kind, "shapes");
  EXPECT_TRUE(spec.embedded());
  EXPECT_EQ(spec.option("split", "train"), "train");
  EXPECT_EQ(parse_data_spec("shapes,split=val").option("split"), "val");
}

TEST(Spec, KindPathAndOptions) {
  const DataSpec spec = parse_data_spec("coco:/data/coco,split=val2017,images=/pictures");
  EXPECT_EQ(spec.kind, "coco");
  EXPECT_EQ(spec.path, "/data/coco");
  EXPECT_FALSE(spec.embedded());
  EXPECT_EQ(spec.option("split"), "val2017");
  EXPECT_EQ(spec.option("images"), "/pictures");
  EXPECT_EQ(spec.text, "coco:/data/coco,split=val2017,images=/pictures");
}

TEST(Spec, EscapedCommasAndFurtherColonsBelongToThePath) {
  const DataSpec spec = parse_data_spec("voc:/a\\,b:c\\d,split=x\\,y");
  EXPECT_EQ(spec.path, "/a,b:c\\d");
  EXPECT_EQ(spec.option("split"), "x,y");
}

TEST(Spec, HomeIsExpanded) {
  EXPECT_EQ(parse_data_spec("coco:~/coco").path, std::string(std::getenv("HOME")) + "/coco");
  EXPECT_EQ(parse_data_spec("coco:a~/coco").path, "a~/coco");
}

TEST(Spec, UnknownKindNamesTheNearest) {
  EXPECT_THAT(usage_error("cocoo:/x"), HasSubstr("did you mean 'coco'?"));
  EXPECT_THAT(usage_error("shape"), HasSubstr("did you mean 'shapes'?"));
  EXPECT_THAT(usage_error("/data/coco"), HasSubstr("expected one of shapes, coco, voc, yolo"));
  EXPECT_THAT(usage_error(":/x"), HasSubstr("unknown kind of data ''"));
}

TEST(Spec, WrongOptions) {
  EXPECT_THAT(usage_error("coco:/x,splitt=val"), HasSubstr("did you mean 'split'?"));
  EXPECT_THAT(usage_error("yolo:/x,images=/y"), HasSubstr("unknown option 'images'"));
  EXPECT_THAT(usage_error("coco:/x,val"), HasSubstr("expected key=value"));
  EXPECT_THAT(usage_error("coco:/x,"), HasSubstr("expected key=value"));
  EXPECT_THAT(usage_error("coco:/x,split="), HasSubstr("'split' in 'coco:/x,split=' is empty"));
  EXPECT_THAT(usage_error("coco:/x,split=a,split=b"), HasSubstr("given twice"));
}

TEST(Spec, PathWhereItBelongs) {
  EXPECT_THAT(usage_error("coco"), HasSubstr("expected coco:PATH"));
  EXPECT_THAT(usage_error("coco:"), HasSubstr("expected coco:PATH"));
  EXPECT_THAT(usage_error("shapes:/x"), HasSubstr("embedded and has no path"));
  EXPECT_THAT(usage_error("  "), HasSubstr("is empty"));
}

}  // namespace
}  // namespace zoo
