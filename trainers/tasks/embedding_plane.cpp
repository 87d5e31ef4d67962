#include "trainers/tasks/embedding_plane.h"

#include <torch/torch.h>

#include <algorithm>
#include <set>

#include "trainers/canvas.h"

namespace zoo {

namespace {

constexpr int kPlaneWidth = 400, kPlaneHeight = 470;
constexpr double kRadius = 170, kTick = 12;
const cv::Point2d kMiddle(kPlaneWidth / 2.0, 276);
/// People beyond these share a colour.
const cv::Scalar kPeopleColors[] = {{38, 98, 176},  {224, 112, 38}, {52, 148, 92},  {196, 58, 74},
                                    {124, 92, 176}, {70, 160, 186}, {214, 160, 30}, {206, 98, 160},
                                    {122, 84, 60},  {120, 128, 140}};

const cv::Scalar& color_of(int64_t person) {
  return kPeopleColors[static_cast<size_t>(person) % std::size(kPeopleColors)];
}

cv::Scalar toned_down(const cv::Scalar& color) {
  return 0.45 * color + 0.55 * kPaper;
}

/// y of a picture goes down.
cv::Point2d on_plane(double x, double y, double scale) {
  return {kMiddle.x + scale * x, kMiddle.y - scale * y};
}

/// Directions [N,2]; 0 for what has none.
torch::Tensor directions_of(const torch::Tensor& vectors) {
  return torch::nn::functional::normalize(vectors,
                                          torch::nn::functional::NormalizeFuncOptions().dim(1).eps(1e-12));
}

void draw_ring(Canvas& canvas) {
  canvas.dot(kMiddle, kRadius + 0.7, kQuietInk);
  canvas.dot(kMiddle, kRadius - 0.7, kPaper);
  canvas.line(on_plane(-1, 0, kRadius), on_plane(1, 0, kRadius), kGrid, 1);
  canvas.line(on_plane(0, -1, kRadius), on_plane(0, 1, kRadius), kGrid, 1);
}

void draw_rows(Canvas& canvas, const EmbeddingPlane& plane) {
  const torch::Tensor directions = directions_of(plane.rows.to(torch::kFloat).cpu());
  const auto at = directions.accessor<float, 2>();
  for (const int64_t person : std::set<int64_t>(plane.people.begin(), plane.people.end())) {
    const double x = at[person][0], y = at[person][1];
    canvas.line(kMiddle, on_plane(x, y, kRadius), toned_down(color_of(person)), 1.2);
    canvas.line(on_plane(x, y, kRadius + 5), on_plane(x, y, kRadius + 5 + kTick), color_of(person), 4);
  }
}

/// All but the farthest hundredth lie within nine tenths of the circle.
void draw_embeddings(Canvas& canvas, const EmbeddingPlane& plane) {
  const torch::Tensor points = plane.points.to(torch::kFloat).contiguous();
  const torch::Tensor norms = points.norm(2, 1);
  const double far = std::max(torch::quantile(norms, 0.99).item<double>(), 1e-12);
  const torch::Tensor inside = points * (0.9 / norms.clamp_min(far)).unsqueeze(1),
                      rim = directions_of(points);
  const auto at = inside.accessor<float, 2>(), on_rim = rim.accessor<float, 2>();
  for (int64_t i = 0; i < points.size(0); ++i) {
    const cv::Scalar& color = color_of(plane.people[static_cast<size_t>(i)]);
    canvas.dot(on_plane(on_rim[i][0], on_rim[i][1], kRadius), 2, color);
    canvas.dot(on_plane(at[i][0], at[i][1], kRadius), 2, color);
  }
}

void put_words(Canvas& canvas, const std::string& words, double base, double height,
               const cv::Scalar& color) {
  const double room = kPlaneWidth - 24, width = canvas.text_width(words, height);
  canvas.text(words, {kMiddle.x, base}, std::min(height, height * room / std::max(width, 1.0)), color, 0.5);
}

}  // namespace

cv::Mat draw_embedding_plane(const EmbeddingPlane& plane, const std::string& title,
                             const std::string& words) {
  Canvas canvas(kPlaneWidth, kPlaneHeight);
  draw_ring(canvas);
  if (plane.rows.defined()) draw_rows(canvas, plane);
  draw_embeddings(canvas, plane);
  put_words(canvas, title, 36, 19, kInk);
  put_words(canvas, words, 66, 13, kQuietInk);
  return canvas.finished();
}

}  // namespace zoo
