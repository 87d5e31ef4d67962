#pragma once
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/files.h"

namespace zoo::test {

/// A program in the background; what it writes goes to a file. Killed at the end of its owner, if it still runs.
class Process {
 public:
  /// `environment`: NAME=VALUE, added to this process's. `largest_file` bytes are all that it may write into one.
  Process(const std::vector<std::string>& command, const std::string& output,
          const std::vector<std::string>& environment = {}, rlim_t largest_file = RLIM_INFINITY) {
    std::vector<char*> arguments;
    for (const std::string& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
    arguments.push_back(nullptr);
    pid_ = fork();
    if (pid_ != 0) return;
    for (const std::string& item : environment) putenv(const_cast<char*>(item.c_str()));
    if (largest_file != RLIM_INFINITY) {
      signal(SIGXFSZ, SIG_IGN);  // writing fails instead, as on a full disk
      const rlimit limit{largest_file, largest_file};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    signal(SIGINT, SIG_IGN);  // as a shell starts its background jobs
    if (freopen(output.c_str(), "w", stderr) == nullptr || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) _exit(99);
    execv(arguments[0], arguments.data());
    _exit(98);
  }
  ~Process() {
    if (ended_) return;
    send(SIGKILL);
    wait();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t id() const { return pid_; }
  void send(int signal) const { kill(pid_, signal); }

  /// The exit code, 128 + signal where one ended it.
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    ended_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  bool running() const { return kill(pid_, 0) == 0 && waitpid(pid_, nullptr, WNOHANG) == 0; }

 private:
  pid_t pid_;
  bool ended_ = false;
};

/// Waits until a run has a line for `step` in its metrics.
inline bool reaches(const Process& process, const std::string& run, int step) {
  const std::string wanted = "\"step\":" + std::to_string(step) + ",";
  for (int i = 0; i < 3000 && process.running(); ++i) {
    const std::string path = join_path(run, "metrics.jsonl");
    if (file_exists(path) && read_file(path).find(wanted) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

/// A port of this machine that nobody listens at.
inline int free_port() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  bind(listener, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  close(listener);
  return ntohs(address.sin_port);
}

/// One program in two processes that train together, ranks 0 and 1; what they write goes to FOLDER/rank0 and
/// rank1.
class TwoRanks {
 public:
  TwoRanks(const std::vector<std::string>& command, const std::string& folder,
           const std::vector<std::string>& environment = {}) {
    const std::string port = "MASTER_PORT=" + std::to_string(free_port());
    for (size_t rank = 0; rank < 2; ++rank) {
      std::vector<std::string> own = {"RANK=" + std::to_string(rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
                                      port, "OMP_NUM_THREADS=1"};
      own.insert(own.end(), environment.begin(), environment.end());
      outputs_[rank] = join_path(folder, "rank" + std::to_string(rank));
      ranks_[rank] = std::make_unique<Process>(command, outputs_[rank], own);
    }
  }
  Process& rank(size_t rank) { return *ranks_[rank]; }
  std::string output(size_t rank) const { return read_file(outputs_[rank]); }
  /// What both wrote, for messages.
  std::string output() const { return "rank 0:\n" + output(0) + "rank 1:\n" + output(1); }

 private:
  std::string outputs_[2];
  std::unique_ptr<Process> ranks_[2];
};

}  // namespace zoo::test
