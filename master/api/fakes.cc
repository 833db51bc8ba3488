#include "master/api/fakes.h"

#include <chrono>

#include "nlohmann/json.hpp"

namespace pangea {

// ---- text

struct Text::State {};
Text::Text() : state_(std::make_unique<State>()) {}
Text::~Text() = default;

namespace {
std::string FakeBytes(int32_t id) {
  if (id < 0) return "";
  if (id < 256) return std::string(1, static_cast<char>(id));
  if (id == kFakeBos) return "<s>";
  if (id == kFakeEnd) return "<|end|>";
  if (id == 258) return "ab";
  if (id == 259) return "\xC3\xA9";
  if (id == 260) return " stop";
  return "";
}
bool Continuation(char c) { return (c & 0xC0) == 0x80; }
int Need(char c) {
  return (c & 0x80) == 0 ? 1 : (c & 0xE0) == 0xC0 ? 2 : (c & 0xF0) == 0xE0 ? 3 : (c & 0xF8) == 0xF0 ? 4 : 1;
}
}  // namespace

std::function<void()> on_fake_encode;

absl::StatusOr<std::vector<int32_t>> Text::Encode(std::string_view text, bool add_special, bool parse_special) const {
  if (on_fake_encode) on_fake_encode();
  std::vector<int32_t> ids;
  if (add_special) ids.push_back(kFakeBos);
  for (size_t at = 0; at < text.size(); ++at) {
    const std::string_view rest = text.substr(at);
    const bool special = parse_special && (rest.starts_with("<s>") || rest.starts_with("<|end|>"));
    ids.push_back(!special ? static_cast<unsigned char>(text[at]) : text[at + 1] == 's' ? kFakeBos : kFakeEnd);
    if (special) at += FakeBytes(ids.back()).size() - 1;
  }
  return ids;
}
absl::StatusOr<std::string> Text::RenderChat(std::string_view messages, const TemplateOptions& options) const {
  if (nlohmann::json::parse(options.kwargs).contains("refuse"))
    return absl::InvalidArgumentError("the template refused: roles must alternate");
  std::string text;
  for (const auto& m : nlohmann::json::parse(messages))
    text += m["role"].get<std::string>() + ":" + m["content"].get<std::string>() + "\n";
  return options.add_generation_prompt ? text + ">" : text;
}
absl::StatusOr<std::vector<int32_t>> Text::EncodeChat(std::string_view messages, const TemplateOptions& options) const {
  auto text = RenderChat(messages, options);
  if (!text.ok()) return text.status();
  return Encode(*text, true, false);
}
bool Text::has_template() const { return true; }
nlohmann::ordered_json Text::Info() const { return {{"eos_token", "<|end|>"}, {"chat_template", nullptr}}; }
int Text::vocab() const { return 261; }
bool Text::IsSpecial(int32_t id) const { return id == kFakeBos || id == kFakeEnd; }
std::string Text::Bytes(int32_t id) const { return FakeBytes(id); }
std::string Text::Decode(const std::vector<int32_t>& ids, bool skip_special) const {
  Detokenizer detokenizer(*this, skip_special);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.Push(id);
  return text + detokenizer.Flush();
}
std::vector<int32_t> Text::end_ids() const { return {kFakeEnd}; }
absl::StatusOr<std::unique_ptr<Text>> Text::Load(const CheckpointHeader&, const std::string&) {
  return std::unique_ptr<Text>(new Text());
}

struct Detokenizer::State {
  bool skip = true;
  std::string tail;
};
Detokenizer::Detokenizer(const Text&, bool skip_special, bool) : state_(std::make_unique<State>()) {
  state_->skip = skip_special;
}
Detokenizer::~Detokenizer() = default;
Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;
std::string Detokenizer::Push(int32_t id) {
  if (state_->skip && (id == kFakeBos || id == kFakeEnd)) return "";
  std::string text;
  for (const char c : FakeBytes(id)) {
    std::string& tail = state_->tail;
    if (!tail.empty() && !Continuation(c)) {
      text += "\uFFFD";
      tail.clear();
    }
    tail += c;
    if (static_cast<int>(tail.size()) < Need(tail[0])) continue;
    text += Continuation(tail[0]) ? "\uFFFD" : tail;
    tail.clear();
  }
  return text;
}
std::string Detokenizer::Flush() {
  const bool broken = !state_->tail.empty();
  state_->tail.clear();
  return broken ? "\uFFFD" : "";
}

std::unique_ptr<Text> MakeFakeText() { return *Text::Load(CheckpointHeader(), ""); }

// ---- engine

struct EngineThread::State {
  FakeEngine* fake = nullptr;
};
namespace {
FakeEngine* next_fake = nullptr;  // handed to the constructor of the one class that tests can name
}
EngineThread::EngineThread(const EngineOptions&, StepPort*, std::function<void(std::vector<Output>)>,
                           std::function<void(const absl::Status&)>)
    : state_(std::make_unique<State>()) {
  state_->fake = next_fake;
}
EngineThread::~EngineThread() = default;
absl::Status EngineThread::Submit(SequenceRequest request) {
  FakeEngine& fake = *state_->fake;
  std::function<absl::Status(const SequenceRequest&)> on_submit;
  {
    std::lock_guard lock(fake.mutex);
    on_submit = fake.on_submit;
    fake.submitted.push_back(request);
  }
  absl::Status status = on_submit ? on_submit(request) : absl::OkStatus();
  fake.changed.notify_all();
  return status;
}
void EngineThread::Cancel(uint64_t request) {
  std::lock_guard lock(state_->fake->mutex);
  state_->fake->cancelled.insert(request);
  state_->fake->changed.notify_all();
}
void EngineThread::Finish(uint64_t request, int choice, int tokens) {
  std::lock_guard lock(state_->fake->mutex);
  state_->fake->finished.push_back({request, choice, tokens});
  state_->fake->changed.notify_all();
}

EngineStats EngineThread::stats() const {
  std::lock_guard lock(state_->fake->mutex);
  return state_->fake->stats;
}

std::unique_ptr<EngineThread> MakeFakeEngine(FakeEngine* fake) {
  next_fake = fake;
  return std::make_unique<EngineThread>(EngineOptions(), nullptr, nullptr);
}

SequenceRequest FakeEngine::WaitSubmitted(size_t count) {
  std::unique_lock lock(mutex);
  changed.wait_for(lock, std::chrono::seconds(10), [&] { return submitted.size() >= count; });
  return submitted.size() >= count ? submitted[count - 1] : SequenceRequest();
}

bool FakeEngine::WaitCancelled(uint64_t request) {
  std::unique_lock lock(mutex);
  return changed.wait_for(lock, std::chrono::seconds(10), [&] { return cancelled.count(request) > 0; });
}

FakeServer::FakeServer() {
  deployment.rest.listen = deployment.grpc.listen = "127.0.0.1:0";
  deployment.log.requests = false;  // but where a test looks for them
  on_fake_encode = nullptr;
  model.vocab = kFakeVocab;
  model.eos = {kFakeEnd};
  context.deployment = &deployment;
  context.model = &model;
  context.text = text.get();
  context.engine = engine.get();
  context.names = {"fake", "also-fake"};
  context.context = kFakeContext;
  context.created = 1700000000;
  context.fingerprint = "f32-1x1-0";
  context.health = Health::kReady;
}

Output IdList(uint64_t request, int choice, const std::vector<int32_t>& ids, FinishReason finish) {
  Output output;
  output.request = request;
  output.choice = choice;
  output.finish = finish;
  for (const int32_t id : ids) {
    Sample sample;
    sample.id = id;
    sample.logprob = -0.25f;
    sample.top = {{'z', -0.125f}, {id, -0.25f}, {0xC3, -3.0f}};
    output.samples.push_back(std::move(sample));
  }
  return output;
}

Output Ids(uint64_t request, int choice, const std::string& bytes, FinishReason finish) {
  std::vector<int32_t> ids;
  for (const unsigned char c : bytes) ids.push_back(c);
  return IdList(request, choice, ids, finish);
}

}  // namespace pangea
