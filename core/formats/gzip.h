#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace zoo {

/// Whether bytes begin as a gzip file does (RFC 1952).
bool is_gzip(std::string_view bytes);

/// The contents of a gzip file of one member. Throws Error naming `path` where it is damaged, cut off, goes on after its
/// end, or would hold more than `limit` bytes.
std::string gunzip(std::string_view bytes, uint64_t limit, const std::string& path);

}  // namespace zoo
