#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <opencv2/core.hpp>

#include "datasets/captions/captions.h"
#include "datasets/detection.h"
#include "datasets/faces/faces.h"

namespace zoo {

/// A box to draw: x, y, width, height in pixels of the picture, of any place and size.
struct DrawnBox {
  double x = 0, y = 0, w = 0, h = 0;
  std::string label;
  double score = -1;  ///< shown behind the label in per cent where 0 or more; the highest lie on top
  int64_t color = 0;  ///< equal numbers get equal colours, for example a category id
};

/// A colour of the palette (RGB): neighbouring numbers differ strongly, each stands out on photographs.
cv::Vec3b palette_color(int64_t index);

/// The picture with its boxes and their labels. Lines and letters grow with the picture; a picture whose
/// longer side is below 400 pixels is first enlarged by a whole factor, so that labels can be read. Labels
/// stay inside the picture and do not cover each other: one that finds no free place is left out where its
/// class is named elsewhere.
cv::Mat draw_detections(const cv::Mat& rgb, const std::vector<DrawnBox>& boxes);

/// A contact sheet of `count` samples, spread over the data set, with their annotated objects (crowds marked
/// so), in rows of equal height, file names below, the set's description on top.
cv::Mat show_grid(const DetectionDataset& dataset, int64_t count = 12);

/// A contact sheet of faces: a row of `pictures` for each of `identities` that are spread over the set, its name below
/// (without identities: pictures spread over the set), landmarks as dots, the set's description on top.
cv::Mat show_faces(const FaceDataset& dataset, int64_t identities = 6, int64_t pictures = 10);

/// Pictures in rows of equal tiles, each with its words below (broken into lines, cut where they are too long), a title
/// on top (empty: none).
struct CaptionedTile {
  cv::Mat rgb;
  std::string words;
};
cv::Mat caption_sheet(const std::vector<CaptionedTile>& tiles, int64_t columns, const std::string& title);
/// That sheet of `count` records that are spread over the set, each with its first sentence.
cv::Mat show_captions(const CaptionDataset& dataset, int64_t count = 32);

}  // namespace zoo
