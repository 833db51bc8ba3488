#include "master/api/http/exchange.h"

#include <algorithm>
#include <cstddef>

namespace pangea {
namespace {

using Phase = Exchange::Phase;
using Event = Exchange::Event;

struct Arrow {
  Phase from;
  Event event;
  Phase to;
};
constexpr Arrow kArrows[] = {
    {Phase::kHead, Event::kHead, Phase::kBody},        {Phase::kHead, Event::kAnswer, Phase::kEarly},
    {Phase::kBody, Event::kBody, Phase::kService},     {Phase::kBody, Event::kAnswer, Phase::kEarly},
    {Phase::kService, Event::kAnswer, Phase::kAnswer}, {Phase::kService, Event::kLast, Phase::kLinger},
    {Phase::kAnswer, Event::kKept, Phase::kHead},      {Phase::kAnswer, Event::kLast, Phase::kLinger},
    {Phase::kEarly, Event::kKept, Phase::kHead},       {Phase::kEarly, Event::kLast, Phase::kLinger},
};

}  // namespace

bool Exchange::On(Event event) {
  if (phase_ == Phase::kClosed) return false;
  if (event == Event::kClose) {
    phase_ = Phase::kClosed;
    Lose(Client::kGone);
    return true;
  }
  for (const Arrow& arrow : kArrows) {
    if (arrow.from != phase_ || arrow.event != event) continue;
    phase_ = arrow.to;
    if (phase_ == Phase::kLinger) Drop();
    return true;
  }
  return false;
}

void Exchange::Lose(Client left) {
  client_ = std::max(client_, left);
  if (gone()) TakeBack();
}

bool Exchange::Listen(bool full) {
  if (listening_ || ended() || (full && !served())) return false;
  return listening_ = true;
}

bool Exchange::MayWrite() const {
  return output_ == Output::kFree && !gone() &&
         (phase_ == Phase::kBody || phase_ == Phase::kEarly || phase_ == Phase::kAnswer);
}

bool Exchange::BeginWrite() {
  if (!MayWrite()) return false;
  output_ = Output::kWriting;
  ++writes_;
  return true;
}

void Exchange::EndWrite(bool written) {
  if (output_ == Output::kWriting) output_ = Output::kFree;
  if (!written) Lose(Client::kGone);
}

bool Exchange::HandOver() {
  if (!MayWrite() || phase_ != Phase::kAnswer) return false;
  output_ = Output::kDirect;
  return true;
}

void Exchange::TakeBack() {
  if (output_ == Output::kDirect) output_ = Output::kFree;
}

}  // namespace pangea
