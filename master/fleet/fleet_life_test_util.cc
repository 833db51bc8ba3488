#include "master/fleet/fleet_life_test_util.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "master/fleet/facts.h"

namespace pangea {
namespace {

constexpr double kTroubleSeconds = 20;  // then the world is kind
constexpr double kCalmSeconds = 35;     // within which all must be well again

// A process as it is, whatever the master believes.
struct Process {
  int pid = 0, place = -1;  // -1: stands by
  bool local = true, alive = true, frozen = false, faulty = false, connected = false, loaded = false;
  uint64_t told = 0, formed = 0;  // epochs: that it is to form, that it has formed
};

class FleetLife {
 public:
  FleetLife(uint64_t seed, FleetLifeCounts* counts) : rng_(seed), counts_(counts) {
    auto& control = deployment_.control;
    control.join_seconds = 60;  // nothing may take so long
    control.step_seconds = 20;
    control.silence_seconds = silence_;
    control.recovery_seconds = 6;
    loop_ = Chance(0.15);  // a place whose processes die as soon as they serve, for ever
    bounded_ = loop_ ? Chance(0.5) : Chance(0.3);
    control.recovery_attempts = bounded_ ? Draw(2, 5) : 1'000'000;
    control.shrink_seconds = 0;
    const int agents = Draw(1, 5);
    for (int i = 0; i < agents; ++i) plan_.agents.push_back({.stage = i, .last = i == agents - 1});
    for (int i = 0; i < agents; ++i) {
      AgentConfig& config = deployment_.agent_list.emplace_back();
      if (Chance(0.3) && !(loop_ && i == 0)) config.launch = "remote";
    }
    facts_.emplace(deployment_, plan_, 0.0);
    at_.assign(agents, -1);
    child_.assign(agents, -1);
    fresh_.assign(agents, false);
    local_spares_ = Chance(0.3) ? 1 : 0;
    quiet_ = Chance(0.3);
  }

  std::string Run() {
    for (int i = 0; i < Places(); ++i)
      facts_->agent(i).local ? Launch(i) : Later(Between(0, 1), [this, i] { Remote(i); });
    for (int i = 0; i < local_spares_; ++i) Later(0.5, [this] { Spare(); });
    Later(Between(0.5, 3), [this] { Trouble(); });
    const double end = kTroubleSeconds + kCalmSeconds;
    while (fault_.empty() && !events_.empty() && facts_->IsAlive()) {
      const auto next = events_.begin();
      // A master that stands still sees later what came meanwhile.
      now_ = std::max(now_, next->first);
      if (now_ > end) break;
      const auto event = next->second;
      events_.erase(next);
      event();
      if (now_ >= standing_until_) Decide();
    }
    if (fault_.empty()) JudgeEnd();
    Count(&FleetLifeCounts::lives);
    return fault_.empty() ? "" : absl::StrFormat("at %.3f s: %s", now_, fault_);
  }

 private:
  bool Chance(double p) { return std::uniform_real_distribution<>(0, 1)(rng_) < p; }
  int Draw(int from, int to) { return std::uniform_int_distribution<>(from, to)(rng_); }
  double Between(double from, double to) { return std::uniform_real_distribution<>(from, to)(rng_); }
  void Later(double seconds, std::function<void()> what) { events_.emplace(now_ + seconds, std::move(what)); }
  // What reaches the master waits while it stands still.
  void Tell(double seconds, std::function<void()> what) {
    Later(seconds, [this, what] {
      if (now_ >= standing_until_) return what();
      events_.emplace(standing_until_, what);
    });
  }
  void Wrong(std::string what) {
    if (fault_.empty()) fault_ = std::move(what);
  }
  void Count(uint64_t FleetLifeCounts::* what) {
    if (counts_ != nullptr) ++(counts_->*what);
  }
  int Places() const { return facts_->agents(); }
  bool Kind() const { return now_ >= kTroubleSeconds; }
  Process* At(int place) { return at_[place] < 0 ? nullptr : &processes_[at_[place]]; }
  bool IsBad(int place) {
    const Process* p = At(place);
    return p == nullptr || !p->alive || p->frozen || p->faulty || !p->connected;
  }

  int NewProcess(int place, bool local) {
    const int pid = ++last_pid_;
    processes_[pid] = {.pid = pid, .place = place, .local = local};
    return pid;
  }
  void Launch(int place) {
    if (begun_) Count(&FleetLifeCounts::restarts);
    fresh_[place] = true;
    if (child_[place] >= 0) return Wrong(absl::StrCat("a second process is started in place ", place));
    const bool hard = begun_ && !Kind();  // before the first epoch all of this ends the deployment
    if (hard && Chance(0.03)) return facts_->OnNotLaunched(place, {.at = now_, .text = "cannot fork"});
    launches_ += place == 0 && now_ > kTroubleSeconds;
    const int pid = NewProcess(place, true);
    child_[place] = pid;
    facts_->OnLaunched(place, pid, now_);
    Later(Slow(0.01, 0.2), [this, pid] { Join(pid); });
    if (hard && Chance(0.1)) Later(Between(0, 0.5), [this, pid] { Die(pid); });
    if (hard && Chance(0.05)) Later(Between(0, 0.5), [this, pid] { Freeze(pid); });  // maybe before it has joined
  }
  double Slow(double from, double to) { return Chance(0.1) ? Between(1, 5) : Between(from, to); }
  void Remote(int place) {
    if (facts_->IsAlive() && !facts_->Places()[place].taken) Join(NewProcess(place, false));
  }
  void Join(int pid) {
    Process& p = processes_[pid];
    if (!p.alive || p.frozen) return;
    p.connected = true;
    Tell(0.001, [this, pid] {
      Process& p = processes_[pid];
      if (!facts_->IsAlive() || !p.connected) return;
      if (p.local ? child_[p.place] != pid : facts_->Places()[p.place].taken) return Close(&p);
      Take(p.place, pid);
    });
  }
  void Take(int place, int pid) {
    at_[place] = pid;
    fresh_[place] = true;
    processes_[pid].place = place;
    facts_->OnJoined(place, {.pid = pid}, now_);
    Report(pid);
    Later(Slow(0.005, 0.1), [this, pid] {
      if (!Able(pid)) return;
      processes_[pid].loaded = true;
      Say(pid, 0.001, [this](int place) { facts_->OnLoaded(place, now_); });
    });
  }
  bool Able(int pid) {
    const Process& p = processes_[pid];
    return p.alive && !p.frozen && p.connected;
  }
  // What it says on its stream, if that still is the stream of its place.
  void Say(int pid, double after, std::function<void(int)> what) {
    Tell(after, [this, pid, what] {
      const Process& p = processes_[pid];
      if (p.connected && p.place >= 0 && at_[p.place] == pid) what(p.place);
    });
  }
  void Spare() {
    if (!facts_->IsAlive()) return;
    const int pid = NewProcess(-1, true);
    processes_[pid].connected = true;
    spares_.push_back(pid);
    TellSpares();
  }
  void TellSpares() { facts_->SetSpares(static_cast<int>(spares_.size()), 0, false); }
  // Its master closes its stream.
  void Close(Process* p) {
    p->connected = false;
    if (!p->local) Later(0.01, [this, pid = p->pid] { Die(pid); });
  }
  void Die(int pid) {
    Process& p = processes_[pid];
    if (!p.alive) return;
    p.alive = false;
    const bool served = p.place >= 0 && at_[p.place] == pid && facts_->mode() == Facts::Mode::kRunning;
    if (served && now_ >= standing_until_) MustEnd(now_ + 0.1, absl::StrCat("the death of ", pid));
    Disconnect(pid, Between(0.0005, 0.03));
    if (p.place >= 0 && p.local) {
      Tell(Between(0.0005, 0.005), [this, pid] {
        const int place = processes_[pid].place;
        if (child_[place] != pid) return;
        child_[place] = -1;
        facts_->OnEnded(place, {.at = now_, .by_signal = true, .text = "was killed by signal 9 (Killed)"});
      });
    }
    Suffer(p.told, pid);
    if (p.place >= 0 && !p.local) Later(Between(0.05, 2), [this, place = p.place] { Remote(place); });
    if (!p.local) return;
    if (std::erase(spares_, pid) > 0) {
      TellSpares();
      Later(1, [this] { Spare(); });
    }
  }
  void Disconnect(int pid, double after) {
    Tell(after, [this, pid] {
      Process& p = processes_[pid];
      const bool open = p.connected;
      p.connected = false;
      if (!open || p.place < 0 || at_[p.place] != pid) return;
      at_[p.place] = -1;
      facts_->OnDisconnected(p.place, now_);
    });
  }
  // Its peers' groups break; some of them say so long after the epoch is over.
  void Suffer(uint64_t epoch, int of) {
    for (auto& [pid, peer] : processes_) {
      if (pid == of || peer.told != epoch || epoch == 0 || !Able(pid)) continue;
      const bool late = Chance(0.2);
      if (late) Count(&FleetLifeCounts::late);
      Say(pid, late ? Between(0.05, 1) : Between(0.001, 0.03), [this, epoch](int place) {
        facts_->OnFailure(place, epoch, {.at = now_, .status = absl::UnavailableError("a peer is gone")});
      });
    }
  }
  void MustEnd(double by, std::string what) {
    Later(by - now_, [this, what, epoch = facts_->epoch(), pauses = pauses_] {
      if (pauses_ == pauses && facts_->mode() == Facts::Mode::kRunning && facts_->epoch() == epoch)
        Wrong(absl::StrCat(what, " was not found"));
    });
  }

  void Report(int pid) {
    if (!processes_[pid].alive || now_ > kTroubleSeconds + kCalmSeconds) return;
    Later(silence_ * Between(0.2, 0.3), [this, pid] { Report(pid); });
    if (!Able(pid)) return;
    const Process& p = processes_[pid];
    AgentState::Report report{.step = p.formed == 0 ? 0 : number_, .collective = ticks_};
    if (oldest_ && p.formed == epoch_) {
      report.doing = Stuck() ? AgentDoing::kWaitsForPeer : AgentDoing::kComputes;
      report.layer_seconds = 0.02;
      if (!Stuck()) ++ticks_;
    }
    // One that is behind with its steps tells of the epoch before.
    const uint64_t epoch = p.told == 0 ? facts_->epoch() : p.told;
    Tell(0.001, [this, pid, epoch, report] {
      const Process& p = processes_[pid];
      if (p.place >= 0 && at_[p.place] == pid) facts_->OnReport(p.place, epoch, report, now_);
    });
  }
  bool Stuck() {
    if (lost_link_) return true;
    for (int i = 0; i < Places(); ++i) {
      const Process* p = At(i);
      if (p == nullptr || !p->alive || p->frozen || p->formed != epoch_) return true;
    }
    return false;
  }
  // --- The engine, which sends a step after the other while an epoch serves.
  void SendStep(uint64_t epoch) {
    if (epoch_ != epoch) return;
    ++number_;
    oldest_ = now_;
    Finish(epoch, number_);
  }
  void Finish(uint64_t epoch, uint64_t number) {
    Later(Between(0.005, 0.04), [this, epoch, number] {
      if (epoch_ != epoch) return;
      if (Stuck()) return Finish(epoch, number);
      Tell(0.001, [this, epoch] {
        if (epoch_ != epoch) return;
        oldest_.reset();
        last_result_ = now_;
        ++ticks_;
        Count(&FleetLifeCounts::steps);
        if (now_ - facts_->running_since() >= kLastingEpochSeconds)
          std::erase_if(recoveries_, [this](double at) { return at <= now_ - deployment_.control.recovery_seconds; });
        Later(Chance(0.1) ? Between(0.05, 0.2) : 0.001, [this, epoch] { SendStep(epoch); });
      });
    });
  }

  // --- What FleetImpl does.
  void Decide() {
    for (int i = 0; fault_.empty(); ++i) {
      if (i > 1000) return Wrong("it decides for ever");
      const Action action = facts_->Decide(oldest_, number_, last_result_, now_);
      switch (action.kind) {
        case Action::kNone:
          if (action.look_again) Look(*action.look_again);
          return;
        case Action::kInterrupt:
          Interrupt(action.agents, action.reason, false);
          break;
        case Action::kRestart:
          for (const int place : action.agents) Launch(place);
          break;
        case Action::kMoveToSpare:
          for (const int place : action.agents) MoveToSpare(place);
          break;
        case Action::kRegroup:
          Form();
          break;
        case Action::kShrink:
        case Action::kFallBack:
          return Wrong("it takes another layout, and may not");
        case Action::kGiveUp:
          return GiveUp(action);
      }
    }
  }
  void Look(double at) {
    if (look_ && *look_ <= at && *look_ > now_) return;
    look_ = at;
    Tell(std::max(at - now_, 0.0) + 1e-6, [] {});
  }
  void Interrupt(const std::vector<int>& lost, const absl::Status& why, bool planned) {
    bool reason = planned || lost_link_ || facts_->mode() != Facts::Mode::kRunning;
    for (int i = 0; i < Places(); ++i) reason |= IsBad(i);
    if (!reason) return Wrong(absl::StrCat("an epoch in which all is well is over: ", why.message()));
    bool anew = open_ || lost.empty();  // those who died together are one recovery
    for (const int place : lost) {
      if (!planned && !IsBad(place)) return Wrong(absl::StrCat("a sound agent is lost: ", why.message()));
      anew |= fresh_[place];
      if (Process* p = At(place)) Close(p);
      at_[place] = -1;
      if (child_[place] >= 0) Later(Between(0.0005, Chance(0.1) ? 2 : 0.01), [this, pid = child_[place]] { Die(pid); });
      if (!facts_->agent(place).local) Later(Between(0.05, 2), [this, place] { Remote(place); });
    }
    if (!planned && anew) recoveries_.push_back(now_);
    fresh_.assign(fresh_.size(), false);
    epoch_ = 0;
    open_ = false;
    oldest_.reset();
    for (const int place : facts_->EndEpoch(lost, why, planned, now_)) {
      if (Process* p = At(place)) Suffered(p);
    }
  }
  void Suffered(Process* p) {
    const uint64_t epoch = p->told;
    if (Chance(0.3) && epoch != 0) {
      Count(&FleetLifeCounts::late);
      Say(p->pid, Between(0, 0.5), [this, epoch](int place) {
        facts_->OnFailure(place, epoch, {.at = now_, .status = absl::AbortedError("the epoch is over")});
      });
    }
    p->told = p->formed = 0;
  }
  void MoveToSpare(int place) {
    if (spares_.empty() || !facts_->agent(place).local) return Wrong("there is no such spare");
    if (child_[place] >= 0) return Wrong("a spare is put beside a process that is not gone");
    const int pid = spares_.front();
    spares_.erase(spares_.begin());
    TellSpares();
    Count(&FleetLifeCounts::spares);
    child_[place] = pid;
    facts_->OnLaunched(place, pid, now_);
    Take(place, pid);
    Later(1, [this] { Spare(); });
  }
  void Form() {
    for (int i = 0; i < Places(); ++i) {
      if (const Process* p = At(i); p && !p->loaded) return Wrong("groups are formed with an agent without weights");
    }
    const uint64_t before = facts_->epoch();
    facts_->Form(now_);
    if (facts_->epoch() != before + 1) return Wrong("epochs are not numbered one by one");
    Count(&FleetLifeCounts::epochs);
    open_ = true;
    lost_link_ = false;
    for (int i = 0; i < Places(); ++i)
      if (Process* p = At(i); p != nullptr) FormAt(p, facts_->epoch());
  }
  void FormAt(Process* process, uint64_t epoch) {
    const int pid = process->pid;
    const double late = Chance(0.3) ? Between(0.05, 0.5) : 0;  // on its way
    process->told = epoch;
    Later(Between(0.001, 0.02), [this, pid, epoch, late] {
      Process& p = processes_[pid];
      if (!Able(pid) || p.told != epoch) return;
      p.formed = epoch;
      Say(pid, 0.001 + late, [this, epoch](int place) {
        if (facts_->OnFormed(place, epoch, now_)) Begin();
      });
    });
  }
  void Begin() {
    epoch_ = facts_->epoch();
    number_ = 0;
    begun_ = true;
    for (int i = 0; i < Places(); ++i) {
      const Process* p = At(i);
      // One that has died since, or was lost, is found.
      if (p != nullptr && p->alive && p->connected && p->formed != epoch_)
        return Wrong(absl::StrCat("epoch ", epoch_, " begins without agent ", i));
    }
    for (int i = 0; i < Places(); ++i)
      if (const Process* p = At(i); p != nullptr && p->frozen) MustFindFrozen(p->pid);
    if (loop_ && at_[0] >= 0) Later(Between(0.02, 0.1), [this, pid = at_[0]] { Die(pid); });
    SendStep(epoch_);
  }
  void GiveUp(const Action& action) {
    const int attempts = deployment_.control.recovery_attempts;
    if (!facts_->Fail(action.reason)) return Wrong("it gives up twice");
    Count(&FleetLifeCounts::given_up);
    if (begun_ && static_cast<int>(recoveries_.size()) < attempts)
      Wrong(absl::StrFormat("it gives up after %d of %d recoveries: %s", recoveries_.size(), attempts,
                            action.reason.message()));
    epoch_ = 0;
  }

  void Trouble() {
    if (Kind()) return;
    // A rest now and then, so that epochs last.
    Later(Chance(0.3) ? Between(1, 8) : Between(0, quiet_ ? 6 : 0.6), [this] { Trouble(); });
    if (!begun_) return;
    if (!spares_.empty() && Chance(0.1)) return Chance(0.5) ? Die(spares_.front()) : Freeze(spares_.front());
    std::vector<int> pids;
    for (const int pid : at_)
      if (pid >= 0 && processes_[pid].alive) pids.push_back(pid);
    if (pids.empty()) return;
    const int pid = pids[Draw(0, static_cast<int>(pids.size()) - 1)];
    Process& p = processes_[pid];
    switch (Draw(0, 8)) {
      case 0:
      case 1:
        Count(&FleetLifeCounts::deaths);
        return Die(pid);
      case 2:
        for (const int other : pids) {
          if (Chance(0.5)) Die(other);
        }
        return Count(&FleetLifeCounts::deaths);
      case 3:
        return Freeze(pid);
      case 4:
        if (p.faulty || p.frozen) return;
        p.faulty = true;
        Count(&FleetLifeCounts::own_faults);
        Say(pid, 0.001, [this](int place) {
          facts_->OnFailure(place, 0, {.at = now_, .status = absl::InternalError("no memory"), .fatal = true});
        });
        return Later(Between(0.005, 0.1), [this, pid] { Die(pid); });
      case 5:
        if (p.local) return;
        Count(&FleetLifeCounts::cuts);
        Disconnect(pid, 0.001);
        return Later(0.05, [this, pid] { Die(pid); });
      case 6:
        if (epoch_ == 0 || Places() == 1) return;
        lost_link_ = true;
        return Count(&FleetLifeCounts::lost_links);
      case 7:
        standing_until_ = std::max(standing_until_, now_ + Between(0.1, 3));  // what already waits comes no sooner
        events_.emplace(standing_until_, [] {});
        ++pauses_;
        return Count(&FleetLifeCounts::pauses);
      case 8:
        if (facts_->mode() != Facts::Mode::kRunning || now_ < standing_until_ || !p.local || p.place < 0) return;
        Count(&FleetLifeCounts::planned);
        return Interrupt({p.place}, absl::UnavailableError("asked for"), true);
    }
  }
  void Freeze(int pid) {
    if (std::exchange(processes_[pid].frozen, true)) return;
    Count(&FleetLifeCounts::freezes);
    MustFindFrozen(pid);
  }
  // Gaps between reports that are the master's own make it more patient: by four times what it looks late unseen.
  void MustFindFrozen(int pid) {
    const int place = processes_[pid].place;
    if (place < 0 || at_[place] != pid || facts_->mode() != Facts::Mode::kRunning || now_ < standing_until_) return;
    MustEnd(now_ + 0.4 + 4 * silence_, absl::StrCat("the freeze of ", pid));
  }

  void JudgeEnd() {
    if (facts_->mode() == Facts::Mode::kFailed) return;
    if (loop_) {
      if (bounded_) Wrong("a crash loop has not ended");
      if (launches_ > 25) Wrong(absl::StrCat(launches_, " processes of a crash loop in half a minute"));
      return;
    }
    if (facts_->mode() != Facts::Mode::kRunning || facts_->Up() != Places()) return Wrong("it has not recovered");
    if (last_result_ < now_ - 2) Wrong("it serves nothing");
  }

  std::mt19937_64 rng_;
  FleetLifeCounts* const counts_;
  Deployment deployment_;
  ParallelPlan plan_;
  const double silence_ = 0.4;
  std::optional<Facts> facts_;
  std::multimap<double, std::function<void()>> events_;
  std::map<int, Process> processes_;  // by pid
  std::vector<int> at_, child_;       // by place, the process with its stream, and the one not reaped; -1: none
  std::vector<int> spares_;
  std::vector<bool> fresh_;  // by place: somebody has come, or could not, since an epoch was last over
  double now_ = 0, standing_until_ = 0, last_result_ = 0;
  std::optional<double> oldest_, look_;
  std::vector<double> recoveries_;  // as the contract counts them
  uint64_t epoch_ = 0, number_ = 0, ticks_ = 0;
  int last_pid_ = 100, local_spares_ = 0, launches_ = 0, pauses_ = 0;
  bool loop_ = false, bounded_ = false, quiet_ = false, open_ = false, begun_ = false, lost_link_ = false;
  std::string fault_;
};

}  // namespace

std::string RunFleetLife(uint64_t seed, FleetLifeCounts* counts) { return FleetLife(seed, counts).Run(); }

}  // namespace pangea
