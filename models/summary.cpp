#include "models/summary.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include <ATen/record_function.h>
#include <torch/torch.h>

#include "core/formats/byte_reader.h"
#include "core/text.h"
#include "models/summary_rules.h"

namespace zoo {

namespace {

using torch::IValue;
using torch::Tensor;

// ---- Names of modules

std::string parent_of(const std::string& path) {
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

/// "zoo::BatchNorm2dImpl" -> "BatchNorm2d".
std::string short_type(std::string name) {
  name = name.substr(name.rfind(':') + 1);  // npos + 1 is 0
  if (ends_with(name, "Impl")) name.resize(name.size() - 4);
  return name;
}

/// Modules by their dotted names, the root's is empty.
class ModuleTree {
 public:
  explicit ModuleTree(const torch::nn::Module& root) { add(root, ""); }

  const std::map<std::string, const torch::nn::Module*>& modules() const { return modules_; }

  std::string type(const std::string& path) const { return short_type(modules_.at(path)->name()); }

  int64_t own_parameters(const std::string& path) const {
    int64_t count = 0;
    for (const Tensor& parameter : modules_.at(path)->parameters(/*recurse=*/false))
      count += parameter.numel();
    return count;
  }

  /// The innermost module that holds both; a module holds itself.
  std::string common(std::string a, const std::string& b) const {
    while (!a.empty() && b != a && !starts_with(b, a + ".")) a = parent_of(a);
    while (modules_.count(a) == 0) a = parent_of(a);
    return a;
  }

  /// Where an operation without weights happens that takes what module `path` made: in it if it has parts.
  std::string container(const std::string& path) const {
    return path.empty() || !modules_.at(path)->children().empty() ? path : parent_of_existing(path);
  }

 private:
  void add(const torch::nn::Module& module, const std::string& path) {
    modules_[path] = &module;
    for (const auto& item : module.named_children()) {
      add(*item.value(), path.empty() ? item.key() : path + "." + item.key());
    }
  }

  std::string parent_of_existing(std::string path) const {
    do path = parent_of(path);
    while (modules_.count(path) == 0);
    return path;
  }

  std::map<std::string, const torch::nn::Module*> modules_;
};

// ---- The observer

/// Tensors of an argument or result: one, a list, a list with gaps.
void collect_tensors(const IValue& value, std::vector<Tensor>& tensors) {
  if (value.isTensor()) {
    if (value.toTensor().defined() && value.toTensor().has_storage()) tensors.push_back(value.toTensor());
  } else if (value.isList()) {
    for (const IValue& element : value.toListRef()) collect_tensors(element, tensors);
  }
}

std::vector<Tensor> tensors_of(c10::ArrayRef<IValue> values) {
  std::vector<Tensor> tensors;
  for (const IValue& value : values) collect_tensors(value, tensors);
  return tensors;
}

/// Follows storages through the operations of a forward pass. Views share the storage, so that shapes do not
/// matter.
class Observer {
 public:
  explicit Observer(const torch::nn::Module& module) : tree_(module) {
    for (const auto& [path, part] : tree_.modules()) {
      TensorTrace trace;
      trace.owner = path;
      for (const Tensor& tensor : part->parameters(/*recurse=*/false))
        store(tensor, trace, /*is_weight=*/true);
      for (const Tensor& tensor : part->buffers(/*recurse=*/false)) store(tensor, trace, /*is_weight=*/true);
    }
  }

  void observe(const std::string& operation, std::vector<IValue> arguments, c10::ArrayRef<IValue> results);

  std::vector<SummaryRow> rows;

 private:
  struct Entry {
    c10::weak_intrusive_ptr<c10::StorageImpl> alive;  ///< keeps the address from being used again
    TensorTrace trace;
    bool is_weight;  ///< or made of weights alone
  };

  /// The arguments of an operation together.
  struct Sources {
    TensorTrace trace;  ///< of those that are no weights
    std::string owner;  ///< of the weights
    size_t weights = 0, others = 0;
  };

  void store(const Tensor& tensor, const TensorTrace& trace, bool is_weight) {
    if (!tensor.has_storage()) return;
    entries_.insert_or_assign(tensor.storage().unsafeGetStorageImpl(),
                              Entry{tensor.storage().getWeakStorageImpl(), trace, is_weight});
  }

  const Entry* find(const Tensor& tensor) const {
    const auto found = entries_.find(tensor.storage().unsafeGetStorageImpl());
    return found == entries_.end() ? nullptr : &found->second;
  }

  Sources sources_of(const std::vector<Tensor>& inputs) const;
  void add_row(const std::string& operation, const Sources& sources, const Tensor& output,
               const OperationEffect& effect, const TensorTrace& trace);

  ModuleTree tree_;
  std::unordered_map<const c10::StorageImpl*, Entry> entries_;
  std::set<std::string> counted_;  ///< modules whose parameters have been counted
};

Observer::Sources Observer::sources_of(const std::vector<Tensor>& inputs) const {
  Sources sources;
  for (const Tensor& input : inputs) {
    const Entry* entry = find(input);
    if (entry != nullptr && entry->is_weight) {
      sources.owner =
          sources.weights++ == 0 ? entry->trace.owner : tree_.common(sources.owner, entry->trace.owner);
      continue;
    }
    const bool first = sources.others++ == 0;
    if (entry == nullptr) continue;
    if (first) sources.trace.owner = entry->trace.owner;
    const TensorTrace& trace = entry->trace;
    if (sources.trace.cells == 0 || is_larger(trace.field, sources.trace.field)) {
      sources.trace.cells = trace.cells;
      sources.trace.field = trace.field;
    }
  }
  return sources;
}

/// A row for an operation with weights, added to the one before where that is the same module's, or for a
/// layer without.
void Observer::add_row(const std::string& operation, const Sources& sources, const Tensor& output,
                       const OperationEffect& effect, const TensorTrace& trace) {
  const bool with_weights = sources.weights > 0 && (sources.others > 0 || effect.macs > 0);
  if (!with_weights && (!effect.is_layer || sources.others == 0)) return;
  const std::string name = with_weights ? sources.owner : tree_.container(trace.owner);
  const std::string type = with_weights ? tree_.type(name) : operation.substr(operation.find("::") + 2);
  if (!with_weights || rows.empty() || rows.back().name != name || rows.back().type != type) {
    rows.push_back({name, type, {}, 0, 0, {}});
    if (with_weights && counted_.insert(name).second) rows.back().parameters = tree_.own_parameters(name);
  }
  rows.back().output_shape = output.sizes().vec();
  rows.back().macs += effect.macs;
  rows.back().field = trace.field;
}

void Observer::observe(const std::string& operation, std::vector<IValue> arguments,
                       c10::ArrayRef<IValue> results) {
  const std::vector<Tensor> inputs = tensors_of(arguments), outputs = tensors_of(results);
  if (outputs.empty()) return;
  const Sources sources = sources_of(inputs);
  OperationEffect effect;
  TensorTrace trace = sources.trace;
  if (const OperationRule rule = find_rule(operation)) {
    effect = rule({std::move(arguments), outputs[0], sources.trace, sources.weights > 0});
    if (effect.field) trace.field = *effect.field;
    if (effect.new_map) {
      const int64_t channels = outputs[0].size(outputs[0].dim() - 1 - trace.field.size.size());
      trace.cells = outputs[0].numel() / std::max<int64_t>(channels, 1);
    }
  } else if (const Entry* made = find(outputs[0]);
             made != nullptr && !is_larger(trace.field, made->trace.field)) {
    trace = made->trace;  // by a part of the operation, or written into
  }
  if (sources.weights > 0) trace.owner = sources.owner;
  add_row(operation, sources, outputs[0], effect, trace);
  for (const Tensor& output : outputs) store(output, trace, sources.weights > 0 && sources.others == 0);
}

// ---- Listening to the dispatcher

/// What the callbacks of this thread report to; the dispatcher gives them no argument of ours.
struct Listener {
  Observer* observer = nullptr;
  int inside = 0;  ///< rules whose operation is running; their parts are not reported
  std::exception_ptr failure;
};
thread_local Listener listener;

struct Pending : at::ObserverContext {
  std::string operation;
  std::vector<IValue> arguments;
  bool reported = false, opaque = false;
};

std::unique_ptr<at::ObserverContext> on_start(const at::RecordFunction& function) {
  auto pending = std::make_unique<Pending>();
  pending->operation = function.name();
  pending->reported = listener.inside == 0;
  pending->opaque = find_rule(pending->operation) != nullptr;
  if (pending->reported) pending->arguments.assign(function.inputs().begin(), function.inputs().end());
  listener.inside += pending->opaque;
  return pending;
}

void on_end(const at::RecordFunction& function, at::ObserverContext* context) {
  auto& pending = static_cast<Pending&>(*context);
  listener.inside -= pending.opaque;
  if (!pending.reported || listener.failure) return;
  try {
    listener.observer->observe(pending.operation, std::move(pending.arguments), function.outputs());
  } catch (...) {
    listener.failure = std::current_exception();  // the dispatcher would swallow it
  }
}

class Listening {
 public:
  explicit Listening(Observer& observer) : before_(listener) {
    listener = {&observer, 0, nullptr};
    handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(on_start, on_end)
                                             .needsInputs(true)
                                             .needsOutputs(true)
                                             .scopes({at::RecordScope::FUNCTION}));
  }
  ~Listening() {
    at::removeCallback(handle_);
    listener = before_;
  }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

  void rethrow() const {
    if (listener.failure) std::rethrow_exception(listener.failure);
  }

 private:
  Listener before_;
  at::CallbackHandle handle_;
};

// ---- Output

bool all_equal(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [&](double value) { return value == values[0]; });
}

Json number_json(double value) {
  if (value == std::floor(value)) return static_cast<int64_t>(value);
  return value;
}

Json figure_json(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  if (all_equal(values)) return number_json(values[0]);
  Json list = Json::array();
  for (const double value : values) list.push_back(number_json(value));
  return list;
}

std::string figure_text(const std::vector<double>& values) {
  std::vector<std::string> parts;
  for (const double value : values) parts.push_back(format("%g", value));
  if (parts.empty()) return "";
  return all_equal(values) ? parts[0] : join(parts, "x");
}

void add_field(Json& document, const ReceptiveField& field) {
  const std::vector<double> none;
  document["receptive_field"] = figure_json(field.whole ? none : field.size);
  document["stride"] = figure_json(field.whole ? none : field.stride);
  document["offset"] = figure_json(field.whole ? none : field.offset);
}

std::string count_text(double count) {
  return with_thousands(static_cast<int64_t>(count));
}

}  // namespace

Json Summary::to_json() const {
  Json layers = Json::array();
  for (const SummaryRow& row : rows) {
    Json layer = {{"name", row.name},
                  {"type", row.type},
                  {"output_shape", row.output_shape},
                  {"parameters", row.parameters},
                  {"macs", static_cast<int64_t>(row.macs)},
                  {"flops", static_cast<int64_t>(2 * row.macs)},
                  {"global", row.field.whole}};
    add_field(layer, row.field);
    layers.push_back(layer);
  }
  Json metrics = {{"parameters", parameters},
                  {"trainable_parameters", trainable_parameters},
                  {"buffers", buffers},
                  {"macs", static_cast<int64_t>(macs)},
                  {"flops", static_cast<int64_t>(2 * macs)}};
  add_field(metrics, field);
  return {{"metrics", metrics}, {"layers", layers}};
}

std::string Summary::str() const {
  Table table({"layer", "type", "output", "parameters", "MACs", "field", "stride", "offset"});
  for (const SummaryRow& row : rows) {
    const bool map = row.field.is_map() && !row.field.whole;
    table.add({row.name, row.type, shape_text(row.output_shape.data(), row.output_shape.size()),
               row.parameters > 0 ? count_text(row.parameters) : "", row.macs > 0 ? count_text(row.macs) : "",
               row.field.whole ? "all" : figure_text(row.field.size),
               map ? figure_text(row.field.stride) : "", map ? figure_text(row.field.offset) : ""});
  }
  std::string text = table.str() + "\n";
  text += "parameters       " + with_thousands(parameters) + " (" + with_thousands(trainable_parameters) +
          " trainable), buffers " + with_thousands(buffers) + "\n";
  text += format("MACs             %.2f G (%.2f GFLOPs)\n", macs / 1e9, 2 * macs / 1e9);
  if (field.is_map()) {
    text += "receptive field  " + figure_text(field.size) + ", stride " + figure_text(field.stride) +
            ", offset " + figure_text(field.offset) + " (of the last map)\n";
  }
  return text;
}

Summary summarize(const torch::nn::Module& module, const std::function<void()>& forward) {
  const torch::NoGradGuard no_grad;
  Observer observer(module);
  {
    const Listening listening(observer);
    forward();
    listening.rethrow();
  }
  Summary summary;
  summary.rows = std::move(observer.rows);
  for (const SummaryRow& row : summary.rows) {
    summary.macs += row.macs;
    if (row.field.is_map() && !row.field.whole) summary.field = row.field;
  }
  for (const Tensor& parameter : module.parameters()) {
    summary.parameters += parameter.numel();
    if (parameter.requires_grad()) summary.trainable_parameters += parameter.numel();
  }
  for (const Tensor& buffer : module.buffers()) summary.buffers += buffer.numel();
  return summary;
}

}  // namespace zoo
