#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace zoo {

/// CRC-32C (Castagnoli), the check of event files: "123456789" has 0xE3069283.
uint32_t crc32c(std::string_view bytes);

/// Writes one event file that TensorBoard reads, without TensorFlow:
/// FOLDER/events.out.tfevents.<unix seconds>.<host>.<pid>.<n>. Every process that trains opens a file of its
/// own and TensorBoard joins them. What is added stands in memory until `flush`; the destructor flushes too,
/// but tells of no failure. All other failures throw Error with the path and the system's reason; whole
/// records remain then.
class EventWriter {
 public:
  /// `first_step` is the first step that this process will write: TensorBoard drops what earlier files (of a
  /// run that was stopped after its last checkpoint) say of this step and later ones. 0: a new run.
  explicit EventWriter(const std::string& folder, int64_t first_step = 0);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  /// Slashes group tags: `loss/bbox`, `validation/AP`. NaN is kept, and shown as such.
  void add_scalar(const std::string& tag, double value, int64_t step);
  /// A picture as the bytes of a PNG file.
  void add_image(const std::string& tag, std::string_view png, int64_t step);
  /// Shown as Markdown; indent by four blanks what must stay as it is, a configuration for example.
  void add_text(const std::string& tag, std::string_view text, int64_t step);
  void flush();

  const std::string& path() const { return path_; }

 private:
  void add_value(const std::string& value, int64_t step);
  void add_record(const std::string& event);

  std::string path_, buffer_;
  int descriptor_ = -1;
  int64_t written_ = 0;  ///< bytes of whole records in the file
};

}  // namespace zoo
