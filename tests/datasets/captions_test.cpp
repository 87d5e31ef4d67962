#include "datasets/captions/captions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <opencv2/imgcodecs.hpp>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/tar.h"
#include "core/text.h"
#include "datasets/captions/sources.h"
#include "datasets/check.h"
#include "datasets/draw.h"
#include "datasets/image.h"
#include "datasets/make.h"
#include "tests/support.h"

// Captioned pictures: the embedded drawings, files in all layouts, batches, `zoo data make` and `zoo data check`.

namespace zoo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::shared_ptr<CaptionDataset> open_captions(const std::string& spec, const std::string& split = "train") {
  return open_caption_dataset(parse_data_spec(spec), split);
}
std::string captions_error(const std::string& spec, const std::string& split = "train") {
  return test::error_of([&] {
    const auto data = open_captions(spec, split);
    for (int64_t i = 0; i < data->size(); ++i) data->picture(i);
  });
}

/// A picture of one colour.
std::string plain_png(int64_t height, int64_t width, const cv::Vec3b& rgb) {
  return encode_png(cv::Mat(static_cast<int>(height), static_cast<int>(width), CV_8UC3,
                            cv::Scalar(rgb[0], rgb[1], rgb[2])));
}

/// A folder with three pictures and metadata.jsonl; line 3 is `line`.
std::string listed_set(const std::string& name, const std::string& line) {
  const std::string folder = test::scratch_dir(name);
  for (const char* file : {"a.png", "b.png", "c.png"})
    write_file(folder + "/" + file, plain_png(8, 12, {10, 20, 30}));
  write_file(folder + "/metadata.jsonl",
             "{\"file_name\": \"a.png\", \"text\": \"the first\"}\n\n" + line + "\n");
  return "captions:" + folder;
}

// The embedded set.

TEST(CaptionsEmbedded, SplitsShareNoPairOfShapeAndColor) {
  const auto train = open_captions("captions,train=600,val=200,held_out=pairs"),
             val = open_captions("captions,train=600,val=200,held_out=pairs", "val");
  std::set<std::vector<int64_t>> seen, held_out;
  for (int64_t i = 0; i < train->size(); ++i) seen.insert(train->traits(i));
  for (int64_t i = 0; i < val->size(); ++i) held_out.insert(val->traits(i));
  EXPECT_EQ(seen.size(), 36U);
  EXPECT_EQ(held_out.size(), 12U);
  std::set<int64_t> shapes, colors, val_shapes, val_colors;
  for (const auto& pair : seen) shapes.insert(pair[0]), colors.insert(pair[1]);
  for (const auto& pair : held_out) {
    EXPECT_EQ(seen.count(pair), 0U);
    val_shapes.insert(pair[0]), val_colors.insert(pair[1]);
  }
  EXPECT_EQ(shapes.size(), 6U);
  EXPECT_EQ(colors.size(), 8U);
  EXPECT_EQ(val_shapes, shapes);
  EXPECT_EQ(val_colors, colors);
}

TEST(CaptionsEmbedded, ValidationSentencesAreNoneOfTheTraining) {
  const auto train = open_captions("captions,train=4000"), val = open_captions("captions,val=400", "val");
  std::set<std::string> seen, held_out;
  std::set<std::vector<int64_t>> seen_traits, held_out_traits;
  for (int64_t i = 0; i < train->size(); ++i) {
    seen.insert(train->captions(i)[0]);
    seen_traits.insert(train->traits(i));
  }
  for (int64_t i = 0; i < val->size(); ++i) {
    held_out.insert(val->captions(i)[0]);
    held_out_traits.insert(val->traits(i));
    EXPECT_EQ(seen.count(val->captions(i)[0]), 0U) << val->captions(i)[0];
  }
  EXPECT_GT(seen.size(), 600U) << "four fifths of 864, most of them met";
  EXPECT_GT(held_out.size(), 120U);
  EXPECT_EQ(seen_traits.size(), 48U);
  EXPECT_EQ(held_out_traits.size(), 48U);
}

TEST(CaptionsEmbedded, SentencesNameWhatIsDrawn) {
  const auto data = open_captions("captions,train=200,held_out=nothing");
  const std::vector<CaptionTrait>& traits = data->trait_list();
  ASSERT_EQ(traits.size(), 2U);
  std::set<std::string> different;
  for (int64_t i = 0; i < data->size(); ++i) {
    const std::vector<int64_t> values = data->traits(i);
    const std::vector<std::string> sentences = data->captions(i);
    EXPECT_EQ(std::set<std::string>(sentences.begin(), sentences.end()).size(), 3U);
    for (const std::string& sentence : sentences) {
      EXPECT_THAT(sentence, HasSubstr(traits[0].values[static_cast<size_t>(values[0])]));
      EXPECT_THAT(sentence, HasSubstr(traits[1].values[static_cast<size_t>(values[1])]));
      EXPECT_EQ(sentence.find("a orange"), std::string::npos) << sentence;
      different.insert(sentence);
    }
  }
  EXPECT_GT(different.size(), 200U);
}

/// The pixel in the middle of the drawing has its colour, the corner far from it the ground's; sizes scale.
TEST(CaptionsEmbedded, DrawingsShowTheirColorAtTheirPlace) {
  RandomStream rng{3};
  CaptionedDrawing drawing = random_drawing(HeldOut::nothing, false, rng);
  drawing.shape = 0;
  drawing.x = drawing.y = 0.3;
  drawing.radius = 0.2;
  drawing.rgb = {200, 40, 20};
  drawing.ground_rgb = {240, 241, 242};
  drawing.shade = {0, 0};
  for (const int64_t size : {32, 64}) {
    const cv::Mat rgb = paint(drawing, size);
    const int middle = static_cast<int>(0.3 * static_cast<double>(size));
    EXPECT_EQ(rgb.at<cv::Vec3b>(middle, middle), cv::Vec3b(200, 40, 20));
    EXPECT_EQ(rgb.at<cv::Vec3b>(rgb.rows - 1, rgb.cols - 1), cv::Vec3b(240, 241, 242));
    double covered = 0;
    for (int y = 0; y < rgb.rows; ++y) {
      for (int x = 0; x < rgb.cols; ++x) covered += (242.0 - rgb.at<cv::Vec3b>(y, x)[2]) / 222;
    }
    EXPECT_NEAR(covered / static_cast<double>(size * size), 3.14159 * 0.04, 0.003);  // π r²
  }
}

TEST(CaptionsEmbedded, RecordsDependOnSeedAndSplitAlone) {
  const auto one = open_captions("captions,train=5"), same = open_captions("captions,train=9"),
             other = open_captions("captions,train=5,seed=1");
  EXPECT_EQ(cv::norm(one->picture(3), same->picture(3)), 0);
  EXPECT_EQ(one->captions(3), same->captions(3));
  EXPECT_GT(cv::norm(one->picture(3), other->picture(3)), 0);
  EXPECT_THAT(test::error_of([] { open_captions("captions", "test"); }),
              HasSubstr("no split 'test', expected one of train, val"));
  EXPECT_THAT(test::error_of([] { open_captions("captions,held_out=none"); }),
              HasSubstr("held_out=none, expected sentences, pairs or nothing"));
}

// Files.

TEST(CaptionsFiles, ListsHoldOneOrMoreSentences) {
  const auto data = open_captions(listed_set(
      "captions-list", "{\"text\": [\"one\", \" two \"], \"file_name\": \"c.png\", \"licence\": 7}"));
  ASSERT_EQ(data->size(), 2);
  EXPECT_THAT(data->captions(0), ElementsAre("the first"));
  EXPECT_THAT(data->captions(1), ElementsAre("one", "two"));
  EXPECT_EQ(data->picture(1).size(), cv::Size(12, 8));
  EXPECT_THAT(data->trait_list(), IsEmpty());
}

TEST(CaptionsFiles, FaultyLinesAreNamed) {
  const auto error = [](const std::string& line) {
    return captions_error(listed_set("captions-faults", line));
  };
  EXPECT_THAT(error("{\"file_name\": \"b.png\""),
              HasSubstr("metadata.jsonl: line 3: is no JSON object, expected {\"file_name\""));
  EXPECT_THAT(error("[1]"), HasSubstr("line 3: is no JSON object"));
  EXPECT_THAT(error("{\"text\": \"x\"}"), HasSubstr("line 3: \"file_name\" is missing or no text"));
  EXPECT_THAT(error("{\"file_name\": 4, \"text\": \"x\"}"), HasSubstr("\"file_name\" is missing or no text"));
  EXPECT_THAT(error("{\"file_name\": \"b.png\"}"), HasSubstr("line 3: b.png has no \"text\""));
  for (const char* empty : {"\" \"", "[]", "[\"a\", \"\"]", "null", "3"}) {
    EXPECT_THAT(error(std::string("{\"file_name\": \"b.png\", \"text\": ") + empty + "}"),
                HasSubstr("line 3: \"text\" of b.png is empty or no text, expected a sentence"))
        << empty;
  }
  EXPECT_THAT(error("{\"file_name\": \"b.png\", \"text\": \"\xFF\"}"),
              HasSubstr("line 3: is no JSON object"));
  EXPECT_THAT(error("{\"file_name\": \"missing.png\", \"text\": \"x\"}"), HasSubstr("missing.png"));
  EXPECT_THAT(error("{\"file_name\": \"metadata.jsonl\", \"text\": \"x\"}"), HasSubstr("metadata.jsonl: "));
}

TEST(CaptionsFiles, PairsAreAPictureAndAText) {
  const std::string folder = test::scratch_dir("captions-pairs");
  write_file(folder + "/1.png", plain_png(4, 4, {1, 2, 3}));
  write_file(folder + "/1.txt",
             "\xEF\xBB\xBF"
             "a dot\r\n\n  another way \n");
  const auto data = open_captions("captions:" + folder);
  EXPECT_THAT(data->captions(0), ElementsAre("a dot", "another way"));
  write_file(folder + "/2.png", plain_png(4, 4, {1, 2, 3}));
  EXPECT_THAT(captions_error("captions:" + folder),
              HasSubstr("2.png: has no sentence, expected 2.txt beside it"));
  write_file(folder + "/2.txt", " \n");
  EXPECT_THAT(captions_error("captions:" + folder),
              HasSubstr("2.txt: holds no sentence, expected one a line"));
}

TEST(CaptionsFiles, SplitsAreFoldersListsOrShards) {
  const std::string folder = test::scratch_dir("captions-splits");
  make_folders(folder + "/train");
  write_file(folder + "/train/1.png", plain_png(4, 4, {1, 2, 3}));
  write_file(folder + "/train/1.txt", "of train");
  write_file(folder + "/val.jsonl", "{\"file_name\": \"train/1.png\", \"caption\": \"of val\"}\n");
  write_file(folder + "/test-000.tar",
             tar_member("9.png", plain_png(4, 4, {1, 2, 3})) + tar_member("9.txt", "of test") + tar_end());
  const std::string spec = "captions:" + folder;
  EXPECT_THAT(open_captions(spec)->captions(0), ElementsAre("of train"));
  EXPECT_THAT(open_captions(spec, "val")->captions(0), ElementsAre("of val"));
  EXPECT_THAT(open_captions(spec + ",split=test")->captions(0), ElementsAre("of test"));
  EXPECT_THAT(captions_error(spec + ",split=extra"),
              HasSubstr("no split 'extra', expected one of those found: train, val, test"));
  EXPECT_THAT(captions_error("captions:" + folder + "/none"),
              HasSubstr("/none: is not there, expected a folder with metadata.jsonl"));
  EXPECT_THAT(captions_error("captions:" + test::scratch_dir("captions-empty")),
              HasSubstr("no captioned pictures"));
  EXPECT_THAT(captions_error("captions:" + folder + ",ground=blue"),
              HasSubstr("ground=blue, expected white, grey or black"));
}

/// What is transparent shows the ground, in any share.
TEST(CaptionsFiles, TransparencyShowsTheGround) {
  const std::string folder = test::scratch_dir("captions-alpha");
  cv::Mat bgra(1, 3, CV_8UC4);
  bgra.at<cv::Vec4b>(0, 0) = {30, 20, 10, 255};
  bgra.at<cv::Vec4b>(0, 1) = {30, 20, 10, 0};
  bgra.at<cv::Vec4b>(0, 2) = {30, 20, 10, 51};  // a fifth
  cv::imwrite(folder + "/1.png", bgra);
  write_file(folder + "/1.txt", "x");
  const cv::Mat white = open_captions("captions:" + folder)->picture(0),
                black = open_captions("captions:" + folder + ",ground=black")->picture(0);
  EXPECT_EQ(white.at<cv::Vec3b>(0, 0), cv::Vec3b(10, 20, 30));
  EXPECT_EQ(white.at<cv::Vec3b>(0, 1), cv::Vec3b(255, 255, 255));
  EXPECT_EQ(white.at<cv::Vec3b>(0, 2), cv::Vec3b(206, 208, 210));
  EXPECT_EQ(black.at<cv::Vec3b>(0, 1), cv::Vec3b(0, 0, 0));
  EXPECT_EQ(black.at<cv::Vec3b>(0, 2), cv::Vec3b(2, 4, 6));
}

// Shards.

std::string shard_of(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string bytes;
  for (const auto& [name, data] : members) bytes += tar_member(name, data);
  return bytes + tar_end();
}
std::string shard_error(const std::string& bytes) {
  const std::string folder = test::scratch_dir("captions-bad-shard");
  write_file(folder + "/s.tar", bytes);
  return captions_error("captions:" + folder + "/s.tar");
}

TEST(CaptionsShards, SamplesAreFoundByName) {
  const std::string folder = test::scratch_dir("captions-shards"), png = plain_png(5, 7, {1, 2, 3});
  write_file(folder + "/set-000.tar", shard_of({{"__info.txt", "no sample's"},
                                                {"x/1.png", png},
                                                {"x/1.txt", "one"},
                                                {"x/1.json", "{\"caption\": \"not this\"}"},
                                                {"x/2.cls", "4"},
                                                {"x/2.json", "{\"text\": [\"two\", \"deux\"]}"},
                                                {"x/2.PNG", png}}));
  write_file(folder + "/set-001.tar",
             shard_of({{"3.jpg.png", "never"}, {"4.caption", "four"}, {"4.png", png}}));
  write_file(folder + "/other.tar", shard_of({{"5.png", png}, {"5.txt", "five"}}));
  const auto error = captions_error("captions:" + folder + "/set-*.tar");
  EXPECT_THAT(error, HasSubstr("set-001.tar: 3: "));
  write_file(folder + "/set-001.tar", shard_of({{"4.caption", "four"}, {"4.png", png}}));
  const auto data = open_captions("captions:" + folder + "/set-*.tar");
  ASSERT_EQ(data->size(), 3);
  EXPECT_THAT(data->captions(0), ElementsAre("one"));
  EXPECT_THAT(data->captions(1), ElementsAre("two", "deux"));
  EXPECT_THAT(data->captions(2), ElementsAre("four"));
  EXPECT_EQ(data->name(2), "set-001.tar: 4");
  EXPECT_EQ(data->picture(1).size(), cv::Size(7, 5));
  EXPECT_EQ(open_captions("captions:" + folder)->size(), 4);
}

TEST(CaptionsShards, FaultsAreNamed) {
  const std::string png = plain_png(5, 7, {1, 2, 3});
  EXPECT_THAT(shard_error(shard_of({{"1.txt", "one"}})),
              HasSubstr("s.tar: 1: has no picture, expected one picture and one .txt"));
  EXPECT_THAT(shard_error(shard_of({{"1.png", png}})), HasSubstr("s.tar: 1: has no sentence"));
  EXPECT_THAT(shard_error(shard_of({{"1.png", png}, {"1.jpg", png}, {"1.txt", "x"}})),
              HasSubstr("1: has two members of one kind"));
  EXPECT_THAT(shard_error(shard_of({{"1.png", png}, {"1.txt", "\n"}})),
              HasSubstr("1: its sentence is empty or no text"));
  EXPECT_THAT(shard_error(shard_of({{"1.png", png}, {"1.json", "{"}})),
              HasSubstr("1: its sentence is empty or no text"));
  EXPECT_THAT(shard_error(shard_of({{"1.png", png.substr(0, 60)}, {"1.txt", "x"}})), HasSubstr("s.tar: 1: "));
  const std::string whole = shard_of({{"1.png", png}, {"1.txt", "x"}});
  EXPECT_THAT(shard_error(whole.substr(0, 550)), HasSubstr("s.tar: byte 512: "));
  EXPECT_THAT(shard_error(whole.substr(0, whole.size() - 1024)),
              HasSubstr("the archive ends without an empty block"));
  EXPECT_THAT(shard_error("GIF89a" + std::string(600, 'x')), HasSubstr("no tar header"));
  EXPECT_THAT(shard_error(""), HasSubstr("the archive ends without an empty block"));
}

// Batches.

TEST(CaptionsBatches, TrainingPicksSentencesAndEvaluationTheFirst) {
  const auto data = open_captions("captions,train=64");
  DataOptions options;
  options.batch_size = 32;
  options.workers = 0;
  CaptionTransformOptions transform;
  transform.size = {64, 64};
  const auto evaluation = caption_batches(data, options, transform, false, 0);
  evaluation->start_epoch(0);
  const auto first = evaluation->next();
  const auto& shown = dynamic_cast<const CaptionBatch&>(*first);
  EXPECT_EQ(shown.texts[5], data->captions(5)[0]);
  EXPECT_EQ(shown.traits[5][1].item<int64_t>(), data->traits(5)[1]);
  EXPECT_EQ(shown.images.sizes().vec(), (std::vector<int64_t>{32, 3, 64, 64}));
  const cv::Mat drawn = data->picture(5);
  EXPECT_FLOAT_EQ(shown.images[5][2][9][17].item<float>(),
                  static_cast<float>(drawn.at<cv::Vec3b>(9, 17)[2]) / 127.5F - 1);
  EXPECT_EQ(cv::norm(tensor_picture(shown.images[5]), drawn), 0);

  const auto training = caption_batches(data, options, transform, true, 0);
  training->start_epoch(0);
  int64_t others = 0;
  while (const auto batch = training->next()) {
    const auto& part = dynamic_cast<const CaptionBatch&>(*batch);
    for (size_t i = 0; i < part.texts.size(); ++i)
      others += part.texts[i] != data->captions(part.records[i])[0] ? 1 : 0;
  }
  EXPECT_GT(others, 30);  // two of three
  EXPECT_LT(others, 56);
}

/// A picture of 8x16 for a network of 4x4: its middle, or any part of it.
TEST(CaptionsBatches, PicturesCoverAndAreCut) {
  cv::Mat rgb(8, 16, CV_8UC3);
  for (int x = 0; x < 16; ++x) rgb.col(x).setTo(cv::Scalar(x < 8 ? 0 : 255, 0, 0));
  const cv::Mat middle = covering_picture(rgb, 8, 8);
  EXPECT_EQ(middle.at<cv::Vec3b>(0, 3)[0], 0);
  EXPECT_EQ(middle.at<cv::Vec3b>(0, 4)[0], 255);
  EXPECT_EQ(covering_picture(rgb, 4, 4).size(), cv::Size(4, 4));
  EXPECT_EQ(covering_picture(rgb, 32, 20).size(), cv::Size(20, 32));
  EXPECT_EQ(covering_picture(cv::Mat(7, 3, CV_8UC3, cv::Scalar(9, 9, 9)), 5, 5).at<cv::Vec3b>(2, 2)[1], 9);
}

TEST(CaptionsBatches, SentencesAloneKeepOrderAndSkipWhatTheCheckRefuses) {
  const auto data = open_captions("captions,train=12");
  DataOptions options;
  options.batch_size = 4;
  options.workers = 0;
  options.skip_bad = true;
  const CaptionTransformOptions transform;
  const auto texts = caption_text_batches(data, options, transform, false, 0, {}, [](int64_t record) {
    if (record == 5) throw Error("refused");
  });
  texts->start_epoch(0);
  std::vector<int64_t> records;
  while (const auto batch = texts->next()) {
    const auto& part = dynamic_cast<const CaptionBatch&>(*batch);
    EXPECT_FALSE(part.images.defined());
    records.insert(records.end(), part.records.begin(), part.records.end());
  }
  EXPECT_THAT(records, ElementsAre(0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11));
  EXPECT_EQ(texts->skipped(), 1);
}

TEST(CaptionsBatches, HeldOutShareIsAllThatTrainingDoesNotSee) {
  DataOptions options;
  options.train = "captions,train=40";
  options.val_fraction = 0.25;
  const auto train = open_caption_training(options, 3), val = open_caption_validation(options, 3);
  EXPECT_EQ(train->size(), 30);
  EXPECT_EQ(val->size(), 10);
  std::set<std::string> names;
  for (int64_t i = 0; i < 30; ++i) names.insert(train->name(i));
  for (int64_t i = 0; i < 10; ++i) names.insert(val->name(i));
  EXPECT_EQ(names.size(), 40U);
  options.val = "captions";
  EXPECT_THAT(test::error_of([&] { open_caption_validation(options, 3); }), HasSubstr("exclude each other"));
}

// `zoo data`.

TEST(CaptionsTools, MadeSetReadsBackTheSame) {
  const std::string folder = test::scratch_dir("captions-made") + "/set";
  const DataSpec spec = parse_data_spec("captions,train=6,val=4,size=32");
  EXPECT_EQ(make_data(spec, folder), "captions:" + folder);
  for (const char* split : {"train", "val"}) {
    const auto drawn = open_caption_dataset(spec, split), read = open_captions("captions:" + folder, split);
    ASSERT_EQ(read->size(), drawn->size());
    EXPECT_EQ(read->captions(3), drawn->captions(3));
    EXPECT_EQ(cv::norm(read->picture(3), drawn->picture(3)), 0);
  }
  EXPECT_THAT(test::error_of([&] { make_data(spec, folder); }),
              HasSubstr("already holds train/metadata.jsonl"));
}

TEST(CaptionsTools, CheckFindsEveryFault) {
  const std::string spec = listed_set("captions-check",
                                      "{\"file_name\": \"b.png\", \"text\": \"again\"}\nnonsense\n"
                                      "{\"file_name\": \"gone.png\", \"text\": \"x\"}");
  const CheckReport report = check_data(parse_data_spec(spec));
  EXPECT_EQ(report.fatal_count(), 2);
  ASSERT_EQ(report.findings.size(), 3U);
  EXPECT_EQ(report.findings[0].record, "line 4");
  EXPECT_EQ(report.findings[1].record, "gone.png");
  EXPECT_THAT(report.findings[2].what, HasSubstr("shows the pixels of a.png"));
  ASSERT_EQ(report.captions.size(), 1U);
  EXPECT_EQ(report.captions[0].pictures, 2);
  EXPECT_EQ(report.captions[0].captions, 3);
  EXPECT_EQ(report.captions[0].words, 4);
  EXPECT_THAT(report.str(), HasSubstr("shorter side"));
  EXPECT_EQ(report.to_json().at("splits")[0].at("images"), 2);
  EXPECT_EQ(check_data(parse_data_spec("captions,train=30,val=10")).findings.size(), 0U);
}

TEST(CaptionsTools, SheetHasATileForEachSample) {
  const cv::Mat sheet = show_captions(*open_captions("captions,val=20", "val"), 16);
  EXPECT_EQ(sheet.cols, 1800);
  EXPECT_GT(sheet.rows, 2 * 200);
  EXPECT_LT(sheet.rows, 2 * 350);
}

}  // namespace
}  // namespace zoo
