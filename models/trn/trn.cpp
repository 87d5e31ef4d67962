#include "models/trn/trn.h"

#include <string>
#include <vector>

#include <torch/torch.h>

#include "core/error.h"
#include "models/layers/dropout.h"
#include "models/weights/weights_follow.h"

namespace zoo {

namespace {

Chain linear_relu(int64_t in, int64_t out) {
  return Chain(torch::nn::Linear(in, out), torch::nn::ReLU());
}

SharedLinear shared(const Chain& chain) {
  const auto& linear = *chain->children().front()->as<torch::nn::LinearImpl>();
  return SharedLinear(linear.weight, linear.bias);
}

/// In a WeightsFollowScope the decomposition is left out as the numbers are.
void make_orthogonal(torch::Tensor weight) {
  const torch::NoGradGuard no_grad;
  weight.normal_();
  if (!WeightsFollowScope::active()) torch::nn::init::orthogonal_(weight);
}

}  // namespace

/// The weights of one pass.
struct TrnImpl::Pass {
  explicit Pass(const TrnImpl& net)
      : context(net.enc_cell_->weight_ih.slice(1, net.options.feature_size)),
        recurrent(net.enc_cell_->weight_hh),
        hx_trans(shared(net.hx_trans_)),
        cx_trans(shared(net.cx_trans_)),
        decoder_input(net.dec_cell_->weight_ih),
        decoder_recurrent(net.dec_cell_->weight_hh, net.dec_cell_->bias()),
        classifier(net.classifier_),
        fusion_linear(shared(net.fusion_linear_)),
        future_linear(shared(net.future_linear_)) {}

  SharedLinear context, recurrent, hx_trans, cx_trans, decoder_input, decoder_recurrent, classifier,
      fusion_linear, future_linear;
};

struct TrnImpl::Future {
  torch::Tensor logits;   ///< [B,K,C]
  torch::Tensor context;  ///< [B,D]
};

void TrnOptions::validate() const {
  require_count("model.feature_size", feature_size, 1, 1 << 20);
  require_count("model.num_classes", num_classes, 2, 1 << 20);
  require_count("model.hidden_dim", hidden_dim, 1, 65536);
  require_count("model.horizons", horizons, 1, 1024);
  require_count("model.window", window, 1, 4096);
  require_range("model.dropout", dropout, 0, 0.99);
}

TrnImpl::TrnImpl(const TrnOptions& given) : options(given) {
  options.validate();
  const int64_t features = options.feature_size, hidden = options.hidden_dim;
  const auto extractor = register_module("feature_extractor", std::make_shared<torch::nn::Module>());
  input_linear_ = extractor->register_module("input_linear", linear_relu(features, features));
  hx_trans_ = register_module("hx_trans", linear_relu(hidden, hidden));
  cx_trans_ = register_module("cx_trans", linear_relu(hidden, hidden));
  fusion_linear_ = register_module("fusion_linear", linear_relu(options.num_classes, hidden));
  future_linear_ = register_module("future_linear", linear_relu(hidden, features));
  enc_cell_ = register_module("enc_cell", LstmCell(2 * features, hidden));
  dec_cell_ = register_module("dec_cell", LstmCell(hidden, hidden));
  classifier_ = register_module("classifier", torch::nn::Linear(hidden, options.num_classes));
  initialise();
}

void TrnImpl::initialise() {
  for (const auto& module : modules(/*include_self=*/false)) {
    if (auto* linear = module->as<torch::nn::LinearImpl>()) torch::nn::init::normal_(linear->weight, 0, 1e-3);
  }
  for (const LstmCell& cell : {enc_cell_, dec_cell_}) {
    make_orthogonal(cell->weight_ih);
    make_orthogonal(cell->weight_hh);
    torch::nn::init::normal_(cell->bias_ih);
    torch::nn::init::normal_(cell->bias_hh);
  }
}

torch::Tensor TrnImpl::drop(const torch::Tensor& x) const {
  return hashed_dropout(x, options.dropout, is_training());
}

/// What features [..,D] give to the first cell's gates: [..,4H].
torch::Tensor TrnImpl::gates_of(const torch::Tensor& features) {
  return torch::linear(drop(input_linear_(features)), enc_cell_->weight_ih.slice(1, 0, options.feature_size),
                       enc_cell_->bias());
}

TrnImpl::Future TrnImpl::look_ahead(const Pass& pass, const LstmState& from) {
  LstmState state{pass.hx_trans(from.hidden).relu(), pass.cx_trans(from.cell).relu()};
  std::vector<torch::Tensor> logits, hidden;
  for (int64_t k = 0; k < options.horizons; ++k) {
    torch::Tensor gates = pass.decoder_recurrent(state.hidden);  // the first input is zero
    if (k > 0) gates = gates + pass.decoder_input(drop(pass.fusion_linear(logits.back()).relu()));
    state = lstm_update(gates, state.cell);
    hidden.push_back(state.hidden);
    logits.push_back(pass.classifier(drop(state.hidden)));
  }
  const torch::Tensor ahead = torch::stack(hidden, 1);  // [B,K,H]
  return {torch::stack(logits, 1), pass.future_linear(ahead).relu().mean(1)};
}

ActionScores TrnImpl::forward(const ActionInput& input) {
  require_features(input.features, 3, options.feature_size);
  const Pass pass(*this);
  const auto gates_of_steps = gates_of(input.features).unbind(1);  // T of [B,4H]
  LstmState state;
  torch::Tensor context;
  std::vector<torch::Tensor> hidden, future;
  for (torch::Tensor gates : gates_of_steps) {
    if (context.defined()) gates = gates + pass.context(drop(context)) + pass.recurrent(state.hidden);
    state = lstm_update(
        gates, state.cell.defined() ? state.cell : torch::zeros_like(gates.slice(1, 0, options.hidden_dim)));
    hidden.push_back(state.hidden);
    const Future ahead = look_ahead(pass, state);
    context = ahead.context;
    future.push_back(ahead.logits);
  }
  return {pass.classifier(drop(torch::stack(hidden, 1))), torch::stack(future, 1)};  // [B,T,C], [B,T,K,C]
}

ActionState TrnImpl::start(int64_t batch, torch::Device device) const {
  const auto type = torch::dtype(classifier_->weight.dtype()).device(device);
  return {torch::zeros({batch, options.hidden_dim}, type), torch::zeros({batch, options.hidden_dim}, type),
          torch::zeros({batch, options.feature_size}, type)};
}

ActionStep TrnImpl::step(const torch::Tensor& features, const ActionState& state) {
  require_features(features, 2, options.feature_size);
  const Pass pass(*this);
  const torch::Tensor gates = gates_of(features) + pass.context(drop(state[2])) + pass.recurrent(state[0]);
  const LstmState next = lstm_update(gates, state[1]);
  const Future ahead = look_ahead(pass, next);
  return {pass.classifier(drop(next.hidden)), ahead.logits, {next.hidden, next.cell, ahead.context}};
}

ActionModel make_trn(const TrnOptions& options) {
  ActionModel model =
      action_model(Trn(options), options.feature_size, options.num_classes, {"hidden", "cell", "future"});
  model.horizons = options.horizons;
  model.first_horizon = 0;
  model.window = options.window;
  model.scores_all = true;
  return model;
}

bool trn_recognises(const StateDict& state) {
  for (const char* name :
       {"feature_extractor.input_linear.0.weight", "hx_trans.0.weight", "fusion_linear.0.weight",
        "future_linear.0.weight", "enc_cell.weight_ih", "dec_cell.weight_hh", "classifier.weight"}) {
    if (state.find(name) == nullptr) return false;
  }
  return true;
}

TrnOptions trn_options_of(const StateDict& state, TrnOptions options) {
  if (!trn_recognises(state)) {
    throw Error(state.source +
                ": the names of its tensors are not a TRN's, expected the published ones "
                "(feature_extractor.input_linear.0, enc_cell, …, classifier)");
  }
  options.feature_size = state.find("feature_extractor.input_linear.0.weight")->size(1);
  options.num_classes = state.find("classifier.weight")->size(0);
  options.hidden_dim = state.find("classifier.weight")->size(1);
  return options;
}

}  // namespace zoo
