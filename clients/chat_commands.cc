// The commands of a chat: what begins with a slash.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "clients/chat.h"
#include "clients/conversation.h"
#include "clients/sampling_flags.h"
#include "clients/text.h"

namespace pangea::clients {
namespace {

// "a  b c " -> {"a", "b c"}
std::pair<std::string, std::string> FirstWord(const std::string& text) {
  constexpr char kSpace[] = " \t\r\n";
  const size_t end = text.find_first_of(kSpace);
  if (end == std::string::npos) return {text, ""};
  const size_t start = text.find_first_not_of(kSpace, end);
  if (start == std::string::npos) return {text.substr(0, end), ""};
  return {text.substr(0, end), text.substr(start, text.find_last_not_of(kSpace) + 1 - start)};
}

std::string DidYouMean(const std::string& nearest) { return nearest.empty() ? "" : "; did you mean " + nearest + "?"; }

}  // namespace

const std::vector<Chat::Command>& Chat::Commands() {
  static const std::vector<Command> kCommands = {
      {"/help", "", "this text", &Chat::Help},
      {"/reset", "", "start anew; the system message stays", &Chat::Reset},
      {"/system", "[TEXT | -]", "show, set or (-) remove the system message", &Chat::System},
      {"/set", "[KEY VALUE]", "show the settings, or change one; VALUE default leaves it to the server", &Chat::Set},
      {"/retry", "", "ask the last question again, without the answer it got", &Chat::Retry},
      {"/save", "FILE",
       "write the conversation as JSON, a body for /v1/chat/completions; replaces no other kind of file", &Chat::Save},
      {"/load", "FILE", "go on with a conversation that /save wrote", &Chat::Load},
      {"/exit", "", "leave, as does Ctrl-D", &Chat::Exit},
      {"/quit", "", "the same", &Chat::Exit},
  };
  return kCommands;
}

bool Chat::RunCommand(const std::string& line, const Streams& to) {
  if (line.starts_with("//")) return false;
  const auto [name, argument] = FirstWord(line);
  std::vector<std::string> names;
  for (const Command& command : Commands()) {
    names.push_back(command.name);
    if (command.name != name) continue;
    if (command.argument.empty() && !argument.empty()) {
      to.err << name << " takes nothing after it\n" << std::flush;
    } else {
      (this->*command.run)(argument, to);
    }
    return true;
  }
  // A paste of several lines, a comment of C say, was not meant as a command.
  if (line.find('\n') != std::string::npos) return false;
  to.err << "unknown command " << ForTerminal(name) << DidYouMean(Nearest(name, names))
         << " (/help shows all; a message that begins with a slash is written with two)\n"
         << std::flush;
  return true;
}

void Chat::Help(const std::string&, const Streams& to) {
  std::ostream& shown = options_.terminal ? to.out : to.err;
  for (const Command& command : Commands())
    shown << absl::StrFormat("%-20s %s\n", absl::StrCat(command.name, " ", command.argument), command.help);
  shown << "//TEXT               a message that begins with one slash\n"
           "\\ then Enter, or Alt-Enter: a new line in the same message; a paste of several lines is one message\n"
           "\\ then a space and Enter: a message that ends in \\\n"
           "Up, Down, Ctrl-R: earlier messages. Ctrl-C: stop the answer; at the prompt drop the line, or leave\n"
           "Ctrl-Z: suspend, at the prompt. What is typed during an answer waits for the prompt; once 4095 bytes wait\n"
           "there, the terminal takes no more keys, Ctrl-C neither, until the answer ends\n"
        << "settings: " << absl::StrJoin(SettingNames(), " ") << "\n"
        << std::flush;
}

void Chat::Reset(const std::string&, const Streams& to) {
  history_.clear();
  last_.clear();
  last_turn_ = 0;
  SetSystem(options_.system);
  Note("The conversation starts anew.", to.err);
}

void Chat::System(const std::string& argument, const Streams& to) {
  if (!argument.empty()) SetSystem(argument == "-" ? "" : argument);
  Note(options_.system.empty() ? "no system message" : "system: " + options_.system, to.err);
}

void Chat::Set(const std::string& argument, const Streams& to) {
  auto [key, value] = FirstWord(argument);
  std::replace(key.begin(), key.end(), '-', '_');
  if (!value.empty()) {
    const absl::Status status = ChangeSetting(key, value, &request_.sampling);
    if (absl::IsNotFound(status)) {
      to.err << "unknown setting " << ForTerminal(key) << DidYouMean(Nearest(key, SettingNames())) << " ("
             << absl::StrJoin(SettingNames(), " ") << ")\n"
             << std::flush;
      return;
    }
    if (!status.ok()) {
      to.err << ForTerminal(std::string(status.message())) << "\n" << std::flush;
      return;
    }
  } else if (!key.empty()) {
    to.err << "/set needs a key and a value\n" << std::flush;
    return;
  }
  const std::string settings = Settings(request_.sampling);
  Note(settings.empty() ? "all settings are the server's defaults" : settings.substr(0, settings.size() - 1), to.err);
}

void Chat::Retry(const std::string&, const Streams& to) {
  if (last_.empty()) {
    to.err << "nothing was asked yet\n" << std::flush;
    return;
  }
  const std::vector<Message> before = history_;
  const size_t turn = last_turn_;
  history_.resize(history_.size() - turn);
  Ask(std::string(last_), to);
  if (last_turn_ == 0) history_ = before, last_turn_ = turn;  // no new answer: the old one stays
}

void Chat::Save(const std::string& argument, const Streams& to) {
  if (argument.empty()) {
    to.err << "/save needs a file name\n" << std::flush;
    return;
  }
  const absl::Status status = SaveConversation(argument, request_.model, history_);
  Note(status.ok() ? absl::StrCat(history_.size(), " messages are in ", argument) : std::string(status.message()),
       to.err);
}

void Chat::Load(const std::string& argument, const Streams& to) {
  auto messages = argument.empty() ? absl::InvalidArgumentError("/load needs a file name") : LoadConversation(argument);
  if (!messages.ok()) {
    to.err << ForTerminal(std::string(messages.status().message())) << "\n" << std::flush;
    return;
  }
  history_ = *std::move(messages);
  options_.system = !history_.empty() && history_.front().role == "system" ? history_.front().content : "";
  last_.clear();
  last_turn_ = 0;
  for (size_t i = 0; i < history_.size(); ++i) {
    if (history_[i].role == "user") last_ = history_[i].content, last_turn_ = history_.size() - i;
  }
  Note(absl::StrCat("a conversation of ", history_.size(), " messages"), to.err);
}

void Chat::Exit(const std::string&, const Streams&) { leaving_ = true; }

}  // namespace pangea::clients
