#include "master/api/generation/gate.h"

#include <algorithm>
#include <cmath>

#include "master/text/ascii.h"

namespace pangea {
namespace {

constexpr double kWindow = 32;  // ends that the mean remembers
constexpr double kLeastWait = 1, kMostWait = 60;

}  // namespace

absl::StatusOr<Caller> Identify(const KeyRing* keys, std::string_view authorization) {
  if (keys == nullptr) return Caller();
  constexpr std::string_view kScheme = "Bearer ";
  if (authorization.empty()) {
    return absl::UnauthenticatedError(
        "no API key was sent: this server needs one, in the header 'Authorization: Bearer KEY'");
  }
  const bool bearer = SameName(authorization.substr(0, kScheme.size()), kScheme);
  const ApiKey* key = keys->Find(bearer ? authorization.substr(kScheme.size()) : "");
  if (!bearer || key == nullptr) return absl::UnauthenticatedError("the API key is not one of this server's");
  return Caller{.account = key->account, .weight = key->weight};
}

void DrainRate::Begin(double now) {
  if (open_++ == 0) since_ = now;
}

void DrainRate::End(double now) {
  --open_;
  ++ends_;
  mean_ += (std::max(0.0, now - since_) - mean_) / std::min<double>(ends_, kWindow);
  since_ = now;
}

int DrainRate::SecondsFor(int ahead) const {
  return static_cast<int>(std::ceil(std::clamp(ahead * mean_, kLeastWait, kMostWait)));
}

bool AccountCounts::Enter(uint32_t account) {
  if (++open_[account] <= limit_ || limit_ == 0 || account == 0) return true;
  --open_[account];
  return false;
}

}  // namespace pangea
