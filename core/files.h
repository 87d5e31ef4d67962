#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace zoo {

bool file_exists(const std::string& path);
bool is_directory(const std::string& path);
/// Folder and file name put together; `name` alone where it is absolute or `folder` is empty.
std::string join_path(const std::string& folder, const std::string& name);
/// "a/b/c.jpg" -> "c.jpg"; "c" of it without the ending; the folder "a/b" ("." where there is none).
std::string file_name(const std::string& path);
std::string file_stem(const std::string& path);
std::string parent_folder(const std::string& path);
/// Names in a folder, sorted, without "." and "..". Throws Error where it cannot be read.
std::vector<std::string> list_folder(const std::string& path);
/// Creates the folder and its parents. Throws Error naming the path and the system's reason.
void make_folders(const std::string& path);

/// The whole file. Throws Error naming the path and the system's reason.
std::string read_file(const std::string& path);

/// A file mapped into memory for reading. Throws Error where it is missing, no regular file or unreadable.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

/// Writes beside the target (`PATH.tmp.PID`), checks every write, syncs, and renames on `commit`, so that no
/// reader ever meets half a file. Without `commit` the file beside is removed. All failures throw Error with
/// path and reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();
  /// The file being written beside the target, for writers that want a path of their own.
  const std::string& temporary_path() const { return temporary_; }

 private:
  [[noreturn]] void fail(const char* doing);
  void flush();

  std::string path_, temporary_;
  std::vector<char> buffer_;
  int descriptor_ = -1;
  bool committed_ = false;
};

/// The whole text by AtomicFile.
void write_file(const std::string& path, std::string_view text);

}  // namespace zoo
