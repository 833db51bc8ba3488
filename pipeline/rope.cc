// Frequencies of the scalings: Transformers' modeling_rope_utils.py (default, linear, dynamic, yarn, llama3).
#include <algorithm>
#include <cmath>
#include <numbers>

#include "pipeline/model_config.h"

namespace pangea {
namespace {

constexpr double kPi = std::numbers::pi;

double YarnScale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

double YarnAttentionFactor(const RopeConfig& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  // As in Transformers, a zero counts as absent.
  if (rope.mscale.value_or(0) != 0 && rope.mscale_all_dim.value_or(0) != 0) {
    return YarnScale(rope.factor, *rope.mscale) / YarnScale(rope.factor, *rope.mscale_all_dim);
  }
  return YarnScale(rope.factor, 1);
}

// Blends interpolated and original frequencies between the dimensions that turn beta_fast and beta_slow times.
void ScaleYarn(const RopeConfig& rope, std::vector<double>* frequencies) {
  const auto dimension = [&](double turns) {
    return rope.rot * std::log(rope.original_positions / (turns * 2 * kPi)) / (2 * std::log(rope.base));
  };
  double low = dimension(rope.beta_fast), high = dimension(rope.beta_slow);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, rope.rot - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies->size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    double& f = (*frequencies)[i];
    f = f / rope.factor * ramp + f * (1 - ramp);
  }
}

void ScaleLlama3(const RopeConfig& rope, std::vector<double>* frequencies) {
  const double long_wave = rope.original_positions / rope.low_freq_factor;
  const double short_wave = rope.original_positions / rope.high_freq_factor;
  for (double& f : *frequencies) {
    const double wave = 2 * kPi / f;
    if (wave > long_wave) {
      f /= rope.factor;
    } else if (wave >= short_wave) {
      const double smooth =
          (rope.original_positions / wave - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      f = (1 - smooth) * f / rope.factor + smooth * f;
    }
  }
}

}  // namespace

float ModelConfig::attention_scale() const { return static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim))); }

RopeTables MakeRopeTables(const RopeConfig& rope, int positions, int context) {
  RopeTables tables;
  const int half = rope.rot / 2;
  if (half == 0) return tables;
  double base = rope.base;
  if (rope.scaling == RopeScaling::kDynamic && rope.rot > 2) {
    const double length = std::max<double>(context, rope.original_positions);
    base *= std::pow(rope.factor * length / rope.original_positions - (rope.factor - 1), rope.rot / (rope.rot - 2.0));
  }
  std::vector<double> frequencies(half);
  for (int i = 0; i < half; ++i) frequencies[i] = 1 / std::pow(base, 2.0 * i / rope.rot);
  double amplitude = 1;
  switch (rope.scaling) {
    case RopeScaling::kNone:
    case RopeScaling::kDynamic:
      break;
    case RopeScaling::kLinear:
      for (double& f : frequencies) f /= rope.factor;
      break;
    case RopeScaling::kYarn:
      ScaleYarn(rope, &frequencies);
      amplitude = YarnAttentionFactor(rope);
      break;
    case RopeScaling::kLlama3:
      ScaleLlama3(rope, &frequencies);
      break;
  }
  for (int i = 0; i < half && i < static_cast<int>(rope.factors.size()); ++i) frequencies[i] /= rope.factors[i];
  tables.cos.resize(static_cast<size_t>(positions) * half);
  tables.sin.resize(tables.cos.size());
  for (int p = 0; p < positions; ++p) {
    for (int i = 0; i < half; ++i) {
      const double angle = p * frequencies[i];
      tables.cos[static_cast<size_t>(p) * half + i] = static_cast<float>(std::cos(angle) * amplitude);
      tables.sin[static_cast<size_t>(p) * half + i] = static_cast<float>(std::sin(angle) * amplitude);
    }
  }
  return tables;
}

}  // namespace pangea
