#include "core/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "tests/support.h"

namespace zoo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json defaults() {
  return Json::parse(
      R"({"model": {"name": "detr", "num_queries": 100, "aux_loss": true, "scales": [1.0, 2.0]},
                         "optimizer": {"lr": 0.1, "betas": [0.9, 0.999]}, "data": {"train": "", "size": null}})");
}

/// The message of a UsageError (exit code 2); an empty text where nothing was thrown.
std::string usage_error(const std::function<void()>& function) {
  try {
    function();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

std::string set_error(const std::string& assignment) {
  Json document = defaults();
  return usage_error([&] { set_key(document, assignment); });
}

std::string overlay_error(const std::string& patch) {
  Json document = defaults();
  return usage_error([&] { overlay(document, Json::parse(patch), "FILE"); });
}

TEST(Options, SetReadsByTheTypeOfTheDefault) {
  Json document = defaults();
  set_key(document, "model.num_queries=50");
  set_key(document, "optimizer.lr=1");
  set_key(document, "model.aux_loss=false");
  set_key(document, "data.train=coco:a=b,split=val");
  set_key(document, "model.scales=0.5,4");
  set_key(document, "optimizer.betas=[0.8, 0.9]");
  set_key(document, "data.size=[640, 480]");
  EXPECT_EQ(document["model"]["num_queries"], 50);
  EXPECT_EQ(document["optimizer"]["lr"], 1.0);
  EXPECT_EQ(document["model"]["aux_loss"], false);
  EXPECT_EQ(document["data"]["train"], "coco:a=b,split=val");
  EXPECT_EQ(document["model"]["scales"], Json({0.5, 4}));
  EXPECT_EQ(document["optimizer"]["betas"], Json({0.8, 0.9}));
  EXPECT_EQ(document["data"]["size"], Json({640, 480}));
}

TEST(Options, SetRefusesWrongTypesAndUnknownKeys) {
  EXPECT_EQ(set_error("model.num_queries=2.9"), "--set: model.num_queries: '2.9' is not an integer");
  EXPECT_THAT(set_error("model.num_queries=1e10"), HasSubstr("is not an integer"));
  EXPECT_THAT(set_error("model.num_queries=true"), HasSubstr("is not an integer"));
  EXPECT_THAT(set_error("optimizer.lr=nan"), HasSubstr("is not a number"));
  EXPECT_THAT(set_error("optimizer.lr="), HasSubstr("is not a number"));
  EXPECT_THAT(set_error("model.aux_loss=1"), HasSubstr("is not true or false"));
  EXPECT_THAT(set_error("model.scales=a,b"), HasSubstr("model.scales"));
  EXPECT_EQ(set_error("model.num_querys=1"),
            "--set: unknown key 'model.num_querys', did you mean 'model.num_queries'?");
  EXPECT_THAT(set_error("num_queries=1"), HasSubstr("did you mean 'model.num_queries'?"));
  EXPECT_THAT(set_error("model=1"), HasSubstr("'model' is a section"));
  EXPECT_THAT(set_error("model.num_queries"), HasSubstr("expected KEY=VALUE"));
  EXPECT_THAT(set_error("=1"), HasSubstr("expected KEY=VALUE"));
  EXPECT_EQ(set_error("model.num_queries=7"), "");
}

TEST(Options, OverlayKeepsKindsAndNamesKeys) {
  Json document = defaults();
  overlay(document, Json::parse(R"({"model": {"num_queries": 7}, "optimizer": {"lr": 1}})"), "FILE");
  EXPECT_EQ(document["model"]["num_queries"], 7);
  EXPECT_EQ(document["model"]["name"], "detr");
  EXPECT_TRUE(document["optimizer"]["lr"].is_number_float());
  EXPECT_EQ(overlay_error(R"({"model": {"num_queries": 2.9}})"),
            "FILE: model.num_queries: 2.9 is not an integer");
  EXPECT_THAT(overlay_error(R"({"model": {"num_queries": 18446744073709551615}})"),
              HasSubstr("is not an integer"));
  EXPECT_THAT(overlay_error(R"({"optimizer": {"lr": "1"}})"), HasSubstr("is not a number"));
  EXPECT_THAT(overlay_error(R"({"optimizer": {"betas": [1, "a"]}})"), HasSubstr("optimizer.betas"));
  EXPECT_THAT(overlay_error(R"({"modle": {}})"), HasSubstr("unknown key 'modle', did you mean 'model'?"));
  EXPECT_THAT(overlay_error(R"({"model": 3})"), HasSubstr("model is not a section"));
  EXPECT_THAT(overlay_error("[1]"), HasSubstr("the document is not a section"));
}

TEST(Options, ReadJsonNamesFileAndLine) {
  const std::string path = test::scratch_dir("json") + "/config.json";
  write_file(path, "{\n  // a comment\n  \"a\": 1\n}");
  EXPECT_EQ(read_json(path)["a"], 1);
  write_file(path, "{\n  \"a\": 1,\n  oops\n}");
  try {
    read_json(path);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(path + ": line 3: not JSON"));
    EXPECT_EQ(error.exit_code(), 1);  // a file is of the world, not of the command line
  }
}

TEST(Options, DumpAndKeys) {
  EXPECT_THAT(dotted_keys(defaults()),
              ElementsAre("data.size", "data.train", "model.aux_loss", "model.name", "model.num_queries",
                          "model.scales", "optimizer.betas", "optimizer.lr"));
  EXPECT_EQ(dump_json(Json{{"a", std::nan("")}}), "{\n  \"a\": null\n}");
  EXPECT_THAT(dump_json(Json{{"a", "\xff"}}), HasSubstr("\xEF\xBF\xBD"));  // the replacement character
}

TEST(Options, RangesAndChoices) {
  EXPECT_EQ(usage_error([] { require_range("a.b", 1, 1, 2); }), "");
  EXPECT_EQ(usage_error([] { require_range("a.b", 3, 1, 2); }), "a.b: 3 is out of range, expected 1 to 2");
  EXPECT_EQ(usage_error([] { require_range("a.b", 0, 1); }), "a.b: 0 is out of range, expected at least 1");
  EXPECT_THAT(usage_error([] { require_range("a.b", std::nan(""), 1, 2); }), HasSubstr("out of range"));
  EXPECT_EQ(usage_error([] { require_positive("a.b", 1e-300); }), "");
  EXPECT_EQ(usage_error([] { require_positive("a.b", 0); }), "a.b: 0 is out of range, expected more than 0");
  EXPECT_THAT(usage_error([] { require_positive("a.b", INFINITY); }), HasSubstr("out of range"));
  EXPECT_EQ(usage_error([] { require_choice("a.b", "adamw", {"adamw", "sgd"}); }), "");
  EXPECT_EQ(usage_error([] {
              require_choice("a.b", "adam", {"adamw", "sgd"});
            }),
            "a.b: unknown value 'adam', did you mean 'adamw'? (known: adamw, sgd)");
}

}  // namespace
}  // namespace zoo
