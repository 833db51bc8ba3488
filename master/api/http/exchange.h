// Where a connection is, apart from its bytes, its socket and the time. Four small machines beside each other; what
// joins them are the conditions of Listen, BeginWrite and HandOver, that kLast drops what comes, and that kClose loses
// the client. An event for which there is no arrow changes nothing and gives false. Pure; one thread.
//
// Phase: a request and its answer. A request has one final status, as kAnswer has no second arrow:
//
//            kHead          kBody             kAnswer            kKept
//   kHead ----------> kBody --------> kService ------> kAnswer ---------> kHead
//     | kAnswer         | kAnswer        | kLast          | kLast
//     +------> kEarly <-+                +--> kLinger <---+         kClose: from everywhere to kClosed,
//               | kKept: kHead, kLast: kLinger                      out of which nothing leads
//
// Client: what is left of it. kHere -> kEnded -> kGone, never back.
// Intake: what becomes of its bytes. kKept -> kDropped, never back.
// Output: who writes. kFree <-> kWriting, kFree <-> kDirect.
#pragma once
#include <cstdint>

namespace pangea {

class Exchange {
 public:
  enum class Phase {
    kHead,     // between two requests, or within a head
    kBody,     // a head was read, and wants its body
    kService,  // a whole request waits for its answer
    kAnswer,   // its answer goes out
    kEarly,    // so does one that the head alone decides, or that says what is malformed
    kLinger,   // it was said that no more follows; what comes is dropped
    kClosed
  };
  enum class Event {
    kHead,    // a head was read
    kBody,    // its body was
    kAnswer,  // the final status goes out
    kKept,    // the answer is out, and the connection goes on
    kLast,    // it is out, or there will be none, and the connection does not
    kClose
  };
  enum class Client {
    kHere,
    kEnded,  // sends no more
    kGone    // takes nothing either
  };
  enum class Intake {
    kKept,
    kDropped  // more was sent ahead than is kept: what is held may still be one request, and nothing more is read
  };
  enum class Output {
    kFree,
    kWriting,
    kDirect  // the stream's coroutine sleeps: whoever brings text writes it
  };

  bool On(Event event);
  void Lose(Client left);
  void Drop() { intake_ = Intake::kDropped; }

  // True: a wait for the client's bytes begins now. full: as much is held as may be before a request is read; behind a
  // request that is served more is read, so that the client's end is noticed.
  bool Listen(bool full);
  void Heard() { listening_ = false; }  // it is over

  // True: a write begins now: of an interim answer before the body, or of the final one. One at a time.
  bool BeginWrite();
  void EndWrite(bool written);
  bool HandOver();  // to kDirect, of an answer that goes out
  void TakeBack();

  Phase phase() const { return phase_; }
  Client client() const { return client_; }
  Intake intake() const { return intake_; }
  Output output() const { return output_; }
  bool served() const { return phase_ == Phase::kService || phase_ == Phase::kAnswer; }
  bool ended() const { return client_ != Client::kHere; }
  bool gone() const { return client_ == Client::kGone; }
  bool dropping() const { return intake_ == Intake::kDropped; }
  bool direct() const { return output_ == Output::kDirect; }
  bool writing(uint64_t write) const { return output_ == Output::kWriting && writes_ == write; }
  uint64_t writes() const { return writes_; }  // begun so far: the number of the last one

 private:
  bool MayWrite() const;

  Phase phase_ = Phase::kHead;
  Client client_ = Client::kHere;
  Intake intake_ = Intake::kKept;
  Output output_ = Output::kFree;
  bool listening_ = false;
  uint64_t writes_ = 0;
};

}  // namespace pangea
