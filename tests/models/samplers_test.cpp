#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "core/options.h"
#include "models/diffusion/guidance.h"
#include "models/diffusion/sampler.h"
#include "tests/support.h"

namespace zoo {
namespace {

using Times = std::vector<double>;

SchedulerOptions spaced(const std::string& spacing, int64_t offset = 1) {
  SchedulerOptions options;
  options.timestep_spacing = spacing;
  options.steps_offset = offset;
  return options;
}

TEST(Samplers, ScheduleHasItsPublishedEnds) {
  const NoiseSchedule schedule((SchedulerOptions()));
  const std::vector<double>& alphas = schedule.alphas_cumprod();
  ASSERT_EQ(alphas.size(), 1000u);
  EXPECT_NEAR(alphas[0], 1 - 0.00085, 1e-12);
  EXPECT_NEAR(std::sqrt((1 - alphas[999]) / alphas[999]), 14.6146, 1e-4);
  SchedulerOptions linear;
  linear.beta_schedule = "linear";
  linear.beta_start = 0.1;
  linear.beta_end = 0.3;
  linear.num_train_timesteps = 3;
  linear.steps_offset = 0;
  EXPECT_NEAR(NoiseSchedule(linear).alphas_cumprod()[2], 0.9 * 0.8 * 0.7, 1e-12);
  linear.beta_schedule = "squaredcos_cap_v2";
  EXPECT_NEAR(NoiseSchedule(linear).alphas_cumprod()[2],
              0.25 * 0.001 / std::pow(std::cos(0.008 / 1.008 * M_PI / 2), 2) *
                  std::pow(std::cos((2. / 3 + 0.008) / 1.008 * M_PI / 2), 2) / 0.25,
              1e-9);
}

TEST(Samplers, ZeroTerminalSnrKeepsTheFirstAndEmptiesTheLast) {
  SchedulerOptions options;
  options.prediction_type = "v_prediction";
  const double first = NoiseSchedule(options).alphas_cumprod().front();
  options.rescale_betas_zero_snr = true;
  const NoiseSchedule schedule(options);
  EXPECT_NEAR(schedule.alphas_cumprod().front(), first, 1e-12);
  EXPECT_EQ(schedule.alphas_cumprod().back(), 0);
  EXPECT_NEAR(make_sampler("euler", spaced("trailing"), 4)->sigmas()[0], 14.6146, 1e-4);
  options.timestep_spacing = "trailing";
  EXPECT_NEAR(make_sampler("euler", options, 4)->sigmas()[0], 4096, 1);
}

TEST(Samplers, TimesByHand) {
  EXPECT_EQ(make_sampler("ddim", spaced("leading"), 4)->timesteps(), (Times{751, 501, 251, 1}));
  EXPECT_EQ(make_sampler("ddim", spaced("trailing"), 4)->timesteps(), (Times{999, 749, 499, 249}));
  EXPECT_EQ(make_sampler("ddim", spaced("linspace"), 4)->timesteps(), (Times{999, 666, 333, 0}));
  EXPECT_EQ(make_sampler("euler", spaced("auto"), 9)->timesteps()[1], 874.125);
  EXPECT_EQ(make_sampler("dpmpp_2m", spaced("leading"), 4)->timesteps(), (Times{801, 601, 401, 201}));
  EXPECT_EQ(make_sampler("unipc", spaced("auto"), 9)->timesteps()[1], 888);
  EXPECT_EQ(make_sampler("plms", spaced("auto"), 4)->timesteps(), (Times{751, 501, 501, 251, 1}));
  EXPECT_EQ(make_sampler("heun", spaced("trailing"), 2)->timesteps(), (Times{999, 499, 499}));
  // Where the reference yields a step too many (a slip of floating point), there are n.
  EXPECT_EQ(make_sampler("ddim", spaced("trailing"), 61)->timesteps().size(), 61u);
  EXPECT_EQ(make_sampler("ddim", spaced("leading"), 1000)->timesteps().front(), 999);
}

TEST(Samplers, ImageToImageKeepsTheLastSteps) {
  EXPECT_EQ(make_sampler("ddim", spaced("auto"), 10, 0.65)->timesteps(), (Times{501, 401, 301, 201, 101, 1}));
  // The reference's list begins one interval earlier and leaves one out; the right one repeats its own second entry.
  EXPECT_EQ(make_sampler("plms", spaced("auto"), 10, 0.65)->timesteps(),
            (Times{501, 401, 401, 301, 201, 101, 1}));
  EXPECT_EQ(make_sampler("heun", spaced("leading"), 10, 0.3)->timesteps(), (Times{201, 101, 101, 1, 1}));
  EXPECT_EQ(make_sampler("lms", spaced("leading"), 10, 0.2)->sigmas().size(), 3u);
}

/// What a network would say that knows x0: every sampler must end there, whatever the path.
torch::Tensor say(const std::string& prediction, const torch::Tensor& x0, const torch::Tensor& input,
                  double alpha) {
  const double signal = std::sqrt(alpha), noise = std::sqrt(1 - alpha);
  const torch::Tensor epsilon = (input - signal * x0) / noise;
  if (prediction == "epsilon") return epsilon;
  return prediction == "sample" ? x0 : signal * epsilon - noise * x0;
}

TEST(Samplers, APerfectNetworkLeadsToItsPicture) {
  const torch::Tensor x0 = torch::linspace(-1, 1, 24).view({2, 3, 2, 2});
  for (const SamplerInfo& info : samplers()) {
    for (const char* prediction : {"epsilon", "v_prediction", "sample"}) {
      SchedulerOptions options = spaced("trailing");
      options.prediction_type = prediction;
      options.set_alpha_to_one = true;
      const auto sampler = make_sampler(info.name, options, 12);
      const std::vector<double> alphas = NoiseSchedule(options).alphas_cumprod();
      NoiseSource noise(5, 2);
      torch::Tensor x = noise.draw({3, 2, 2}) * sampler->start_factor();
      for (size_t i = 0; i < sampler->timesteps().size(); ++i) {
        const double time = sampler->timesteps()[i];
        const double sigma = sampler->sigmas().empty() ? 0 : sampler->sigmas()[i];
        const double alpha =
            sampler->sigmas().empty() ? alphas[static_cast<size_t>(time)] : 1 / (1 + sigma * sigma);
        x = sampler->step(say(prediction, x0, sampler->scale_input(x, i), alpha), i, x, noise);
      }
      // The transfer of plms follows a curve of the schedule that is only near the path.
      EXPECT_LT((x - x0).abs().max().item<double>(), info.name == "plms" ? 0.03 : 1e-4)
          << info.name << " " << prediction;
    }
  }
}

TEST(Samplers, EulerByHand) {
  SchedulerOptions options = spaced("trailing");
  const auto sampler = make_sampler("euler", options, 2);
  const double first = sampler->sigmas()[0], second = sampler->sigmas()[1];
  NoiseSource noise(0, 1);
  const torch::Tensor x = torch::full({1, 1, 1, 1}, 3.0), output = torch::full({1, 1, 1, 1}, 0.5);
  EXPECT_NEAR(sampler->step(output, 0, x, noise).item<double>(), 3 + 0.5 * (second - first), 1e-6);
  EXPECT_NEAR(sampler->scale_input(x, 0).item<double>(), 3 / std::sqrt(first * first + 1), 1e-6);
  EXPECT_NEAR(sampler->noised(x, x, 1).item<double>(), 3 + 3 * second, 1e-5);
  EXPECT_EQ(sampler->noised(x, x, 2).item<double>(), 3);
}

TEST(Samplers, APictureIsTheSameAloneAndInABatch) {
  NoiseSource batch(40, 3), alone(42, 1);
  for (int draw = 0; draw < 3; ++draw) {
    const torch::Tensor all = batch.draw({4, 8, 8}), one = alone.draw({4, 8, 8});
    EXPECT_TRUE(all[2].equal(one[0]));
    EXPECT_FALSE(all[1].equal(one[0]));
  }
  at::set_num_threads(1);
  const torch::Tensor single = NoiseSource(7, 1).draw({4, 64, 64});
  at::set_num_threads(2);
  EXPECT_TRUE(single.equal(NoiseSource(7, 1).draw({4, 64, 64})));
}

TEST(Samplers, TrainingTargetsAndWeights) {
  SchedulerOptions options;
  const torch::Tensor x0 = torch::ones({2, 1, 1, 1}), noise = torch::full({2, 1, 1, 1}, 2.0),
                      t = torch::tensor({0, 999});
  options.prediction_type = "v_prediction";
  const NoiseSchedule v(options);
  const double alpha = v.alphas_cumprod()[999], snr = alpha / (1 - alpha);
  EXPECT_NEAR(v.add_noise(x0, noise, t)[1].item<double>(), std::sqrt(alpha) + 2 * std::sqrt(1 - alpha), 1e-6);
  EXPECT_NEAR(v.target(x0, noise, t)[1].item<double>(), 2 * std::sqrt(alpha) - std::sqrt(1 - alpha), 1e-6);
  EXPECT_NEAR(v.loss_weights(t, 5)[1].item<double>(), snr / (snr + 1), 1e-6);
  EXPECT_NEAR(v.loss_weights(t, 5)[0].item<double>(), 5 * 0.00085, 1e-6);  // SNR + 1 = 1/0.00085
  EXPECT_EQ(v.loss_weights(t, 0).sum().item<double>(), 2);
  options.prediction_type = "epsilon";
  EXPECT_NEAR(NoiseSchedule(options).loss_weights(t, 5)[1].item<double>(), 1, 1e-6);
  torch::manual_seed(1);
  const torch::Tensor like = torch::empty({400, 2, 4, 4});
  EXPECT_NEAR(training_noise(like, 1).mean({2, 3}).var().item<double>(), 1 + 1.0 / 16, 0.15);
  EXPECT_NEAR(training_noise(like, 0).mean({2, 3}).var().item<double>(), 1.0 / 16, 0.02);
}

TEST(Samplers, GuidanceAndItsRescale) {
  const torch::Tensor both =
      torch::tensor({1.0, 2.0, 3.0, 6.0}).view({2, 1, 1, 2});  // without, with the prompt
  EXPECT_TRUE(guided(both, 3).allclose(torch::tensor({7.0, 14.0}).view({1, 1, 1, 2})));
  EXPECT_TRUE(guided(both, 1).allclose(both.slice(0, 1)));
  // Deviation of (7,14) led back to that of (3,6).
  EXPECT_TRUE(guided(both, 3, 1).allclose(torch::tensor({3.0, 6.0}).view({1, 1, 1, 2})));
  EXPECT_TRUE(guided(both, 3, 0.5).allclose(torch::tensor({5.0, 10.0}).view({1, 1, 1, 2})));
}

TEST(Samplers, ReadsSchedulerConfigurationsOfDiffusers) {
  const Json published =
      Json::parse(R"({"_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_start": 0.00085,
      "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true,
      "steps_offset": 1, "trained_betas": null, "clip_sample": false})");
  EXPECT_EQ(Json(scheduler_from_diffusers(published, "f")),
            Json(SchedulerOptions()));  // Stable Diffusion 1's
  const SchedulerOptions bare = scheduler_from_diffusers({{"_class_name", "DDIMScheduler"}}, "f");
  EXPECT_EQ(bare.sampler, "ddim");
  EXPECT_EQ(bare.beta_schedule, "linear");
  EXPECT_EQ(bare.beta_end, 0.02);
  EXPECT_EQ(bare.steps_offset, 0);
  EXPECT_TRUE(bare.set_alpha_to_one && bare.clip_sample);
  const Json karras = {{"_class_name", "DPMSolverMultistepScheduler"}, {"use_karras_sigmas", true}};
  EXPECT_EQ(scheduler_from_diffusers(karras, "f").sampler, "dpmpp_2m_karras");
  for (const SamplerInfo& info : samplers()) {
    SchedulerOptions options = spaced("trailing", 3);
    options.sampler = info.name;
    options.use_karras_sigmas = info.name == "dpmpp_2m_karras";
    EXPECT_EQ(Json(scheduler_from_diffusers(scheduler_to_diffusers(options), "f")), Json(options));
  }
  const auto refuse = [](const char* key, const Json& value) {
    return test::error_of([&] { scheduler_from_diffusers({{key, value}}, "f.json"); });
  };
  EXPECT_EQ(refuse("trained_betas", {0.1}),
            "f.json: trained_betas is not known here, expected a beta_schedule");
  EXPECT_NE(refuse("beta_schedule", "sigmoid")
                .find("f.json: model.scheduler.beta_schedule: unknown value 'sigmoid'"),
            std::string::npos)
      << refuse("beta_schedule", "sigmoid");
  EXPECT_NE(refuse("num_train_timesteps", "many").find("f.json"), std::string::npos);
  EXPECT_NE(refuse("num_train_timesteps", -5).find("f.json: model.scheduler.num_train_timesteps: -5"),
            std::string::npos);
}

TEST(Samplers, ErrorsSayWhatWouldBeRight) {
  const auto make = [](const std::string& name, const SchedulerOptions& options, int64_t steps,
                       double strength) {
    return test::error_of([&] { make_sampler(name, options, steps, strength); });
  };
  EXPECT_NE(make("eular", {}, 10, 1).find("did you mean 'euler'"), std::string::npos)
      << make("eular", {}, 10, 1);
  EXPECT_NE(make("ddim", {}, 0, 1).find("--steps: 0"), std::string::npos);
  EXPECT_NE(make("ddim", {}, 1001, 1).find("--steps: 1001"), std::string::npos);
  EXPECT_EQ(make("unipc", spaced("leading"), 1000, 1),
            "--steps: 1000, expected at most 999 with leading spacing");
  EXPECT_EQ(make("ddim", {}, 10, 0.05), "--strength: 0.05 of 10 steps keeps none, expected at least 0.1");
  SchedulerOptions options;
  options.rescale_betas_zero_snr = true;
  EXPECT_NE(make("ddim", options, 10, 1).find("model.scheduler.prediction_type: epsilon"), std::string::npos);
  options.prediction_type = "v_prediction";
  EXPECT_NE(make("plms", options, 10, 1).find("expected ddim"), std::string::npos);
}

}  // namespace
}  // namespace zoo
