# cmake --install: the program, the libraries with their headers, and a package for find_package(zoo).
