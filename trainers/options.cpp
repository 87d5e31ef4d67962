#include "trainers/options.h"

namespace zoo {

void OptimizerOptions::validate() const {
  require_choice("optimizer.name", name, {"adamw", "sgd"});
  require_positive("optimizer.lr", lr);
  require_range("optimizer.backbone_lr", backbone_lr, 0, 1e6);
  require_range("optimizer.weight_decay", weight_decay, 0, 1e6);
  require_range("optimizer.beta1", beta1, 0, 1);
  require_range("optimizer.beta2", beta2, 0, 1);
  require_positive("optimizer.eps", eps);
  require_range("optimizer.momentum", momentum, 0, 1);
}

void ScheduleOptions::validate() const {
  require_choice("schedule.name", name,
                 {"constant", "step", "multistep", "cosine", "polynomial", "onecycle"});
  require_range("schedule.warmup", warmup, 0);
  require_range("schedule.warmup_factor", warmup_factor, 0, 1);
  require_positive("schedule.step", step);
  for (const double milestone : milestones) require_range("schedule.milestones", milestone, 0);
  require_positive("schedule.gamma", gamma);
  require_range("schedule.min_factor", min_factor, 0, 1);
  require_positive("schedule.power", power);
  require_range("schedule.peak", peak, 0, 1);
  require_range("schedule.initial_factor", initial_factor, 0, 1);
  require_range("schedule.final_factor", final_factor, 0, 1);
}

void TrainerOptions::validate() const {
  require_count("trainer.epochs", epochs, 1);
  require_count("trainer.max_steps", max_steps, 0);
  require_count("trainer.seed", seed, 0);
  require_count("trainer.threads", threads, 0, 1024);
  require_choice("trainer.precision", precision, {"fp32", "bf16"});
  require_count("trainer.accumulate", accumulate, 1);
  require_range("trainer.clip_norm", clip_norm, 0);
  require_range("trainer.ema_decay", ema_decay, 0, 1);
  require_count("trainer.checkpoint_every", checkpoint_every, 0);
  require_count("trainer.keep_checkpoints", keep_checkpoints, 1);
  require_count("trainer.validate_every", validate_every, 0);
  require_count("trainer.validate_every_steps", validate_every_steps, 0);
  require_count("trainer.early_stop", early_stop, 0);
  require_choice("trainer.nonfinite", nonfinite, {"stop", "skip"});
  require_count("trainer.nonfinite_limit", nonfinite_limit, 0);
  require_count("trainer.log_every", log_every, 1);
}

}  // namespace zoo
