#pragma once

namespace zoo {

/// The plane figures that embedded sets draw.
enum Form { kCircle, kSquare, kTriangle, kStar, kRing, kCross, kForms };
inline constexpr const char* kFormNames[kForms] = {"circle", "square", "triangle", "star", "ring", "cross"};

/// Signed distance to the outline of a form in the unit circle, negative inside (exact along its edges, not around its
/// corners). With y downwards a triangle points up and a star down.
double signed_distance(Form form, double x, double y);

}  // namespace zoo
