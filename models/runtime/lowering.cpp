#include "models/runtime/lowering.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/frozen_conv_folding.h>
#include <torch/torch.h>

#include "core/error.h"
#include "models/export/traced_graph.h"
#include "models/layers/onednn.h"
#include "models/runtime/cpu_features.h"
#include "models/runtime/input_norm.h"
#include "models/runtime/kernels.h"
#include "models/runtime/product_kernels.h"

namespace zoo {

namespace {

namespace jit = torch::jit;
using Stack = Program::Stack;

/// Operators whose result holds nothing of the input but its shape.
const std::set<std::string> kShapeOps = {
    "aten::size",     "aten::ones_like", "aten::zeros_like", "aten::full_like",  "aten::new_zeros",
    "aten::new_ones", "aten::new_full",  "aten::numel",      "aten::empty_like", "aten::dim"};
/// Products: with bf16 they read and give bfloat16.
const std::set<std::string> kProducts = {"aten::_convolution",
                                         "aten::conv2d",
                                         "aten::linear",
                                         "aten::matmul",
                                         "aten::addmm",
                                         "aten::bmm",
                                         "aten::scaled_dot_product_attention"};
/// Operators that lose nothing in bfloat16 beyond the rounding of their result: they work in the type they
/// find.
const std::set<std::string> kAnyType = {"aten::relu",
                                        "aten::add",
                                        "aten::sub",
                                        "aten::max_pool2d",
                                        "aten::flatten",
                                        "aten::unflatten",
                                        "aten::transpose",
                                        "aten::permute",
                                        "aten::reshape",
                                        "aten::view",
                                        "aten::slice",
                                        "aten::select",
                                        "aten::chunk",
                                        "aten::split",
                                        "aten::cat",
                                        "aten::stack",
                                        "aten::squeeze",
                                        "aten::unsqueeze",
                                        "aten::contiguous",
                                        "aten::to",
                                        "aten::leaky_relu",
                                        "aten::prelu",
                                        "aten::expand_as",
                                        "aten::narrow",
                                        "aten::upsample_nearest2d",
                                        "aten::t",
                                        "aten::type_as",
                                        "aten::gelu",
                                        "aten::silu",
                                        "prim::ListConstruct",
                                        "prim::ListUnpack",
                                        "aten::constant_pad_nd"};
/// Operators that give new memory, never a view of an input.
const std::set<std::string> kFresh = {"aten::_convolution", "aten::conv2d",     "aten::add",  "aten::relu",
                                      "aten::max_pool2d",   "aten::batch_norm", "aten::prelu"};
/// Activations that oneDNN does while it writes a product's result.
const std::map<std::string, std::string> kActivations = {
    {"aten::relu", "relu"}, {"aten::silu", "swish"}, {"aten::sigmoid", "sigmoid"}, {"aten::tanh", "tanh"}};

bool contains(const std::set<std::string>& set, const jit::Node& node) {
  return set.count(node.kind().toQualString()) > 0;
}

/// A convolution or linear layer and what follows it.
struct Fused {
  const jit::Node* product = nullptr;
  std::optional<torch::Tensor> bias;   // of a matmul, from the sum that follows it
  const jit::Value* addend = nullptr;  // added to the product where not null
  std::string activation = "none";     // afterwards
};

constexpr int64_t kDeepProduct = 1024;  // inputs of a linear layer

/// Keys whose scores fit a core's cache, and dense rows.
bool suits_attention_bf16(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v) {
  constexpr int64_t kKeys = 512;  // with more, torch's blocks of keys win
  const auto dense = [](const torch::Tensor& x) { return x.dim() == 4 && x.stride(3) == 1; };
  return dense(q) && dense(k) && dense(v) && q.size(3) % 2 == 0 && k.size(2) > 0 && k.size(2) <= kKeys &&
         q.size(0) == k.size(0) && q.size(1) == k.size(1);
}

class Lowering {
 public:
  Lowering(std::shared_ptr<jit::Graph> graph, bool bf16) : graph_(std::move(graph)), bf16_(bf16) {}

  Program take() {
    find_constants();
    find_fused();
    for (const jit::Value* input : graph_->inputs()) {
      if (input->type()->cast<c10::TensorType>()) set(input, program_.add_input(), type_of(input));
    }
    for (const jit::Node* node : graph_->nodes()) visit(*node);
    std::vector<int> results;
    for (const jit::Value* output : graph_->outputs()) {
      const bool tuple = output->node()->kind() == c10::prim::TupleConstruct;
      for (const jit::Value* result :
           tuple ? output->node()->inputs() : at::ArrayRef<const jit::Value*>(output)) {
        results.push_back(as_type(number(result), type_of(result)));
      }
    }
    program_.set_results(results);
    return std::move(program_);
  }

 private:
  using Type = std::optional<torch::ScalarType>;

  /// The traced type of a tensor.
  static Type type_of(const jit::Value* value) {
    const auto tensor = value->type()->cast<c10::TensorType>();
    return tensor ? tensor->scalarType() : std::nullopt;
  }

  static bool is_tensor_list(const jit::Value* value) {
    const auto list = value->type()->cast<c10::ListType>();
    return list && list->getElementType()->cast<c10::TensorType>();
  }

  int number(const jit::Value* value) const { return numbers_.at(value); }
  void set(const jit::Value* value, int number, Type type) {
    numbers_[value] = number;
    if (is_tensor_list(value)) lists_.insert(number);
    types_[number] = type;
  }
  Type type(int number) const { return types_.at(number); }

  /// The same value as a floating-point type; itself where it is no such tensor or has the type.
  int as_type(int number, Type wanted) {
    const Type now = type(number);
    if (!now || !wanted || now == wanted || !c10::isFloatingType(*now) || !c10::isFloatingType(*wanted))
      return number;
    const auto key = std::make_pair(number, *wanted);
    if (const auto known = casts_.find(key); known != casts_.end()) return known->second;
    if (lists_.count(number) > 0) throw Error("an operator reads a list of bfloat16 tensors");
    int made = 0;
    if (program_.is_constant(number)) {
      made = program_.add_constant(program_.content(number).toTensor().to(*wanted));
    } else {
      const torch::ScalarType type = *wanted;
      const auto cast = [type](Stack& stack) { stack[0] = stack[0].toTensor().to(type); };
      made = program_.add_step("cast", cast, {number}, 1, program_.is_shape_only(number))[0];
    }
    types_[made] = wanted;
    return casts_[key] = made;
  }

  /// The one node that reads a node's one result; null where there are more.
  static const jit::Node* only_user(const jit::Node& node) {
    if (node.outputs().size() != 1 || node.output()->uses().size() != 1) return nullptr;
    return node.output()->uses()[0].user;
  }

  /// Values that depend on no input: weights, and what is computed from them.
  void find_constants() {
    for (const jit::Node* node : graph_->nodes()) {
      Stack stack;
      if (node->kind() == c10::prim::Constant) {
        stack.push_back(*jit::toIValue(node->output()));
      } else {
        if (node->isNondeterministic() || node->kind() == c10::prim::TupleConstruct) continue;
        for (const jit::Value* input : node->inputs()) {
          if (const auto content = constant(input)) stack.push_back(*content);
        }
        if (stack.size() < node->inputs().size()) continue;
        kernel_of (*node)(stack);
      }
      for (size_t i = 0; i < stack.size(); ++i) constants_[node->output(i)] = stack[i];
    }
  }

  std::optional<c10::IValue> constant(const jit::Value* value) const {
    const auto found = constants_.find(value);
    return found == constants_.end() ? std::nullopt : std::make_optional(found->second);
  }

  std::optional<c10::IValue> argument(const jit::Node& node, const char* name) const {
    return node.hasNamedInput(name) ? constant(node.namedInput(name)) : std::nullopt;
  }

  bool is_convolution(const jit::Node& node) const {
    if (node.kind() != c10::aten::_convolution && node.kind() != c10::aten::conv2d) return false;
    const auto weight = argument(node, "weight"), bias = argument(node, "bias");
    const auto stride = argument(node, "stride"), padding = argument(node, "padding");
    const auto transposed = argument(node, "transposed");
    return weight && bias && stride && padding && padding->isIntList() && weight->toTensor().dim() == 4 &&
           !(transposed && transposed->toBool());
  }

  /// Whether `node` multiplies by a constant matrix; a bias may follow as a sum of its own.
  bool is_linear(const jit::Node& node) const {
    if (node.kind() == c10::aten::linear) return argument(node, "weight") && argument(node, "bias");
    if (node.kind() == c10::aten::addmm && !is_biased_product(node)) return false;
    if (node.kind() != c10::aten::matmul && node.kind() != c10::aten::addmm) return false;
    const auto matrix = constant(right_side(node));
    return matrix && matrix->toTensor().dim() == 2 && rank(left_side(node)) >= 2;
  }

  /// addmm(b, x, W) = x·W + b with a constant vector b: what a linear layer of torch's C++ modules becomes.
  bool is_biased_product(const jit::Node& node) const {
    const auto bias = constant(node.input(0)), alpha = argument(node, "alpha"), beta = argument(node, "beta");
    return bias && bias->toTensor().dim() == 1 && alpha && alpha->isInt() && alpha->toInt() == 1 && beta &&
           beta->isInt() && beta->toInt() == 1;
  }

  static const jit::Value* left_side(const jit::Node& product) {
    return product.input(product.kind() == c10::aten::addmm ? 1 : 0);
  }
  static const jit::Value* right_side(const jit::Node& product) {
    return product.input(product.kind() == c10::aten::addmm ? 2 : 1);
  }

  static size_t rank(const jit::Value* value) {
    return value->type()->expect<c10::TensorType>()->dim().value_or(0);
  }

  void find_fused() {
    for (const jit::Node* node : graph_->nodes()) {
      if (node->kind() == c10::aten::batch_norm) fold_into_convolution(*node);
      if (is_linear(*node)) take_flatten(*node);
      if (is_convolution(*node) || is_linear(*node)) fuse(node);
      if (node->kind() == c10::aten::layer_norm) fuse_norm(node);
    }
  }

  /// A batch norm whose result one convolution alone reads goes into it where the convolution is not padded,
  /// or where a PReLU behind it can mend the edges.
  void fold_into_convolution(const jit::Node& norm) {
    const jit::Node* user = only_user(norm);
    if (user == nullptr || !is_convolution(*user) || user->input(0) != norm.output()) return;
    if (!is_channel_map(norm) || argument(*user, "groups")->toInt() != 1) return;
    const torch::Tensor weight = argument(*user, "weight")->toTensor().detach();
    const std::vector<int64_t> kernel = weight.sizes().slice(2).vec();
    const std::vector<int64_t> padding = argument(*user, "padding")->toIntVector(), one = {1, 1};
    const bool pointwise = kernel == one && padding == std::vector<int64_t>{0, 0};
    const jit::Node* next = only_user(*user);
    const bool mended = kernel == std::vector<int64_t>{3, 3} && padding == one &&
                        argument(*user, "stride")->toIntVector() == one &&
                        argument(*user, "dilation")->toIntVector() == one && next != nullptr &&
                        next->kind() == c10::aten::prelu && is_channel_map(*next);
    if (!pointwise && !mended) return;
    folded_norms_[user] = fold_input_norm(weight, channel_map(norm));
    absorbed_[&norm] = user;
    if (mended) edges_[next] = folded_norms_[user].edges;
  }

  /// A linear layer over a whole map [B,C,H,W] reads it where it lies, in channels_last, with its weights in that
  /// order.
  void take_flatten(const jit::Node& linear) {
    const jit::Node* flatten = left_side(linear)->node();
    if (flatten->kind() != c10::aten::flatten || only_user(*flatten) != &linear) return;
    const auto start = argument(*flatten, "start_dim"), end = argument(*flatten, "end_dim");
    const auto sizes = flatten->input(0)->type()->expect<c10::TensorType>()->sizes().concrete_sizes();
    if (!start || start->toInt() != 1 || !end || end->toInt() != -1 || !sizes || sizes->size() != 4) return;
    flattened_[&linear] = *sizes;
    absorbed_[flatten] = &linear;
  }

  /// What a convolution reads.
  const jit::Value* convolved(const jit::Node& convolution) const {
    const bool folded = folded_norms_.count(&convolution) > 0;
    return folded ? convolution.input(0)->node()->input(0) : convolution.input(0);
  }

  /// Follows the product's result through what oneDNN can do in the same pass.
  void fuse(const jit::Node* node) {
    Fused fused{node, std::nullopt, nullptr, "none"};
    const jit::Node* last = node;
    const auto take = [&](const jit::Node* next) {
      absorbed_[last] = next;
      last = next;
    };
    const jit::Node* next = only_user(*last);
    if (next != nullptr && node->kind() == c10::aten::matmul && is_bias_sum(*next, *last)) {
      fused.bias = constant(next->input(1))->toTensor();
      take(next);
      next = only_user(*last);
    }
    if (next != nullptr && is_convolution(*node) && is_plain_sum(*next) && fused_.count(next) == 0) {
      fused.addend = next->input(0) == last->output() ? next->input(1) : next->input(0);
      take(next);
      next = only_user(*last);
    }
    const auto activation = next ? kActivations.find(next->kind().toQualString()) : kActivations.end();
    if (activation != kActivations.end()) {
      fused.activation = activation->second;
      take(next);
    }
    fused_[last] = fused;
  }

  /// layer_norm(a + b) over the last dimension.
  void fuse_norm(const jit::Node* node) {
    const jit::Node* sum = node->input(0)->node();
    const auto shape = argument(*node, "normalized_shape"), weight = argument(*node, "weight");
    const auto bias = argument(*node, "bias");
    if (!shape || shape->toIntVector().size() != 1 || !weight || !weight->isTensor() || !bias ||
        !bias->isTensor())
      return;
    if (!is_plain_sum(*sum) || fused_.count(sum) > 0 || only_user(*sum) != node) return;
    norms_.insert(node);
    absorbed_[sum] = node;
  }

  /// x·W + b with a constant vector b.
  bool is_bias_sum(const jit::Node& node, const jit::Node& product) const {
    if (node.kind() != c10::aten::add || node.input(0) != product.output()) return false;
    const auto bias = constant(node.input(1)), alpha = argument(node, "alpha");
    return bias && bias->isTensor() && bias->toTensor().dim() == 1 && alpha && alpha->isInt() &&
           alpha->toInt() == 1 &&
           bias->toTensor().size(0) == constant(right_side(product))->toTensor().size(1);
  }

  /// a + b of two tensors of the same shape and type.
  bool is_plain_sum(const jit::Node& node) const {
    if (node.kind() != c10::aten::add) return false;
    const auto alpha = argument(node, "alpha");
    if (!alpha || !alpha->isInt() || alpha->toInt() != 1 || absorbed_.count(&node) > 0) return false;
    const auto a = node.input(0)->type()->cast<c10::TensorType>(),
               b = node.input(1)->type()->cast<c10::TensorType>();
    return a && b && node.input(0) != node.input(1) && a->scalarType() == b->scalarType() &&
           a->sizes().concrete_sizes() && a->sizes().concrete_sizes() == b->sizes().concrete_sizes();
  }

  void visit(const jit::Node& node) {
    if (absorbed_.count(&node) > 0) return;
    if (constants_.count(node.outputs().empty() ? nullptr : node.output(0)) > 0) {
      for (const jit::Value* output : node.outputs()) set_constant(output);
      return;
    }
    if (const auto fused = fused_.find(&node); fused != fused_.end()) {
      if (is_linear(*fused->second.product)) {
        add_linear(node, fused->second);
      } else {
        add_convolution(node, fused->second);
      }
    } else if (norms_.count(&node) > 0) {
      add_norm(node);
    } else if (node.kind() == c10::aten::max_pool2d && is_plain_pool(node)) {
      add_pool(node);
    } else if (node.kind() == c10::aten::scaled_dot_product_attention) {
      add_attention(node);
    } else if (is_channel_map(node)) {
      add_channel_map(node);
    } else if (is_narrowed_sum(node)) {
      const auto sum = [](Stack& stack) { stack[0] = narrow_sum(stack[0].toTensor(), stack[1].toTensor()); };
      add(node, "add to bf16", sum, {number(node.input(0)), number(node.input(1))}, torch::kBFloat16);
    } else if (follows_group_norm(node)) {
      const auto silu = [](Stack& stack) {
        torch::Tensor x = stack[0].toTensor();
        torch::silu_(x);
      };
      add(node, "silu", silu, {number(node.input(0))}, type(number(node.input(0))));
    } else if (node.kind() == c10::aten::dropout) {
      set(node.output(), number(node.input(0)), type(number(node.input(0))));
    } else if (node.kind() != c10::prim::TupleConstruct) {
      add_generic(node);
    }
  }

  /// A batch norm with its statistics, or a PReLU with a slope per channel, over [B,C,H,W] or [B,C].
  bool is_channel_map(const jit::Node& node) const {
    const jit::Value* x = node.inputs().empty() ? nullptr : node.input(0);
    const bool norm = node.kind() == c10::aten::batch_norm, prelu = node.kind() == c10::aten::prelu;
    if ((!norm && !prelu) || (rank(x) != 4 && rank(x) != 2) || type_of(x) != torch::kFloat) return false;
    if (prelu) {
      const auto weight = argument(node, "weight");
      const auto sizes = x->type()->expect<c10::TensorType>()->sizes().concrete_sizes();
      return weight && sizes && weight->toTensor().numel() == (*sizes)[1];
    }
    const auto training = argument(node, "training"), mean = argument(node, "running_mean");
    const auto var = argument(node, "running_var");
    return training && !training->toBool() && mean && mean->isTensor() && var && var->isTensor();
  }

  ChannelMap channel_map(const jit::Node& node) const {
    if (node.kind() == c10::aten::prelu) {
      const torch::Tensor slope =
          argument(node, "weight")->toTensor().detach().to(torch::kFloat).contiguous();
      const auto edges = edges_.find(&node);
      return {torch::ones_like(slope), edges == edges_.end() ? torch::zeros_like(slope) : edges->second,
              slope};
    }
    const torch::Tensor mean = argument(node, "running_mean")->toTensor().to(torch::kFloat);
    const torch::Tensor var = argument(node, "running_var")->toTensor().to(torch::kFloat);
    const auto weight = argument(node, "weight"), bias = argument(node, "bias");
    torch::Tensor scale = (var + argument(node, "eps")->toDouble()).rsqrt();
    if (weight && weight->isTensor()) scale = scale * weight->toTensor().detach().to(torch::kFloat);
    torch::Tensor shift = -mean * scale;
    if (bias && bias->isTensor()) shift = shift + bias->toTensor().detach().to(torch::kFloat);
    return {scale.contiguous(), shift.contiguous(), torch::ones_like(scale)};
  }

  void add_channel_map(const jit::Node& node) {
    const bool in_place = may_overwrite(node.input(0), node);
    const auto kernel = [map = channel_map(node), in_place](Stack& stack) {
      torch::Tensor y = map_channels(stack[0].toTensor(), map, in_place);
      stack.resize(1);
      stack[0] = std::move(y);
    };
    const int x = number(node.input(0));
    add(node, node.kind() == c10::aten::prelu ? "prelu" : "batch_norm", kernel, {x}, type(x));
  }

  /// A SiLU that alone reads what a group norm made, and may write over it.
  static bool follows_group_norm(const jit::Node& node) {
    return node.kind() == c10::aten::silu && node.input(0)->node()->kind() == c10::aten::group_norm &&
           only_user(*node.input(0)->node()) == &node;
  }

  /// a + b in float32 that products alone read, in bfloat16.
  bool is_narrowed_sum(const jit::Node& node) const {
    if (!bf16_ || node.kind() != c10::aten::add) return false;
    const auto alpha = argument(node, "alpha");
    if (!alpha || !alpha->isInt() || alpha->toInt() != 1) return false;
    for (const jit::Value* input : {node.input(0), node.input(1)}) {
      if (type(number(input)) != torch::kFloat || rank(input) == 0) return false;
    }
    const auto& uses = node.output()->uses();
    return std::all_of(uses.begin(), uses.end(), [&](const jit::Use& use) {
      return (is_linear(*use.user) && use.user->input(use.offset) == left_side(*use.user)) ||
             (is_convolution(*use.user) && use.offset == 0);
    });
  }

  void set_constant(const jit::Value* value) {
    const c10::IValue content = *constant(value);
    set(value, program_.add_constant(content),
        content.isTensor() ? Type(content.toTensor().scalar_type()) : std::nullopt);
  }

  torch::ScalarType product_type() const { return bf16_ ? torch::kBFloat16 : torch::kFloat; }

  std::optional<torch::Tensor> bias_of(const Fused& fused) const {
    if (fused.bias) return fused.bias->detach();
    const bool first = fused.product->kind() == c10::aten::addmm;
    const auto bias = first ? constant(fused.product->input(0)) : argument(*fused.product, "bias");
    if (!bias || bias->isNone()) return std::nullopt;
    return bias->toTensor().detach();
  }

  std::optional<torch::Tensor> as_product_type(const std::optional<torch::Tensor>& bias) const {
    return bias ? std::make_optional(bias->to(product_type())) : std::nullopt;
  }

  void add_convolution(const jit::Node& last, const Fused& fused) {
    const jit::Node& node = *fused.product;
    const jit::Value* x = convolved(node);
    Convolution conv;
    conv.stride = argument(node, "stride")->toIntVector();
    conv.padding = argument(node, "padding")->toIntVector();
    conv.dilation = argument(node, "dilation")->toIntVector();
    conv.groups = argument(node, "groups")->toInt();
    conv.bias = bias_of(fused);
    conv.weight = argument(node, "weight")->toTensor().detach();
    if (const auto norm = folded_norms_.find(&node); norm != folded_norms_.end()) {
      conv.weight = norm->second.weight;
      conv.bias = conv.bias ? *conv.bias + norm->second.bias : norm->second.bias;
    }
    conv.weight = conv.weight.to(product_type());
    conv.bias = as_product_type(conv.bias);
    const auto sizes = x->type()->expect<c10::TensorType>()->sizes().concrete_sizes();
    if (!sizes) throw Error("a convolution's input has no traced size");
    conv.weight = pack_convolution_weight(conv, *sizes);
    std::vector<int> inputs = {as_type(number(x), product_type())};
    bool in_place = false;
    if (fused.addend != nullptr) {
      inputs.push_back(as_type(number(fused.addend), product_type()));
      // A cast made for this step alone would be fresh too, but is rare.
      in_place = inputs[1] == number(fused.addend) && may_overwrite(fused.addend, last);
    }
    const std::string name =
        std::string("conv") + (fused.addend ? (in_place ? "+=" : "+") : "") + " " + fused.activation;
    add(last, name,
        fused.addend == nullptr ? convolution_kernel(conv, fused.activation)
                                : add_convolution_kernel(conv, fused.activation, in_place),
        inputs, product_type());
  }

  void add_linear(const jit::Node& last, const Fused& fused) {
    const jit::Node& node = *fused.product;
    const jit::Value* x = left_side(node);
    torch::Tensor weight = constant(right_side(node))->toTensor().detach().to(product_type());
    if (node.kind() != c10::aten::linear) weight = weight.t();  // [out,in]
    const auto map = flattened_.find(&node);
    if (map != flattened_.end()) weight = over_map(weight, map->second);
    const auto sizes = x->type()->expect<c10::TensorType>()->sizes().concrete_sizes();
    const bool deep =
        bf16_ && sizes && weight.size(1) >= kDeepProduct && weight.size(1) >= 4 * weight.size(0);
    const auto bias = as_product_type(bias_of(fused));
    Program::Kernel kernel =
        deep ? deep_linear_kernel(weight, bias, fused.activation, *sizes)
             : linear_kernel(pack_linear_weight(weight.contiguous()), bias, fused.activation);
    if (map != flattened_.end()) {
      x = x->node()->input(0);
      kernel = over_map_kernel(kernel);
    }
    add(last, "linear " + fused.activation, kernel, {as_type(number(x), product_type())}, product_type());
  }

  /// Whether `last` is the last to read a value that no other value is a view of.
  bool may_overwrite(const jit::Value* value, const jit::Node& last) const {
    if (program_.is_shape_only(number(value)) || !contains(kFresh, *value->node())) return false;
    for (const jit::Use& use : value->uses()) {
      const jit::Node* reader = use.user;
      if (reader->kind() == c10::prim::Return || !contains(kFresh, *reader)) return false;
      while (absorbed_.count(reader) > 0) reader = absorbed_.at(reader);  // to where it is done
      if (reader != &last && !reader->isBefore(&last)) return false;
    }
    return true;
  }

  void add_norm(const jit::Node& node) {
    const jit::Node& sum = *node.input(0)->node();
    const torch::Tensor weight = argument(node, "weight")->toTensor().detach();
    const torch::Tensor bias = argument(node, "bias")->toTensor().detach();
    const double eps = argument(node, "eps")->toDouble();
    const auto kernel = [weight, bias, eps, bf16 = bf16_](Stack& stack) {
      const Normalized y = add_layer_norm(stack[0].toTensor(), stack[1].toTensor(), weight, bias, eps, bf16);
      stack[0] = y.wide;
      stack[1] = y.narrow;
    };
    const std::vector<int> inputs = {number(sum.input(0)), number(sum.input(1))};
    const bool shape_only = program_.is_shape_only(inputs[0]) && program_.is_shape_only(inputs[1]);
    const std::vector<int> outputs = program_.add_step("add+layer_norm", kernel, inputs, 2, shape_only);
    set(node.output(), outputs[0], torch::kFloat);
    if (!bf16_) return;
    types_[outputs[1]] = torch::kBFloat16;
    casts_[{outputs[0], torch::kBFloat16}] = outputs[1];
  }

  /// A size of a pooling's window: one number stands for both directions.
  std::vector<int64_t> window_size(const jit::Node& node, const char* name) const {
    const auto found = argument(node, name);
    if (!found || !found->isIntList()) return {};
    std::vector<int64_t> sizes = found->toIntVector();
    if (sizes.size() == 1) sizes.push_back(sizes[0]);
    return sizes;
  }

  bool is_plain_pool(const jit::Node& node) const {
    const auto ceil = argument(node, "ceil_mode");
    return type(number(node.input(0))) == torch::kBFloat16 && rank(node.input(0)) == 4 && ceil &&
           !ceil->toBool() && window_size(node, "kernel_size").size() == 2 &&
           window_size(node, "stride").size() == 2 && window_size(node, "padding").size() == 2 &&
           window_size(node, "dilation") == std::vector<int64_t>{1, 1} && has_pool_channels(node.input(0));
  }

  static bool has_pool_channels(const jit::Value* x) {
    const auto sizes = x->type()->expect<c10::TensorType>()->sizes().concrete_sizes();
    return sizes && (*sizes)[1] % kPoolChannels == 0;
  }

  void add_pool(const jit::Node& node) {
    const auto kernel = window_size(node, "kernel_size"), stride = window_size(node, "stride");
    const auto padding = window_size(node, "padding");
    const auto pool = [kernel, stride, padding](Stack& stack) {
      stack[0] = max_pool_bf16(as_channels_last(stack[0].toTensor()), kernel, stride, padding);
    };
    add(node, "max_pool", pool, {number(node.input(0))}, torch::kBFloat16);
  }

  /// Attention; a mask that forbids nothing is left out, which is faster.
  void add_attention(const jit::Node& node) {
    std::vector<int> inputs;
    for (const jit::Value* input : node.inputs()) {
      inputs.push_back(bf16_ ? as_type(number(input), torch::kBFloat16) : number(input));
    }
    Program::Kernel attention = kernel_of(node);
    if (bf16_ && cpu_has_bf16()) attention = unmasked_attention(node, attention);
    const jit::Value* mask = node.input(3);
    if (type(number(mask)) == torch::kBool) {
      inputs.push_back(forbids_nothing(number(mask)));
      attention = [plain = attention](Stack& stack) {
        if (stack.back().toBool()) stack[3] = c10::IValue();
        stack.pop_back();
        plain(stack);
      };
    }
    add(node, "attention", attention, inputs, product_type());
  }

  /// Our own kernel where there is no mask, else `other`.
  Program::Kernel unmasked_attention(const jit::Node& node, const Program::Kernel& other) const {
    const auto causal = argument(node, "is_causal"), scale = argument(node, "scale");
    const auto shared = argument(node, "enable_gqa");
    if (!causal || causal->toBool() || !scale || (shared && shared->toBool())) return other;
    return [other, scale = *scale](Stack& stack) {
      const torch::Tensor &q = stack[0].toTensor(), &k = stack[1].toTensor(), &v = stack[2].toTensor();
      if (!stack[3].isNone() || !suits_attention_bf16(q, k, v)) return other(stack);
      const double factor = scale.isNone() ? 1 / std::sqrt(static_cast<double>(q.size(3))) : scale.toDouble();
      torch::Tensor y = attention_bf16(q, k, v, factor);
      stack.resize(1);
      stack[0] = std::move(y);
    };
  }

  /// Whether a mask is true everywhere.
  int forbids_nothing(int mask) {
    if (const auto known = all_true_.find(mask); known != all_true_.end()) return known->second;
    const auto all = [](Stack& stack) { stack[0] = stack[0].toTensor().all().item<bool>(); };
    return all_true_[mask] = program_.add_step("mask", all, {mask}, 1, program_.is_shape_only(mask))[0];
  }

  void add_generic(const jit::Node& node) {
    std::vector<int> inputs;
    for (const jit::Value* input : node.inputs()) inputs.push_back(number(input));
    if (bf16_ && !contains(kAnyType, node) && !contains(kShapeOps, node)) {
      const Type wanted = contains(kProducts, node) ? torch::kBFloat16 : torch::kFloat;
      for (int& input : inputs) input = as_type(input, wanted);
    }
    add(node, node.kind().toQualString(), kernel_of(node), inputs, result_type(node, inputs));
  }

  /// The type of floating-point results of an operator.
  Type result_type(const jit::Node& node, const std::vector<int>& inputs) const {
    if (contains(kProducts, node)) return product_type();
    if (node.kind() == c10::aten::to || !bf16_) return std::nullopt;
    if (!contains(kAnyType, node) && !contains(kShapeOps, node)) return std::nullopt;
    bool any = false;
    for (const int input : inputs) {
      const Type found = type(input);
      if (!found || !c10::isFloatingType(*found)) continue;
      if (found != torch::kBFloat16) return std::nullopt;
      any = true;
    }
    return any ? Type(torch::kBFloat16) : std::nullopt;
  }

  static Program::Kernel kernel_of(const jit::Node& node) {
    const size_t inputs = node.inputs().size(), outputs = node.outputs().size();
    if (node.kind() == c10::prim::ListConstruct) {
      const auto element = node.output()->type()->expect<c10::ListType>()->getElementType();
      return [element, inputs](Stack& stack) {
        c10::impl::GenericList list(element);
        for (size_t i = 0; i < inputs; ++i) list.push_back(stack[i]);
        stack.resize(1);
        stack[0] = list;
      };
    }
    if (node.kind() == c10::prim::ListUnpack) {
      return [outputs](Stack& stack) {
        const std::vector<c10::IValue> elements = stack[0].toListRef().vec();
        TORCH_CHECK(elements.size() == outputs, "a list of another length than the traced one");
        stack = elements;
      };
    }
    return [operation = node.getOperation()](Stack& stack) mutable { operation(stack); };
  }

  /// A step for what `last` gives, with floating-point results of `type` (as traced where that is none).
  void add(const jit::Node& last, const std::string& name, const Program::Kernel& kernel,
           const std::vector<int>& inputs, Type type) {
    bool shape_only = true;
    for (const int input : inputs) shape_only = shape_only && program_.is_shape_only(input);
    const std::vector<int> outputs = program_.add_step(name, kernel, inputs, last.outputs().size(),
                                                       shape_only || contains(kShapeOps, last));
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Type traced = type_of(last.output(i));
      const bool floating = is_tensor_list(last.output(i)) || (traced && c10::isFloatingType(*traced));
      set(last.output(i), outputs[i], type && floating ? type : traced);
    }
  }

  std::shared_ptr<jit::Graph> graph_;
  bool bf16_;
  Program program_;
  std::unordered_map<const jit::Value*, c10::IValue> constants_;
  std::unordered_map<const jit::Value*, int> numbers_;
  std::unordered_map<int, Type> types_;
  std::unordered_set<int> lists_;  // of tensors; the type is that of the elements
  std::map<std::pair<int, torch::ScalarType>, int> casts_;
  std::unordered_map<const jit::Node*, Fused> fused_;                     // by the last node of what is fused
  std::unordered_map<const jit::Node*, FoldedInputNorm> folded_norms_;    // by the convolution that has them
  std::unordered_map<const jit::Node*, std::vector<int64_t>> flattened_;  // maps that linear layers read
  std::unordered_map<const jit::Node*, torch::Tensor> edges_;             // that a PReLU mends
  std::unordered_set<const jit::Node*> norms_;  // whose input is a sum that is done with them
  std::unordered_map<int, int> all_true_;       // by mask
  std::unordered_map<const jit::Node*, const jit::Node*> absorbed_;  // done by the node after them
};

}  // namespace

Program lower(const TraceSpec& spec, const std::vector<torch::Tensor>& inputs, bool bf16) {
  std::shared_ptr<jit::Graph> graph = trace_graph(spec, inputs);
  jit::ConstantPropagation(graph);
  jit::FoldFrozenConvBatchnorm(graph);
  jit::EliminateDeadCode(graph);
  return Lowering(graph, bf16).take();
}

}  // namespace zoo
