#include "master/text/special_tokens.h"

#include <algorithm>

namespace pangea {
namespace {

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool IsWord(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || byte == '_' || (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z');
}

}  // namespace

SpecialTokens::SpecialTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), nodes_(1) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].content.empty()) continue;
    int node = 0;
    for (const unsigned char byte : tokens_[i].content) {
      int to = Step(node, byte);
      if (to < 0) {
        to = static_cast<int>(nodes_.size());
        auto& next = nodes_[node].next;
        next.insert(std::upper_bound(next.begin(), next.end(), std::make_pair(byte, 0)), {byte, to});
        nodes_.emplace_back();
      }
      node = to;
    }
    if (nodes_[node].token < 0) nodes_[node].token = static_cast<int>(i);
    first_[static_cast<unsigned char>(tokens_[i].content[0])] = true;
    longest_ = std::max(longest_, tokens_[i].content.size());
  }
}

int SpecialTokens::Step(int node, unsigned char byte) const {
  const auto& next = nodes_[node].next;
  const auto it =
      std::lower_bound(next.begin(), next.end(), byte, [](const auto& e, unsigned char b) { return e.first < b; });
  return it != next.end() && it->first == byte ? it->second : -1;
}

const AddedToken* SpecialTokens::Longest(std::string_view text, size_t at, bool special, bool not_special) const {
  if (nodes_.empty() || !first_[static_cast<unsigned char>(text[at])]) return nullptr;
  const AddedToken* found = nullptr;
  int node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    node = Step(node, static_cast<unsigned char>(text[i]));
    if (node < 0) break;
    if (nodes_[node].token < 0) continue;
    const AddedToken& token = tokens_[nodes_[node].token];
    if (token.special ? !special : !not_special) continue;
    if (token.single_word && ((at > 0 && IsWord(text[at - 1])) || (i + 1 < text.size() && IsWord(text[i + 1]))))
      continue;
    found = &token;
  }
  return found;
}

size_t SpecialTokens::SpecialAt(std::string_view text, size_t at) const {
  const AddedToken* token = Longest(text, at, true, false);
  return token == nullptr ? 0 : token->content.size();
}

size_t SpecialTokens::OpenEnd(std::string_view text) const {
  for (size_t length = std::min(text.size(), longest_ == 0 ? 0 : longest_ - 1); length > 0; --length) {
    const std::string_view end = text.substr(text.size() - length);
    if (!first_[static_cast<unsigned char>(end[0])]) continue;
    int node = 0;
    for (size_t i = 0; i < length && node >= 0; ++i) node = Step(node, static_cast<unsigned char>(end[i]));
    if (node >= 0 && !nodes_[node].next.empty()) return length;
  }
  return 0;
}

std::vector<Stretch> SpecialTokens::Split(std::string_view text, bool special, bool not_special,
                                          std::string_view mark) const {
  std::vector<Stretch> out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = Longest(text, at, special, not_special);
    if (token == nullptr || (!mark.empty() && text.substr(at + token->content.size()).starts_with(mark))) {
      ++at;
      continue;
    }
    size_t end = at;
    if (token->lstrip) {
      while (end > begin && IsSpace(text[end - 1])) --end;
    }
    if (end > begin) out.push_back({text.substr(begin, end - begin), -1});
    out.push_back({text.substr(at, token->content.size()), token->id});
    at += token->content.size();
    if (token->rstrip) {
      while (at < text.size() && IsSpace(text[at])) ++at;
    }
    begin = at;
  }
  if (begin < text.size()) out.push_back({text.substr(begin), -1});
  return out;
}

}  // namespace pangea
