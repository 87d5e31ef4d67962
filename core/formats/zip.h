#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/formats/tensor_file.h"

namespace zoo {

/// CRC-32 as in zip and gzip; `crc` continues an earlier part.
uint32_t crc32(const void* data, size_t size, uint32_t crc = 0);

struct ZipEntry {
  std::string name;
  uint64_t offset = 0;  ///< first byte of the contents in the file
  uint64_t size = 0;    ///< bytes in the file
  uint32_t crc = 0;
  bool stored = true;  ///< neither compressed nor encrypted
};

/// The index of a zip archive of stored entries (PKWARE APPNOTE 6.3, with zip64), read from the central
/// directory. Throws Error for compressed or encrypted entries, several disks, names given twice, and entries
/// that lie outside the file or overlap each other.
class ZipArchive {
 public:
  ZipArchive(const uint8_t* bytes, uint64_t size, std::string path);

  const std::vector<ZipEntry>& entries() const { return entries_; }
  /// Null where there is none of that name.
  const ZipEntry* find(const std::string& name) const;
  /// Throws Error where the entry is compressed or encrypted.
  std::string_view contents(const ZipEntry& entry) const;
  /// The same after a comparison with the entry's CRC.
  std::string_view checked_contents(const ZipEntry& entry) const;

 private:
  const uint8_t* bytes_;
  std::string path_;
  std::vector<ZipEntry> entries_;
  std::unordered_map<std::string, size_t> index_;
};

/// Writes a zip archive of stored entries whose contents begin at multiples of 64 bytes, as torch.save does;
/// zip64 where a size or place needs it.
class ZipWriter {
 public:
  /// `limit32`: the largest number written in 32 bits; a smaller one lets tests reach zip64.
  explicit ZipWriter(ByteSink sink, uint64_t limit32 = 0xFFFFFFFE)
      : sink_(std::move(sink)), limit32_(limit32) {}

  void add(const std::string& name, const void* data, uint64_t size);
  /// The central directory; nothing may be added afterwards.
  void finish();

 private:
  struct Written {
    ZipEntry entry;
    uint64_t header = 0;  // place of the local header
  };

  void put(const void* data, size_t size);
  void put(const std::string& bytes) { put(bytes.data(), bytes.size()); }
  void put_end(uint64_t directory, uint64_t size);

  ByteSink sink_;
  uint64_t limit32_;
  uint64_t position_ = 0;
  std::vector<Written> written_;
};

}  // namespace zoo
