#include "clients/chat.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "clients/commands.h"
#include "clients/text.h"

namespace pangea::clients {
namespace {

bool Blank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; }

}  // namespace

ReadMessage LinesOf(std::istream& in) {
  return [&in](std::string& line) {
    if (!std::getline(in, line)) return LineRead::kEnd;
    if (line.ends_with('\r')) line.pop_back();
    return LineRead::kLine;
  };
}

std::string Ending(const Answer& answer, std::optional<int64_t> max_tokens) {
  std::vector<std::string> parts;
  const int64_t tokens = answer.completion_tokens;
  if (tokens > 0) parts.push_back(absl::StrCat(tokens, tokens == 1 ? " token" : " tokens"));
  // The first token's time is the prompt's, so it is no part of the speed. When some tokens were not streamed, their
  // time is not known, and neither is the speed.
  if (tokens > 1 && answer.seconds > 0 && answer.hidden_tokens == 0)
    parts.push_back(absl::StrFormat("%.1f tokens/s", static_cast<double>(tokens - 1) / answer.seconds));
  if (answer.finish_reason == "length") {
    parts.push_back(max_tokens && (tokens == 0 || tokens >= *max_tokens)
                        ? absl::StrCat("cut off by length: max_tokens = ", *max_tokens)
                        : "cut off by length: the server's limit, or the context is full");
  }
  return parts.empty() ? "" : "[" + absl::StrJoin(parts, ", ") + "]";
}

Chat::Chat(Client* client, GenerateRequest request, ChatOptions options)
    : client_(client), request_(std::move(request)), options_(std::move(options)) {
  SetSystem(options_.system);
}

void Chat::SetSystem(const std::string& text) {
  options_.system = text;
  if (!history_.empty() && history_.front().role == "system") history_.erase(history_.begin());
  if (!text.empty()) history_.insert(history_.begin(), {"system", text});
}

void Chat::Note(const std::string& text, std::ostream& err) const {
  const std::string safe = ForTerminal(text);
  err << (options_.colour ? "\x1b[2m" + safe + "\x1b[0m\n" : safe + "\n") << std::flush;
}

bool Chat::DropOldest(std::vector<Message>& messages) {
  const auto first = messages.begin() + (messages.front().role == "system" ? 1 : 0);
  const auto last = messages.end() - 1;
  if (first >= last) return false;
  auto end = first + 1;
  while (end < last && end->role != "user") ++end;
  messages.erase(first, end);
  return true;
}

int Chat::DropOldest(std::vector<Message>& messages, int turns) {
  const auto left =
      std::count_if(messages.begin(), messages.end() - 1, [](const Message& m) { return m.role == "user"; });
  turns = std::min(turns, std::max(static_cast<int>(left / 2), 1));
  int gone = 0;
  while (gone < turns && DropOldest(messages)) ++gone;
  return gone;
}

absl::StatusOr<Answer> Chat::Stream(int dropped, std::string& said, const Streams& to) {
  WordWrap wrap(options_.columns ? options_.columns() : 0);
  const auto tell = [&] {
    if (dropped == 0) return;
    const std::string turns = dropped == 1 ? "turn was" : absl::StrCat(dropped, " turns were");
    Note("[the context is full: the oldest " + turns + " dropped]", to.err);
  };
  const auto print = [&](const std::string& piece) {
    if (said.empty()) tell();
    said += piece;
    to.out << (options_.terminal ? wrap.Push(ForTerminal(piece)) : piece) << std::flush;
  };
  auto answer = client_->Generate(request_, print, to.canceller);
  if (answer.ok() && said.empty()) tell();
  if (answer.ok() || !said.empty()) to.out << "\n" << std::flush;
  const std::string ending = answer.ok() && options_.interactive ? Ending(*answer, request_.sampling.max_tokens) : "";
  if (!ending.empty()) Note(ending, to.err);
  return answer;
}

Chat::Turn Chat::Ask(const std::string& text, const Streams& to) {
  last_ = text;
  last_turn_ = 0;
  request_.messages = history_;
  request_.messages.push_back({"user", text});
  std::string said;
  to.canceller->Reset();
  answering_ = true;
  auto answer = Stream(0, said, to);
  // Twice as many turns each time, so that a long conversation takes few tries.
  int dropped = 0;
  for (int turns = 1; IsContextFull(answer.status()) && said.empty(); turns *= 2) {
    const int gone = DropOldest(request_.messages, turns);
    if (gone == 0) break;
    dropped += gone;
    answer = Stream(dropped, said, to);
  }
  answering_ = false;
  const bool cancelled = absl::IsCancelled(answer.status()) && to.canceller->cancelled();
  // An answer that was cut short stays in the history, as it stays on the screen: the model sees what the user sees.
  if (answer.ok() || (cancelled && !said.empty())) {
    history_ = request_.messages;
    history_.push_back({"assistant", said});
    last_turn_ = 2;
  }
  if (answer.ok()) return Turn::kAnswered;
  if (cancelled) {
    if (options_.interactive) Note("[stopped]", to.err);
    return Turn::kCancelled;
  }
  to.err << "error: " << ForTerminal(std::string(answer.status().message())) << "\n" << std::flush;
  return Turn::kFailed;
}

int Chat::Run(const ReadMessage& read, std::ostream& out, std::ostream& err, Canceller* canceller) {
  const Streams to{out, err, canceller};
  for (std::string line; !leaving_;) {
    const LineRead got = read(line);
    if (got == LineRead::kInterrupted) return kExitCancelled;
    if (got == LineRead::kFailed) return err << "error: no more can be read from the terminal\n" << std::flush, 1;
    if (got == LineRead::kEnd) break;
    if (line.empty() || (options_.interactive && Blank(line))) continue;
    if (options_.interactive && line[0] == '/') {
      if (RunCommand(line, to)) continue;
      if (line.starts_with("//")) line.erase(0, 1);
    }
    const Turn turn = Ask(line, to);
    if (options_.interactive) continue;
    if (turn == Turn::kCancelled || canceller->cancelled()) return kExitCancelled;
    if (turn == Turn::kFailed) return 1;
  }
  return 0;
}

}  // namespace pangea::clients
