#pragma once
#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/layers/transformer.h"
#include "models/online_action/action_model.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// TeSTra, Zhao and Krähenbühl 2022 (arXiv 2209.09236), as zhaoyue-zephyrus/TeSTra has it. Defaults are those for
/// THUMOS'14 with its Laplace kernel.
struct TestraOptions {
  int64_t feature_size = 3072;
  int64_t num_classes = 22;
  int64_t window = 32;      ///< T steps of work memory, 8 s
  int64_t memory = 512;     ///< N samples of long memory, 512 s
  int64_t memory_rate = 4;  ///< steps between two of them
  double decay = 0.97;      ///< λ of a sample for every newer one; 1: the box kernel
  int64_t queries = 16;     ///< tokens that the long memory is read into
  int64_t compressed = 32;  ///< tokens that these are compressed to
  int64_t compression_layers = 2, decoder_layers = 2;
  int64_t hidden_dim = 1024, heads = 16, feedforward = 1024;
  int64_t horizons = 0;  ///< K future steps; 0: none, as published for THUMOS'14
  double dropout = 0.2;

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
  /// Whether a stream keeps the whole past as one sum. It does where what `memory` samples leave out weighs too little
  /// to be seen (below 1e-6); otherwise it keeps the keys of the N samples.
  bool endless() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TestraOptions, feature_size, num_classes, window, memory, memory_rate,
                                   decay, queries, compressed, compression_layers, decoder_layers, hidden_dim,
                                   heads, feedforward, horizons, dropout)

/// The long memory is read by learned queries through attention that forgets, compressed to a few tokens, and a causal
/// decoder of the work memory attends to these and to the work memory itself. Anticipation has one more token for each
/// future step, behind the work memory.
///
/// Names and shapes are the published ones: feature_head_{long,work}.input_linear.0, pos_encoding.pe, enc_queries.{0,1},
/// enc_modules.{0,1}, dec_modules, dec_query, classifier. Weights of the decay are λ^a, without the published code's
/// floor of 1e-10.
class TestraImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as TestraOptions::validate.
  explicit TestraImpl(const TestraOptions& options);

  /// features [B,t,D] of at most `window` steps with their memory -> logits of all steps, and [B,1,K,C] of the future. At
  /// a stream's beginning the window is what there is, and step 0 its memory. Throws Error for other shapes.
  ActionScores forward(const ActionInput& input);

  /// State: `count` [B] int64 of steps so far; `work` and `recent` [B,T,d], both heads' features of the last T steps;
  /// `compressed` [B,M,d]; and the long memory, which takes a step when it leaves the window, if its number is a
  /// multiple of memory_rate: with `endless` its sum (`memory_top`, `memory_weight`, `memory_sum` of DecayedSum), else
  /// `memory_keys` and `memory_values` [B,N,d].
  ActionState start(int64_t batch, torch::Device device) const;
  ActionStep step(const torch::Tensor& features, const ActionState& state);
  std::vector<std::string> state_names() const;

  TestraOptions options;

 private:
  using Attention = std::function<torch::Tensor(const torch::Tensor& query)>;
  struct Stream;

  torch::Tensor drop(const torch::Tensor& x) const;
  torch::Tensor read_memory(const torch::Tensor& like, const Attention& attention);
  torch::Tensor compress(const torch::Tensor& read);
  torch::Tensor ask(size_t stage, const torch::Tensor& like);
  Attention attend_stored(const torch::Tensor& key, const torch::Tensor& value, const torch::Tensor& valid);
  Attention attend_sum(const torch::Tensor& x, const torch::Tensor& first, ActionState& memory);
  torch::Tensor remember(const torch::Tensor& x, const torch::Tensor& count, ActionState& memory);
  torch::Tensor decode(const torch::Tensor& work, const torch::Tensor& positions, const torch::Tensor& valid,
                       const torch::Tensor& compressed, bool last_only);
  TransformerDecoderLayer& reader() { return enc_modules_[0]->layers[0]; }

  torch::nn::Linear head_long_{nullptr}, head_work_{nullptr};
  torch::Tensor pe_;  // [5000,1,d]
  std::vector<torch::nn::Embedding> enc_queries_;
  std::vector<TransformerDecoder> enc_modules_;
  TransformerDecoder dec_modules_{nullptr};
  torch::nn::Embedding dec_query_{nullptr};  // [K,d]
  torch::nn::Linear classifier_{nullptr};
};
TORCH_MODULE(Testra);

ActionModel make_testra(const TestraOptions& options);

/// Whether the tensors are of a TeSTra (LSTR's have the same names).
bool testra_recognises(const StateDict& state);
/// `options` with what names and shapes of the tensors tell: all but window, memory, memory_rate, decay, heads and
/// dropout. Throws Error where the names are not a TeSTra's.
TestraOptions testra_options_of(const StateDict& state, TestraOptions options = {});

}  // namespace zoo
