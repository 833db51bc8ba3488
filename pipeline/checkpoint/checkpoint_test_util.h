// Small checkpoint files written byte by byte, for tests.
#pragma once
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace pangea {

// A folder that is gone with the test.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "pangea-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  std::string Write(const std::string& name, const std::string& bytes) const {
    const auto path = path_ / name;
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path.string();
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

template <typename T>
std::string Raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// A GGUF file in the making. Types: 4 u32, 5 i32, 6 f32, 7 bool, 8 string, 9 array, 10 u64.
struct GgufFile {
  uint32_t version = 3;
  std::vector<std::pair<std::string, std::string>> keys;  // name -> type and value
  struct Tensor {
    std::string name;
    std::vector<uint64_t> ne;
    uint32_t type = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  std::vector<Tensor> tensors;
  uint64_t alignment = 32;

  static std::string Text(const std::string& text) { return Raw<uint64_t>(text.size()) + text; }
  void U32(const std::string& key, uint32_t value) { keys.emplace_back(key, Raw<uint32_t>(4) + Raw(value)); }
  void F32(const std::string& key, float value) { keys.emplace_back(key, Raw<uint32_t>(6) + Raw(value)); }
  void String(const std::string& key, const std::string& value) {
    keys.emplace_back(key, Raw<uint32_t>(8) + Text(value));
  }
  void Set(const std::string& key, const std::string& typed) {
    for (auto& [name, value] : keys) {
      if (name == key) {
        value = typed;
        return;
      }
    }
    keys.emplace_back(key, typed);
  }
  // Appends an f32 tensor behind the others.
  void Add(const std::string& name, std::vector<uint64_t> ne) {
    uint64_t bytes = 4, offset = 0;
    for (const uint64_t n : ne) bytes *= n;
    if (!tensors.empty())
      offset = (tensors.back().offset + tensors.back().bytes + alignment - 1) / alignment * alignment;
    tensors.push_back({name, std::move(ne), 0, offset, bytes});
  }
  std::string Header() const {
    std::string out = "GGUF" + Raw(version) + Raw<uint64_t>(tensors.size()) + Raw<uint64_t>(keys.size());
    for (const auto& [key, value] : keys) out += Text(key) + value;
    for (const Tensor& t : tensors) {
      out += Text(t.name) + Raw<uint32_t>(static_cast<uint32_t>(t.ne.size()));
      for (const uint64_t n : t.ne) out += Raw(n);
      out += Raw(t.type) + Raw(t.offset);
    }
    return out;
  }
  std::string Bytes() const {
    std::string out = Header();
    out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    if (!tensors.empty()) out.resize(out.size() + tensors.back().offset + tensors.back().bytes, '\1');
    return out;
  }
};

// A Llama of one layer: width 8, 2 heads, vocabulary 4.
inline GgufFile TinyLlama() {
  GgufFile f;
  f.String("general.architecture", "llama");
  f.U32("llama.block_count", 1);
  f.U32("llama.context_length", 32);
  f.U32("llama.embedding_length", 8);
  f.U32("llama.feed_forward_length", 6);
  f.U32("llama.attention.head_count", 2);
  f.U32("llama.attention.head_count_kv", 1);
  f.F32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  f.U32("tokenizer.ggml.eos_token_id", 2);
  f.Set("tokenizer.ggml.tokens", Raw<uint32_t>(9) + Raw<uint32_t>(8) + Raw<uint64_t>(4) + GgufFile::Text("a") +
                                     GgufFile::Text("b") + GgufFile::Text("c") + GgufFile::Text("d"));
  f.Add("token_embd.weight", {8, 4});
  f.Add("blk.0.attn_norm.weight", {8});
  f.Add("blk.0.attn_q.weight", {8, 8});
  f.Add("blk.0.attn_k.weight", {8, 4});
  f.Add("blk.0.attn_v.weight", {8, 4});
  f.Add("blk.0.attn_output.weight", {8, 8});
  f.Add("blk.0.ffn_norm.weight", {8});
  f.Add("blk.0.ffn_gate.weight", {8, 6});
  f.Add("blk.0.ffn_up.weight", {8, 6});
  f.Add("blk.0.ffn_down.weight", {6, 8});
  f.Add("output_norm.weight", {8});
  return f;
}

// A safetensors file: header text as given (or of the wrong length, when told), then data.
inline std::string SafetensorsBytes(const std::string& header, const std::string& data) {
  return Raw<uint64_t>(header.size()) + header + data;
}

}  // namespace pangea
