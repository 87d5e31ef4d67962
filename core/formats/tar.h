#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace zoo {

/// A regular file of an archive.
struct TarEntry {
  std::string name;
  uint64_t offset = 0;  ///< first byte of the contents in the archive
  uint64_t size = 0;
};

/// The regular files of an uncompressed tar archive (POSIX ustar and pax, GNU long names), found by its headers alone:
/// contents are not read. Folders and links are passed over. Throws Error `PATH: byte N: what` for a header that is
/// none, a member that reaches past the end, and an archive without the empty block that ends it.
std::vector<TarEntry> read_tar_index(const uint8_t* bytes, uint64_t size, const std::string& path);

/// A member with its padding: what `data` has of 512 bytes is filled up with zeros.
std::string tar_member(const std::string& name, const std::string& data);
/// The two empty blocks that end an archive.
std::string tar_end();

}  // namespace zoo
