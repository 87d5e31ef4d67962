#include "core/formats/safetensors.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <unordered_set>

#include "core/error.h"
#include "core/formats/byte_reader.h"

namespace zoo {

namespace {

using nlohmann::json;
using Range = std::pair<uint64_t, uint64_t>;  // data_offsets: first byte and end, from the end of the header

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kMaxDimensions = 64;
constexpr const char* kMetadata = "__metadata__";

/// Takes the header's JSON piece by piece, so that no document tree is built and names given twice are seen.
class HeaderHandler : public nlohmann::json_sax<json> {
 public:
  HeaderHandler(const ByteReader& reader, TensorFile& file) : reader_(reader), file_(file) {}

  const std::vector<Range>& ranges() const { return ranges_; }

  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("true or false"); }
  bool number_integer(number_integer_t) override { return other("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return other("a number with a point or too large");
  }
  bool binary(binary_t&) override { return other("binary data"); }
  bool number_unsigned(number_unsigned_t value) override;
  bool string(string_t& text) override;
  bool start_object(std::size_t) override;
  bool key(string_t& name) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    reader_.fail_at(8 + position, "the header is not JSON in UTF-8");
  }

 private:
  enum class Field { none, dtype, shape, offsets, unknown };

  [[noreturn]] void fail(const std::string& what) const;
  bool other(const char* what);
  void begin_entry();
  void end_entry();

  const ByteReader& reader_;
  TensorFile& file_;
  std::vector<Range> ranges_;
  std::unordered_set<std::string> names_;
  int depth_ = 0;      // 1: the document, 2: a tensor or the metadata, 3: a list of numbers
  uint64_t skip_ = 0;  // open objects and lists of an unknown field
  bool in_metadata_ = false;
  Field field_ = Field::none;
  std::string name_, field_name_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  TensorEntry entry_;
  std::vector<uint64_t> offsets_;
};

void HeaderHandler::fail(const std::string& what) const {
  std::string where = reader_.where() + ": header";
  if (depth_ > 0 && !name_.empty()) where += ": " + shown_name(name_);
  if (depth_ > 1 && !field_name_.empty()) where += ": " + shown_name(field_name_);
  throw Error(where + ": " + what);
}

/// A value that no known field takes: fine in an unknown field, else an error.
bool HeaderHandler::other(const char* what) {
  if (skip_ > 0 || (depth_ == 2 && field_ == Field::unknown)) return true;
  if (depth_ == 0) fail("expected an object {…}");
  if (depth_ == 1) {
    fail(std::string(what) + " is no tensor, expected {\"dtype\", \"shape\", \"data_offsets\"}");
  }
  if (in_metadata_) fail(std::string(what) + " is no text, expected only texts in the metadata");
  fail(std::string(what) +
       (field_ == Field::dtype ? " is no dtype" : " is no count, expected non-negative integers"));
}

bool HeaderHandler::number_unsigned(number_unsigned_t value) {
  if (skip_ > 0 || depth_ != 3) return other("a number");
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    fail("a number is larger than 2^63");
  }
  if (field_ == Field::shape) {
    if (entry_.shape.size() == kMaxDimensions) fail("more than 64 dimensions");
    entry_.shape.push_back(static_cast<int64_t>(value));
  } else {
    if (offsets_.size() == 2) fail("more than two numbers, expected first byte and end");
    offsets_.push_back(value);
  }
  return true;
}

bool HeaderHandler::string(string_t& text) {
  if (skip_ > 0 || depth_ != 2 || (!in_metadata_ && field_ != Field::dtype)) return other("a text");
  if (in_metadata_) {
    file_.metadata[field_name_] = text;
    return true;
  }
  if (!parse_dtype(text, entry_.dtype)) {
    fail(shown_name(text) +
         " is not supported, expected one of F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL");
  }
  has_dtype_ = true;
  return true;
}

bool HeaderHandler::start_object(std::size_t) {
  if (skip_ > 0 || (depth_ == 2 && field_ == Field::unknown)) {
    ++skip_;
    return true;
  }
  if (depth_ > 1) return other("an object");
  ++depth_;
  if (depth_ == 2) begin_entry();
  return true;
}

bool HeaderHandler::key(string_t& name) {
  if (skip_ > 0) return true;
  if (depth_ == 1) {
    name_ = name;
    field_name_.clear();
    if (!names_.insert(name).second) fail("stands there twice, expected each name once");
    return true;
  }
  field_name_ = name;
  if (in_metadata_) {
    if (file_.metadata.count(name) > 0) fail("stands there twice, expected each key once");
    return true;
  }
  field_ = name == "dtype"          ? Field::dtype
           : name == "shape"        ? Field::shape
           : name == "data_offsets" ? Field::offsets
                                    : Field::unknown;
  const bool twice = (field_ == Field::dtype && has_dtype_) || (field_ == Field::shape && has_shape_) ||
                     (field_ == Field::offsets && has_offsets_);
  if (twice) fail("stands there twice");
  return true;
}

void HeaderHandler::begin_entry() {
  in_metadata_ = name_ == kMetadata;
  field_ = Field::none;
  has_dtype_ = has_shape_ = has_offsets_ = false;
  entry_ = TensorEntry();
  entry_.name = name_;
  offsets_.clear();
}

bool HeaderHandler::end_object() {
  if (skip_ > 0) {
    --skip_;
    return true;
  }
  if (depth_ == 2 && !in_metadata_) end_entry();
  --depth_;
  in_metadata_ = false;
  return true;
}

void HeaderHandler::end_entry() {
  field_name_.clear();
  if (!has_dtype_ || !has_shape_ || !has_offsets_) fail("expected dtype, shape and data_offsets");
  uint64_t count = 0, bytes = 0;
  const bool fits = element_count(entry_.shape, count) &&
                    !__builtin_mul_overflow(count, static_cast<uint64_t>(dtype_size(entry_.dtype)), &bytes);
  if (!fits) {
    fail("shape " + shape_text(entry_.shape.data(), entry_.shape.size()) + " is larger than any file");
  }
  if (offsets_.size() != 2 || offsets_[0] > offsets_[1]) fail("data_offsets are not first byte and end");
  if (offsets_[1] - offsets_[0] != bytes) {
    fail("data_offsets hold " + std::to_string(offsets_[1] - offsets_[0]) + " bytes, expected " +
         std::to_string(bytes) + " for " + dtype_name(entry_.dtype) + " " +
         shape_text(entry_.shape.data(), entry_.shape.size()));
  }
  entry_.strides = contiguous_strides(entry_.shape);
  file_.tensors.push_back(std::move(entry_));
  ranges_.emplace_back(offsets_[0], offsets_[1]);
}

bool HeaderHandler::start_array(std::size_t) {
  if (skip_ > 0 || (depth_ == 2 && field_ == Field::unknown)) {
    ++skip_;
    return true;
  }
  const bool expected = depth_ == 2 && (field_ == Field::shape || field_ == Field::offsets);
  if (!expected) return other("a list");
  (field_ == Field::shape ? has_shape_ : has_offsets_) = true;
  ++depth_;
  return true;
}

bool HeaderHandler::end_array() {
  if (skip_ > 0) {
    --skip_;
  } else {
    --depth_;
  }
  return true;
}

/// The ranges must cover `size` bytes of data without hole or overlap.
void check_coverage(const TensorFile& file, const std::vector<Range>& ranges, uint64_t size,
                    const std::string& path) {
  std::vector<size_t> order(ranges.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ranges[a] < ranges[b]; });
  uint64_t end = 0;
  for (const size_t i : order) {
    const std::string name = shown_name(file.tensors[i].name);
    if (ranges[i].first < end) throw Error(path + ": " + name + ": its data overlap those of another tensor");
    if (ranges[i].first > end) {
      throw Error(path + ": " + name + ": a hole lies before its data, expected none");
    }
    end = ranges[i].second;
    if (end > size) {
      throw Error(path + ": " + name + ": its data end at byte " + std::to_string(end) + " of " +
                  std::to_string(size) + ": the file is truncated");
    }
  }
  if (end != size) {
    throw Error(path + ": " + std::to_string(size - end) + " bytes after the last tensor belong to none");
  }
}

/// The reference sorts by its own enumeration: wider first, within a width unsigned, signed, brain, half.
int dtype_rank(DType dtype) {
  constexpr DType kOrder[] = {DType::u64, DType::i64,  DType::f64,    DType::f32, DType::u32,
                              DType::i32, DType::bf16, DType::f16,    DType::u16, DType::i16,
                              DType::i8,  DType::u8,   DType::boolean};
  return static_cast<int>(std::find(std::begin(kOrder), std::end(kOrder), dtype) - std::begin(kOrder));
}

std::vector<size_t> writing_order(const std::vector<TensorInfo>& tensors) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const int rank_a = dtype_rank(tensors[a].dtype), rank_b = dtype_rank(tensors[b].dtype);
    return rank_a != rank_b ? rank_a < rank_b : tensors[a].name < tensors[b].name;
  });
  return order;
}

std::string json_text(const std::string& text) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    throw Error("cannot write " + shown_name(text) + " into safetensors: it is not UTF-8");
  }
}

std::string header_text(const std::vector<TensorInfo>& tensors, const std::vector<size_t>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += std::string("\"") + kMetadata + "\":{";
    for (const auto& [key, value] : metadata) text += json_text(key) + ":" + json_text(value) + ",";
    text.back() = '}';
    text += ",";
  }
  uint64_t begin = 0;
  for (const size_t i : order) {
    if (tensors[i].name == kMetadata) {
      throw Error("cannot write a tensor named __metadata__ into safetensors");
    }
    const uint64_t end = begin + contiguous_bytes(tensors[i]);
    text += json_text(tensors[i].name) + ":{\"dtype\":\"" + dtype_name(tensors[i].dtype) +
            "\",\"shape\":" + json(tensors[i].shape).dump() + ",\"data_offsets\":[" + std::to_string(begin) +
            "," + std::to_string(end) + "]},";
    begin = end;
  }
  if (text.back() == ',') text.pop_back();
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

bool is_safetensors(const uint8_t* bytes, uint64_t size) {
  if (size < 8) return false;
  ByteReader reader(bytes, size, "");
  const uint64_t length = reader.number<uint64_t>("length");
  if (length > kMaxHeader) return false;
  const std::string_view header = reader.take(std::min<uint64_t>(reader.remaining(), 64), "header");
  const size_t first = header.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && header[first] == '{';
}

TensorFile read_safetensors(const uint8_t* bytes, uint64_t size, const std::string& path) {
  ByteReader reader(bytes, size, path);
  const auto length = reader.number<uint64_t>("the header's length");
  if (length > kMaxHeader) {
    reader.fail_at(0, "the header's length is " + std::to_string(length) + ", expected at most 100 MB");
  }
  const std::string_view header = reader.take(length, "the header");
  TensorFile file;
  file.format = "safetensors";
  HeaderHandler handler(reader, file);
  json::sax_parse(header.begin(), header.end(), &handler);
  const uint64_t data = reader.position();
  check_coverage(file, handler.ranges(), size - data, path);
  for (size_t i = 0; i < file.tensors.size(); ++i) file.tensors[i].offset = data + handler.ranges()[i].first;
  return file;
}

void write_safetensors(const std::vector<TensorInfo>& tensors,
                       const std::map<std::string, std::string>& metadata, const TensorSource& source,
                       const ByteSink& sink) {
  const std::vector<size_t> order = writing_order(tensors);
  const std::string header = header_text(tensors, order, metadata);
  const uint64_t length = header.size();
  sink(&length, sizeof length);
  sink(header.data(), header.size());
  for (const size_t i : order) {
    if (const uint64_t bytes = contiguous_bytes(tensors[i]); bytes > 0) sink(source(i), bytes);
  }
}

}  // namespace zoo
