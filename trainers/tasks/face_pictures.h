#pragma once
#include <optional>
#include <string>

#include <opencv2/core.hpp>

namespace zoo {

/// Two faces side by side with their score; green words where the answer is right, red where it is wrong, black where
/// that is not known.
cv::Mat draw_face_pair(const cv::Mat& first, const cv::Mat& second, double score, double threshold,
                       std::optional<bool> same);
/// The same as a file, PNG or JPEG by its ending. Throws Error where it cannot be written.
void write_face_pair(const std::string& path, const cv::Mat& first, const cv::Mat& second, double score,
                     double threshold);

}  // namespace zoo
