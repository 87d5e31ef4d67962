#include <algorithm>

#include "core/formats/checkpoint.h"
#include "core/formats/pth.h"
#include "core/formats/zip.h"

namespace zoo {

namespace {

/// Builds the pickle of a state dict (protocol 2, without memo).
class PickleWriter {
 public:
  PickleWriter() { text_ = "\x80\x02"; }

  void opcode(char code) { text_ += code; }
  void global(const char* module, const char* name) {
    text_ += std::string("c") + module + "\n" + name + "\n";
  }
  void unicode(const std::string& text) {
    opcode('X');
    raw(static_cast<uint32_t>(text.size()));
    text_ += text;
  }
  void integer(int64_t value) {
    text_ += "\x8a\x08";
    raw(value);
  }
  void tuple(const std::vector<int64_t>& values) {
    opcode('(');
    for (const int64_t value : values) integer(value);
    opcode('t');
  }
  void ordered_dict() {
    global("collections", "OrderedDict");
    text_ += ")R";
  }
  const std::string& str() const { return text_; }

 private:
  template <typename T>
  void raw(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  std::string text_;
};

void write_tensor(PickleWriter& pickle, const TensorInfo& tensor, const std::string& key) {
  const TorchName& names = *std::find_if(torch_names().begin(), torch_names().end(),
                                         [&](const TorchName& row) { return row.type == tensor.dtype; });
  const bool untyped = names.storage == nullptr;  // the wider unsigned integers
  pickle.unicode(tensor.name);
  pickle.global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
  pickle.opcode('(');
  pickle.opcode('(');
  pickle.unicode("storage");
  untyped ? pickle.global("torch.storage", "UntypedStorage") : pickle.global("torch", names.storage);
  pickle.unicode(key);
  pickle.unicode("cpu");
  const auto bytes = static_cast<int64_t>(contiguous_bytes(tensor));
  pickle.integer(untyped ? bytes : bytes / dtype_size(tensor.dtype));
  pickle.opcode('t');
  pickle.opcode('Q');
  pickle.integer(0);
  pickle.tuple(tensor.shape);
  pickle.tuple(contiguous_strides(tensor.shape));
  pickle.opcode('\x89');  // requires_grad=False
  pickle.ordered_dict();  // hooks
  if (untyped) pickle.global("torch", names.dtype);
  pickle.opcode('t');
  pickle.opcode('R');
}

}  // namespace

void write_pth(const std::vector<TensorInfo>& tensors, const TensorSource& source, const ByteSink& sink) {
  const std::string root = "archive/";
  PickleWriter pickle;
  pickle.ordered_dict();
  pickle.opcode('(');
  for (size_t i = 0; i < tensors.size(); ++i) write_tensor(pickle, tensors[i], std::to_string(i));
  pickle.opcode('u');
  pickle.opcode('.');
  ZipWriter zip(sink);
  zip.add(root + "data.pkl", pickle.str().data(), pickle.str().size());
  zip.add(root + "byteorder", "little", 6);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t bytes = contiguous_bytes(tensors[i]);
    zip.add(root + "data/" + std::to_string(i), bytes > 0 ? source(i) : nullptr, bytes);
  }
  zip.add(root + "version", "3\n", 2);
  zip.finish();
}

}  // namespace zoo
