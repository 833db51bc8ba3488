#include "configs/yaml_tree.h"

#include <istream>
#include <sstream>
#include <utility>

#include "configs/cat.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/parser.h"

namespace pangea {
namespace {

// yaml-cpp's events -> tree. What the guard should have refused is refused here too: two scanners may differ in a
// corner.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::shared_ptr<const std::string> source, bool place_in_text)
      : source_(std::move(source)), place_in_text_(place_in_text) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(mark, "", anchor, YamlNode::Kind::kNull, "");
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { Fail(mark, "aliases are refused"); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Add(mark, tag, anchor, YamlNode::Kind::kScalar, value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Push(mark, tag, anchor, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { Pop(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Push(mark, tag, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { Pop(); }

  YamlNode root;
  std::string fault;  // the first; later events are ignored

 private:
  struct Frame {
    YamlNode* node;  // stable: a parent's vector does not grow while its last child is open
    bool has_name = false;
    std::string name;
    YamlPlace name_place;
  };

  YamlPlace Place(const YAML::Mark& mark) const {
    return place_in_text_ ? YamlPlace{source_, mark.line + 1, mark.column + 1} : YamlPlace{source_};
  }
  void Fail(const YAML::Mark& mark, std::string_view what) {
    if (fault.empty()) fault = Cat(Place(mark).Text(), ": ", what);
  }

  YamlNode* Add(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind,
                const std::string& text) {
    if (!fault.empty()) return nullptr;
    if (anchor != 0) return Fail(mark, "anchors are refused"), nullptr;
    // yaml-cpp gives "?" to what is plain and "!" to what is quoted.
    if (tag != "" && tag != "?" && tag != "!") return Fail(mark, "tags are refused"), nullptr;
    if (kind != YamlNode::Kind::kNull && stack_.size() >= kMaxYamlDepth + kMaxYamlIndent)
      return Fail(mark, "nested too deeply"), nullptr;
    YamlNode node;
    node.kind = kind;
    node.place = Place(mark);
    node.text = text;
    node.quoted = tag == "!";
    if (kind == YamlNode::Kind::kScalar && !node.quoted &&
        (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")) {
      node.kind = YamlNode::Kind::kNull;
    }
    if (stack_.empty()) {
      root = std::move(node);
      return &root;
    }
    Frame& frame = stack_.back();
    if (frame.node->kind == YamlNode::Kind::kList) {
      return &frame.node->items.emplace_back(std::move(node));
    }
    if (!frame.has_name) {
      if (kind != YamlNode::Kind::kScalar) return Fail(mark, "a key must be a plain word"), nullptr;
      frame.has_name = true;
      frame.name = text;
      frame.name_place = node.place;
      return nullptr;
    }
    frame.has_name = false;
    return &frame.node->entries.emplace_back(YamlNode::Entry{std::move(frame.name), frame.name_place, std::move(node)})
                .value;
  }
  void Push(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    YamlNode* node = Add(mark, tag, anchor, kind, "");
    if (node != nullptr) stack_.push_back({node});
  }
  void Pop() {
    if (fault.empty() && !stack_.empty()) stack_.pop_back();
  }

  std::shared_ptr<const std::string> source_;
  bool place_in_text_;
  std::vector<Frame> stack_;
};

// yaml-cpp reads from a stream; this one reads the caller's bytes in place.
struct ViewBuffer : std::streambuf {
  explicit ViewBuffer(std::string_view text) {
    char* p = const_cast<char*>(text.data());
    setg(p, p, p + text.size());
  }
};

}  // namespace

std::string YamlPlace::Text() const { return line == 0 ? *source : Cat(*source, ":", line, ":", column); }

YamlNode* YamlNode::Find(std::string_view name) {
  for (Entry& entry : entries) {
    if (entry.name == name) return &entry.value;
  }
  return nullptr;
}

std::string_view KindName(YamlNode::Kind kind) {
  switch (kind) {
    case YamlNode::Kind::kNull:
      return "empty";
    case YamlNode::Kind::kScalar:
      return "a single value";
    case YamlNode::Kind::kMap:
      return "a map";
    case YamlNode::Kind::kList:
      return "a list";
  }
  return "?";
}

YamlResult ParseYaml(std::string_view text, const std::string& source, bool place_in_text) {
  YamlResult result;
  auto shared = std::make_shared<const std::string>(source);
  auto place = [&](int line, int column) {
    return (place_in_text ? YamlPlace{shared, line, column} : YamlPlace{shared}).Text();
  };
  for (const YamlFault& fault : GuardYaml(text)) {
    result.faults.push_back(Cat(place(fault.line, fault.column), ": ", fault.what));
  }
  if (!result.faults.empty()) return result;
  TreeBuilder builder(shared, place_in_text);
  try {
    ViewBuffer buffer(text);
    std::istream stream(&buffer);
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(builder)) {
      YamlNode root = std::move(builder.root);
      TreeBuilder second(shared, place_in_text);
      if (builder.fault.empty() && parser.HandleNextDocument(second))
        builder.fault = place(0, 0) + ": more than one YAML document";
      builder.root = std::move(root);
    }
    if (!builder.fault.empty()) result.faults.push_back(builder.fault);
  } catch (const YAML::Exception& e) {
    const bool known = e.mark.line >= 0;
    result.faults.push_back(
        Cat(place(known ? e.mark.line + 1 : 0, known ? e.mark.column + 1 : 0), ": not YAML: ", e.msg));
  }
  result.root = std::move(builder.root);
  return result;
}

}  // namespace pangea
