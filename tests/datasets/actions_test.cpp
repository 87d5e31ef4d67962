#include "datasets/actions/actions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "datasets/check.h"
#include "datasets/make.h"
#include "tests/support.h"

// Streams of features: files in all layouts, the embedded set, windows, `zoo data make` and `zoo data check`.

namespace zoo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::shared_ptr<ActionDataset> open_actions(const std::string& spec, const std::string& split = "val") {
  return open_action_dataset(parse_data_spec(spec), split);
}
std::string actions_error(const std::string& spec, const std::string& split = "val") {
  return test::error_of([&] {
    const auto data = open_actions(spec, split);
    for (int64_t i = 0; i < data->size(); ++i) {
      data->features(i, 0, data->steps(i));
      if (data->labelled()) data->labels(i);
    }
  });
}

/// A .npy file; `shape` as Python writes it.
template <class T>
std::string npy(const std::string& descr, const std::string& shape, const std::vector<T>& values,
                bool fortran = false, int version = 1) {
  std::string header = "{'descr': '" + descr + "', 'fortran_order': " + (fortran ? "True" : "False") +
                       ", 'shape': " + shape + ", }\n";
  std::string bytes = "\x93NUMPY" + std::string(1, static_cast<char>(version)) + std::string(1, '\0');
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) bytes += static_cast<char>(header.size() >> (8 * i) & 255);
  return bytes + header +
         std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}
/// [steps,width]: 10·step + column, plus `base`.
std::string counting(int64_t steps, int64_t width, float base = 0) {
  std::vector<float> values;
  for (int64_t i = 0; i < steps * width; ++i)
    values.push_back(base + static_cast<float>(10 * (i / width) + i % width));
  return npy<float>(
      "<f4", format("(%lld, %lld)", static_cast<long long>(steps), static_cast<long long>(width)), values);
}
/// One-hot rows of these classes, of `columns`.
std::string one_hot(const std::vector<int>& classes, size_t columns) {
  std::vector<uint8_t> values(classes.size() * columns);
  for (size_t i = 0; i < classes.size(); ++i) values[i * columns + static_cast<size_t>(classes[i])] = 1;
  return npy<uint8_t>("|u1", format("(%zu, %zu)", classes.size(), columns), values);
}

void put(const std::string& folder, const std::string& name, const std::string& bytes) {
  make_folders(parent_folder(folder + "/" + name));
  write_file(folder + "/" + name, bytes);
}

const char kInfo[] = R"({"THUMOS": {"class_index": ["Background", "Jump", "Throw", "Ambiguous"],
  "train_session_set": ["a"], "test_session_set": ["b", "c"]},
  "HDD": {"class_names": ["background", "turn"], "ignore_index": -1, "fps": 3, "train_session_set": [],
          "test_session_set": []}})";

/// rgb of 2 and flow of 1 features, four classes of which the last is ambiguous.
std::string thumos_folder() {
  const std::string folder = test::scratch_dir("features");
  put(folder, "data_info.json", kInfo);
  for (const char* name : {"a", "b", "c"}) {
    put(folder, format("rgb_kinetics/%s.npy", name), counting(4, 2));
    put(folder, format("flow_kinetics/%s.npy", name), counting(4, 1, 100));
    put(folder, format("target_perframe/%s.npy", name), one_hot({0, 1, 3, 2}, 4));
  }
  return folder;
}

std::vector<float> floats(const torch::Tensor& tensor) {
  const torch::Tensor flat = tensor.to(torch::kFloat).contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

TEST(ActionsFiles, FoldersOfStreams) {
  const std::string folder = thumos_folder();
  const auto data = open_actions("features:" + folder + ",dataset=thumos");
  ASSERT_EQ(data->size(), 2);
  EXPECT_EQ(data->name(0), "b");
  EXPECT_EQ(data->feature_size(), 3);
  EXPECT_EQ(data->steps_per_second(), 4);
  EXPECT_THAT(floats(data->features(1, 1, 2)), ElementsAre(10, 11, 110, 20, 21, 120));
  EXPECT_THAT(data->class_names(), ElementsAre("Background", "Jump", "Throw"));
  EXPECT_EQ(data->ambiguous_class(), 3);
  const LabelTable& labels = data->labels(0);
  EXPECT_THAT(labels.classes_of(0), ElementsAre(0));
  EXPECT_THAT(labels.classes_of(2), IsEmpty());
  EXPECT_TRUE(labels.ambiguous(2));
  EXPECT_TRUE(labels.has(3, 2));
  EXPECT_FALSE(labels.ambiguous(3));
  EXPECT_THAT(floats(labels.tensor()), ElementsAre(1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1));
  EXPECT_THAT(floats(labels.ambiguous_tensor()), ElementsAre(0, 0, 1, 0));
  std::vector<float> every(6);
  data->read({0, 0, 2, 3}, every.data());
  EXPECT_THAT(every, ElementsAre(0, 1, 100, 30, 31, 130));
}

TEST(ActionsFiles, StreamsAreChosenAndOrdered) {
  const std::string folder = thumos_folder(), spec = "features:" + folder + ",dataset=THUMOS";
  const auto data = open_actions(spec + ",streams=flow_kinetics+rgb_kinetics,fps=2.5", "train");
  EXPECT_THAT(floats(data->features(0, 0, 1)), ElementsAre(100, 0, 1));
  EXPECT_EQ(data->steps_per_second(), 2.5);
  EXPECT_THAT(actions_error(spec + ",streams=rgb_anet"),
              HasSubstr("has no stream 'rgb_anet', expected one of flow_kinetics, rgb_kinetics"));
  put(folder, "rgb_anet/a.npy", counting(4, 2));
  EXPECT_THAT(actions_error(spec),
              HasSubstr("several streams of a kind: rgb_anet, rgb_kinetics, flow_kinetics"));
}

TEST(ActionsFiles, EndingsOfOadtr) {
  const std::string folder = test::scratch_dir("oadtr");
  for (const char* split : {"train", "test"}) {
    const std::string name = std::string(split) + "/video_" + split;
    put(folder, name + "_rgb.npy", counting(3, 2));
    put(folder, name + "_flow.npy", counting(3, 2, 50));
    put(folder, "target/video_" + std::string(split) + ".npy", one_hot({0, 1, 1}, 2));
  }
  const auto data = open_actions("features:" + folder);  // test, where there is no val
  ASSERT_EQ(data->size(), 1);
  EXPECT_EQ(data->name(0), "video_test");
  EXPECT_THAT(floats(data->features(0, 2, 1)), ElementsAre(20, 21, 70, 71));
  EXPECT_THAT(data->class_names(), ElementsAre("background", "class 1"));
  EXPECT_EQ(open_actions("features:" + folder, "train")->name(0), "video_train");
}

TEST(ActionsFiles, FlatFolderOrOneFileHaveNoLabels) {
  const std::string folder = test::scratch_dir("flat");
  put(folder, "one.npy", counting(3, 2));
  put(folder, "two.npy", counting(5, 2));
  const auto data = open_actions("features:" + folder);
  EXPECT_EQ(data->size(), 2);
  EXPECT_EQ(data->steps(1), 5);
  EXPECT_FALSE(data->labelled());
  EXPECT_THAT(test::error_of([&] { data->labels(0); }), HasSubstr("has no labels"));
  EXPECT_EQ(open_actions("features:" + folder + "/two.npy")->name(0), "two");
  EXPECT_THAT(test::error_of([&] { action_batches(data, {}, {}, true, 0); }), HasSubstr("has no labels"));
  put(folder, "train.txt", "one\n");
  put(folder, "val.txt", "two\n\n");
  EXPECT_EQ(open_actions("features:" + folder)->name(0), "two");
  EXPECT_EQ(open_actions("features:" + folder, "train")->name(0), "one");
  put(folder, "out.txt", "two\n");
  EXPECT_THAT(actions_error("features:" + folder + ",exclude=" + folder + "/out.txt"),
              HasSubstr("no video of split 'val'"));
}

TEST(ActionsFiles, AllElementTypesAndOrders) {
  const std::string folder = test::scratch_dir("types");
  const auto expect = [&](const std::string& bytes) {
    put(folder, "x.npy", bytes);
    EXPECT_THAT(floats(open_actions("features:" + folder + "/x.npy")->features(0, 1, 1)), ElementsAre(3, 4));
  };
  expect(npy<double>("<f8", "(2, 2)", {1, 2, 3, 4}));
  expect(npy<uint16_t>("<f2", "(2, 2)", {0x3C00, 0x4000, 0x4200, 0x4400}));
  expect(npy<uint8_t>("|u1", "(2, 2)", {1, 2, 3, 4}));
  expect(npy<int32_t>("<i4", "(2, 2)", {1, 2, 3, 4}, false, 2));
  expect(npy<int64_t>("<i8", "(2, 2)", {1, 2, 3, 4}, false, 3));
  expect(npy<float>("<f4", "(2, 2)", {1, 3, 2, 4}, true));
  expect(npy<float>("<f4", "(2, 1, 2)", {1, 2, 3, 4}));
}

TEST(ActionsFiles, MalformedFeaturesAreNamed) {
  const std::string folder = test::scratch_dir("bad");
  const auto error = [&](const std::string& bytes) {
    put(folder, "x.npy", bytes);
    return actions_error("features:" + folder);
  };
  EXPECT_THAT(error(counting(3, 2).substr(0, 90)), HasSubstr("x.npy: byte"));
  EXPECT_THAT(error(npy<int64_t>("|O", "(2, 2)", {1, 2, 3, 4})), HasSubstr("elements of type '|O'"));
  EXPECT_THAT(error(npy<int16_t>("<i2", "(2, 2)", {1, 2, 3, 4})),
              HasSubstr("x.npy: elements of type I16, expected float16"));
  EXPECT_THAT(error("PNG"), HasSubstr("x.npy: byte 0: is no NumPy array"));
  EXPECT_THAT(error(npy<float>("<f4", "(0, 2)", {})), HasSubstr("x.npy: shape [0, 2] is empty"));
  EXPECT_THAT(error(npy<float>("<f4", "(3,)", {1, 2, 3})), HasSubstr("x.npy: one number a step"));
  EXPECT_THAT(error(npy<float>("<f4", "(2, 2)", {1, 2, NAN, 4})),
              HasSubstr("x.npy: step 1: element 0 is nan"));
  EXPECT_THAT(error(npy<float>("<f4", "(1, 2, 2)", {1, 2, 3, 4}, true)), HasSubstr("in Fortran order"));
  put(folder, "y.npy", counting(3, 3));
  EXPECT_THAT(error(counting(3, 2)), HasSubstr("y.npy: 3 features a step, expected 2 as in the others"));
  EXPECT_THAT(actions_error("features:" + test::scratch_dir("empty")),
              HasSubstr("holds no features, expected STREAM/SESSION.npy"));
  EXPECT_THAT(actions_error("features:/nowhere"), HasSubstr("/nowhere"));
  EXPECT_THAT(actions_error("shapes"), HasSubstr("is data for detection"));
}

TEST(ActionsFiles, LengthsMayDifferByTheSlack) {
  const std::string folder = thumos_folder(), spec = "features:" + folder + ",dataset=THUMOS";
  put(folder, "flow_kinetics/b.npy", counting(5, 1));
  put(folder, "target_perframe/c.npy", one_hot({0, 1}, 4));
  const auto data = open_actions(spec);
  EXPECT_EQ(data->steps(0), 4);
  EXPECT_EQ(data->steps(1), 2);
  EXPECT_EQ(data->labels(1).steps(), 2);
  EXPECT_THAT(
      actions_error(spec + ",slack=1"),
      HasSubstr("rgb_kinetics/c.npy: 4 steps, but 2 in the labels of c, expected a difference of at most 1"));
  std::remove((folder + "/flow_kinetics/c.npy").c_str());
  EXPECT_THAT(actions_error(spec), HasSubstr("flow_kinetics/c.npy"));
}

TEST(ActionsFiles, LabelsInOtherForms) {
  const std::string folder = thumos_folder(), spec = "features:" + folder + ",dataset=THUMOS,split=train";
  const auto labels = [&](const std::string& bytes) {
    put(folder, "target_perframe/a.npy", bytes);
    return open_actions(spec)->labels(0);
  };
  // counts are made 0 or 1, several classes stand side by side
  LabelTable table = labels(npy<float>("<f4", "(4, 4)", {1, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0.5F, 1, 0, 0, 0, 0}));
  EXPECT_THAT(table.classes_of(1), ElementsAre(1, 2));
  EXPECT_THAT(table.classes_of(2), ElementsAre(2));
  EXPECT_TRUE(table.ambiguous(2));
  EXPECT_THAT(table.classes_of(3), IsEmpty());
  table = labels(npy<int64_t>("<i8", "(4,)", {0, 2, 3, 1}));
  EXPECT_THAT(table.classes_of(1), ElementsAre(2));
  EXPECT_TRUE(table.ambiguous(2));
  const auto error = [&](const std::string& bytes) {
    put(folder, "target_perframe/a.npy", bytes);
    return actions_error(spec);
  };
  EXPECT_THAT(error(npy<int64_t>("<i8", "(4,)", {0, 4, 3, 1})),
              HasSubstr("a.npy: step 1: class 4, expected a whole number from 0 to 3"));
  EXPECT_THAT(error(npy<int64_t>("<i8", "(4,)", {0, -1, 3, 1})), HasSubstr("step 1: class -1"));
  EXPECT_THAT(error(npy<float>("<f4", "(4, 4)", std::vector<float>(16, -1))),
              HasSubstr("step 0: column 0 is -1"));
  EXPECT_THAT(error(one_hot({0, 1, 2, 2}, 3)), HasSubstr("a.npy: 3 columns, expected 4"));
  EXPECT_THAT(error(npy<float>("<f4", "(4, 4)", std::vector<float>(16, NAN))),
              HasSubstr("step 0: element 0 is nan"));
}

TEST(ActionsFiles, SegmentsFillFromFloorToCeil) {
  const std::string folder = test::scratch_dir("segments");
  put(folder, "v.npy", counting(8, 2));
  put(folder, "w.npy", counting(2, 2));
  put(folder, "segments.tsv",
      "session\tstart\tend\tclass\nv\t0.3\t0.8\tjump\nv\t0.5\t1.25\tthrow\nv\t1.5\t99\tAmbiguous\n");
  const auto expect = [&] {
    const auto data = open_actions("features:" + folder);
    EXPECT_EQ(data->class_names().size(), 3U);
    const LabelTable& labels = data->labels(0);
    std::string text;
    for (int64_t step = 0; step < 8; ++step) {
      for (const int32_t c : labels.classes_of(step)) text += data->class_names()[static_cast<size_t>(c)][0];
      text += labels.ambiguous(step) ? "?" : " ";
    }
    EXPECT_EQ(text, "b j jt jt t b ??");  // 4 steps a second
    EXPECT_TRUE(data->labels(1).has(1, 0));
  };
  expect();
  put(folder, "segments.tsv", "");
  std::remove((folder + "/segments.tsv").c_str());
  put(folder, "segments.json",
      R"([{"session": "v", "start": 0.3, "end": 0.8, "class": "jump"}, {"session": "v", "start": 0.5, "end": 1.25,
          "class": "throw"}, {"session": "v", "start": 1.5, "end": 2, "class": "Ambiguous"}])");
  expect();
  put(folder, "segments.json",
      R"({"database": {"v": {"annotations": [{"segment": [0.3, 0.8], "label": "jump"},
          {"segment": [0.5, 1.25], "label": "throw"}, {"segment": [1.5, 2], "label": "Ambiguous"}]}}})");
  expect();
}

TEST(ActionsFiles, MalformedSegmentsAreNamed) {
  const std::string folder = test::scratch_dir("segments");
  put(folder, "v.npy", counting(8, 2));
  const auto error = [&](const std::string& name, const std::string& text) {
    put(folder, name, text);
    return actions_error("features:" + folder + ",labels=" + folder + "/" + name);
  };
  EXPECT_THAT(error("s.tsv", "v\t0\t1\tjump\nv\t1\tjump\n"),
              HasSubstr("s.tsv: line 2: 'v?1?jump', expected session, start"));
  EXPECT_THAT(error("s.tsv", "v\t2\t1\tjump\n"),
              HasSubstr("line 1: from 2 s to 1 s, expected 0 <= start < end"));
  EXPECT_THAT(error("s.tsv", "v\t0\tnan\tjump\n"), HasSubstr("line 1"));
  EXPECT_THAT(error("s.json", "[{\"session\": \"v\"}]"), HasSubstr("s.json: entry 0: expected session"));
  EXPECT_THAT(error("s.json", "{\"database\": {\"v\": {}}}"),
              HasSubstr("database.v: has no list 'annotations'"));
  EXPECT_THAT(error("s.json", "[{"), HasSubstr("s.json"));
  EXPECT_THAT(error("s.json", "{}"), HasSubstr("neither a list of segments nor"));
  put(folder, "data_info.json", R"({"class_names": ["background", "jump"]})");
  EXPECT_THAT(error("s.tsv", "v\t0\t1\tjumpp\n"),
              HasSubstr("line 1: unknown class 'jumpp', did you mean 'jump'?"));
  EXPECT_THAT(error("s.tsv", "v\t0\t1\t1\n"), IsEmpty());  // a number of a class
}

TEST(ActionsFiles, MalformedInfoIsNamed) {
  const std::string folder = test::scratch_dir("info");
  put(folder, "v.npy", counting(8, 2));
  const auto error = [&](const std::string& text, const std::string& options = "") {
    put(folder, "data_info.json", text);
    return actions_error("features:" + folder + options);
  };
  EXPECT_THAT(error("{"), HasSubstr("data_info.json"));
  EXPECT_THAT(error("[]"), HasSubstr("data_info.json: is no object"));
  EXPECT_THAT(error("{\"a\": 1}"), HasSubstr("describes no set"));
  EXPECT_THAT(error(kInfo), HasSubstr("describes several sets: HDD, THUMOS"));
  EXPECT_THAT(error(kInfo, ",dataset=TVSeries"),
              HasSubstr("has no set 'TVSeries', expected one of HDD, THUMOS"));
  EXPECT_THAT(error(R"({"class_names": "all"})"), HasSubstr("class_names is no list"));
  EXPECT_THAT(error(R"({"class_names": ["a", 1]})"), HasSubstr("class_names holds 1, expected texts"));
  EXPECT_THAT(error(R"({"class_names": ["a", "b"], "fps": 0})"), HasSubstr("fps is 0"));
  EXPECT_THAT(error(R"({"class_names": ["a", "b"], "test_session_set": ["w"]})"), HasSubstr("w.npy"));
  EXPECT_THAT(error(R"({"class_names": ["a", "b"], "test_session_set": ["v"]})", ",split=dev"),
              HasSubstr("no split 'dev', expected one of those found: test"));
  EXPECT_THAT(error("{}", ",fps=fast"), HasSubstr("describes no set"));
  std::remove((folder + "/data_info.json").c_str());
  EXPECT_THAT(actions_error("features:" + folder + ",fps=fast"),
              HasSubstr("fps=fast, expected steps per second above 0"));
}

TEST(ActionsFiles, PickleOfOadtr) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("pickle");
  put(folder, "v_rgb.npy", counting(3, 2));
  put(folder, "data_info_new.json", R"({"THUMOS": {"class_index": ["Background", "Jump", "Ambiguous"],
      "train_session_set": ["v"], "test_session_set": ["v"]}})");
  for (const char* protocol : {"2", "4", "5"}) {
    for (const char* array : {"a", "np.asfortranarray(a)", "a.astype('u1')", "a.astype('f2')"}) {
      const std::string script = format(
          "import numpy as np, pickle, sys; a = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 'f8')\n"
          "pickle.dump({'v': {'anno': %s, 'feature_length': 3}}, open(sys.argv[1], 'wb'), %s)",
          array, protocol);
      const auto run = test::run_command({test::python(), "-c", script, folder + "/thumos_anno.pickle"});
      ASSERT_EQ(run.exit_code, 0) << run.err;
      const auto data = open_actions("features:" + folder);
      ASSERT_EQ(data->labels(0).steps(), 3);
      EXPECT_THAT(floats(data->labels(0).tensor()), ElementsAre(1, 0, 0, 1, 0, 0)) << protocol << array;
      EXPECT_TRUE(data->labels(0).ambiguous(2));
    }
  }
  const auto error = [&](const std::string& value) {
    const std::string script =
        "import numpy as np, pickle, sys; pickle.dump(" + value + ", open(sys.argv[1], 'wb'), 2)";
    EXPECT_EQ(test::run_command({test::python(), "-c", script, folder + "/thumos_anno.pickle"}).exit_code, 0);
    return actions_error("features:" + folder);
  };
  EXPECT_THAT(error("[1]"), HasSubstr("is a pickle of a list, expected a dict of sessions"));
  EXPECT_THAT(error("{'w': {'anno': np.zeros((3, 3))}}"), HasSubstr("session 'v'"));
  EXPECT_THAT(error("{'v': {}}"), HasSubstr("session 'v': has no 'anno'"));
  EXPECT_THAT(error("{'v': {'anno': 3}}"), HasSubstr("session 'v': 'anno' is a int, expected a numpy array"));
  EXPECT_THAT(error("{'v': {'anno': np.zeros((3, 3), '>f8')}}"), HasSubstr("elements of type '>f8'"));
  EXPECT_THAT(error("{'v': {'anno': np.array([None])}}"), HasSubstr("session 'v'"));
}

/// One feature: step number; classes 0 0 1 1 1 2 ? 0 0 0, C = 3.
std::shared_ptr<ActionDataset> ten_steps() {
  static const std::string folder = [] {
    std::string made = test::scratch_dir("ten");
    put(made, "data_info.json", R"({"class_names": ["background", "a", "b", "Ambiguous"]})");
    std::vector<float> steps(10);
    for (size_t i = 0; i < 10; ++i) steps[i] = static_cast<float>(i);
    put(made, "v.npy", npy<float>("<f4", "(10, 1)", steps));
    put(made, "target/v.npy", one_hot({0, 0, 1, 1, 1, 2, 3, 0, 0, 0}, 4));
    return made;
  }();
  return open_actions("features:" + folder);
}

ActionWindowOptions small_window() {
  ActionWindowOptions window;
  window.steps = 4;
  window.horizons = 2;
  window.memory = 2;
  window.memory_rate = 2;
  return window;
}

std::vector<std::unique_ptr<ActionBatch>> batches_of(BatchSource& source, int64_t epoch = 0) {
  std::vector<std::unique_ptr<ActionBatch>> batches;
  source.start_epoch(epoch);
  while (auto batch = source.next()) batches.emplace_back(dynamic_cast<ActionBatch*>(batch.release()));
  return batches;
}

TEST(ActionsWindows, EvaluationMakesEveryStepCurrent) {
  DataOptions options;
  options.batch_size = 4;
  const auto source = action_batches(ten_steps(), options, small_window(), false, 0);
  const auto batches = batches_of(*source);
  ASSERT_EQ(batches.size(), 3U);
  EXPECT_THAT(batches[0]->last_steps, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(batches[2]->size(), 2);
  EXPECT_EQ(batches[2]->features.size(0), 2);
  EXPECT_EQ(batches[0]->ids[1], "v, step 1");
  const ActionBatch& first = *batches[0];
  // step 1: two steps before the video, which repeat its first one
  EXPECT_THAT(floats(first.features[1]), ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(floats(first.known[1]), ElementsAre(0, 0, 1, 1, 1, 1));
  EXPECT_THAT(floats(first.targets[1]), ElementsAre(0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0));
  // step 5: window 2…5, behind it the ambiguous step 6 and step 7
  const ActionBatch& second = *batches[1];
  EXPECT_THAT(floats(second.features[1]), ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(floats(second.known[1]), ElementsAre(1, 1, 1, 1, 0, 1));
  EXPECT_THAT(floats(second.targets[1].slice(0, 3)), ElementsAre(0, 0, 1, 0, 0, 0, 1, 0, 0));
  // the last step: nothing follows
  EXPECT_THAT(floats(batches[2]->known[1]), ElementsAre(0, 1, 1, 1, 0, 0));
}

TEST(ActionsWindows, MemoryIsOfTheStepsThatTheRateDivides) {
  EXPECT_THAT(memory_steps(0, 3, 4), ElementsAre(0));
  EXPECT_THAT(memory_steps(1, 3, 4), ElementsAre(0));
  EXPECT_THAT(memory_steps(4, 3, 4), ElementsAre(0));
  EXPECT_THAT(memory_steps(5, 3, 4), ElementsAre(0, 4));
  EXPECT_THAT(memory_steps(17, 3, 4), ElementsAre(8, 12, 16));
  DataOptions options;
  options.batch_size = 10;
  const auto batches = batches_of(*action_batches(ten_steps(), options, small_window(), false, 0));
  const ActionBatch& batch = *batches.at(0);
  EXPECT_THAT(floats(batch.memory[1]), ElementsAre(0, 0));  // the window grows
  EXPECT_THAT(floats(batch.memory_mask[1]), ElementsAre(0, 1));
  EXPECT_THAT(floats(batch.memory[6]), ElementsAre(0, 2));  // window 3…6
  EXPECT_THAT(floats(batch.memory_mask[6]), ElementsAre(1, 1));
  EXPECT_THAT(floats(batch.memory[9]), ElementsAre(2, 4));  // window 6…9
}

TEST(ActionsWindows, StartsAndTails) {
  DataOptions options;
  options.batch_size = 10;
  ActionWindowOptions window = small_window();
  window.memory = 0;
  window.start = "zero";
  auto batch = std::move(batches_of(*action_batches(ten_steps(), options, window, false, 0)).at(0));
  EXPECT_FALSE(batch->memory.defined());
  EXPECT_THAT(floats(batch->features[2]), ElementsAre(0, 0, 1, 2));
  window.start = "skip";
  window.tail = 3;
  batch = std::move(batches_of(*action_batches(ten_steps(), options, window, false, 0)).at(0));
  EXPECT_THAT(batch->last_steps, ElementsAre(3, 4, 5, 6));
  window.horizons = 0;
  batch = std::move(batches_of(*action_batches(ten_steps(), options, window, false, 0)).at(0));
  EXPECT_EQ(batch->targets.size(1), 4);
  window.steps = 11;
  EXPECT_THAT(test::error_of([&] { action_batches(ten_steps(), options, window, false, 0); }),
              HasSubstr("no video has a window of 11 steps"));
  window.start = "mirror";
  EXPECT_THAT(test::error_of([&] { window.validate(); }), HasSubstr("data.window.start"));
}

std::vector<int64_t> sorted_steps(BatchSource& source, int64_t epoch) {
  std::vector<int64_t> steps;
  for (const auto& batch : batches_of(source, epoch))
    steps.insert(steps.end(), batch->last_steps.begin(), batch->last_steps.end());
  std::sort(steps.begin(), steps.end());
  return steps;
}

TEST(ActionsWindows, TrainingTakesEveryStrideFromARandomOffset) {
  DataOptions options;
  options.batch_size = 1;
  ActionWindowOptions window = small_window();
  window.stride = 3;
  const auto source = action_batches(ten_steps(), options, window, true, 7);
  std::set<int64_t> seen;
  for (int64_t epoch = 0; epoch < 40; ++epoch) {
    const std::vector<int64_t> steps = sorted_steps(*source, epoch);
    ASSERT_EQ(steps.size(), 3U);
    EXPECT_EQ(steps[1] - steps[0], 3);
    EXPECT_EQ(steps[2] - steps[1], 3);
    seen.insert(steps.begin(), steps.end());
  }
  EXPECT_EQ(seen.size(), 10U);  // all of them, in some epoch
  window.stride = 1;
  window.skip_ambiguous = true;
  EXPECT_THAT(sorted_steps(*action_batches(ten_steps(), options, window, true, 7), 0),
              ElementsAre(0, 1, 2, 3, 4, 5, 7, 8, 9));
}

TEST(ActionsWindows, DoNotDependOnTheNumberOfWorkers) {
  const auto data = open_actions("streams,videos=6,steps=90,width=5,ambiguous=1", "train");
  DataOptions options;
  options.batch_size = 8;
  ActionWindowOptions window = small_window();
  window.stride = 4;
  std::vector<std::vector<std::unique_ptr<ActionBatch>>> runs;
  for (const int64_t workers : {0, 3}) {
    options.workers = workers;
    const auto source = action_batches(data, options, window, true, 3);
    source->start_epoch(0);
    source->next();
    runs.push_back(batches_of(*source, 2));
  }
  ASSERT_EQ(runs[0].size(), runs[1].size());
  ASSERT_GT(runs[0].size(), 4U);
  for (size_t i = 0; i < runs[0].size(); ++i) {
    const ActionBatch &a = *runs[0][i], &b = *runs[1][i];
    EXPECT_EQ(a.last_steps, b.last_steps);
    EXPECT_EQ(a.videos, b.videos);
    EXPECT_TRUE(torch::equal(a.features, b.features));
    EXPECT_TRUE(torch::equal(a.memory, b.memory));
    EXPECT_TRUE(torch::equal(a.memory_mask, b.memory_mask));
    EXPECT_TRUE(torch::equal(a.targets, b.targets));
    EXPECT_TRUE(torch::equal(a.known, b.known));
  }
}

TEST(ActionsWindows, UnreadableVideosAreLeftOut) {
  const std::string folder = test::scratch_dir("skip");
  put(folder, "target/good.npy", one_hot({0, 1, 1, 0}, 2));
  put(folder, "target/bad.npy", one_hot({0, 1, 1, 0}, 2));
  put(folder, "good.npy", counting(4, 1));
  put(folder, "bad.npy", npy<float>("<f4", "(4, 1)", {0, NAN, 0, 0}));
  DataOptions options;
  options.batch_size = 8;
  const auto data = open_actions("features:" + folder);
  const auto source = action_batches(data, options, small_window(), false, 0);
  source->start_epoch(0);
  EXPECT_THAT(test::error_of([&] { source->next(); }), HasSubstr("bad.npy: step 1"));
  options.skip_bad = true;
  const auto tolerant = action_batches(data, options, small_window(), false, 0);
  const auto batches = batches_of(*tolerant);
  EXPECT_EQ(batches.at(0)->size(), 5);  // of `bad` its first step alone has a window without the fault
  EXPECT_EQ(tolerant->skipped(), 3);
  EXPECT_THAT(batches[0]->videos, ElementsAre(0, 1, 1, 1, 1));
}

TEST(ActionsRuns, ValidationIsApartFromTraining) {
  DataOptions options;
  options.train = "streams,videos=8,val_videos=3,steps=40,width=4";
  EXPECT_EQ(open_action_training(options, 0)->size(), 8);
  EXPECT_EQ(open_action_validation(options, 0)->size(), 3);
  options.val_fraction = 0.25;
  const auto train = open_action_training(options, 5), val = open_action_validation(options, 5);
  EXPECT_EQ(train->size(), 6);
  EXPECT_EQ(val->size(), 2);
  std::set<std::string> names;
  for (int64_t i = 0; i < 6; ++i) names.insert(train->name(i));
  for (int64_t i = 0; i < 2; ++i) names.insert(val->name(i));
  EXPECT_EQ(names.size(), 8U);
  EXPECT_EQ(train->labels(5).steps(), 40);
  options.val = "streams";
  EXPECT_THAT(test::error_of([&] { open_action_validation(options, 0); }), HasSubstr("exclude each other"));
  options.val_fraction = 0;
  options.max_images = 2;
  EXPECT_EQ(open_action_training(options, 0)->size(), 2);
}

TEST(ActionsStreams, SameSeedSameStreams) {
  const auto a = open_actions("streams,videos=3,steps=200,width=8", "train"),
             b = open_actions("streams,videos=4,steps=200,width=8", "train"),
             other = open_actions("streams,videos=3,steps=200,width=8,seed=1", "train"),
             val = open_actions("streams,val_videos=3,steps=200,width=8");
  EXPECT_TRUE(torch::equal(a->features(2, 0, 200), b->features(2, 0, 200)));
  EXPECT_TRUE(torch::equal(a->labels(2).tensor(), b->labels(2).tensor()));
  EXPECT_FALSE(torch::equal(a->features(2, 0, 200), other->features(2, 0, 200)));
  EXPECT_FALSE(torch::equal(a->features(2, 0, 200), val->features(2, 0, 200)));
  EXPECT_TRUE(torch::equal(a->features(1, 50, 7), a->features(1, 0, 200).slice(0, 50, 57)));
}

// Every class comes, background is about half, each step has one class.
TEST(ActionsStreams, MakeUpOfTheDefaultSet) {
  for (const char* split : {"train", "val"}) {
    const auto data = open_actions("streams", split);
    torch::Tensor counts = torch::zeros({9}, torch::kLong);
    for (int64_t i = 0; i < data->size(); ++i) counts += data->labels(i).tensor().to(torch::kLong).sum(0);
    const int64_t steps = data->size() * 600;
    EXPECT_EQ(counts.sum().item<int64_t>(), steps);
    EXPECT_NEAR(counts[0].item<double>() / static_cast<double>(steps), 0.52, 0.06) << split;
    EXPECT_GT(counts.min().item<int64_t>(), steps / 50) << split;
  }
}

TEST(ActionsStreams, BordersMayBeAmbiguous) {
  const auto sure = open_actions("streams,steps=300,val_videos=1,width=2"),
             data = open_actions("streams,steps=300,val_videos=1,width=2,ambiguous=2");
  EXPECT_EQ(sure->ambiguous_class(), -1);
  EXPECT_EQ(data->ambiguous_class(), 9);
  int64_t borders = 0, ambiguous = 0;
  for (int64_t step = 0; step < 300; ++step) {
    if (step > 0 && sure->labels(0).classes_of(step) != sure->labels(0).classes_of(step - 1)) ++borders;
    ambiguous += data->labels(0).ambiguous(step) ? 1 : 0;
    EXPECT_EQ(data->labels(0).classes_of(step).empty(), data->labels(0).ambiguous(step));
  }
  EXPECT_GT(borders, 5);
  EXPECT_NEAR(static_cast<double>(ambiguous), static_cast<double>(4 * borders), 3);
}

TEST(ActionsStreams, OptionsAreChecked) {
  EXPECT_THAT(actions_error("streams,split=dev"), HasSubstr("no split 'dev', expected one of train, val"));
  EXPECT_THAT(actions_error("streams,noise=much"), HasSubstr("noise=much"));
  EXPECT_THAT(actions_error("streams,videos=0"), HasSubstr("videos of"));
  EXPECT_THAT(actions_error("streams,val_videos=100000,steps=1000000"), HasSubstr("more than 2^28 features"));
  EXPECT_THAT(actions_error("streams,classes=4,val_videos=2"), IsEmpty());
}

TEST(ActionsMake, ReadsBackTheSame) {
  for (const char* options : {"", ",ambiguous=1"}) {
    const std::string folder = test::scratch_dir("made"),
                      spec = std::string("streams,videos=3,val_videos=2,steps=80,width=6") + options;
    int64_t done = 0;
    const std::string made = make_data(parse_data_spec(spec), folder,
                                       [&](int64_t now, int64_t total) { done = now * 10 + total; });
    EXPECT_EQ(made, "features:" + folder);
    EXPECT_EQ(done, 55);
    for (const char* split : {"train", "val"}) {
      const auto a = open_actions(spec, split), b = open_actions(made, split);
      ASSERT_EQ(a->size(), b->size());
      EXPECT_EQ(a->class_names(), b->class_names());
      EXPECT_EQ(a->ambiguous_class(), b->ambiguous_class());
      EXPECT_EQ(a->steps_per_second(), b->steps_per_second());
      for (int64_t i = 0; i < a->size(); ++i) {
        EXPECT_EQ(a->name(i), b->name(i));
        EXPECT_TRUE(torch::equal(a->features(i, 0, 80), b->features(i, 0, 80)));
        EXPECT_TRUE(torch::equal(a->labels(i).tensor(), b->labels(i).tensor()));
        EXPECT_TRUE(torch::equal(a->labels(i).ambiguous_tensor(), b->labels(i).ambiguous_tensor()));
      }
    }
    EXPECT_THAT(test::error_of([&] { make_data(parse_data_spec(spec), folder); }),
                HasSubstr("already holds data_info.json, expected a new folder"));
  }
}

TEST(ActionsCheck, CountsWhatIsThere) {
  const CheckReport report =
      check_data(parse_data_spec("streams,videos=3,val_videos=2,steps=400,width=4,ambiguous=1"));
  EXPECT_EQ(report.fatal_count(), 0);
  const Json document = report.to_json();
  ASSERT_EQ(document["splits"].size(), 2U);
  EXPECT_EQ(document["splits"][0]["steps"], 1200);
  EXPECT_EQ(document["splits"][1]["steps_per_video"]["median"], 400);
  int64_t steps = document["splits"][0]["ambiguous_steps"].get<int64_t>(), segments = 0;
  for (const Json& one : document["splits"][0]["classes"]) {
    steps += one["steps"].get<int64_t>();
    segments += one["segments"].get<int64_t>();
  }
  EXPECT_EQ(steps, 1200);
  EXPECT_GT(segments, 40);
  EXPECT_THAT(report.str(), HasSubstr("background"));
  EXPECT_THAT(report.str(), HasSubstr("action08"));
}

TEST(ActionsCheck, GoesOnAfterEachFault) {
  const std::string folder = thumos_folder();
  put(folder, "rgb_kinetics/a.npy", npy<float>("<f4", "(4, 2)", {0, 1, 2, NAN, 4, 5, 6, 7}));
  put(folder, "flow_kinetics/b.npy", counting(3, 1));
  put(folder, "target_perframe/c.npy", "no array");
  const CheckReport report = check_data(parse_data_spec("features:" + folder + ",dataset=THUMOS"));
  EXPECT_EQ(report.fatal_count(), 2);
  const std::string text = report.to_json().dump();
  EXPECT_THAT(text, HasSubstr("step 1: element 1 is nan"));
  EXPECT_THAT(text, HasSubstr("is no NumPy array"));
  EXPECT_THAT(text, HasSubstr("4 steps, but 3 in " + folder + "/flow_kinetics/b.npy"));  // a note
  EXPECT_EQ(report.actions.size(), 2U);
  EXPECT_EQ(report.actions[1].videos, 1);
}

TEST(ActionsCheck, SaysWhatLabelsLeaveUnsaid) {
  const std::string folder = test::scratch_dir("unsaid");
  put(folder, "data_info.json", R"({"class_names": ["background", "a", "b"], "train_session_set": ["v"],
      "test_session_set": ["v"]})");
  put(folder, "v.npy", counting(3, 1));
  put(folder, "target/v.npy", npy<uint8_t>("|u1", "(3, 3)", {1, 0, 0, 0, 1, 0, 0, 0, 0}));
  const std::string text = check_data(parse_data_spec("features:" + folder)).to_json().dump();
  EXPECT_THAT(text, HasSubstr("no step of 1 classes: b"));
  EXPECT_THAT(text, HasSubstr("1 steps without any class"));
  EXPECT_THAT(text, HasSubstr("in two splits"));
}

}  // namespace
}  // namespace zoo
