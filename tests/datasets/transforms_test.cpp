#include "datasets/transforms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <opencv2/imgproc.hpp>

#include "core/error.h"

namespace zoo {
namespace {

using ::testing::HasSubstr;

/// One picture for all records; records have one object over the left half.
class OnePicture : public DetectionDataset {
 public:
  OnePicture(int64_t height, int64_t width, int64_t size = 6) : size_(size) {
    image_.create(static_cast<int>(height), static_cast<int>(width), CV_8UC3);
    for (int y = 0; y < image_.rows; ++y) {
      for (int x = 0; x < image_.cols; ++x)
        image_.at<cv::Vec3b>(y, x) = cv::Vec3b(uint8_t(x), uint8_t(y), 77);
    }
    record_.image_id = 41;
    record_.file_name = "one.png";
    record_.objects.push_back(
        {1, 3, {0, 0, static_cast<double>(width) / 2, static_cast<double>(height)}, 1, false});
  }
  int64_t size() const override { return size_; }
  const DetectionRecord& record(int64_t) const override { return record_; }
  cv::Mat image(int64_t) const override { return image_.clone(); }
  const std::vector<Category>& categories() const override { return categories_; }
  std::string description() const override { return "one picture"; }

 private:
  int64_t size_;
  cv::Mat image_;
  DetectionRecord record_;
  std::vector<Category> categories_ = {{3, "half"}};
};

TEST(Transforms, SizeRule) {
  using Size = std::pair<int64_t, int64_t>;
  EXPECT_EQ(resized_size(480, 640, 800, 1333), Size(800, 1066));
  EXPECT_EQ(resized_size(640, 480, 800, 1333), Size(1066, 800));
  EXPECT_EQ(resized_size(320, 640, 800, 1333), Size(666, 1332));  // the rounded short side gives the long one
  EXPECT_EQ(resized_size(800, 900, 800, 1333), Size(800, 900));
  EXPECT_EQ(resized_size(480, 9000, 600, 0), Size(600, 11250));
  EXPECT_EQ(resized_size(1, 5000, 800, 1333), Size(1, 5000));  // nothing is left of less than one pixel
  EXPECT_EQ(resized_size(3, 1000, 800, 500), Size(2, 666));    // 1.5 and 2.5 both round to 2
  EXPECT_EQ(resized_size(5, 1000, 800, 500), Size(2, 400));
}

TEST(Transforms, ResizeRefusesWhatItCannotDo) {
  const cv::Mat image(10, 10, CV_8UC3), floats(10, 10, CV_32F);
  EXPECT_THROW(resize_antialiased(floats, 5, 5), Error);
  EXPECT_THROW(resize_antialiased(cv::Mat(), 5, 5), Error);
  EXPECT_THROW(resize_antialiased(image, 0, 5), Error);
  EXPECT_THROW(resize_antialiased(image, 5, 5, {3, 3, 3, 3}), Error);
  EXPECT_EQ(resize_antialiased(image, 10, 10).data, image.data);
}

// A part of a picture in memory, as cropping gives it: rows are not adjacent.
TEST(Transforms, ResizeOfAPartOfAPicture) {
  const OnePicture data(60, 90);
  const cv::Mat part = data.image(0)(cv::Rect(13, 7, 41, 37));
  const cv::Mat a = resize_antialiased(part, 50, 70), b = resize_antialiased(part.clone(), 50, 70);
  EXPECT_EQ(cv::norm(a, b, cv::NORM_INF), 0);
}

TEST(Transforms, PlansFollowTheOptions) {
  const DetectionTransformOptions options;
  int flips = 0, crops = 0;
  std::set<int64_t> sizes;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    RandomStream rng{seed};
    const TransformPlan plan = draw_plan({640, 480}, options, rng);
    flips += plan.flip ? 1 : 0;
    sizes.insert(plan.size);
    EXPECT_EQ(plan.max_size, 1333);
    if (plan.crop_resize == 0) continue;
    ++crops;
    const auto [height, width] = resized_size(480, 640, plan.crop_resize, 0);
    const cv::Rect& window = plan.window;
    EXPECT_TRUE(window.width >= 384 && window.width <= 600 && window.height >= 384 && window.height <= 600);
    EXPECT_TRUE(window.x >= 0 && window.y >= 0 && window.br().x <= width && window.br().y <= height);
  }
  EXPECT_NEAR(flips, 1000, 100);
  EXPECT_NEAR(crops, 1000, 100);
  EXPECT_EQ(sizes.size(), options.train_sizes.size());
}

TEST(Transforms, CropOfAPictureSmallerThanTheCropsBounds) {
  DetectionTransformOptions options;
  options.crop_resize_sizes = {100};
  for (uint64_t seed = 0; seed < 50; ++seed) {
    RandomStream rng{seed};
    const TransformPlan plan = draw_plan({150, 100}, options, rng);
    if (plan.crop_resize > 0) {
      EXPECT_EQ(plan.window, cv::Rect(0, 0, 150, 100));
    }
  }
}

TEST(Transforms, FlipMirrorsPictureAndBoxes) {
  const OnePicture data(20, 30);
  TransformPlan plan;
  plan.flip = true;
  plan.size = 20;
  const DetectionSample sample = apply_plan(plan, data.record(0), data.image(0));
  EXPECT_EQ(sample.image.at<cv::Vec3b>(4, 0), cv::Vec3b(29, 4, 77));
  EXPECT_THAT(sample.boxes.at(0), ::testing::ElementsAre(0.75f, 0.5f, 0.5f, 1.f));
  EXPECT_EQ(data.image(0).at<cv::Vec3b>(4, 0), cv::Vec3b(0, 4, 77));
}

TEST(Transforms, SamplesSayWhoTheyAre) {
  const OnePicture data(480, 640);
  RandomStream rng{1, 2, 3}, again{1, 2, 3};
  const DetectionSample sample = training_sample(data, 5, DetectionTransformOptions(), rng);
  EXPECT_EQ(sample.image_id, 41);
  EXPECT_EQ(sample.index, 5);
  EXPECT_EQ(sample.id, "one.png");
  EXPECT_EQ(sample.original_height, 480);
  EXPECT_EQ(sample.original_width, 640);
  const DetectionSample same = training_sample(data, 5, DetectionTransformOptions(), again);
  EXPECT_EQ(cv::norm(sample.image, same.image, cv::NORM_INF), 0);
  const DetectionSample evaluated = evaluation_sample(data, 5, DetectionTransformOptions());
  EXPECT_EQ(evaluated.image.size(), cv::Size(1066, 800));
  EXPECT_EQ(evaluated.labels, std::vector<int64_t>{3});
  const DetectionSample picture = evaluation_sample(data.image(0), DetectionTransformOptions());
  EXPECT_EQ(cv::norm(picture.image, evaluated.image, cv::NORM_INF), 0);
  EXPECT_EQ(picture.original_width, 640);
  EXPECT_TRUE(picture.boxes.empty());
}

DetectionSample plain_sample(int height, int width, uint8_t value) {
  DetectionSample sample;
  sample.image = cv::Mat(height, width, CV_8UC3, cv::Scalar(value, value + 1, value + 2));
  sample.original_height = 7;
  sample.original_width = 9;
  sample.id = std::to_string(value);
  return sample;
}

TEST(Transforms, CollatePadsRightAndBottom) {
  std::vector<DetectionSample> samples = {plain_sample(5, 40, 100), plain_sample(8, 33, 200)};
  samples[1].boxes = {{0.1f, 0.2f, 0.3f, 0.4f}};
  samples[1].labels = {17};
  const DetectionTransformOptions options;
  const auto batch = collate(std::move(samples), options);
  EXPECT_EQ(batch->pixels.sizes(), (std::vector<int64_t>{2, 3, 8, 40}));
  EXPECT_TRUE(batch->padded);
  EXPECT_EQ(batch->ids, (std::vector<std::string>{"100", "200"}));
  EXPECT_EQ(batch->boxes[0].sizes(), (std::vector<int64_t>{0, 4}));
  EXPECT_EQ(batch->boxes[1][0][3].item<float>(), 0.4f);
  EXPECT_EQ(batch->labels[1].item<int64_t>(), 17);
  EXPECT_EQ(batch->original_sizes[1][1].item<int64_t>(), 9);
  const auto pixels = batch->pixels.accessor<float, 4>();
  const auto mask = batch->mask.accessor<bool, 3>();
  for (int b = 0; b < 2; ++b) {
    const int height = b == 0 ? 5 : 8, width = b == 0 ? 40 : 33;
    for (int y = 0; y < 8; ++y) {
      for (int x = 0; x < 40; ++x) {
        const bool real = y < height && x < width;
        ASSERT_EQ(mask[b][y][x], real);
        for (size_t c = 0; c < 3; ++c) {
          const double value = (100.0 * (b + 1) + static_cast<double>(c)) / 255;
          const double expected = real ? (value - options.mean[c]) / options.std[c] : 0.0;
          ASSERT_NEAR(pixels[b][static_cast<int64_t>(c)][y][x], expected, 1e-6) << b << " " << y << " " << x;
        }
      }
    }
  }
  EXPECT_FALSE(collate({plain_sample(5, 6, 1), plain_sample(5, 6, 2)}, options)->padded);
}

TEST(Transforms, OptionsOutOfRange) {
  const auto message = [](const std::function<void(DetectionTransformOptions&)>& change) {
    DetectionTransformOptions options;
    change(options);
    try {
      options.validate();
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message([](auto&) {}), "no error");
  EXPECT_THAT(message([](auto& o) { o.train_sizes = {}; }), HasSubstr("data.transform.train_sizes is empty"));
  EXPECT_THAT(message([](auto& o) { o.train_sizes = {0}; }), HasSubstr("data.transform.train_sizes"));
  EXPECT_THAT(message([](auto& o) { o.crop_max = 100; }), HasSubstr("data.transform.crop_max"));
  EXPECT_THAT(message([](auto& o) { o.flip = 1.5; }), HasSubstr("data.transform.flip"));
  EXPECT_THAT(message([](auto& o) { o.mean = {0.5}; }), HasSubstr("data.transform.mean has 1 values"));
  EXPECT_THAT(message([](auto& o) { o.std = {0.2, 0, 0.2}; }), HasSubstr("data.transform.std"));
}

DataOptions shapes_options() {
  DataOptions options;
  options.train = "shapes";
  options.workers = 2;
  options.batch_size = 4;
  return options;
}

TEST(TransformsData, TrainingAndValidationSets) {
  DataOptions options = shapes_options();
  auto [train, val] = open_train_val(options, 0);
  EXPECT_EQ(train->size(), 20000);
  EXPECT_EQ(val->size(), 500);
  options.max_images = 10;
  std::tie(train, val) = open_train_val(options, 0);
  EXPECT_EQ(train->size(), 10);
  EXPECT_EQ(val->size(), 10);
  EXPECT_EQ(train->record(9).file_name, "shapes_train_000010.png");
  options.val = "shapes,split=train";
  EXPECT_EQ(open_validation(options, 0)->record(0).file_name, "shapes_train_000001.png");
}

TEST(TransformsData, ValidationShareOfTheTrainingSet) {
  DataOptions options = shapes_options();
  options.max_images = 20;
  options.val_fraction = 0.25;
  const auto [train, val] = open_train_val(options, 3);
  EXPECT_EQ(train->size(), 15);
  EXPECT_EQ(val->size(), 5);
  std::set<int64_t> ids;
  for (const auto& set : {train, val}) {
    int64_t before = 0;
    for (int64_t i = 0; i < set->size(); ++i) {
      EXPECT_GT(set->record(i).image_id, before);
      before = set->record(i).image_id;
      EXPECT_TRUE(ids.insert(before).second);
    }
  }
  const auto again = open_validation(options, 3), other = open_validation(options, 4);
  std::vector<int64_t> a, b, c;
  for (int64_t i = 0; i < 5; ++i) {
    a.push_back(val->record(i).image_id);
    b.push_back(again->record(i).image_id);
    c.push_back(other->record(i).image_id);
  }
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  options.val = "shapes";
  EXPECT_THROW(open_train_val(options, 3), UsageError);
  EXPECT_EQ(open_validation(options, 3)->record(0).file_name, "shapes_val_000001.png");
}

TEST(TransformsData, BatchesOfShapes) {
  DetectionTransformOptions transform;
  transform.train_sizes = {96, 128};
  transform.crop_resize_sizes = {};
  transform.eval_size = 128;
  const DataOptions options = shapes_options();
  const auto dataset = open_validation(options, 0);
  std::vector<torch::Tensor> first;
  for (const int64_t workers : {0, 2}) {
    DataOptions own = options;
    own.workers = workers;
    const auto source = detection_batches(dataset, own, transform, true, 5);
    EXPECT_EQ(source->batches_per_epoch(), 125);
    source->start_epoch(2, 7);
    for (int i = 0; i < 5; ++i) {
      const auto batch = source->next();
      const auto& detection = dynamic_cast<DetectionBatch&>(*batch);
      if (workers == 0) {
        first.push_back(detection.pixels);
      } else {
        EXPECT_TRUE(torch::equal(detection.pixels, first[static_cast<size_t>(i)]));
      }
    }
  }
  const auto evaluation = detection_batches(dataset, options, transform, false, 5);
  evaluation->start_epoch(0);
  const auto batch = evaluation->next();
  EXPECT_EQ(dynamic_cast<DetectionBatch&>(*batch).image_ids, (std::vector<int64_t>{1, 2, 3, 4}));
}

}  // namespace
}  // namespace zoo
