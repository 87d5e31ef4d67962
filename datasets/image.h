#pragma once
#include <string>

#include <opencv2/core.hpp>

namespace zoo {

/// Decodes a picture to 8-bit RGB without EXIF rotation (JPEG by libjpeg-turbo, the rest by OpenCV; grey, alpha,
/// 16-bit and palettes converted). Throws Error `FILE: …` if it is missing, empty, truncated or no picture.
cv::Mat read_image(const std::string& path);
/// Writes RGB as PNG or JPEG by the ending, beside and renamed. Throws Error.
void write_image(const std::string& path, const cv::Mat& rgb);
std::string encode_png(const cv::Mat& rgb);

}  // namespace zoo
