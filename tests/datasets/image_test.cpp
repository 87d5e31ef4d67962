#include "datasets/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <opencv2/imgcodecs.hpp>
#include <sstream>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/random.h"
#include "core/text.h"
#include "tests/support.h"

namespace zoo {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

/// A picture with structure in every channel.
cv::Mat gradient(int height, int width) {
  cv::Mat image(height, width, CV_8UC3);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      image.at<cv::Vec3b>(y, x) = {static_cast<uint8_t>(x * 5), static_cast<uint8_t>(y * 7),
                                   static_cast<uint8_t>(x * y)};
    }
  }
  return image;
}

std::string error_of(const std::string& path) {
  try {
    read_image(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

int64_t different_bytes(const cv::Mat& image, const std::string& reference) {
  if (image.total() * 3 != reference.size() || !image.isContinuous()) return -1;
  int64_t count = 0;
  for (size_t i = 0; i < reference.size(); ++i) count += image.data[i] != static_cast<uint8_t>(reference[i]);
  return count;
}

TEST(Image, EqualsPillowOnPhotographsAndUnusualKinds) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("pictures");
  std::vector<std::string> arguments = {folder};
  const std::string photos = test::shared_data() + "/coco128/val2017";
  if (is_directory(photos)) {  // one of them is grey
    const std::vector<std::string> names = list_folder(photos);
    for (size_t i = 0; i < names.size(); i += 5) arguments.push_back(photos + "/" + names[i]);
    arguments.push_back(photos + "/000000007888.jpg");
  }
  test::run_python("pictures.py", arguments);
  const std::vector<std::string> files = split(read_file(folder + "/list.txt"), '\n');
  ASSERT_GE(files.size(), 18U);
  for (size_t i = 0; i < files.size(); ++i) {
    SCOPED_TRACE(files[i]);
    const cv::Mat image = read_image(files[i]);
    std::istringstream size(read_file(folder + "/" + std::to_string(i) + ".size"));
    int width = 0, height = 0;
    size >> width >> height;
    ASSERT_EQ(image.cols, width);
    ASSERT_EQ(image.rows, height);
    ASSERT_EQ(image.type(), CV_8UC3);
    EXPECT_EQ(different_bytes(image, read_file(folder + "/" + std::to_string(i) + ".rgb")), 0);
    EXPECT_EQ(image_size(files[i]).width, width);
    EXPECT_EQ(image_size(files[i]).height, height);
  }
}

TEST(Image, SixteenBitsKeepTheUpperEight) {
  const std::string path = test::scratch_dir("sixteen") + "/deep.png";
  cv::Mat deep(2, 3, CV_16UC1);
  for (int i = 0; i < 6; ++i) deep.at<uint16_t>(i / 3, i % 3) = static_cast<uint16_t>(i * 256 * 10 + 37);
  cv::imwrite(path, deep);
  const cv::Mat image = read_image(path);
  ASSERT_EQ(image.type(), CV_8UC3);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(image.at<cv::Vec3b>(i / 3, i % 3)[1], i * 10);
}

TEST(Image, PngRoundTripIsExact) {
  const std::string path = test::scratch_dir("png") + "/a.png";
  const cv::Mat image = gradient(31, 47);
  write_image(path, image);
  const cv::Mat back = read_image(path);
  ASSERT_EQ(back.size(), image.size());
  EXPECT_EQ(std::memcmp(back.data, image.data, image.total() * 3), 0);
  const std::string bytes = encode_png(image);
  EXPECT_EQ(decode_image(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "x").cols, 47);
}

TEST(Image, JpegIsWrittenInRgb) {
  const std::string path = test::scratch_dir("jpeg") + "/a.JPG";
  write_image(path, cv::Mat(16, 16, CV_8UC3, cv::Scalar(250, 10, 20)));
  const cv::Vec3b pixel = read_image(path).at<cv::Vec3b>(8, 8);
  EXPECT_NEAR(pixel[0], 250, 4);
  EXPECT_NEAR(pixel[2], 20, 4);
  EXPECT_THROW(write_image(path + ".xyz", gradient(2, 2)), UsageError);
}

TEST(Image, EveryTruncationIsNamed) {
  const std::string folder = test::scratch_dir("truncated");
  for (const char* name : {"a.jpg", "a.png", "a.bmp", "a.ppm", "a.webp", "a.tif"}) {
    const std::string path = folder + "/" + name;
    cv::imwrite(path, gradient(64, 64));
    const std::string whole = read_file(path);
    EXPECT_EQ(error_of(path), "");
    for (const double part : {0.0, 0.02, 0.3, 0.6, 0.95}) {
      write_file(path, whole.substr(0, static_cast<size_t>(static_cast<double>(whole.size()) * part)));
      EXPECT_THAT(error_of(path), StartsWith(path + ": ")) << name << " " << part;
    }
  }
}

TEST(Image, DamageIsNamed) {
  const std::string folder = test::scratch_dir("damaged");
  const std::string path = folder + "/a.png";
  write_image(path, gradient(40, 40));
  std::string bytes = read_file(path);
  bytes[bytes.size() / 2] ^= 0x55;
  write_file(path, bytes);
  EXPECT_THAT(error_of(path), HasSubstr("wrong check sum"));
  write_file(folder + "/text.jpg", "this is no picture");
  EXPECT_THAT(error_of(folder + "/text.jpg"), HasSubstr("is no picture"));
  write_file(folder + "/empty.jpg", "");
  EXPECT_THAT(error_of(folder + "/empty.jpg"), HasSubstr("is empty"));
  EXPECT_THAT(error_of(folder + "/none.jpg"), HasSubstr("No such file"));
  EXPECT_THAT(error_of(folder), HasSubstr("is a folder"));
}

TEST(Image, DamagedHuffmanDataIsNamed) {
  const std::string path = test::scratch_dir("huffman") + "/a.jpg";
  write_image(path, gradient(200, 200));
  const std::string whole = read_file(path);
  int named = 0;
  for (size_t at = whole.size() / 2; at < whole.size() - 100; at += 97) {  // a foreign marker amid the pixels
    std::string bytes = whole;
    bytes[at] = '\xFF';
    bytes[at + 1] = '\xD9';
    write_file(path, bytes);
    named += error_of(path).empty() ? 0 : 1;
  }
  EXPECT_GT(named, 5);
}

TEST(Image, BytesBetweenTheMarkersOfAJpegAreNoDamage) {
  const std::string path = test::scratch_dir("extraneous") + "/a.jpg";
  write_image(path, gradient(32, 32));
  std::string bytes = read_file(path);
  bytes.insert(bytes.size() - 2, "xx");
  write_file(path, bytes);
  EXPECT_EQ(error_of(path), "");
}

TEST(Image, MutatedFilesGiveErrorsOnly) {
  const std::string folder = test::scratch_dir("mutated");
  RandomStream random(11);
  write_image(folder + "/sound.jpg", gradient(24, 24));
  for (const char* name : {"a.jpg", "a.png"}) {
    const std::string path = folder + "/" + name;
    write_image(path, gradient(24, 24));
    const std::string whole = read_file(path);
    for (int i = 0; i < 400; ++i) {
      std::string bytes = whole;
      for (int64_t change = random.integer(1, 3); change > 0; --change) {
        const auto at = static_cast<size_t>(random.integer(0, static_cast<int64_t>(bytes.size()) - 1));
        bytes[at] = static_cast<char>(random.integer(0, 255));
      }
      write_file(path, bytes);
      try {
        read_image(path);
      } catch (const Error&) {
      }
      try {
        image_size(path);
      } catch (const Error&) {
      }
      ASSERT_EQ(error_of(folder + "/sound.jpg"), "") << "a damaged file must not spoil the next one";
    }
  }
}

TEST(Image, MonstrousSizesAreRefused) {
  const std::string path = test::scratch_dir("monstrous") + "/a.jpg";
  write_image(path, gradient(16, 16));
  std::string bytes = read_file(path);
  const size_t frame = bytes.find("\xFF\xC0");
  ASSERT_NE(frame, std::string::npos);
  bytes.replace(frame + 5, 4, "\xFD\xE8\xFD\xE8");
  write_file(path, bytes);
  EXPECT_THAT(error_of(path), HasSubstr("65000x65000 pixels are too many"));
}

TEST(Image, Endings) {
  EXPECT_TRUE(has_image_ending("a/b.JPEG"));
  EXPECT_TRUE(has_image_ending("b.png"));
  EXPECT_FALSE(has_image_ending("b.txt"));
  EXPECT_FALSE(has_image_ending("jpg"));
}

}  // namespace
}  // namespace zoo
