#include "cli/command.h"
#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "datasets/check.h"
#include "datasets/draw.h"
#include "datasets/image.h"
#include "datasets/make.h"
#include "datasets/spec.h"
#include "trainers/action_timeline.h"
#include "trainers/signals.h"
#include "trainers/video_features.h"

namespace zoo {

namespace {

struct DataFlags {
  std::string spec, folder, output;
  bool json = false;
};

int list_data(const DataFlags& flags) {
  if (flags.json) {
    Json kinds = Json::array();
    for (const DataKind& kind : data_kinds()) {
      kinds.push_back({{"name", kind.name},
                       {"embedded", kind.embedded},
                       {"task", kind.task},
                       {"description", kind.description},
                       {"options", kind.options}});
    }
    print_json({{"command", "data list"}, {"data", kinds}});
    return 0;
  }
  Table table({"SPEC", "task", "what it is", "options"});
  for (const DataKind& kind : data_kinds()) {
    table.add({kind.embedded ? kind.name : kind.name + ":PATH", kind.task, kind.description,
               join(kind.options, " ")});
  }
  print_text(table.str());
  return 0;
}

int run_check(const DataFlags& flags) {
  const CheckReport report = check_data(parse_data_spec(flags.spec));
  if (flags.json) {
    print_json(report.to_json());
  } else {
    print_text(report.str());
  }
  const auto fatal = report.fatal_count();
  if (fatal > 0) {
    throw Error(format("%lld findings would stop or spoil a run (%s)", static_cast<long long>(fatal),
                       flags.spec.c_str()));
  }
  return 0;
}

int run_make(const DataFlags& flags) {
  const DataSpec source = parse_data_spec(flags.spec);
  std::string spec;
  if (source.kind == "video") {
    install_signal_handlers();
    spec = make_video_features(source, flags.folder, stop_requested);
  } else {
    spec = make_data(source, flags.folder);
  }
  print_text("wrote " + spec.substr(spec.find(':') + 1) + ", read it by " + spec + "\n");
  return 0;
}

cv::Mat show_samples(const DataSpec& spec) {
  const std::string& task = data_kind(spec).task;
  if (task == "verification") return show_faces(*open_face_dataset(spec, "val"));
  if (task == "online-action") return show_actions(*open_action_dataset(spec, "val"));
  if (task == "generation") return show_captions(*open_caption_dataset(spec, "val"));
  return show_grid(*open_detection_dataset(spec, "val"));
}

int show_data(const DataFlags& flags) {
  if (flags.output.empty()) throw UsageError("data show: expected --output FILE.png");
  write_image(flags.output, show_samples(parse_data_spec(flags.spec)));
  print_text("wrote " + flags.output + "\n");
  return 0;
}

CLI::App* add_verb(CLI::App& app, const std::string& name, const std::string& help, DataFlags& flags) {
  CLI::App* verb = app.add_subcommand(name, help);
  verb->allow_extras();
  verb->add_option("SPEC", flags.spec, "Data: an embedded set, or KIND:PATH[,key=value]")->type_name("");
  return verb;
}

}  // namespace

Command data_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("data", "List, make, check and show data");
  auto flags = std::make_shared<DataFlags>();
  CLI::App* list = app->add_subcommand("list", "Kinds of data that zoo reads");
  list->allow_extras();
  list->add_flag("--json", flags->json, "Print one JSON document");
  CLI::App* make = add_verb(*app, "make", "Write an embedded set as files", *flags);
  make->add_option("DIR", flags->folder, "Folder to write; faces also as recordio:DIR")->type_name("");
  CLI::App* check = add_verb(*app, "check", "Find what would stop or spoil a run", *flags);
  check->add_flag("--json", flags->json, "Print one JSON document");
  CLI::App* show = add_verb(*app, "show", "Draw samples with their labels", *flags);
  add_text(*show, "--output", flags->output, "FILE.png", "Picture to write");
  return {app, [=] {
            if (list->parsed()) return list_data(*flags);
            if (!make->parsed() && !check->parsed() && !show->parsed()) {
              throw UsageError("data: expected list, make, check or show");
            }
            if (flags->spec.empty())
              throw UsageError("data: expected a SPEC, for example shapes or coco:PATH");
            if (make->parsed() && flags->folder.empty()) throw UsageError("data make: expected SPEC DIR");
            if (make->parsed()) return run_make(*flags);
            return check->parsed() ? run_check(*flags) : show_data(*flags);
          }};
}

}  // namespace zoo
