#include "master/fleet/fleet_watch.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

constexpr int64_t kDriftPerReport = 50'000;  // nanoseconds: 50 in a million, at a report a second

double Seconds(int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e9; }

}  // namespace

FleetWatch::FleetWatch(const ParallelPlan& plan, TimelineFile* timeline) : timeline_(timeline) { Lay(plan); }

void FleetWatch::Lay(const ParallelPlan& plan) {
  MutexLock lock(mutex_);
  agents_.clear();
  for (const RankPlan& place : plan.agents) {
    agents_.push_back({.labels = {{"stage", absl::StrCat(place.stage)}, {"rank", absl::StrCat(place.rank)}},
                       .stage = place.stage,
                       .rank = place.rank});
    if (timeline_ != nullptr) timeline_->Name(place.stage, place.rank);
  }
}

void FleetWatch::OnJoin(int agent, bool same_host) {
  MutexLock lock(mutex_);
  Agent& seen = agents_[agent];
  seen.activity.Clear();
  seen.cpu_seconds = 0;
  seen.resident_bytes = 0;
  seen.same_host = seen.clock_known = same_host;
  seen.clock_offset = 0;
}

void FleetWatch::SetClock(Agent& agent, int64_t agent_now, double now) {
  if (agent.same_host) return;  // one clock for all processes of a host
  const int64_t difference = std::llround(now * 1e9) - agent_now;
  agent.clock_offset = agent.clock_known ? std::min(agent.clock_offset + kDriftPerReport, difference) : difference;
  agent.clock_known = true;
}

void FleetWatch::OnActivity(int agent, const wire::Activity& activity, double now) {
  MutexLock lock(mutex_);
  if (agent >= static_cast<int>(agents_.size())) return;
  Agent& seen = agents_[agent];
  if (activity.spent_size() != static_cast<int>(kAgentActivities.size())) return;
  SetClock(seen, activity.now(), now);
  // It comes on two streams, which may overtake each other.
  if (activity.since_begin() <= seen.activity.since_begin()) return;
  wire::Activity latest = activity;
  // A counter never falls, not even by the nanoseconds to which the clocks of the agent's cores agree.
  for (int i = 0; i < seen.activity.spent_size(); ++i) {
    latest.set_spent(i, std::max(latest.spent(i), seen.activity.spent(i)));
  }
  seen.activity = std::move(latest);
}

void FleetWatch::OnProgress(int agent, const wire::ProgressReport& report, double now) {
  OnActivity(agent, report.activity(), now);
  MutexLock lock(mutex_);
  if (agent >= static_cast<int>(agents_.size())) return;
  agents_[agent].cpu_seconds = report.cpu_seconds();
  agents_[agent].resident_bytes = report.resident_bytes();
}

void FleetWatch::OnTrace(int agent, const wire::StepTrace& trace, double now) {
  if (timeline_ == nullptr) return;
  int64_t at = trace.begin();
  for (const uint64_t stretch : trace.stretches()) at += static_cast<int64_t>(stretch >> 2);
  MutexLock lock(mutex_);
  if (agent >= static_cast<int>(agents_.size())) return;
  Agent& seen = agents_[agent];
  if (!seen.clock_known) SetClock(seen, at, now);
  const int64_t begin = trace.begin() + seen.clock_offset;
  const int stage = seen.stage, rank = seen.rank;
  const bool new_row = trace.kernels_size() > 0 && !std::exchange(seen.kernels_named, true);
  lock.unlock();

  std::vector<TimelineSpan> spans = {{.name = absl::StrCat("step ", trace.number()),
                                      .stage = stage,
                                      .rank = rank,
                                      .start_seconds = Seconds(begin),
                                      .duration_seconds = Seconds(at - trace.begin()),
                                      .args = {{"step", trace.number()}, {"rows", trace.rows()}}}};
  at = begin;
  for (const uint64_t stretch : trace.stretches()) {
    const int64_t took = static_cast<int64_t>(stretch >> 2);
    const char* name = (stretch & 3) == 1 ? "compute" : kAgentActivities[stretch & 3];
    spans.push_back(
        {.name = name, .stage = stage, .rank = rank, .start_seconds = Seconds(at), .duration_seconds = Seconds(took)});
    at += took;
  }
  if (new_row) timeline_->Name(stage, rank + kKernelRows);
  for (int i = 0; i < trace.kernels_size() && 2 * i + 1 < trace.kernel_times_size(); ++i) {
    if (trace.kernels(i) >= static_cast<uint32_t>(trace.kernel_names_size())) break;
    spans.push_back({.name = trace.kernel_names(static_cast<int>(trace.kernels(i))),
                     .stage = stage,
                     .rank = rank + kKernelRows,
                     .start_seconds = Seconds(begin + trace.kernel_times(2 * i)),
                     .duration_seconds = Seconds(trace.kernel_times(2 * i + 1))});
  }
  timeline_->Add(spans);
}

void FleetWatch::OnRecovered(double fill, double load, double form) {
  recovery_seconds.Add(fill + load + form);
  MutexLock lock(mutex_);
  fill_ += fill;
  load_ += load;
  form_ += form;
}

void FleetWatch::Write(MetricsPage& page) const {
  const MetricName kSpent[] = {
      {"pangea_stage_wait_seconds_total", "Time in which the rank had no step to run."},
      {"pangea_stage_busy_seconds_total", "Time in which the rank computed."},
      {"pangea_stage_communication_seconds_total",
       "Time of the rank in collectives and in handing rows from stage to stage, waiting for peers included."},
      {"pangea_stage_bubble_seconds_total",
       "Time in which the rank had a step but not yet what another stage had to send for it."}};
  std::vector<MetricValue> spent[4], up, cpu, resident, parts;
  {
    MutexLock lock(mutex_);
    parts = {{fill_, {{"part", "fill"}}}, {load_, {{"part", "load"}}}, {form_, {{"part", "form"}}}};
    for (const Agent& agent : agents_) {
      for (int i = 0; i < 4; ++i) {
        spent[i].push_back({i < agent.activity.spent_size() ? Seconds(agent.activity.spent(i)) : 0, agent.labels});
      }
      up.push_back({Seconds(agent.activity.since_begin()), agent.labels});
      cpu.push_back({agent.cpu_seconds, agent.labels});
      resident.push_back({static_cast<double>(agent.resident_bytes), agent.labels});
    }
  }
  for (int i = 0; i < 4; ++i) page.AddCounter(kSpent[i], spent[i]);
  page.AddGauge({"pangea_agent_uptime_seconds",
                 "Time from when the agent was loaded to its last report; the four kinds of time add up to it."},
                up);
  page.AddCounter({"pangea_agent_cpu_seconds_total", "Processor time of the agent's process."}, cpu);
  page.AddGauge({"pangea_agent_resident_bytes", "Memory of the agent's process that is in RAM."}, resident);
  page.Add(restarts);
  page.Add(recovery_seconds);
  page.AddCounter(
      {"pangea_recovery_part_seconds_total",
       "The same by part: fill, until every lost place has a process that has joined; load; form, the groups."},
      parts);
  page.Add(step_seconds);
  page.Add(step_rows);
}

}  // namespace pangea
