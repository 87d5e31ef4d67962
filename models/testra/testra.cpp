#include "models/testra/testra.h"

#include <cmath>
#include <string>
#include <utility>

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "models/layers/dropout.h"
#include "models/layers/tracing.h"
#include "models/shape_text.h"
#include "models/testra/decayed_attention.h"

namespace zoo {

namespace {

constexpr int64_t kPositions = 5000;  // rows of pos_encoding.pe

/// Vaswani et al. 2017, section 3.5: [5000,1,d].
torch::Tensor sine_positions(int64_t dim) {
  const torch::Tensor step = torch::arange(kPositions, torch::kFloat).unsqueeze(1);
  const torch::Tensor rate = (torch::arange(0, dim, 2, torch::kFloat) * (-std::log(10000.0) / dim)).exp();
  return torch::stack({(step * rate).sin(), (step * rate).cos()}, -1).flatten(1).unsqueeze(1);
}

torch::nn::Linear feature_head(torch::nn::Module& owner, const char* name, int64_t in, int64_t out) {
  const auto head = owner.register_module(name, std::make_shared<torch::nn::Module>());
  const auto input = head->register_module("input_linear", std::make_shared<torch::nn::Module>());
  return input->register_module("0", torch::nn::Linear(in, out));
}

TransformerOptions testra_layers(const TestraOptions& options) {
  TransformerOptions layers;
  layers.dim = options.hidden_dim;
  layers.heads = options.heads;
  layers.feedforward = options.feedforward;
  layers.dropout = options.dropout;
  return layers;
}

/// 0, 1, … along dimension 1 of x [B,N,d]: [N] int64, also in a trace.
torch::Tensor places(const torch::Tensor& x) {
  return torch::ones_like(x.select(0, 0).select(1, 0), torch::kLong).cumsum(0) - 1;
}

}  // namespace

void TestraOptions::validate() const {
  require_count("model.feature_size", feature_size, 1, 1 << 20);
  require_count("model.num_classes", num_classes, 2, 1 << 20);
  require_count("model.window", window, 1, 4096);
  require_count("model.memory", memory, 1, 1 << 20);
  require_count("model.memory_rate", memory_rate, 1, 4096);
  require_range("model.decay", decay, 0.01, 1);
  require_count("model.queries", queries, 1, 4096);
  require_count("model.compressed", compressed, 1, 4096);
  require_count("model.compression_layers", compression_layers, 1, 100);
  require_count("model.decoder_layers", decoder_layers, 1, 100);
  require_count("model.hidden_dim", hidden_dim, 2, 65536);
  require_count("model.feedforward", feedforward, 1, 65536);
  require_count("model.horizons", horizons, 0, 512);
  require_range("model.dropout", dropout, 0, 0.99);
  require_heads("model.heads", heads, hidden_dim);
  if (hidden_dim % 2 != 0)
    throw UsageError(
        format("model.hidden_dim: %lld, expected an even number", static_cast<long long>(hidden_dim)));
}

bool TestraOptions::endless() const {
  return static_cast<double>(memory) * std::log(decay) < std::log(1e-6);
}

TestraImpl::TestraImpl(const TestraOptions& given) : options(given) {
  options.validate();
  const int64_t dim = options.hidden_dim;
  const TransformerOptions layers = testra_layers(options);
  head_long_ = feature_head(*this, "feature_head_long", options.feature_size, dim);
  head_work_ = feature_head(*this, "feature_head_work", options.feature_size, dim);
  pe_ = register_module("pos_encoding", std::make_shared<torch::nn::Module>())
            ->register_buffer("pe", sine_positions(dim));
  enc_queries_ = {torch::nn::Embedding(options.queries, dim), torch::nn::Embedding(options.compressed, dim)};
  enc_modules_ = {TransformerDecoder(layers, 1), TransformerDecoder(layers, options.compression_layers)};
  const auto queries = register_module("enc_queries", torch::nn::ModuleList());
  const auto modules = register_module("enc_modules", torch::nn::ModuleList());
  for (const auto& query : enc_queries_) queries->push_back(query);
  for (const auto& module : enc_modules_) modules->push_back(module);
  dec_modules_ = register_module("dec_modules", TransformerDecoder(layers, options.decoder_layers));
  if (options.horizons > 0) {
    dec_query_ = register_module("dec_query", torch::nn::Embedding(options.horizons, dim));
  }
  classifier_ = register_module("classifier", torch::nn::Linear(dim, options.num_classes));
}

torch::Tensor TestraImpl::drop(const torch::Tensor& x) const {
  return hashed_dropout(x, options.dropout, is_training());
}

/// The learned queries of a stage after their first self-attention: [1,Q,d] where that is the same for all streams of
/// `like` [B,..,..], else [B,Q,d].
torch::Tensor TestraImpl::ask(size_t stage, const torch::Tensor& like) {
  const torch::Tensor queries = enc_queries_[stage]->weight.unsqueeze(0);
  const bool drops = is_training() && options.dropout > 0;
  return enc_modules_[stage]->layers[0]->attend_self(drops ? queries + zeros_per_image(like) : queries, {},
                                                     {});
}

/// The first stage with its attention to the long memory of `like`'s streams: [B,Q,d].
torch::Tensor TestraImpl::read_memory(const torch::Tensor& like, const Attention& attention) {
  return enc_modules_[0]->norm(reader()->attend_memory(ask(0, like), attention));
}

/// The second stage: [B,Q,d] -> [B,M,d].
torch::Tensor TestraImpl::compress(const torch::Tensor& read) {
  torch::Tensor x = ask(1, read);
  auto& layers = enc_modules_[1]->layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (i > 0) x = layers[i]->attend_self(x, {}, {});
    x = layers[i]->attend_memory(x, [&](const torch::Tensor& query) {
      auto& attention = layers[i]->multihead_attn;
      const auto [key, value] = attention->project_key_value(read);
      return attention->attend(attention->project_query(query) + zeros_per_image(read), key, value, {});
    });
  }
  return enc_modules_[1]->norm(x);
}

/// Attention to projected samples [B,N,d], the newest last.
TestraImpl::Attention TestraImpl::attend_stored(const torch::Tensor& key, const torch::Tensor& value,
                                                const torch::Tensor& valid) {
  return [this, key, value, valid](const torch::Tensor& query) {
    auto& attention = reader()->multihead_attn;
    return attention->attend(attention->project_query(query) + zeros_per_image(key), key, value,
                             decay_mask(valid, options.decay));
  };
}

/// Attention to the sum in `memory` with one more sample x [B,d], which it takes in.
TestraImpl::Attention TestraImpl::attend_sum(const torch::Tensor& x, const torch::Tensor& first,
                                             ActionState& memory) {
  return [this, x, first, &memory](const torch::Tensor& query) {
    auto& attention = reader()->multihead_attn;
    const int64_t heads = options.heads, width = options.hidden_dim / heads;
    const auto [key, value] = attention->project_key_value(x);
    const torch::Tensor q = attention->project_query(query).unflatten(-1, {heads, width});  // [1,Q,H,h]
    const torch::Tensor k = key.unflatten(-1, {heads, width}) / std::sqrt(static_cast<double>(width));
    const torch::Tensor scores = (q * k.unsqueeze(1)).sum(-1).transpose(1, 2);  // [B,H,Q]
    const DecayedSum next = add_key({memory[0], memory[1], memory[2]}, scores,
                                    value.unflatten(-1, {heads, width}), first, options.decay);
    memory = {next.top, next.weight, next.sum};
    return attention->out_proj(next.attended().transpose(1, 2).flatten(2));  // [B,Q,d]
  };
}

/// The first stage's output after sample x [B,d] came to `memory`; `count` [B] as in the state.
torch::Tensor TestraImpl::remember(const torch::Tensor& x, const torch::Tensor& count, ActionState& memory) {
  if (options.endless()) return read_memory(x.unsqueeze(1), attend_sum(x, count == 0, memory));
  const auto [key, value] = reader()->multihead_attn->project_key_value(x);
  memory = {push_step(memory[0], key), push_step(memory[1], value)};
  // Step 0 and every memory_rate-th of those that have left the window.
  const torch::Tensor left = (count - options.window).clamp_min(0);
  const torch::Tensor samples = left.div(options.memory_rate, "floor") + 1;  // [B]
  const torch::Tensor valid = places(memory[0]) >= options.memory - samples.unsqueeze(1);
  return read_memory(memory[0], attend_stored(memory[0], memory[1], valid));
}

/// work [B,t,d] at `positions` [t] or [B,t], of which `valid` [B,t] are real (undefined: all); compressed [B,M,d] ->
/// [B,t+K,d], with `last_only` [B,1+K,d].
torch::Tensor TestraImpl::decode(const torch::Tensor& work, const torch::Tensor& positions,
                                 const torch::Tensor& valid, const torch::Tensor& compressed,
                                 bool last_only) {
  const torch::Tensor table = pe_.squeeze(1);
  torch::Tensor x = drop(work + torch::embedding(table, positions)), real = valid;
  if (options.horizons > 0) {
    const torch::Tensor tokens =
        dec_query_->weight + table.slice(0, options.window, options.window + options.horizons);
    x = torch::cat({x, drop(zeros_per_image(x) + tokens)}, 1);
    if (valid.defined()) {
      real = torch::cat({valid, torch::ones({1, options.horizons}, valid.options()) & valid.slice(1, -1)}, 1);
    }
  }
  const torch::Tensor place = places(x);
  torch::Tensor mask = place.unsqueeze(1) >= place;                             // [t+K,t+K]
  if (real.defined()) mask = mask.logical_and(real.unsqueeze(1).unsqueeze(1));  // [B,1,t+K,t+K]
  const torch::Tensor all = torch::ones({options.compressed}, mask.options());
  const torch::Tensor memory_mask = torch::cat({mask.slice(-1, 0, 1).logical_or(all), mask}, -1);
  const torch::Tensor memory = torch::cat({compressed, x}, 1);  // [B,M+t+K,d]

  const int64_t kept = 1 + options.horizons;
  for (size_t i = 0; i < dec_modules_->layers.size(); ++i) {
    TransformerDecoderLayer& layer = dec_modules_->layers[i];
    const bool fewer = last_only && i + 1 == dec_modules_->layers.size();
    const auto rows = [&](const torch::Tensor& m) { return fewer ? m.slice(-2, -kept) : m; };
    x = layer->attend_self(x, {}, rows(mask), fewer ? kept : 0);
    x = layer->attend_memory(x, [&](const torch::Tensor& query) {
      auto& attention = layer->multihead_attn;
      const auto [key, value] = attention->project_key_value(memory);
      return attention->attend(attention->project_query(query), key, value, rows(memory_mask));
    });
  }
  return dec_modules_->norm(x);
}

ActionScores TestraImpl::forward(const ActionInput& input) {
  require_features(input.features, 3, options.feature_size);
  if (input.features.size(1) > options.window) {
    throw Error("features have shape " + shape_text(input.features) + ", expected at most " +
                std::to_string(options.window) + " steps (model.window)");
  }
  if (!input.memory.defined() || !input.memory_mask.defined()) {
    throw Error("no long memory, expected [B, N, " + std::to_string(options.feature_size) +
                "] and its mask (data.window.memory)");
  }
  require_features(input.memory, 3, options.feature_size);
  const torch::Tensor samples = head_long_(input.memory).relu();  // [B,N,d]
  const auto [key, value] = reader()->multihead_attn->project_key_value(samples);
  const torch::Tensor read = read_memory(samples, attend_stored(key, value, input.memory_mask));
  const torch::Tensor work = head_work_(input.features).relu();  // [B,t,d]
  const torch::Tensor logits = classifier_(decode(work, places(work), {}, compress(read), false));
  if (options.horizons == 0) return {logits, {}};
  return {logits.slice(1, 0, -options.horizons), logits.slice(1, -options.horizons).unsqueeze(1)};
}

std::vector<std::string> TestraImpl::state_names() const {
  std::vector<std::string> names = {"count", "work", "recent", "compressed"};
  const auto memory = options.endless()
                          ? std::vector<std::string>{"memory_top", "memory_weight", "memory_sum"}
                          : std::vector<std::string>{"memory_keys", "memory_values"};
  names.insert(names.end(), memory.begin(), memory.end());
  return names;
}

ActionState TestraImpl::start(int64_t batch, torch::Device device) const {
  const int64_t dim = options.hidden_dim, heads = options.heads;
  const auto type = torch::dtype(classifier_->weight.dtype()).device(device);
  ActionState state = {torch::zeros({batch}, torch::dtype(torch::kLong).device(device)),
                       torch::zeros({batch, options.window, dim}, type),
                       torch::zeros({batch, options.window, dim}, type),
                       torch::zeros({batch, options.compressed, dim}, type)};
  if (options.endless()) {
    state.push_back(torch::zeros({batch, heads, options.queries}, type));
    state.push_back(torch::zeros({batch, heads, options.queries}, type));
    state.push_back(torch::zeros({batch, heads, options.queries, dim / heads}, type));
  } else {
    state.push_back(torch::zeros({batch, options.memory, dim}, type));
    state.push_back(torch::zeros({batch, options.memory, dim}, type));
  }
  return state;
}

ActionStep TestraImpl::step(const torch::Tensor& features, const ActionState& state) {
  require_features(features, 2, options.feature_size);
  const torch::Tensor& count = state[0];
  const torch::Tensor newest = head_long_(features).relu();  // [B,d]
  const torch::Tensor left = count - options.window;         // the step that leaves the window
  const torch::Tensor first = count == 0;
  const torch::Tensor due = first | ((left > 0) & (left.remainder(options.memory_rate) == 0));  // [B]

  torch::Tensor compressed = state[3];
  ActionState memory(state.begin() + 4, state.end());
  if (is_tracing() || due.any().item<bool>()) {
    const ActionState before = memory;
    const torch::Tensor read = remember(where_stream(first, newest, state[2].select(1, 0)), count, memory);
    compressed = where_stream(due, compress(read), compressed);
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = where_stream(due, memory[i], before[i]);
  }

  const torch::Tensor work = push_step(state[1], head_work_(features).relu());
  const torch::Tensor place = places(work);                                            // [T]
  const torch::Tensor empty = (options.window - 1 - count).clamp_min(0).unsqueeze(1);  // [B,1]
  const torch::Tensor logits = classifier_(decode(work, (place - empty).clamp_min(0), place >= empty,
                                                  compressed, /*last_only=*/true));  // [B,1+K,C]
  ActionState next = {count + 1, work, push_step(state[2], newest), compressed};
  next.insert(next.end(), memory.begin(), memory.end());
  return {logits.select(1, 0), options.horizons > 0 ? logits.slice(1, 1) : torch::Tensor(), std::move(next)};
}

ActionModel make_testra(const TestraOptions& options) {
  Testra net(options);
  ActionModel model = action_model(net, options.feature_size, options.num_classes, net->state_names());
  model.horizons = options.horizons;
  model.window = options.window;
  model.memory = options.memory;
  model.memory_rate = options.memory_rate;
  model.scores_all = true;
  return model;
}

bool testra_recognises(const StateDict& state) {
  for (const char* name : {"feature_head_long.input_linear.0.weight",
                           "feature_head_work.input_linear.0.weight", "enc_queries.0.weight",
                           "enc_queries.1.weight", "enc_modules.0.layers.0.multihead_attn.in_proj_weight",
                           "dec_modules.layers.0.linear1.weight", "classifier.weight"}) {
    if (state.find(name) == nullptr) return false;
  }
  return state.find("enc_modules.0.layers.1.linear1.weight") == nullptr;
}

TestraOptions testra_options_of(const StateDict& state, TestraOptions options) {
  if (!testra_recognises(state)) {
    throw Error(state.source +
                ": the names of its tensors are not a TeSTra's, expected the published ones "
                "(feature_head_long.input_linear.0, enc_queries.0, …, classifier)");
  }
  const auto rows = [&](const char* name) {
    const torch::Tensor* tensor = state.find(name);
    return tensor == nullptr ? 0 : tensor->size(0);
  };
  options.feature_size = state.find("feature_head_work.input_linear.0.weight")->size(1);
  options.hidden_dim = rows("feature_head_work.input_linear.0.weight");
  options.num_classes = rows("classifier.weight");
  options.queries = rows("enc_queries.0.weight");
  options.compressed = rows("enc_queries.1.weight");
  options.feedforward = rows("dec_modules.layers.0.linear1.weight");
  options.compression_layers = count_numbered(state, "enc_modules.1.layers.");
  options.decoder_layers = count_numbered(state, "dec_modules.layers.");
  options.horizons = rows("dec_query.weight");
  return options;
}

}  // namespace zoo
