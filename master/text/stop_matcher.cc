// Aho and Corasick, "Efficient string matching: an aid to bibliographic search", CACM 1975. A state is the longest end
// of the text so far that begins a stop string; its length is what has to be held back.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "master/text/text.h"

namespace pangea {

struct StopMatcher::Automaton {
  struct State {
    int fail = 0;     // of the longest proper end that is a state, too
    int depth = 0;    // bytes
    int longest = 0;  // of the stop strings that end here; 0: none
  };
  std::vector<State> states = std::vector<State>(1);
  absl::flat_hash_map<uint64_t, int> next;  // state * 256 + byte -> state

  int Find(int state, unsigned char byte) const {
    const auto it = next.find(uint64_t(state) << 8 | byte);
    return it == next.end() ? -1 : it->second;
  }
  int Step(int state, unsigned char byte) const {
    while (true) {
      const int to = Find(state, byte);
      if (to >= 0) return to;
      if (state == 0) return 0;
      state = states[state].fail;
    }
  }
};

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  if (stops.empty()) return;
  auto automaton = std::make_shared<Automaton>();
  auto& states = automaton->states;
  std::vector<std::pair<int, unsigned char>> edge(1);  // into each state: from, byte
  for (const auto& stop : stops) {
    int state = 0;
    for (const unsigned char byte : stop) {
      int to = automaton->Find(state, byte);
      if (to < 0) {
        to = static_cast<int>(states.size());
        automaton->next[uint64_t(state) << 8 | byte] = to;
        edge.emplace_back(state, byte);
        states.push_back({0, states[state].depth + 1, 0});
      }
      state = to;
    }
    states[state].longest = states[state].depth;
  }
  std::vector<int> order(states.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return states[a].depth < states[b].depth; });
  for (const int state : order) {
    if (states[state].depth > 1)
      states[state].fail = automaton->Step(states[edge[state].first].fail, edge[state].second);
    states[state].longest = std::max(states[state].longest, states[states[state].fail].longest);
  }
  automaton_ = std::move(automaton);
}

StopMatcher::Piece StopMatcher::Push(std::string_view text, bool may_stop) {
  if (!automaton_) return {std::string(text), false};
  if (stopped_) return {"", true};
  for (size_t i = 0; i < text.size(); ++i) {
    state_ = automaton_->Step(state_, static_cast<unsigned char>(text[i]));
    const int longest = automaton_->states[state_].longest;
    if (longest == 0 || !may_stop) continue;
    stopped_ = true;
    held_.append(text.substr(0, i + 1));
    Piece out{held_.substr(done_, held_.size() - done_ - longest), true};
    held_.clear();
    done_ = 0;
    return out;
  }
  held_.append(text);
  const size_t end = held_.size() - automaton_->states[state_].depth;
  Piece out{held_.substr(done_, end - done_), false};
  done_ = end;
  // Moving the rest only when it is the smaller part keeps the whole linear.
  if (done_ > held_.size() / 2) {
    held_.erase(0, done_);
    done_ = 0;
  }
  return out;
}

std::string StopMatcher::Flush() {
  state_ = 0;
  std::string out = held_.substr(done_);
  held_.clear();
  done_ = 0;
  return out;
}

}  // namespace pangea
