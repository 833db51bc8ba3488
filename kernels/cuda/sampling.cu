// From logits to ids: one row's filters and draw, as agent/sampler.cc has them on the host, to the bit.
#include "kernels/cuda/device_math.h"

namespace pangea::cuda {
namespace {

// ------------------------------------------------------------------------------------------- the best of some ids

PANGEA_DEVICE bool Before(const BestId& a, const BestId& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}
PANGEA_DEVICE BestId NoId() { return {kMinusInfinity, INT32_MAX}; }

// Of all threads' ids; thread 0 gets it. shared: of as many as there are warps. All threads call.
PANGEA_DEVICE BestId BestOfBlock(BestId best, BestId* shared) {
  const int t = static_cast<int>(ThreadIndex().x), warps = static_cast<int>(BlockThreads()) / 32;
  for (int half = 16; half > 0; half /= 2) {
    const BestId other = {Shuffle(best.value, t % 32 ^ half), Shuffle(best.id, t % 32 ^ half)};
    if (Before(other, best)) best = other;
  }
  if (t % 32 == 0) shared[t / 32] = best;
  Sync();
  if (t == 0) {
    for (int i = 1; i < warps; ++i) {
      if (Before(shared[i], best)) best = shared[i];
    }
  }
  return best;
}

// ------------------------------------------------------------------------------------------------------ sums of exp

// Of up to 256 neighbouring values, by one warp: their largest, and the sum of exp(x - largest) with lane = i mod 16.
// terms: room for as many.
PANGEA_DEVICE void SumOfExps(const float* x, int n, float* terms, float* pair) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  float largest = kMinusInfinity;
  for (int i = lane % kLanes; i < n; i += kLanes) largest = MaxOf(largest, x[i]);
  largest = LaneMaxOf(largest);
  for (int i = lane; i < n; i += 32) terms[i] = ExpOf(x[i] - largest);
  SyncWarp();
  float sum = 0;
  for (int i = lane % kLanes; i < n && largest != kMinusInfinity; i += kLanes) sum = sum + terms[i];
  sum = LaneSumOf(sum);
  if (lane != 0) return;
  pair[0] = largest;
  pair[1] = sum;
}

// log of the sum of exp over all chunks, added in their order. terms: kMostListed floats of shared memory. All threads
// call, and all get it.
PANGEA_DEVICE float FoldPairs(const float* pairs, int64_t chunks, float* terms, float* warps) {
  const int t = static_cast<int>(ThreadIndex().x), threads = static_cast<int>(BlockThreads());
  float largest = kMinusInfinity;
  for (int64_t i = t; i < chunks; i += threads) largest = MaxOf(largest, pairs[2 * i]);
  largest = LaneMaxOf(largest);
  largest = MaxOf(largest, Shuffle(largest, t % 32 ^ 16));
  if (t % 32 == 0) warps[t / 32] = largest;
  Sync();
  for (int i = 0; i < threads / 32; ++i) largest = MaxOf(largest, warps[i]);
  if (largest == kMinusInfinity) {
    Sync();
    return kMinusInfinity;
  }
  float sum = 0;
  for (int64_t begin = 0; begin < chunks; begin += kMostListed) {
    const int64_t n = chunks - begin < kMostListed ? chunks - begin : kMostListed;
    for (int64_t i = t; i < n; i += threads) {
      const float* const pair = pairs + 2 * (begin + i);
      terms[i] = pair[1] * ExpOf(pair[0] - largest);
    }
    Sync();
    for (int64_t i = 0; i < n && t == 0; ++i) sum = sum + terms[i];
    Sync();
  }
  if (t == 0) warps[0] = LogOf(sum) + largest;
  Sync();
  const float folded = warps[0];
  Sync();
  return folded;
}

// ---------------------------------------------------------------------------------------------------- ids in order

// The one order of ids, value descending and id ascending, as descending numbers. Both zeros are one value.
PANGEA_DEVICE uint64_t KeyOf(float value, int64_t id) {
  const uint32_t bits = Bits(value + 0.0f);
  const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}
PANGEA_DEVICE int64_t IdOf(uint64_t key) { return static_cast<int64_t>(0xffffffffu - static_cast<uint32_t>(key)); }

constexpr int kDigit = 11;  // bits of a key that are looked at in one pass over the row
constexpr int kBins = 1 << kDigit;

// What of the shared memory of CutLogits is whose.
struct Workplace {
  uint64_t* list;  // [kMostListed]
  float* terms;    // [kMostListed]
  int* bins;       // [kBins]
  uint64_t* keys;  // of all threads: 4
  int* numbers;    // 8
  float* floats;   // 8
};
PANGEA_DEVICE Workplace Parts() {
  std::byte* const memory = Shared<std::byte>();
  Workplace w;
  w.list = reinterpret_cast<uint64_t*>(memory);
  w.keys = w.list + kMostListed;
  w.terms = reinterpret_cast<float*>(w.keys + 4);
  w.bins = reinterpret_cast<int*>(w.terms + kMostListed);
  w.numbers = w.bins + kBins;
  w.floats = reinterpret_cast<float*>(w.numbers + 8);
  return w;
}

// A key that k ids reach of those below `below`, found digit by digit; 0 when there are fewer. All threads call.
PANGEA_DEVICE uint64_t KthKey(const float* x, int64_t n, uint64_t below, int64_t k, const Workplace& w) {
  const int t = static_cast<int>(ThreadIndex().x), threads = static_cast<int>(BlockThreads());
  uint64_t found = 0;  // its digits so far, from bit `known` on
  int known = 64;
  for (int shift = known - kDigit;; known = shift, shift = shift > kDigit ? shift - kDigit : 0) {
    for (int i = t; i < kBins; i += threads) w.bins[i] = 0;
    Sync();
    for (int64_t i = t; i < n; i += threads) {
      const uint64_t key = KeyOf(x[i], i);
      if (key < below && (known >= 64 || key >> known == found >> known))
        AtomicAdd(&w.bins[key >> shift & (kBins - 1)], 1);
    }
    Sync();
    if (t < 32) {  // bins from the highest on, 64 a lane
      int own = 0;
      for (int i = 0; i < kBins / 32; ++i) own += w.bins[kBins - 1 - t * (kBins / 32) - i];
      int64_t before = 0;
      int lane = 0;
      for (; lane < 32; ++lane) {
        const int sum = Shuffle(own, lane);
        if (before + sum >= k) break;
        before += sum;
      }
      if (t == 0) {
        int bin = kBins - 1 - lane * (kBins / 32);
        while (lane < 32 && before + w.bins[bin] < k) before += w.bins[bin--];
        w.keys[0] = lane < 32 ? found | static_cast<uint64_t>(bin) << shift : 0;
        w.numbers[0] = static_cast<int>(k - before);                                   // of this bin
        w.numbers[1] = lane == 32 || w.bins[bin] == k - before || shift == 0 ? 1 : 0;  // all of the bin, or none
      }
    }
    Sync();
    found = w.keys[0];
    k = w.numbers[0];
    const bool done = w.numbers[1] != 0;
    Sync();
    if (done) return found;
  }
}

// The first k of the ids below `below`, in order, into w.list; how many there are. k <= kMostListed. All threads call.
PANGEA_DEVICE int NextIds(const float* x, int64_t n, uint64_t below, int k, const Workplace& w) {
  const int t = static_cast<int>(ThreadIndex().x), threads = static_cast<int>(BlockThreads());
  const uint64_t least = KthKey(x, n, below, k, w);
  if (t == 0) w.numbers[0] = 0;
  Sync();
  for (int64_t i = t; i < n; i += threads) {
    const uint64_t key = KeyOf(x[i], i);
    if (key < below && key >= least) w.list[AtomicAdd(&w.numbers[0], 1)] = key;
  }
  Sync();
  const int found = w.numbers[0];
  int size = 1;
  while (size < found) size *= 2;
  for (int i = found + t; i < size; i += threads) w.list[i] = 0;
  Sync();
  for (int run = 2; run <= size; run *= 2) {  // bitonic, descending
    for (int apart = run / 2; apart > 0; apart /= 2) {
      for (int i = t; i < size; i += threads) {
        const int j = i ^ apart;
        if (j < i) continue;
        const uint64_t a = w.list[i], b = w.list[j];
        if ((i & run) == 0 ? a < b : a > b) {
          w.list[i] = b;
          w.list[j] = a;
        }
      }
      Sync();
    }
  }
  return found;
}

// ------------------------------------------------------------------------------------------------------------ top_p

// Walks the ids that min_p and top_k leave, in order, kMostListed of them at a time: adds exp(x - reference) until
// `until` is reached or no more are left. The sum, and the key of the last that was added.
struct Walked {
  float sum;
  uint64_t last;
};
PANGEA_DEVICE Walked Walk(const float* x, int64_t n, const SampleRow& row, uint64_t least, float reference, float until,
                          const Workplace& w) {
  constexpr int kFirst = 128;  // enough for nearly every top_p
  const int t = static_cast<int>(ThreadIndex().x), threads = static_cast<int>(BlockThreads());
  Walked walked = {0, 0};
  uint64_t below = ~uint64_t{0};
  int64_t left = row.top_k > 0 && row.top_k < n ? row.top_k : n;
  for (int most = kFirst;; most = kMostListed) {
    const int wanted = left < most ? static_cast<int>(left) : most;
    const int found = NextIds(x, n, below, wanted, w);
    for (int i = t; i < found; i += threads) w.terms[i] = ExpOf(x[IdOf(w.list[i])] - reference);
    Sync();
    if (t == 0) {
      int i = 0;
      if (walked.last == 0) walked.last = w.list[0];  // at least one id remains
      for (; i < found && w.list[i] >= least && walked.sum < until; ++i) {
        walked.sum = walked.sum + w.terms[i];
        walked.last = w.list[i];
      }
      w.floats[0] = walked.sum;
      w.keys[1] = walked.last;
      w.numbers[2] = i < found || found < wanted || left == found ? 1 : 0;
    }
    Sync();
    walked = {w.floats[0], w.keys[1]};
    if (found > 0) below = w.list[found - 1];
    left -= found;
    const bool done = w.numbers[2] != 0;
    Sync();
    if (done) return walked;
  }
}

}  // namespace

// A block kSampleIds ids of a row: whether they are finite, their sums of exp, then what is drawn from, and its best.
PANGEA_KERNEL(JudgeLogits, SampleKernelArgs, 256) {
  const SampleMemory& m = a.memory;
  const int64_t r = BlockIndex().y, first = BlockIndex().x * kSampleIds, vocab = m.shape.vocab;
  const int n = static_cast<int>(vocab - first < kSampleIds ? vocab - first : kSampleIds);
  const int t = static_cast<int>(ThreadIndex().x), threads = static_cast<int>(BlockThreads()), warp = t / 32;
  const SampleRow row = m.rows[r];
  float* const x = Shared<float>();
  float* const terms = x + kSampleIds;
  BestId* const bests = reinterpret_cast<BestId*>(terms + kSampleIds);
  const auto sums = [&](float* pairs) {
    const int64_t begin = warp * kLseIds;
    if (begin >= n) return;
    SumOfExps(x + begin, static_cast<int>(n - begin < kLseIds ? n - begin : kLseIds), terms + begin,
              pairs + 2 * (r * m.chunks() + first / kLseIds + warp));
  };

  int bad = 0;
  for (int i = t; i < n; i += threads) {
    x[i] = a.logits[r * vocab + first + i];
    bad |= (Bits(x[i]) & 0x7f800000u) == 0x7f800000u ? 1 : 0;
  }
  bad = WarpSum(bad);
  if (t % 32 == 0) bests[warp] = {0, bad};
  Sync();
  if (t == 0) {
    for (int i = 1; i < threads / 32; ++i) bad += bests[i].id;
    m.not_finite[r * m.blocks() + BlockIndex().x] = bad;
  }
  if (row.tops >= 0) sums(m.raw_pairs);
  if (!row.draws()) return;

  Sync();
  for (int i = t; i < row.edits; i += threads) {
    const LogitEdit edit = m.edits[row.first_edit + i];
    if (edit.id >= first && edit.id < first + n) x[edit.id - first] = x[edit.id - first] + edit.bias;
  }
  Sync();
  const bool repeats = row.presence_penalty != 0 || row.frequency_penalty != 0;
  BestId best = NoId();
  for (int i = t; i < n; i += threads) {
    float v = x[i];
    const int32_t count = row.counts != 0 ? m.counts[row.slot * vocab + first + i] : 0;
    if (count != 0 && row.repetition_penalty != 1) v = v > 0 ? v / row.repetition_penalty : v * row.repetition_penalty;
    const int32_t times = count & kTimes;
    if (times > 0 && repeats) v = (v - row.frequency_penalty * static_cast<float>(times)) - row.presence_penalty;
    if (row.mask >= 0 && (m.masks[row.mask * m.mask_words() + (first + i) / 64] >> (first + i) % 64 & 1) == 0)
      v = kMinusInfinity;
    if (!row.greedy() && row.temperature != 1) v = v / row.temperature;
    x[i] = v;
    a.edited[r * vocab + first + i] = v;
    const BestId own = {v, static_cast<int32_t>(first + i)};
    if (Before(own, best)) best = own;
  }
  best = BestOfBlock(best, bests);  // all have written x
  if (t == 0) m.best[r * m.blocks() + BlockIndex().x] = best;
  if (row.sums_all()) sums(m.pairs);
}

// A block a row: what log-probabilities need, and the last id that min_p, top_k and top_p leave.
PANGEA_KERNEL_FOR(CutLogits, SampleKernelArgs, 256, 2) {
  const SampleMemory& m = a.memory;
  const int64_t r = BlockIndex().x, vocab = m.shape.vocab, chunks = m.chunks();
  const int t = static_cast<int>(ThreadIndex().x), threads = static_cast<int>(BlockThreads());
  const SampleRow row = m.rows[r];
  const Workplace w = Parts();
  CutRow cut = {0, 0, 0};
  if (row.tops >= 0) cut.raw_lse = FoldPairs(m.raw_pairs + 2 * r * chunks, chunks, w.terms, w.floats);
  if (row.tops > 0) {
    const float* const x = a.logits + r * vocab;
    cut.tops = NextIds(x, vocab, ~uint64_t{0}, row.tops, w);
    for (int i = t; i < cut.tops; i += threads) {
      const int64_t id = IdOf(w.list[i]);
      m.tops[r * a.tops + i] = {static_cast<int32_t>(id), x[id] - cut.raw_lse};
    }
    Sync();
  }
  if (row.cuts()) {
    const float* const x = a.edited + r * vocab;
    BestId best = NoId();
    for (int64_t i = 0; i < m.blocks(); ++i) {
      if (Before(m.best[r * m.blocks() + i], best)) best = m.best[r * m.blocks() + i];
    }
    if (row.min_p > 0) cut.least = KeyOf(best.value + LogOf(row.min_p), 0xffffffff);
    if (row.walks()) {
      float lse = 0;
      if (row.sums_all()) {
        lse = FoldPairs(m.pairs + 2 * r * chunks, chunks, w.terms, w.floats);
      } else {
        lse = best.value + LogOf(Walk(x, vocab, row, cut.least, best.value, -kMinusInfinity, w).sum);
      }
      cut.least = Walk(x, vocab, row, cut.least, lse, row.top_p, w).last;
    } else if (row.top_k > 0) {
      const uint64_t kth = KthKey(x, vocab, ~uint64_t{0}, row.top_k, w);
      if (kth > cut.least) cut.least = kth;
    }
  }
  if (t == 0) m.cut[r] = cut;
}

// A block kSampleIds ids of a row: the best of those that remain, with Gumbel noise. Four neighbours a thread.
PANGEA_KERNEL(DrawIds, SampleKernelArgs, 256) {
  const SampleMemory& m = a.memory;
  const int64_t r = BlockIndex().y, first = BlockIndex().x * kSampleIds, vocab = m.shape.vocab;
  const int64_t end = first + kSampleIds < vocab ? first + kSampleIds : vocab;
  const int t = static_cast<int>(ThreadIndex().x);
  const SampleRow row = m.rows[r];
  if (!row.draws() || row.greedy()) return;
  const uint64_t least = row.cuts() ? m.cut[r].least : 0;
  BestId best = NoId();
  for (int64_t id = first + 4 * t; id < end; id += 4 * BlockThreads()) {
    const reference::PhiloxWords random = reference::Philox(
        {{static_cast<uint32_t>(id / 4), static_cast<uint32_t>(row.position), static_cast<uint32_t>(row.choice), 0}},
        row.seed);
    for (int i = 0; i < 4 && id + i < end; ++i) {
      const float x = a.edited[r * vocab + id + i];
      if (KeyOf(x, id + i) < least) continue;
      const float noise = Gumbel<F32>(reference::I32(static_cast<int32_t>(random.word[i]))).v;
      const BestId own = {x + noise, static_cast<int32_t>(id + i)};
      if (Before(own, best)) best = own;
    }
  }
  best = BestOfBlock(best, Shared<BestId>());
  if (t == 0) m.drawn[r * m.blocks() + BlockIndex().x] = best;
}

// A block a row: what becomes of it.
PANGEA_KERNEL_FOR(TellSamples, SampleKernelArgs, 256, 2) {
  const SampleMemory& m = a.memory;
  const int64_t r = BlockIndex().x, blocks = m.blocks();
  const int t = static_cast<int>(ThreadIndex().x), threads = static_cast<int>(BlockThreads());
  const SampleRow row = m.rows[r];
  BestId best = NoId();
  int bad = 0;
  for (int64_t i = t; i < blocks; i += threads) {
    bad |= m.not_finite[r * blocks + i];
    const BestId* const from = row.greedy() ? m.best : m.drawn;
    if (row.draws() && Before(from[r * blocks + i], best)) best = from[r * blocks + i];
  }
  bad = WarpSum(bad != 0 ? 1 : 0);
  int* const bads = Shared<int>(static_cast<int64_t>(sizeof(BestId)) * 8);
  if (t % 32 == 0) bads[t / 32] = bad;
  best = BestOfBlock(best, Shared<BestId>());
  if (t != 0) return;
  for (int i = 1; i < threads / 32; ++i) bad += bads[i];
  if (row.draws() && best.value == kMinusInfinity && row.top_p >= 1 && row.top_k == 0) {  // as Sampler::DrawAll
    for (int64_t i = 0; i < blocks; ++i) {
      if (Before(m.best[r * blocks + i], best)) best = m.best[r * blocks + i];
    }
  }
  SampledRow told = {row.draws() ? best.id : row.known_id, bad == 0 ? 1 : 0, 0, 0};
  if (row.tops >= 0 && bad == 0) {
    told.logprob = a.logits[r * m.shape.vocab + told.id] - m.cut[r].raw_lse;
    told.tops = m.cut[r].tops;
  }
  m.sampled[r] = told;
  if (!row.draws()) return;
  a.last[row.slot] = bad == 0 ? told.id : 0;  // a row that ran ahead reads some id; its result is dropped
  if (row.counts != 0 && bad == 0) m.counts[row.slot * m.shape.vocab + told.id] += 1;
}

PANGEA_KERNEL(CountIds, CountIdsArgs, 256) {
  const int64_t i = int64_t{BlockIndex().x} * BlockThreads() + ThreadIndex().x;
  if (i >= a.n) return;
  if (a.ids == nullptr) {
    a.counts[i] = 0;
  } else if (a.in_prompt) {
    AtomicOr(&a.counts[a.ids[i]], kInPrompt);
  } else {
    AtomicAdd(&a.counts[a.ids[i]], 1);
  }
}

}  // namespace pangea::cuda
