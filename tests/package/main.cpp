// Another program that uses models/ alone: loads weights and runs. Prints the shape of the logits.
#include <iostream>

#include "models/detr/detr.h"
#include "models/detr/weights.h"

int main(int argc, char** argv) {
  zoo::Detr detr = zoo::load_detr(argc > 1 ? argv[1] : "best.safetensors");
  const torch::NoGradGuard no_grad;
  std::cout << detr->forward(torch::zeros({1, 3, 128, 128}), torch::Tensor()).logits.sizes() << "\n";
}
