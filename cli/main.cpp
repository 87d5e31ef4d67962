#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "cli/command.h"

int main(int argc, char** argv) {
  const int code = zoo::run_program(argc, argv);
  std::cout.flush();
  std::fflush(nullptr);
  // Everything of ours is closed. What is left, taking LibTorch's tables of operators down one by one, takes 0.07 s.
  std::_Exit(code);
}
