#pragma once
#include <string>
#include <vector>

#include "trainers/recipes.h"

namespace zoo {

// Rows of the table of recipes, one file a family.

std::vector<Recipe> detr_recipes();
std::vector<Recipe> face_recipes();
std::vector<Recipe> action_recipes();
std::vector<Recipe> ldm_recipes();

/// Keys of section `model` that every recipe has beside the options of its architecture.
Json model_section(const std::string& name, Json options);

}  // namespace zoo
