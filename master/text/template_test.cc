// Chat templates: those of real models, Transformers' dialect of Jinja2, caps.
#include <filesystem>

#include "master/text/rust_text.h"
#include "master/text/text_test_util.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

using json = nlohmann::ordered_json;

PangeaText Borrow(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

std::string RenderSource(const std::string& source, const std::string& context = "{}", size_t max_output = 1 << 20) {
  const auto chat_template = ChatTemplate::Load(source);
  if (!chat_template.ok()) return "LOAD " + std::string(chat_template.status().message());
  const json variables = json::parse(context);
  const std::string messages = variables.value("messages", json::array()).dump(), names = "{}";
  PangeaChat chat{Borrow(messages), Borrow(context), Borrow(names), 0, max_output};
  chat.add_generation_prompt = variables.value("add_generation_prompt", false);
  const auto out = chat_template->Render(chat, nullptr);
  return out.ok() ? out->text : "RENDER " + std::string(out.status().message());
}

// What Jinja2 itself makes of some 1300 templates: every string method of Python, every filter and test of Jinja2, its
// operators, statements, escapes and white space (see testdata/jinja/make_cases.py).
TEST(Template, AsJinja2) {
  const auto file = json::parse(ReadFile(TestData("jinja/cases.json")));
  const std::string context = file["context"].dump();
  ASSERT_GT(file["cases"].size(), 1200u);
  for (const auto& one : file["cases"]) {
    const std::string source = one[0];
    const std::string got = RenderSource(source, context);
    if (one[1].is_null()) {
      EXPECT_TRUE(got.starts_with("LOAD ") || got.starts_with("RENDER ")) << source << " -> " << got;
    } else {
      EXPECT_EQ(got, one[1].get<std::string>()) << source;
    }
  }
}

// A template that can not work is refused when it is loaded, with the line and what is wrong there.
TEST(Template, RefusedWhenLoaded) {
  const std::pair<const char*, const char*> cases[] = {
      {"{{ x | nope }}", "line 1: no filter named 'nope'"},
      {"a\nb\n{{ x is nope }}", "line 3: no test named 'nope'"},
      {"{% for i in x %}\n{{ i|nope }}{% endfor %}", "line 2: no filter named 'nope'"},
      {"{% include 'x' %}", "line 1: 'include' is not served: there are no other templates"},
      {"{% extends 'x' %}", "line 1: 'extends' is not served: there are no other templates"},
      {"{% import 'x' as y %}", "line 1: 'import' is not served: there are no other templates"},
      {"\n{% autoescape true %}{% endautoescape %}", "line 2: autoescape is not served: a prompt is not HTML"},
      {"{{ lipsum(2) }}", "line 1: 'lipsum' is not served: random text makes no prompt"},
      {"{% block a %}{% endblock %}{{ self.a() }}",
       "line 1: 'self' is not served: blocks are written where they stand, and can not be called"},
      {"{{ 1.5.as_integer_ratio() }}", "line 1: the method 'as_integer_ratio' is not served"},
      {"{% do x %}", "line 1: unknown tag 'do'"},
      {"{{ 340282366920938463463374607431768211456 }}",
       "line 1: the integer 340282366920938463463374607431768211456 is beyond 128 bits"},
      {"{{ 2**200 }}", "line 1: an integer is beyond 128 bits"},
      {"{{ '\\N{NO SUCH NAME}' }}", "line 1: unknown Unicode character name \"NO SUCH NAME\" in a string"},
      {"{% if x %}", "line 1: unexpected end of template, looking for elif or else or endif"},
      {"{{ x.y( }}", "line 1: unexpected '}'"},
  };
  for (const auto& [source, why] : cases) {
    const auto got = RenderSource(source);
    EXPECT_TRUE(got.starts_with(std::string("LOAD chat template: ") + why)) << source << " -> " << got;
  }
  // As in Jinja2, what stands under a condition is looked up when it is needed.
  EXPECT_EQ(RenderSource("{% if false %}{{ x | nope }}{% endif %}ok"), "ok");
}

// No template takes more than a bounded time and memory, whatever it multiplies.
TEST(Template, TimeAndMemoryAreBounded) {
  for (const char* source : {
           "{{ 'x' * 10**18 }}",
           "{{ 10**18 * 'x' }}",
           "{{ [0] * 10**12 }}",
           "{{ (1, 2) * 10**12 }}",
           "{{ 'x'.center(10**15) }}",
           "{{ 'x'.zfill(10**30) }}",
           "{{ 'x'.ljust(10**12) }}",
           "{{ 'x'|center(10**12) }}",
           "{{ '\\t'.expandtabs(10**12) }}",
           "{{ '%1000000000000d' % 1 }}",
           "{{ '%*d' % (10**12, 1) }}",
           "{{ '%.1000000000f' % 1 }}",
           "{{ '{:1000000000000}'.format(1) }}",
           "{{ '{:.999999999f}'.format(1.0) }}",
           "{{ 'x'|indent(10**12) }}",
           "{{ [1]|batch(10**12, 0)|list }}",
           "{{ [1]|slice(10**12)|list }}",
           "{{ 10**10**10 }}",
           "{{ (1 + 1)**1000 }}",
           "{{ 9**9**9 }}",
           "{{ range(10**12)|list }}",
           "{{ 'a'|tojson(indent=10**9) }}",
           "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(99999) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
           "{% set ns = namespace(x=['x' * 1000]) %}{% for i in range(99999) %}{% set ns.x = ns.x + ns.x %}{% endfor "
           "%}",
           "{% set ns = namespace(x='x' * 1000) %}{% for i in range(99999) %}{% set ns.x = ns.x.replace('x', 'xx') "
           "%}{% endfor %}",
           "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
           "{% set ns = namespace(x=[1]) %}{% for i in range(50) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
           "{% set ns = namespace(x=[1]) %}{% for i in range(50) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
           "ns.x|tojson }}",
           "{% set ns = namespace() %}{% for i in range(999) %}{% set ns.x = ns %}{% endfor %}{{ ns }}",
           "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
           "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
           "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
           "{% set x = range(99999)|list %}{% for a in x %}{{ x|sort|length }}{% endfor %}",
           "{% set x = 'ab' * 100000 %}{% for a in range(99999) %}{% if 'c' in x %}{% endif %}{% endfor %}",
       }) {
    EXPECT_TRUE(RenderSource(source).starts_with("RENDER ")) << source;
  }
  for (const std::string& source :
       {"{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}", "{{ " + std::string(5000, '-') + "1 }}",
        "{{ 1" + std::string(100000, '+') + "1 }}", "{{ x" + std::string(5000, '[') + " }}"}) {
    EXPECT_TRUE(RenderSource(source).starts_with("LOAD ")) << source.substr(0, 20);
  }
  std::string sum = "{{ 1", attributes = "{{ x", conditions = "{{ x";
  for (int i = 0; i < 20000; ++i) {
    sum += "+1";
    attributes += ".a";
    conditions += " and x";
  }
  for (const std::string& source : {sum, attributes, conditions}) {
    EXPECT_TRUE(RenderSource(source + " }}").starts_with("LOAD ")) << source.substr(0, 20);
  }
}

// Values that hold one another, many times, in a circle or in a long chain: neither compared, hashed, written nor freed
// without end, nor deeper than a thread's stack.
TEST(Template, ValuesThatHoldOneAnother) {
  const std::string two =
      "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
      "{% set ns.b = [ns.b, ns.b] %}{% endfor %}";
  const std::string pair =
      "{% set ns = namespace(a=(1,)) %}{% for i in range(60) %}{% set ns.a = (ns.a, ns.a) %}"
      "{% endfor %}";
  const std::string chain =
      "{% set ns = namespace(c=namespace()) %}{% set first = ns.c %}{% for i in range(990) %}{% set n = namespace() %}"
      "{% set w = namespace(v=n) %}{% for j in range(90) %}{% set w.v = [w.v] %}{% endfor %}{% set c = ns.c %}"
      "{% set c.x = w.v %}{% set ns.c = n %}{% endfor %}";
  for (const std::string& source :
       {two + "{{ ns.a == ns.b }}", two + "{{ ns.a != ns.b }}", two + "{{ ns.a < ns.b }}", two + "{{ ns.a in [ns.b] }}",
        two + "{{ [ns.b].index(ns.a) }}", two + "{{ [ns.b].count(ns.a) }}", two + "{{ ns.a is eq(ns.b) }}",
        two + "{{ {'x': ns.a} == {'x': ns.b} }}", two + "{{ ns.a|pprint }}", pair + "{{ {ns.a: 1} }}",
        pair + "{{ [ns.a, ns.a]|unique|list }}", chain + "{{ first }}",
        std::string("{% set ns = namespace(l=0) %}{% for i in range(99999) %}{% for y in [ns.l] %}"
                    "{% set ns.l = loop %}{% endfor %}{% endfor %}"),
        std::string("{{ 'a'|map(*(['map'] * 2000 + ['upper']))|list }}")}) {
    EXPECT_TRUE(RenderSource(source).starts_with("RENDER ")) << source;
  }
  // What is cheap stays possible, however often it holds one thing.
  const std::string deep = "{% set ns = namespace(a=1) %}{% for i in range(60) %}{% set ns.a = ";
  EXPECT_EQ(RenderSource(deep + "[ns.a, ns.a]|map('default', 0) %}{% endfor %}x"), "x");
  EXPECT_EQ(RenderSource(deep + "cycler(ns.a, ns.a) %}{% endfor %}x"), "x");
  EXPECT_EQ(RenderSource(chain + "x"), "x");
  EXPECT_EQ(RenderSource("{% for i in [1, 2] %}{{ loop.changed(loop) }}{% endfor %}"), "TrueFalse");
  EXPECT_EQ(RenderSource("{% set n = 'nan'|float %}{{ ([3, n, 1, n, 2, n, 7, n, 5] * 9)|sort|length }}"), "81");
}

// Small arguments that would make a text far beyond the bound: refused before it is made.
TEST(Template, OutputIsBoundedBeforeItIsMade) {
  for (const char* source : {
           "{{ {'x' * 100000: range(20000)|list}|pprint }}",
           "{{ ('x' * 100000)|wordwrap(1, true, 'y' * 20000) }}",
           "{% set ns = namespace(a='<'|e) %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
           "{% set d = dict.fromkeys(range(90000)) %}{% for i in range(90000) %}{% for k in d %}{% break %}{% endfor %}"
           "{% endfor %}",
           "{{ '{:09000000,}'.format(5) }}",
       }) {
    EXPECT_TRUE(RenderSource(source).starts_with("RENDER ")) << source;
  }
  EXPECT_EQ(RenderSource("{{ '{:0900000,}'.format(5)|length }}"), "900001");  // a group is never cut: 0,000,005
}

// The default system prompt of Mistral-Small-3.1's template is a string literal whose lines end in a backslash.
TEST(Template, BackslashAtTheEndOfALineGoesOn) {
  const std::string source =
      "{%- set today = '2025-01-01' %}\n"
      "{%- set default_system_message = \"You are Mistral Small 3, made by Mistral AI.\\n\\\nThe current date is \" + "
      "today + \".\\n\\n\\\nWhen unsure, say so.\" %}\n{{ default_system_message }}";
  const std::string expected =
      "You are Mistral Small 3, made by Mistral AI.\nThe current date is 2025-01-01.\n\nWhen unsure, say so.";
  EXPECT_EQ(RenderSource(source), expected);
  std::string windows;
  for (const char c : source) windows += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_EQ(RenderSource(windows), expected);
}

TEST(Template, ValuesAndMethodsAreThoseOfPython) {
  // Expected values: Jinja2 3.1 with Transformers' environment, and Python's json.
  const std::string context =
      R"({"x": {"b": [1, 2.0, true, null], "a": "é<'&\"\n"}, "n": 1e100, "t": true, "s": "a,b"})";
  EXPECT_EQ(RenderSource("{{ x | tojson }}", context), R"({"b": [1, 2.0, true, null], "a": "é<'&\"\n"})");
  EXPECT_EQ(RenderSource("{{ x.b | tojson(indent=2) }}", context), "[\n  1,\n  2.0,\n  true,\n  null\n]");
  EXPECT_EQ(RenderSource("{{ {} | tojson(indent=2) }}{{ [] | tojson }}"), "{}[]");
  EXPECT_EQ(RenderSource("{{ x.a | tojson(ensure_ascii=true) }}", context), R"("\u00e9<'&\"\n")");
  EXPECT_EQ(RenderSource("{{ x | tojson(sort_keys=true, separators=(',', ':')) }}", context),
            R"({"a":"é<'&\"\n","b":[1,2.0,true,null]})");
  EXPECT_EQ(RenderSource("{{ t }} {{ none }} {{ x.b }} {{ n }} {{ undefined_name }}", context),
            "True None [1, 2.0, True, None] 1e+100 ");
  EXPECT_EQ(RenderSource("{{ s.split(',')[1] }}{{ ' x '.strip() }}{{ 'ab'.startswith('a') }}{{ s.replace(',', ';') }}",
                         context),
            "bxTruea;b");
  EXPECT_EQ(RenderSource("{% for k, v in x.items() %}{{ k }}{% endfor %}", context), "ba");
  EXPECT_EQ(RenderSource("{% set ns = namespace(n=0) %}{% for i in [1, 2, 3] %}{% if i == 3 %}{% break %}{% endif %}"
                         "{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}"),
            "3");
  EXPECT_EQ(RenderSource("a\n  {% if true %}\nb\n  {% endif %}\nc\n"),
            "a\nb\nc");  // trim_blocks, lstrip_blocks, last newline
  EXPECT_EQ(RenderSource("{% generation %}x{% endgeneration %}{%- generation -%} y {%- endgeneration -%}"), "xy");
  EXPECT_EQ(RenderSource("{{ '<b>' }}{{ '<b>' | safe }}"), "<b><b>");
  EXPECT_EQ(RenderSource("{{ [3, 1][::-1] }}{{ 'abc'[1:] }}"), "[1, 3]bc");
  EXPECT_EQ(RenderSource("{{ strftime_now('%Y') | length }}{{ strftime_now('') }}"), "4");
  // Python's own: microseconds, and no zone, since the time has none.
  EXPECT_EQ(RenderSource("{{ strftime_now('%f')|length }}{{ strftime_now('%f')|int >= 0 }}"), "6True");
  EXPECT_EQ(RenderSource("{{ strftime_now('<%z%Z>') }}{{ strftime_now('%Z') }}{{ strftime_now('%%f%') }}"), "<>%f%");
  EXPECT_EQ(
      RenderSource(
          "{{ none is iterable }}{{ 'x' is iterable }}{{ [] is sequence }}{{ {} is sequence }}{{ 1 is iterable }}"),
      "FalseTrueTrueTrueFalse");
  EXPECT_EQ(RenderSource("{% macro f(a, b='!') %}{{ a ~ b }}{% endmacro %}{{ f('x') }}"), "x!");
}

TEST(Template, WhatATemplateRefusesAndWhatIsRefusedOfIt) {
  EXPECT_EQ(RenderSource("{{ raise_exception('No, sir!') }}"), "RENDER chat template: No, sir!");
  EXPECT_EQ(RenderSource("{% macro f() %}{{ raise_exception('deep') }}{% endmacro %}{{ f() }}"),
            "RENDER chat template: deep");
  EXPECT_TRUE(RenderSource("{% if %}").starts_with("LOAD chat template: "));
  EXPECT_TRUE(RenderSource(std::string(2 << 20, 'x')).starts_with("LOAD"));
  EXPECT_TRUE(RenderSource("{{ 'x'.__class__.__mro__ }}").starts_with("RENDER"));
  EXPECT_TRUE(RenderSource("{% for i in range(10**9) %}{% endfor %}").starts_with("RENDER"));
  const std::string nested =
      "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}{% endfor %}{% endfor %}{% "
      "endfor %}";
  EXPECT_NE(RenderSource(nested).find("fuel"), std::string::npos);
  EXPECT_TRUE(RenderSource("{{ 'x' * 1000000000 }}").starts_with("RENDER"));
  EXPECT_TRUE(RenderSource("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").starts_with("RENDER"));
  EXPECT_NE(RenderSource("{% for i in range(10000) %}0123456789{% endfor %}", "{}", 5000).find("5000 bytes"),
            std::string::npos);
  EXPECT_TRUE(RenderSource("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}").starts_with("LOAD"));
}

// What each of these writes for a plain chat was checked by hand against the template's text.
TEST(Template, TemplatesOfRealModels) {
  const std::string context =
      R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
      {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye"}],
      "tools": null, "documents": null, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true})";
  const auto render = [&](const std::string& name) {
    return RenderSource(ReadFile(TestData("templates/" + name + ".jinja")), context);
  };
  EXPECT_EQ(render("Qwen-Qwen2.5-7B-Instruct"),
            "<|im_start|>system\nBe "
            "brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
            "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render("Qwen-Qwen3-0.6B"), render("Qwen-Qwen2.5-7B-Instruct"));
  EXPECT_EQ(render("mistralai-Mistral-Nemo-Instruct-2407"), "<s>[INST]Hi[/INST]Hello</s>[INST]Be brief.\n\nBye[/INST]");
  EXPECT_EQ(render("microsoft-Phi-3.5-mini-instruct"),
            "<|system|>\nBe "
            "brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n");
  const std::string smol = render("HuggingFaceTB-SmolLM3-3B");
  EXPECT_NE(smol.find("<|im_start|>system\n## Metadata"), std::string::npos) << smol;
  EXPECT_NE(smol.find("Be brief."), std::string::npos) << smol;
  EXPECT_TRUE(smol.ends_with("<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n")) << smol;
}

// There are more published templates than can be copied here: PANGEA_TEMPLATES names another folder of *.jinja files.
TEST(Template, EveryPublishedTemplateOfAFolderRenders) {
  const char* other = std::getenv("PANGEA_TEMPLATES");
  const std::string folder = other != nullptr ? other : TestData("templates");
  const std::string context = R"({"messages": [{"role": "user", "content": "What is the capital of France?"}],
      "tools": null, "documents": null, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true})";
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    const std::string out = RenderSource(ReadFile(entry.path()), context);
    EXPECT_FALSE(out.starts_with("LOAD") || out.starts_with("RENDER")) << entry.path() << ": " << out;
    EXPECT_NE(out.find("What is the capital of France?"), std::string::npos) << entry.path();
    ++count;
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace pangea
