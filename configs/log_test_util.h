// For tests: what this process writes to its log. Standard error is a pipe of ours while this lives.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <string>

namespace pangea {

class CapturedLog {
 public:
  CapturedLog() : old_(dup(STDERR_FILENO)) {
    if (pipe(pipe_) == 0) dup2(pipe_[1], STDERR_FILENO);
    fcntl(pipe_[0], F_SETFL, O_NONBLOCK);
  }
  ~CapturedLog() {
    dup2(old_, STDERR_FILENO);
    for (const int fd : {old_, pipe_[0], pipe_[1]}) close(fd);
  }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;

  // What has been written since the last call.
  std::string Take() {
    std::string text;
    char buffer[65536];
    for (ssize_t n; (n = read(pipe_[0], buffer, sizeof(buffer))) > 0;) text.append(buffer, n);
    return text;
  }
  // The line with `text` in it, as soon as it is there; empty: it did not come within ten seconds. Lines before it are
  // gone then.
  std::string WaitLine(const std::string& text) {
    while (true) {
      for (size_t end; (end = read_.find('\n')) != std::string::npos;) {
        const std::string line = read_.substr(0, end);
        read_.erase(0, end + 1);
        if (line.find(text) != std::string::npos) return line;
      }
      pollfd in{pipe_[0], POLLIN, 0};
      if (poll(&in, 1, 10000) <= 0) return "";
      read_ += Take();
    }
  }

 private:
  int old_, pipe_[2];
  std::string read_;
};

}  // namespace pangea
