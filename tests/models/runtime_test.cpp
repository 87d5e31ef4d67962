#include "models/runtime/runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <mutex>
#include <set>
#include <thread>

#include <ATen/Parallel.h>

#include "models/detr/detr.h"
#include "models/iresnet/iresnet.h"
#include "models/mobilefacenet/mbf.h"
#include "models/runtime/cpu_features.h"
#include "models/runtime/input_norm.h"
#include "models/runtime/kernels.h"
#include "models/runtime/lowering.h"
#include "models/runtime/memory_pool.h"

namespace zoo {
namespace {

using testing::HasSubstr;
using Tensors = std::vector<torch::Tensor>;

TraceSpec spec_of(Detr detr) {
  detr->eval();
  TraceSpec spec;
  spec.module = detr.ptr();
  spec.forward = [detr](const Tensors& inputs) mutable {
    const DetrOutput output = detr->forward(inputs[0], inputs[1]);
    return Tensors{output.logits.select(0, -1), output.boxes.select(0, -1)};
  };
  return spec;
}

/// Largest difference in parts of the largest value.
double far(const torch::Tensor& found, const torch::Tensor& expected) {
  EXPECT_EQ(found.sizes(), expected.sizes());
  EXPECT_EQ(found.scalar_type(), expected.scalar_type());
  return (found - expected).abs().max().item<double>() / expected.abs().max().item<double>();
}

/// Coarse blobs; every picture after the first padded below and to the right.
Tensors pictures(int64_t batch, int64_t height, int64_t width) {
  torch::Tensor mask = torch::ones({batch, height, width}, torch::kBool);
  for (int64_t i = 1; i < batch; ++i) {
    mask[i].slice(0, height - 33 * i).fill_(false);
    mask[i].slice(1, width - 50 * i).fill_(false);
  }
  const torch::Tensor blobs =
      torch::upsample_bilinear2d(torch::randn({batch, 3, 6, 7}), {height, width}, false);
  return {blobs * mask.unsqueeze(1), mask};
}

/// A DETR whose outputs depend on its picture and queries.
Detr lively_detr(DetrOptions options) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(11);
  options.num_classes = 7;
  Detr detr(options);
  for (auto& item : detr->named_parameters()) {
    torch::Tensor& value = item.value();
    if (item.key() == "query_embed.weight") value.normal_();
    if (value.dim() == 2) value.normal_(0, 1.5 / std::sqrt(static_cast<double>(value.size(1))));
  }
  for (auto& item : detr->named_buffers()) {
    if (item.key().find("running_mean") != std::string::npos) item.value().normal_(0, 0.1);
    if (item.key().find("running_var") != std::string::npos) item.value().uniform_(0.5, 1.5);
  }
  return detr;
}

DetrOptions shallow_resnet_detr(bool pre_norm) {
  DetrOptions options = detr_resnet50();
  options.encoder_layers = options.decoder_layers = 2;
  options.pre_norm = pre_norm;
  return options;
}

class FusedDetr : public testing::TestWithParam<DetrOptions> {};

TEST_P(FusedDetr, EqualsTheLiveModelAtOtherSizesBatchesAndPaddings) {
  const torch::NoGradGuard no_grad;
  const TraceSpec spec = spec_of(lively_detr(GetParam()));
  Program fused = lower(spec, pictures(1, 128, 160), /*bf16=*/false);
  for (const Tensors& inputs : {pictures(1, 128, 160), pictures(3, 160, 192), pictures(2, 97, 131)}) {
    const Tensors expected = spec.forward(inputs);
    for (int again = 0; again < 2; ++again) {  // the second run finds what the first kept for the shape
      const Tensors found = fused.run(inputs);
      ASSERT_EQ(found.size(), 2U);
      EXPECT_LE(far(found[0], expected[0]), 1e-4);
      EXPECT_LE(far(found[1], expected[1]), 1e-4);
    }
  }
}

TEST_P(FusedDetr, Bfloat16StaysNear) {
  if (!cpu_has_bf16()) GTEST_SKIP() << "this processor has no bf16 arithmetic";
  const torch::NoGradGuard no_grad;
  const TraceSpec spec = spec_of(lively_detr(GetParam()));
  Program fused = lower(spec, pictures(1, 128, 160), /*bf16=*/true);
  for (const Tensors& inputs : {pictures(1, 128, 160), pictures(2, 160, 192)}) {
    const Tensors expected = spec.forward(inputs), found = fused.run(inputs);
    EXPECT_LE(far(found[0], expected[0]), 0.06);
    EXPECT_LE(far(found[1], expected[1]), 0.06);
    EXPECT_GT(far(found[0], expected[0]), 1e-5) << "this was no bfloat16";
  }
}

INSTANTIATE_TEST_SUITE_P(Runtime, FusedDetr,
                         testing::Values(detr_tiny(), shallow_resnet_detr(false), shallow_resnet_detr(true)),
                         [](const auto& info) { return std::to_string(info.index); });

/// Face networks with statistics, slopes and shifts as training leaves them.
std::vector<FaceModel> lively_face_models() {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(12);
  IResNetOptions iresnet;
  iresnet.blocks = {2, 3};
  iresnet.widths = {32, 48};
  iresnet.embedding_size = 24;
  iresnet.input_size = {20, 12};
  MbfOptions mbf;
  mbf.blocks = {1, 1, 1, 1};
  mbf.embedding_size = 24;
  mbf.input_size = {32, 48};
  std::vector<FaceModel> models = {make_iresnet(iresnet), make_mbf(mbf)};
  for (const FaceModel& model : models) {
    model.module->eval();
    for (auto& item : model.module->named_parameters()) {
      if (item.value().dim() == 1) item.value().normal_(0.5, 0.5);  // norms, biases, slopes
    }
    for (auto& item : model.module->named_buffers()) {
      if (item.key().find("running_mean") != std::string::npos) item.value().normal_(0, 0.5);
      if (item.key().find("running_var") != std::string::npos) item.value().uniform_(0.5, 1.5);
    }
  }
  return models;
}

TraceSpec spec_of(const FaceModel& model) {
  TraceSpec spec;
  spec.module = model.module;
  spec.forward = [model](const Tensors& inputs) { return Tensors{model.embed(inputs[0])}; };
  return spec;
}

TEST(Runtime, FusedFaceModelsEqualTheLiveOnesAtOtherBatches) {
  const torch::NoGradGuard no_grad;
  const std::vector<FaceModel> models = lively_face_models();
  const std::vector<std::vector<int64_t>> sizes = {{20, 12}, {32, 48}};
  for (size_t i = 0; i < models.size(); ++i) {
    const TraceSpec spec = spec_of(models[i]);
    for (const bool bf16 : {false, true}) {
      if (bf16 && !cpu_has_bf16()) continue;
      const auto images = [&](int64_t batch) { return torch::randn({batch, 3, sizes[i][0], sizes[i][1]}); };
      Program fused = lower(spec, {images(1)}, bf16);
      for (const int64_t batch : {1, 3}) {
        const torch::Tensor x = images(batch);
        EXPECT_LE(far(fused.run({x})[0], spec.forward({x})[0]), bf16 ? 0.06 : 1e-5) << i << " " << batch;
      }
    }
  }
}

TEST(RuntimeInputNorm, ShiftsOutputsAtTheEdges) {
  torch::manual_seed(3);
  const ChannelMap norm = {torch::rand({5}), torch::randn({5}), torch::ones({5})};
  const torch::Tensor weight = torch::randn({7, 5, 3, 3}), slope = torch::randn({7});
  const FoldedInputNorm folded = fold_input_norm(weight, norm);
  for (const auto& [height, width] :
       std::vector<std::pair<int, int>>{{4, 5}, {1, 3}, {3, 1}, {2, 2}, {1, 1}}) {
    const torch::Tensor x = torch::randn({2, 5, height, width}).contiguous(torch::MemoryFormat::ChannelsLast);
    const torch::Tensor expected =
        torch::prelu(torch::conv2d(map_channels(x, norm, false), weight, {}, 1, 1), slope);
    const torch::Tensor inside = torch::conv2d(x, folded.weight, folded.bias, 1, 1);
    const torch::Tensor found = map_channels(inside, {torch::ones({7}), folded.edges, slope}, false);
    EXPECT_LE((found - expected).abs().max().item<double>(), 1e-5) << height << "x" << width;
  }
}

TEST(Runtime, NeedsNoFallbackForDetr) {
  Runtime runtime(spec_of(lively_detr(detr_tiny())), {});
  const torch::NoGradGuard no_grad;
  runtime.run(pictures(1, 96, 96));
  EXPECT_EQ(runtime.precision(), "fp32");
  EXPECT_EQ(runtime.fallback(), "");
}

TEST(Runtime, FallsBackToTheLiveModelWhereTheTraceDoesNotHold) {
  torch::nn::Linear linear(4, 4);
  TraceSpec spec;
  spec.module = linear.ptr();
  // A loop over a size: the trace unrolls it.
  spec.forward = [linear](const Tensors& inputs) mutable {
    torch::Tensor sum = torch::zeros({4});
    for (int64_t i = 0; i < inputs[0].size(0); ++i) sum = sum + linear(inputs[0][i]);
    return Tensors{sum};
  };
  Runtime runtime(spec, {});
  const torch::NoGradGuard no_grad;
  runtime.run({torch::randn({2, 4})});
  EXPECT_EQ(runtime.fallback(), "");
  const torch::Tensor longer = torch::randn({3, 4});
  const torch::Tensor expected = spec.forward({longer})[0];
  EXPECT_LE((runtime.run({longer})[0] - expected).abs().max().item<double>(), 1e-6);
  EXPECT_THAT(runtime.fallback(), HasSubstr("output 0 of the fused fp32 program differs by"));
}

TEST(Runtime, ComparesAProbeInPlaceOfLargeInputs) {
  torch::nn::Linear linear(4, 4);
  TraceSpec spec;
  spec.module = linear.ptr();
  int64_t rows = 0;  // that the live module met
  spec.forward = [linear, &rows](const Tensors& inputs) mutable {
    rows += inputs[0].size(0);
    return Tensors{linear(inputs[0])};
  };
  RuntimeOptions options;
  options.probe = {torch::randn({3, 4})};
  Runtime runtime(spec, options);
  const torch::NoGradGuard no_grad;
  const torch::Tensor large = torch::randn({500, 4});
  EXPECT_LE((runtime.run({large})[0] - linear(large)).abs().max().item<double>(), 1e-6);
  EXPECT_EQ(rows, 500 + 3) << "traced with the inputs, compared with the probe";
  runtime.run({torch::randn({700, 4})});
  EXPECT_EQ(rows, 500 + 3);
}

TEST(Runtime, FallsBackWhereTheProbeDiffers) {
  torch::nn::Linear linear(4, 4);
  TraceSpec spec;
  spec.module = linear.ptr();
  spec.forward = [linear](const Tensors& inputs) mutable {
    return Tensors{linear(inputs[0]) * static_cast<double>(inputs[0].size(0))};  // the trace keeps the size
  };
  RuntimeOptions options;
  options.probe = {torch::randn({3, 4})};
  Runtime runtime(spec, options);
  const torch::NoGradGuard no_grad;
  const torch::Tensor x = torch::randn({2, 4});
  EXPECT_LE((runtime.run({x})[0] - linear(x) * 2).abs().max().item<double>(), 1e-6);
  EXPECT_THAT(runtime.fallback(), HasSubstr("output 0 of the fused fp32 program differs by"));
}

TEST(RuntimeKernels, MaxPoolOfBfloat16EqualsTorch) {
  torch::manual_seed(1);
  torch::Tensor x = torch::randn({2, 64, 13, 10}).to(torch::kBFloat16);
  x[0][1][2][3] = std::numeric_limits<float>::infinity();
  x[1][40][0][0] = -std::numeric_limits<float>::infinity();
  const auto pooled = [&] {
    return max_pool_bf16(x.contiguous(torch::MemoryFormat::ChannelsLast), {3, 3}, {2, 2}, {1, 1});
  };
  const torch::Tensor expected = torch::max_pool2d(x.to(torch::kFloat), {3, 3}, {2, 2}, {1, 1});
  EXPECT_TRUE(torch::equal(pooled().to(torch::kFloat), expected));
  x[0][0][4][4] = std::numeric_limits<float>::quiet_NaN();
  x[1][63][12][9] = -std::numeric_limits<float>::quiet_NaN();
  const torch::Tensor with_nan = pooled();
  EXPECT_TRUE(std::isnan(with_nan[0][0][2][2].item<float>()));
  EXPECT_TRUE(std::isnan(with_nan[1][63][6][4].item<float>()));
  EXPECT_EQ(with_nan.isnan().sum().item<int64_t>(), 2);
}

TEST(RuntimeKernels, NarrowSumEqualsTorch) {
  torch::manual_seed(3);
  const torch::Tensor a = torch::randn({2, 5, 37});
  for (const torch::Tensor& b : {torch::randn({2, 5, 37}), torch::randn({5, 37}), torch::randn({37}),
                                 torch::randn({2, 1, 37}), torch::randn({1, 5, 1})}) {
    EXPECT_TRUE(torch::equal(narrow_sum(a, b), (a + b).to(torch::kBFloat16))) << b.sizes();
  }
}

TEST(RuntimeKernels, AttentionEqualsTorch) {
  if (!cpu_has_bf16()) GTEST_SKIP() << "this processor has no bf16 arithmetic";
  torch::manual_seed(4);
  struct Case {
    int64_t batch, queries, keys, key_size, value_size;
  };
  for (const Case& c : {Case{2, 70, 101, 32, 32}, Case{1, 1, 1, 8, 6}, Case{3, 65, 16, 40, 24}}) {
    const auto heads = [&](int64_t length,
                           int64_t size) {  // as projections leave them: [B,L,H*D] seen as [B,H,L,D]
      return torch::randn({c.batch, length, 4 * size})
          .to(torch::kBFloat16)
          .unflatten(2, {4, size})
          .transpose(1, 2);
    };
    const torch::Tensor q = heads(c.queries, c.key_size) * 3, k = heads(c.keys, c.key_size);
    const torch::Tensor v = heads(c.keys, c.value_size);
    const torch::Tensor found = attention_bf16(q, k, v, 0.3).to(torch::kFloat);
    const torch::Tensor weights =
        (q.to(torch::kFloat).matmul(k.to(torch::kFloat).transpose(2, 3)) * 0.3).softmax(-1);
    const torch::Tensor expected = weights.matmul(v.to(torch::kFloat));
    ASSERT_EQ(found.sizes(), expected.sizes());
    EXPECT_LE((found - expected).abs().max().item<double>(), 0.02);
    EXPECT_LE((found - expected).abs().mean().item<double>(), 0.002);
  }
}

TEST(RuntimeKernels, OfOursUseAllThreads) {
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  at::parallel_for(0, 2, 1, [&](int64_t, int64_t) {
    const std::lock_guard<std::mutex> lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  at::set_num_threads(before);
  EXPECT_EQ(threads.size(), 2U) << "compiled without OpenMP";
}

TEST(RuntimeKernels, AddLayerNormEqualsTorch) {
  torch::manual_seed(2);
  const torch::Tensor a = torch::randn({3, 7, 37}) + 4, b = torch::randn({3, 7, 37}).to(torch::kBFloat16);
  const torch::Tensor gain = torch::rand({37}) + 0.5, shift = torch::randn({37});
  const Normalized found = add_layer_norm(a, b, gain, shift, 1e-5, /*narrow=*/true);
  const torch::Tensor expected = torch::layer_norm(a + b.to(torch::kFloat), {37}, gain, shift, 1e-5);
  EXPECT_LE((found.wide - expected).abs().max().item<double>(), 2e-6);
  EXPECT_TRUE(torch::equal(found.narrow, found.wide.to(torch::kBFloat16)));
}

TEST(RuntimeMemoryPool, BlocksComeBackAndTensorsOutliveTheScope) {
  constexpr int64_t kCount = 40000000;  // larger than any block that another test leaves
  torch::Tensor survivor;
  const void* first = nullptr;
  {
    const MemoryPoolScope pool;
    torch::Tensor block = torch::full({kCount}, 2.0F);
    first = block.const_data_ptr();
    block.reset();
    survivor = torch::full({kCount}, 3.0F);
    EXPECT_EQ(survivor.const_data_ptr(), first);
  }
  const torch::Tensor outside = torch::full({kCount}, 4.0F);
  EXPECT_NE(outside.const_data_ptr(), first);
  EXPECT_EQ(survivor.sum().item<float>(), 3.0F * (kCount));
}

int64_t resident_mib() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * 4096 / (1 << 20);
}

TEST(RuntimeMemoryPool, LargeBlocksOfOtherSizesAreLetGo) {
  const MemoryPoolScope pool;
  constexpr int64_t kMib = (1 << 20) / 4;
  torch::full({200 * kMib}, 1.0F);
  const int64_t before = resident_mib();
  torch::full({300 * kMib}, 1.0F);
  torch::full({400 * kMib}, 1.0F);
  EXPECT_LT(resident_mib() - before, 250) << "the last one in place of the first";
}

}  // namespace
}  // namespace zoo
