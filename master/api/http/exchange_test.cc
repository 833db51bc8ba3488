// Every order of events: a machine and a watcher that knows its history go together through all the states they reach.
#include "master/api/http/exchange.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>
#include <string>
#include <tuple>

namespace pangea {
namespace {

using Phase = Exchange::Phase;
using Event = Exchange::Event;
using Client = Exchange::Client;

constexpr Event kEvents[] = {Event::kHead, Event::kBody, Event::kAnswer, Event::kKept, Event::kLast, Event::kClose};

// What has happened, told by what the machine allowed, and what it may therefore not allow. It does not ask the machine
// for its phase.
struct Watcher {
  bool head = false, body = false, answered = false, closed = false, last = false;  // of the request
  bool writing = false, direct = false, listening = false, ended = false, gone = false;

  std::string On(Event event) {
    if (closed) return "something after the end";
    if (last && event != Event::kClose) return "something after the last answer";
    switch (event) {
      case Event::kHead:
        if (head) return "a second head in one request";
        head = true;
        break;
      case Event::kBody:
        if (!head || body) return "a body without a head";
        if (answered) return "a request is served that had its answer";
        body = true;
        break;
      case Event::kAnswer:
        if (answered) return "two final statuses for one request";
        answered = true;
        break;
      case Event::kKept:
        if (!answered) return "the next request before this one's answer";
        head = body = answered = false;
        break;
      case Event::kLast:
        if (!answered && !body) return "given up before it was read";
        last = true;
        break;
      case Event::kClose:
        closed = gone = ended = true;
        direct = false;
        break;
    }
    return "";
  }
  std::string Listens(bool full) {
    if (listening) return "two waits for bytes";
    if (ended) return "a wait for a client that has ended";
    if (full && !(body && !last)) return "reads on although it holds as much as it may";
    listening = true;
    return "";
  }
  std::string Writes() {
    if (writing || direct) return "two writes at once";
    if (gone) return "a write to a client that has gone";
    if (last) return "a write after the last answer";
    if (!answered && !(head && !body)) return "a write before the final status";
    writing = true;
    return "";
  }
  std::string HandsOver() {
    if (writing || direct) return "two writers at once";
    if (gone || last || !answered || !body) return "direct writes, and no answer goes out";
    direct = true;
    return "";
  }
  auto Key() const {
    return std::make_tuple(head, body, answered, closed, last, writing, direct, listening, ended, gone);
  }
};

template <class Machine>
struct Pair {
  Machine machine;
  Watcher watcher;

  // The machine's state without the count of its writes, which has no end.
  auto Key() const {
    return std::make_tuple(machine.phase(), machine.client(), machine.intake(), machine.output(), watcher.Key());
  }
  static constexpr int kSteps = std::size(kEvents) + 10;
  std::string Step(int step) {
    if (step < static_cast<int>(std::size(kEvents))) {
      const Event event = kEvents[step];
      return machine.On(event) ? watcher.On(event) : "";
    }
    switch (step - static_cast<int>(std::size(kEvents))) {
      case 0:
        machine.Lose(Client::kEnded);
        watcher.ended = true;
        return "";
      case 1:
        machine.Lose(Client::kGone);
        watcher.ended = watcher.gone = true;
        watcher.direct = false;
        return "";
      case 2:
        machine.Drop();
        return "";
      case 3:
      case 4:
        return machine.Listen(step % 2 == 0) ? watcher.Listens(step % 2 == 0) : "";
      case 5:
        machine.Heard();
        watcher.listening = false;
        return "";
      case 6:
        return machine.BeginWrite() ? watcher.Writes() : "";
      case 7:
      case 8: {
        const bool written = step % 2 == 0;
        if (!watcher.writing) return "";  // there is none that could end
        machine.EndWrite(written);
        watcher.writing = false;
        if (!written) watcher.ended = watcher.gone = true;
        return "";
      }
      default:
        if (machine.HandOver()) return watcher.HandsOver();
        machine.TakeBack();
        watcher.direct = false;
        return "";
    }
  }
};

// The first thing that the machine should not have allowed, on any way that leads anywhere; "": there is none.
template <class Machine>
std::string Walk(size_t* states) {
  std::set<decltype(Pair<Machine>().Key())> seen;
  std::deque<Pair<Machine>> todo(1);
  while (!todo.empty()) {
    const Pair<Machine> at = todo.front();
    todo.pop_front();
    for (int step = 0; step < Pair<Machine>::kSteps; ++step) {
      Pair<Machine> next = at;
      if (std::string wrong = next.Step(step); !wrong.empty()) return wrong;
      if (next.machine.client() < at.machine.client() || next.machine.intake() < at.machine.intake())
        return "what was lost comes back";
      if (seen.insert(next.Key()).second) todo.push_back(next);
    }
  }
  *states = seen.size();
  return "";
}

TEST(Exchange, AllowsNothingWrongInAnyOrderOfEvents) {
  size_t states = 0;
  EXPECT_EQ(Walk<Exchange>(&states), "");
  EXPECT_GT(states, 100);
}

// Machines with one rule less: the walk finds each.
struct WritesAnyTime : Exchange {
  bool BeginWrite() { return Exchange::BeginWrite() || (phase() == Phase::kAnswer && !gone()); }
};
struct WritesToNobody : Exchange {
  bool BeginWrite() { return Exchange::BeginWrite() || (output() == Output::kFree && phase() == Phase::kAnswer); }
};
struct AnswersTwice : Exchange {
  bool On(Event event) { return Exchange::On(event) || (event == Event::kAnswer && phase() == Phase::kAnswer); }
};
struct GoesOnUnanswered : Exchange {
  bool On(Event event) { return Exchange::On(event) || (event == Event::kKept && phase() == Phase::kService); }
};
struct OutlivesItsEnd : Exchange {
  bool On(Event event) { return Exchange::On(event) || phase() == Phase::kClosed; }
};
struct ReadsWithoutBound : Exchange {
  bool Listen(bool) { return Exchange::Listen(false); }
};
struct ListensTwice : Exchange {
  bool Listen(bool full) { return Exchange::Listen(full) || (!ended() && !full); }
};
struct TalksAfterTheLast : Exchange {
  bool BeginWrite() { return Exchange::BeginWrite() || (phase() == Phase::kLinger && !gone()); }
};

TEST(Exchange, AWalkFindsAMachineThatAllowsTooMuch) {
  size_t states = 0;
  EXPECT_EQ(Walk<WritesAnyTime>(&states), "two writes at once");
  EXPECT_EQ(Walk<WritesToNobody>(&states), "a write to a client that has gone");
  EXPECT_EQ(Walk<AnswersTwice>(&states), "two final statuses for one request");
  EXPECT_EQ(Walk<GoesOnUnanswered>(&states), "the next request before this one's answer");
  EXPECT_EQ(Walk<OutlivesItsEnd>(&states), "something after the end");
  EXPECT_EQ(Walk<ReadsWithoutBound>(&states), "reads on although it holds as much as it may");
  EXPECT_EQ(Walk<ListensTwice>(&states), "two waits for bytes");
  EXPECT_EQ(Walk<TalksAfterTheLast>(&states), "a write after the last answer");
}

// And it allows enough: a request with a body and an interim answer, streamed, and a second one behind it.
TEST(Exchange, AKeptConnection) {
  Exchange exchange;
  for (int request = 0; request < 2; ++request) {
    EXPECT_EQ(exchange.phase(), Phase::kHead);
    EXPECT_TRUE(exchange.Listen(false));
    EXPECT_FALSE(exchange.Listen(false));
    exchange.Heard();
    EXPECT_FALSE(exchange.Listen(true));
    EXPECT_TRUE(exchange.On(Event::kHead));
    EXPECT_TRUE(exchange.BeginWrite());  // 100 Continue
    exchange.EndWrite(true);
    EXPECT_TRUE(exchange.On(Event::kBody));
    EXPECT_TRUE(exchange.Listen(true));  // the client's end is noticed while its request is served
    exchange.Heard();
    EXPECT_FALSE(exchange.BeginWrite());
    EXPECT_TRUE(exchange.On(Event::kAnswer));
    EXPECT_TRUE(exchange.BeginWrite());
    const uint64_t write = exchange.writes();
    EXPECT_TRUE(exchange.writing(write));
    EXPECT_FALSE(exchange.HandOver());
    exchange.EndWrite(true);
    EXPECT_FALSE(exchange.writing(write));
    EXPECT_TRUE(exchange.HandOver());
    EXPECT_TRUE(exchange.direct());
    exchange.TakeBack();
    EXPECT_TRUE(exchange.On(Event::kKept));
  }
  EXPECT_TRUE(exchange.On(Event::kAnswer));  // of a malformed head
  EXPECT_EQ(exchange.phase(), Phase::kEarly);
  EXPECT_TRUE(exchange.On(Event::kLast));
  EXPECT_TRUE(exchange.dropping());
  EXPECT_TRUE(exchange.On(Event::kClose));
  EXPECT_TRUE(exchange.gone());
}

}  // namespace
}  // namespace pangea
