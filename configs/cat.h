// Text from pieces. Debian's Abseil was built for C++14, where absl::string_view is not std::string_view and StrCat
// does not take the latter; this takes both.
#pragma once
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/string_view.h"

namespace pangea {

template <typename... Parts>
void Append(std::string& out, const Parts&... parts) {
  auto add = [&out](const auto& part) {
    using T = std::decay_t<decltype(part)>;
    if constexpr (std::is_integral_v<T>) {
      static_assert(!std::is_same_v<T, char> && !std::is_same_v<T, bool>, "a number is meant");
      out += std::to_string(part);
    } else if constexpr (std::is_same_v<T, absl::string_view>) {
      out.append(part.data(), part.size());
    } else {
      out += std::string_view(part);
    }
  };
  (add(parts), ...);
}

template <typename... Parts>
std::string Cat(const Parts&... parts) {
  std::string out;
  Append(out, parts...);
  return out;
}

}  // namespace pangea
