#include "core/formats/pickle.h"

#include <charconv>
#include <unordered_map>

#include "core/text.h"

namespace zoo {

namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxValues = size_t{1} << 23;  // a checkpoint of 30,000 tensors holds about 2^20
constexpr size_t kMaxDepth = 10'000;            // Python's own pickler ends at 1,000
constexpr PickleId kNone = 0, kFalse = 1, kTrue = 2;

/// The opcodes of Python's pickletools.py that pickles of data use.
// clang-format off
enum Opcode : uint8_t {
  kMark = '(', kStop = '.', kPop = '0', kPopMark = '1', kProto = 0x80, kFrame = 0x95,
  kNoneOp = 'N', kNewTrue = 0x88, kNewFalse = 0x89,
  kBinInt = 'J', kBinInt1 = 'K', kBinInt2 = 'M', kLong1 = 0x8a, kLong4 = 0x8b, kBinFloat = 'G',
  kBinUnicode = 'X', kShortBinUnicode = 0x8c, kBinUnicode8 = 0x8d, kBinString = 'T', kShortBinString = 'U',
  kBinBytes = 'B', kShortBinBytes = 'C', kBinBytes8 = 0x8e, kByteArray8 = 0x96,
  kEmptyTuple = ')', kTuple = 't', kTuple1 = 0x85, kTuple2 = 0x86, kTuple3 = 0x87,
  kEmptyList = ']', kList = 'l', kAppend = 'a', kAppends = 'e',
  kEmptyDict = '}', kDict = 'd', kSetItem = 's', kSetItems = 'u',
  kEmptySet = 0x8f, kAddItems = 0x90, kFrozenSet = 0x91,
  kGlobal = 'c', kStackGlobal = 0x93, kReduce = 'R', kBuild = 'b', kNewObj = 0x81, kNewObjEx = 0x92, kBinPersId = 'Q',
  kBinPut = 'q', kLongBinPut = 'r', kBinGet = 'h', kLongBinGet = 'j', kMemoize = 0x94,
  kInt = 'I', kLong = 'L', kString = 'S', kPut = 'p', kGet = 'g',  // lines of text, protocol 0
};
// clang-format on

bool hex_byte(std::string_view digits, uint8_t& byte) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
  return digits.size() == 2 && error == std::errc() && end == digits.data() + 2;
}

}  // namespace

/// The stack machine. Operands are indices, so a value that contains itself costs nothing and no depth of
/// nesting can exhaust the call stack.
class PickleMachine {
 public:
  explicit PickleMachine(ByteReader& reader) : reader_(reader) {
    for (const bool value : {false, false, true}) {
      PickleValue constant;
      constant.kind = pickle_.values_.empty() ? Kind::none : Kind::boolean;
      constant.integer = value ? 1 : 0;
      pickle_.values_.push_back(std::move(constant));
    }
  }

  Pickle run();

 private:
  bool run_number(uint8_t opcode);
  bool run_text(uint8_t opcode);
  bool run_container(uint8_t opcode);
  bool run_append(uint8_t opcode);
  bool run_object(uint8_t opcode);
  bool run_memo(uint8_t opcode);
  bool run_line(uint8_t opcode);

  PickleValue& make(Kind kind);
  void push(PickleId id) { stack_.push_back(id); }
  void push_integer(int64_t value) { make(Kind::integer).integer = value; }
  void push_long(uint64_t length);
  void push_text(Kind kind, uint64_t length) { make(kind).text = reader_.take(length, "a text"); }
  void push_quoted(std::string_view line);
  void push_remembered(uint32_t index);
  int64_t line_number(std::string_view line) const;
  uint32_t line_memo();
  void push_object(PickleId made_from, PickleId arguments);
  void push_tuple(size_t count);
  PickleId pop();
  PickleId top() const;
  size_t pop_mark();
  std::vector<PickleId> pop_to(size_t height);
  void extend(size_t height, bool pairs);

  template <typename T>
  T operand() {
    return reader_.number<T>("an operand");
  }
  [[noreturn]] void fail(const std::string& what) const { reader_.fail_at(opcode_position_, what); }

  ByteReader& reader_;
  Pickle pickle_;
  std::vector<PickleId> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, PickleId> memo_;
  uint64_t opcode_position_ = 0;
};

PickleValue& PickleMachine::make(Kind kind) {
  if (pickle_.values_.size() >= kMaxValues) fail("more than 2^23 values, expected plain data");
  push(static_cast<PickleId>(pickle_.values_.size()));
  pickle_.values_.emplace_back();
  pickle_.values_.back().kind = kind;
  return pickle_.values_.back();
}

PickleId PickleMachine::top() const {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() <= floor) fail("an operand is missing on the stack: the pickle is damaged");
  return stack_.back();
}

PickleId PickleMachine::pop() {
  const PickleId id = top();
  stack_.pop_back();
  return id;
}

size_t PickleMachine::pop_mark() {
  if (marks_.empty()) fail("a mark is missing on the stack: the pickle is damaged");
  const size_t height = marks_.back();
  marks_.pop_back();
  return height;
}

std::vector<PickleId> PickleMachine::pop_to(size_t height) {
  const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(height);
  std::vector<PickleId> ids(first, stack_.end());
  stack_.erase(first, stack_.end());
  return ids;
}

/// Moves what stands above `height` into the list, dict, set or object below it.
void PickleMachine::extend(size_t height, bool pairs) {
  const std::vector<PickleId> items = pop_to(height);
  PickleValue& target = pickle_.values_[top()];
  const bool takes =
      target.kind == Kind::object ||
      (pairs ? target.kind == Kind::dict : target.kind == Kind::list || target.kind == Kind::set);
  if (!takes) fail("a value takes no items: the pickle is damaged");
  if (pairs && items.size() % 2 != 0) fail("a key has no value: the pickle is damaged");
  target.items.insert(target.items.end(), items.begin(), items.end());
}

void PickleMachine::push_tuple(size_t count) {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() < floor + count) fail("an operand is missing on the stack: the pickle is damaged");
  std::vector<PickleId> items = pop_to(stack_.size() - count);
  make(Kind::tuple).items = std::move(items);
}

void PickleMachine::push_long(uint64_t length) {
  const std::string_view bytes = reader_.take(length, "an integer");
  if (length > 8) {
    make(Kind::big_integer).text = bytes;
    return;
  }
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) value |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  const bool negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
  if (negative && length < 8) value |= ~uint64_t{0} << (8 * length);
  push_integer(static_cast<int64_t>(value));
}

void PickleMachine::push_object(PickleId made_from, PickleId arguments) {
  PickleValue& object = make(Kind::object);
  object.a = made_from;
  object.b = arguments;
}

bool PickleMachine::run_number(uint8_t opcode) {
  switch (opcode) {
    case kNoneOp:
      push(kNone);
      return true;
    case kNewFalse:
      push(kFalse);
      return true;
    case kNewTrue:
      push(kTrue);
      return true;
    case kBinInt:
      push_integer(operand<int32_t>());
      return true;
    case kBinInt1:
      push_integer(operand<uint8_t>());
      return true;
    case kBinInt2:
      push_integer(operand<uint16_t>());
      return true;
    case kLong1:
      push_long(operand<uint8_t>());
      return true;
    case kLong4:
      push_long(operand<uint32_t>());
      return true;
    case kBinFloat: {
      const uint64_t bits =
          __builtin_bswap64(operand<uint64_t>());  // the one big-endian number of the format
      std::memcpy(&make(Kind::real).real, &bits, sizeof bits);
      return true;
    }
    default:
      return false;
  }
}

bool PickleMachine::run_text(uint8_t opcode) {
  switch (opcode) {
    case kShortBinUnicode:
      push_text(Kind::text, operand<uint8_t>());
      return true;
    case kBinUnicode:
      push_text(Kind::text, operand<uint32_t>());
      return true;
    case kBinUnicode8:
      push_text(Kind::text, operand<uint64_t>());
      return true;
    case kShortBinString:
      push_text(Kind::text, operand<uint8_t>());
      return true;  // a text of Python 2
    case kBinString:
      push_text(Kind::text, operand<uint32_t>());
      return true;
    case kShortBinBytes:
      push_text(Kind::bytes, operand<uint8_t>());
      return true;
    case kBinBytes:
      push_text(Kind::bytes, operand<uint32_t>());
      return true;
    case kBinBytes8:
    case kByteArray8:
      push_text(Kind::bytes, operand<uint64_t>());
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_container(uint8_t opcode) {
  switch (opcode) {
    case kEmptyTuple:
      make(Kind::tuple);
      return true;
    case kEmptyList:
      make(Kind::list);
      return true;
    case kEmptyDict:
      make(Kind::dict);
      return true;
    case kEmptySet:
      make(Kind::set);
      return true;
    case kTuple1:
      push_tuple(1);
      return true;
    case kTuple2:
      push_tuple(2);
      return true;
    case kTuple3:
      push_tuple(3);
      return true;
    case kTuple:
    case kList:
    case kDict:
    case kFrozenSet: {
      std::vector<PickleId> items = pop_to(pop_mark());
      if (opcode == kDict && items.size() % 2 != 0) fail("a key has no value: the pickle is damaged");
      const Kind kind = opcode == kTuple  ? Kind::tuple
                        : opcode == kList ? Kind::list
                        : opcode == kDict ? Kind::dict
                                          : Kind::set;
      make(kind).items = std::move(items);
      return true;
    }
    default:
      return false;
  }
}

bool PickleMachine::run_append(uint8_t opcode) {
  switch (opcode) {
    case kAppends:
    case kAddItems:
      extend(pop_mark(), false);
      return true;
    case kSetItems:
      extend(pop_mark(), true);
      return true;
    case kAppend:
    case kSetItem: {
      const size_t count = opcode == kAppend ? 1 : 2;
      const size_t floor = marks_.empty() ? 0 : marks_.back();
      if (stack_.size() < floor + count) fail("an operand is missing on the stack: the pickle is damaged");
      extend(stack_.size() - count, opcode == kSetItem);
      return true;
    }
    default:
      return false;
  }
}

bool PickleMachine::run_object(uint8_t opcode) {
  switch (opcode) {
    case kGlobal: {
      const std::string_view module = reader_.line("a module's name"), name = reader_.line("a class's name");
      make(Kind::text).text = module;
      make(Kind::text).text = name;
      break;
    }
    case kStackGlobal:
      break;
    case kReduce:
    case kNewObj: {
      const PickleId arguments = pop();
      push_object(pop(), arguments);
      return true;
    }
    case kNewObjEx: {
      pop();  // keyword arguments
      const PickleId arguments = pop();
      push_object(pop(), arguments);
      return true;
    }
    case kBuild: {  // the state of an opaque object, or `_metadata` of an OrderedDict
      const PickleId state = pop();
      PickleValue& target = pickle_.values_[top()];
      if (target.kind == Kind::object) target.state = state;
      return true;
    }
    case kBinPersId: {
      const PickleId id = pop();
      make(Kind::persistent).a = id;
      return true;
    }
    default:
      return false;
  }
  const PickleId name = pop(), module = pop();
  if (pickle_[name].kind != Kind::text || pickle_[module].kind != Kind::text) {
    fail("a class is named by no text");
  }
  PickleValue& global = make(Kind::global);
  global.a = module;
  global.b = name;
  return true;
}

bool PickleMachine::run_memo(uint8_t opcode) {
  switch (opcode) {
    case kMark:
      if (marks_.size() >= kMaxDepth) fail("nested deeper than 10,000 levels");
      marks_.push_back(stack_.size());
      return true;
    case kPop:  // takes a mark where one is on top
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case kPopMark:
      pop_to(pop_mark());
      return true;
    case kBinPut:
      memo_[operand<uint8_t>()] = top();
      return true;
    case kLongBinPut:
      memo_[operand<uint32_t>()] = top();
      return true;
    case kMemoize:
      memo_[static_cast<uint32_t>(memo_.size())] = top();
      return true;
    case kBinGet:
      push_remembered(operand<uint8_t>());
      return true;
    case kLongBinGet:
      push_remembered(operand<uint32_t>());
      return true;
    default:
      return false;
  }
}

void PickleMachine::push_remembered(uint32_t index) {
  const auto found = memo_.find(index);
  if (found == memo_.end()) fail("memo " + std::to_string(index) + " was never set: the pickle is damaged");
  push(found->second);
}

int64_t PickleMachine::line_number(std::string_view line) const {
  int64_t value = 0;
  if (!parse_int(line, value)) fail("'" + shown_name(line) + "' is no number of 64 bits");
  return value;
}

uint32_t PickleMachine::line_memo() {
  const std::string_view line = reader_.line("a memo's number");
  const int64_t index = line_number(line);
  if (index < 0 || index > UINT32_MAX) fail("'" + shown_name(line) + "' is no number of a memo");
  return static_cast<uint32_t>(index);
}

/// A byte string as Python 2 shows it: quoted, with escapes.
void PickleMachine::push_quoted(std::string_view line) {
  if (line.size() < 2 || line.front() != line.back() || (line.front() != '\'' && line.front() != '"')) {
    fail("a text stands in no quotes: the pickle is damaged");
  }
  std::string& text = pickle_.unescaped_.emplace_back();
  const std::string_view inner = line.substr(1, line.size() - 2);
  static constexpr std::string_view kSigns = "\\'\"nrt", kMeant = "\\'\"\n\r\t";
  for (size_t i = 0; i < inner.size(); ++i) {
    if (inner[i] != '\\') {
      text += inner[i];
      continue;
    }
    const char sign = ++i < inner.size() ? inner[i] : '\0';
    const size_t meant = kSigns.find(sign);
    if (meant != std::string_view::npos) {
      text += kMeant[meant];
    } else if (uint8_t byte = 0; sign == 'x' && hex_byte(inner.substr(i + 1, 2), byte)) {
      text += static_cast<char>(byte);
      i += 2;
    } else {
      fail("a text holds an unknown escape: the pickle is damaged");
    }
  }
  make(Kind::text).text = text;
}

bool PickleMachine::run_line(uint8_t opcode) {
  switch (opcode) {
    case kInt: {
      const std::string_view line = reader_.line("an integer");
      if (line == "00" || line == "01") {
        push(line == "01" ? kTrue : kFalse);
      } else {
        push_integer(line_number(line));
      }
      return true;
    }
    case kLong: {
      std::string_view line = reader_.line("an integer");
      if (!line.empty() && line.back() == 'L') line.remove_suffix(1);
      push_integer(line_number(line));
      return true;
    }
    case kString:
      push_quoted(reader_.line("a text"));
      return true;
    case kPut:
      memo_[line_memo()] = top();
      return true;
    case kGet:
      push_remembered(line_memo());
      return true;
    default:
      return false;
  }
}

Pickle PickleMachine::run() {
  for (;;) {
    opcode_position_ = reader_.position();
    const auto opcode = reader_.number<uint8_t>("the next opcode");
    if (opcode == kStop) break;
    if (opcode == kProto) {
      if (const int protocol = operand<uint8_t>(); protocol > 5) {
        fail(format("pickle protocol %d, expected 0 to 5", protocol));
      }
    } else if (opcode == kFrame) {
      if (operand<uint64_t>() > reader_.remaining()) {
        fail("a frame ends behind the end: the file is truncated");
      }
    } else if (!run_memo(opcode) && !run_text(opcode) && !run_number(opcode) && !run_container(opcode) &&
               !run_append(opcode) && !run_object(opcode) && !run_line(opcode)) {
      fail(format("opcode 0x%02x is not known, expected those of plain data", opcode));
    }
  }
  if (!marks_.empty()) fail("a mark is left on the stack: the pickle is damaged");
  pickle_.root_ = pop();
  return std::move(pickle_);
}

std::string Pickle::class_name(const PickleValue& value) const {
  if (value.kind == Kind::global) {
    return shown_name(values_[value.a].text) + "." + shown_name(values_[value.b].text);
  }
  // A class made from an object (a partial function, say) has no name of its own.
  if (value.kind == Kind::object && values_[value.a].kind == Kind::global) {
    return class_name(values_[value.a]);
  }
  return "";
}

std::string Pickle::type_name(const PickleValue& value) const {
  switch (value.kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
    case Kind::big_integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::text:
      return "str";
    case Kind::bytes:
      return "bytes";
    case Kind::tuple:
      return "tuple";
    case Kind::list:
      return "list";
    case Kind::dict:
      return "dict";
    case Kind::set:
      return "set";
    case Kind::global:
      return "class " + class_name(value);
    case Kind::object:
      return class_name(value).empty() ? "object" : class_name(value);
    case Kind::persistent:
      return "storage";
  }
  return "object";
}

Pickle read_pickle(ByteReader& reader) {
  return PickleMachine(reader).run();
}

}  // namespace zoo
