// One engine of bench/recordio.py: reads records of an insightface .rec in random order.
//
//   recordio FILE.rec MODE THREADS SECONDS     MODE: records (bytes and label) | pictures (decoded to RGB)
//
// Prints {"seconds", "records", "bytes"}.
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/record_io.h"
#include "core/options.h"
#include "core/random.h"
#include "datasets/faces/faces.h"

namespace zoo {
namespace {

/// Reads one record; returns its bytes.
using Read = std::function<size_t(int64_t index)>;

/// The bytes are added up word by word, so that none is read less than a decoder would.
size_t touch(std::string_view bytes) {
  static std::atomic<uint64_t> kept{0};
  uint64_t sum = 0, word = 0;
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    std::memcpy(&word, bytes.data() + i, 8);
    sum += word;
  }
  kept += sum;
  return bytes.size();
}

Json measure(int64_t records, int threads, double seconds, const Read& read) {
  using Clock = std::chrono::steady_clock;
  const std::vector<int64_t> order = RandomStream(1).permutation(records);
  std::atomic<int64_t> next{0}, bytes{0};
  const Clock::time_point start = Clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const auto work = [&] {
    while (passed() < seconds) {
      for (int i = 0; i < 64; ++i)
        bytes += static_cast<int64_t>(read(order[static_cast<size_t>(next++ % records)]));
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  return {{"seconds", passed()}, {"records", next.load()}, {"bytes", bytes.load()}};
}

Json run(const std::string& path, const std::string& mode, int threads, double seconds) {
  if (mode == "pictures") {
    const auto dataset = open_face_dataset(parse_data_spec("recordio:" + path), "all");
    return measure(dataset->size(), threads, seconds, [&](int64_t i) { return dataset->image(i).total(); });
  }
  const MappedFile mapped(path), index(path.substr(0, path.size() - 4) + ".idx");
  const RecordFile file(mapped.data(), mapped.size(), path);
  const std::vector<RecordPlace> places = read_record_index(index.text(), index.path());
  return measure(static_cast<int64_t>(places.size()), threads, seconds, [&](int64_t i) {
    thread_local std::string joined;
    const RecordPlace& place = places[static_cast<size_t>(i)];
    const ImageRecord record = parse_image_record(file, place, file.read(place, joined));
    return touch(record.image) + static_cast<size_t>(record.label());
  });
}

}  // namespace
}  // namespace zoo

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "recordio FILE.rec records|pictures THREADS SECONDS\n";
    return 2;
  }
  try {
    std::cout << zoo::run(argv[1], argv[2], std::stoi(argv[3]), std::stod(argv[4])) << "\n";
  } catch (const zoo::Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
