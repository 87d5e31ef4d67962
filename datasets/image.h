#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include <opencv2/core.hpp>

namespace zoo {

/// Decodes a picture to 8-bit RGB without EXIF rotation, JPEG by libjpeg-turbo and the rest by OpenCV. Grey
/// becomes three equal channels, alpha is dropped (not blended), palettes are resolved, of 16 bits the upper
/// 8 are kept, and CMYK is converted by Pillow's rule. Of 8-bit pictures the pixels equal
/// `PIL.Image.open(path).convert("RGB")`. Throws Error `FILE: …` if it is missing, empty, truncated, corrupt,
/// too large (2^28 pixels) or no picture.
cv::Mat read_image(const std::string& path);
/// The same for the bytes of a file; `name` stands for it in messages.
cv::Mat decode_image(const uint8_t* data, size_t size, const std::string& name);

struct ImageSize {
  int64_t width = 0, height = 0;
};
/// Width and height as `read_image` will give them. Of JPEG and PNG it reads the header alone, so a damaged
/// body goes unnoticed. Throws Error as `read_image` does.
ImageSize image_size(const std::string& path);
/// Whether the name ends like a picture (.jpg .jpeg .png .bmp .webp .tif .tiff .pgm .ppm .pnm .jp2), in any
/// case.
bool has_image_ending(const std::string& path);

/// Writes RGB as PNG (lossless) or JPEG (quality 95) by the ending, beside and renamed. Throws UsageError for
/// another ending and Error where it cannot be written.
void write_image(const std::string& path, const cv::Mat& rgb);
std::string encode_png(const cv::Mat& rgb);

}  // namespace zoo
