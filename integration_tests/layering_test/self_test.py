#!/usr/bin/env python3
"""The checkers must be able to fail: planted breaches that they have to find, and clean code that they must leave alone."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import include_table  # noqa: E402
import names  # noqa: E402
import sizes  # noqa: E402
import thread_safety  # noqa: E402


def tree(files):
    root = pathlib.Path(tempfile.mkdtemp(prefix="layering-"))
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root, sorted(files)


class Includes(unittest.TestCase):
    def breaches(self, name, include):
        root, files = tree({name: f"// text\n#include {include}\n"})
        return list(include_table.include_breaches(root, files))

    def test_planted_breaches_are_found(self):
        for name, include in [
            ("kernels/ops.cc", '"configs/deployment.h"'),
            ("configs/validate.cc", '"kernels/types.h"'),
            ("pipeline/stage.cc", '"agent/kv_cache.h"'),
            ("pipeline/stage.cc", '"protos/agent.pb.h"'),
            ("pipeline/parallel_plan.cc", '"kernels/threads.h"'),
            ("pipeline/stage.cc", "<grpcpp/grpcpp.h>"),
            ("agent/service.cc", '"master/fleet/fleet.h"'),
            ("master/server.cc", '"agent/service.h"'),
            ("master/server.cc", '"pipeline/stage.h"'),
            ("master/server.cc", '"pipeline/checkpoint/weights.h"'),
            ("master/fleet/launcher.cc", '"kernels/ops.h"'),
            ("master/schedule/engine.cc", '"master/text/text.h"'),
            ("master/schedule/engine.cc", '"kernels/types.h"'),
            ("clients/client.cc", '"configs/deployment.h"'),
            ("master/api/x.cc", '"../schedule/engine.h"'),
            ("master/api/doors.cc", '"master/fleet/fleet.h"'),
            ("master/api/openai/request.cc", '"master/api/generation/checked.h"'),
            ("master/api/openai/request.cc", "<boost/asio/buffer.hpp>"),
            ("master/api/generation/gate.cc", '"master/api/http/rules.h"'),
            ("master/api/generation/service.cc", "<boost/asio/post.hpp>"),
            ("master/api/generation/service.cc", "<grpcpp/grpcpp.h>"),
            ("master/api/http/rest.cc", '"master/api/grpc/door.h"'),
            ("master/api/http/rest.cc", "<grpcpp/grpcpp.h>"),
            ("master/api/grpc/door.cc", "<boost/asio.hpp>"),
            ("master/text/text.cc", '"master/schedule/engine.h"'),
            ("agent/executor.cc", "<boost/asio.hpp>"),
            ("agent/service.cc", "<gloo/context.h>"),
        ]:
            self.assertEqual(len(self.breaches(name, include)), 1, f"{name} {include}")

    def test_the_table_lets_in_what_it_should(self):
        for name, include in [
            ("kernels/cpu/gemm.cc", '"kernels/ops.h"'),
            ("pipeline/stage.cc", '"kernels/ops.h"'),
            ("agent/executor.cc", '"pipeline/stage.h"'),
            ("master/server.cc", '"pipeline/parallel_plan.h"'),
            ("master/api/generation/generation.cc", '"master/text/text.h"'),
            ("master/api/generation/chat_input.cc", '"master/api/openai/json_reader.h"'),
            ("master/api/http/connection.cc", "<boost/beast.hpp>"),
            ("master/api/http/serve.cc", '"master/api/generation/service.h"'),
            ("master/api/doors.cc", '"master/api/grpc/door.h"'),
            ("clients/client.cc", '"protos/generation.grpc.pb.h"'),
            ("pangea.cc", '"master/server.h"'),
            ("pipeline/stage_test.cc", '"agent/group/thread_group.h"'),
            ("kernels/ops.cc", "<vector>"),
            ("agent/group/gloo_group.cc", "<gloo/context.h>"),
            ("master/schedule/engine.h", '"pipeline/step.h"'),
        ]:
            self.assertEqual(self.breaches(name, include), [], f"{name} {include}")

    def test_headers_are_followed(self):
        files = {
            "master/server.cc": '#include "pipeline/step.h"\n',
            "pipeline/step.h": '#include "pipeline/checkpoint/header.h"\n',
            "pipeline/checkpoint/header.h": '#include "kernels/types.h"\n',
            "kernels/types.h": "",
        }
        root, names = tree(files)
        self.assertEqual(list(include_table.reach_breaches(root, names)), [])
        root, names = tree(files | {"kernels/types.h": '#include "kernels/ops.h"\n', "kernels/ops.h": ""})
        self.assertEqual(
            list(include_table.reach_breaches(root, names)),
            [
                "master/server.cc: reaches kernels/ops.h: master/server.cc -> pipeline/step.h -> pipeline/checkpoint/header.h"
                " -> kernels/types.h -> kernels/ops.h"
            ],
        )

    def test_links_are_followed(self):
        root, files = tree(
            {
                "master/CMakeLists.txt": "pangea_library(master SOURCES server.cc DEPS master_fleet)\npangea_library(master_fleet SOURCES f.cc DEPS helper)\n",
                "x/CMakeLists.txt": "pangea_library(helper SOURCES h.cc\n DEPS configs pipeline_stage) # a comment\n",
            }
        )
        found = list(include_table.link_breaches(root, files))
        self.assertEqual(found, ["CMake: master may not reach pipeline_stage: master -> master_fleet -> helper -> pipeline_stage"])

    def test_what_a_library_of_others_brings_is_its_own_affair(self):
        root, files = tree(
            {"CMakeLists.txt": "pangea_library(configs SOURCES c.cc DEPS deps_absl)\ntarget_link_libraries(deps_absl INTERFACE deps_grpc)"}
        )
        self.assertEqual(list(include_table.link_breaches(root, files)), [])
        root, files = tree({"CMakeLists.txt": "pangea_library(configs SOURCES c.cc DEPS deps_absl deps_grpc)"})
        self.assertEqual(len(list(include_table.link_breaches(root, files))), 1)

    def test_clean_links(self):
        root, files = tree(
            {
                "CMakeLists.txt": "pangea_library(master SOURCES s.cc DEPS pipeline_plan configs)\npangea_library(pipeline_plan SOURCES p.cc DEPS configs)"
            }
        )
        self.assertEqual(list(include_table.link_breaches(root, files)), [])


def body(lines):
    return "".join(f"  x += {i};\n" for i in range(lines))


class Sizes(unittest.TestCase):
    def longest(self, text):
        return max((lines for _, _, lines in sizes.braced_functions(text)), default=0)

    def test_lines_of_a_function_count_signature_and_brace(self):
        self.assertEqual(sizes.braced_functions("int f(int a,\n      int b) {\n" + body(97) + "}\n"), [("f", 1, 100)])

    def test_long_functions_are_found_wherever_they_hide(self):
        for around in (
            "{}",
            "namespace a {{\nnamespace {{\n{}}}\n}}",
            "class A : public B<int> {{\n public:\n{}}};",
            "template <class T>\nstruct A {{\n{}}};",
            'extern "C" {{\n{}}}',
            "impl A for B {{\n{}}}",
        ):
            for signature in (
                "void F() {",
                "auto C::F(int x) const -> int {",
                "C::C(int a) : a_(a), b_(std::move(a)) {",
                "bool operator==(const A& o) const {",
                "template <class T>\nstatic std::vector<T> F(std::function<void(int)> f = nullptr) noexcept {",
                "fn f(x: &str) -> Result<(), String> {",
                "constexpr int F() {",
            ):
                text = around.format(signature + "\n" + body(150) + "}\n")
                self.assertGreaterEqual(self.longest(text), 152, text[:120])

    def test_what_is_no_function_is_left_alone(self):
        table = "const Row kTable[] = {\n" + "".join(f'  {{{i}, "a{{"}},\n' for i in range(200)) + "};\n"
        self.assertEqual(self.longest(table), 0)
        self.assertEqual(self.longest("struct A {\n" + "".join(f"  int a{i} = {i};\n" for i in range(200)) + "};\n"), 0)
        self.assertEqual(self.longest("namespace a {\n" + "int F() { return 1; }\n" * 200 + "}\n"), 1)

    def test_strings_comments_and_raw_strings_do_not_confuse_it(self):
        text = 'void F() {\n  a = "}{{{";  // }}}\n  b = \'{\';\n  c = R"x(}}}\n{{)x";\n  /* { \n */\n}\nvoid G() {\n' + body(5) + "}\n"
        self.assertEqual([(n, l) for n, _, l in sizes.braced_functions(text)], [("F", 8), ("G", 7)])

    def test_lambdas_count_into_their_function(self):
        self.assertEqual(self.longest("void F() {\n  auto f = [&](int x) {\n" + body(100) + "  };\n  if (a) {\n  }\n}\n"), 106)

    def test_python(self):
        self.assertEqual(sizes.python_functions("def f():\n" + "    x = 1\n" * 120), [("f", 1, 121)])

    def test_a_long_file_is_measured(self):
        root, files = tree({"kernels/a.cc": "int x;\n" * 501})
        self.assertEqual(sizes.measure(root, files)[0], [("kernels/a.cc", 501)])


class Names(unittest.TestCase):
    def breaches(self, a, b, second="clients/b.h"):
        root, files = tree({"master/a.h": a, second: b})
        return list(names.breaches(root, files))

    def test_the_same_type_in_two_rooms_is_found(self):
        for a in (
            "struct A {\n  int x;\n};",
            "class A final : public B {\n};",
            "template <class T>\nstruct A {\n};",
            "enum class A : int { kX };",
            "struct C {};\nstruct A { struct D {}; };",
        ):
            for around in ("namespace pangea {{\n{}\n}}\n", "#include <x>\nnamespace pangea {{\nclass F;\nvoid G(int);\n{}\n}}\n"):
                found = self.breaches(around.format(a), "namespace pangea {\nclass A {\n int y;\n};\n}\n")
                self.assertEqual(len(found), 1, a)
                self.assertIn("pangea::A", found[0])

    def test_what_is_no_clash(self):
        a = "namespace pangea {\nclass A {\n};\n}\n"
        for b in (
            "namespace pangea {\nnamespace {\nclass A {\n};\n}\n}\n",
            "namespace pangea::other {\nclass A {\n};\n}\n",
            "namespace pangea {\nclass A;\nclass B {\n  class A {\n  };\n};\n}\n",
            "namespace pangea {\nvoid F() {\n  struct A {\n  };\n}\n}\n",
            "namespace pangea {\n// class A {\n}\n",
        ):
            self.assertEqual(self.breaches(a, b), [], b)

    def test_what_is_for_tests_is_named_so(self):
        for name, text in [
            ("master/fakes.h", ""),
            ("master/text/testing.h", ""),
            ("master/engine_fixture.h", ""),
            ("pipeline/test_checkpoint.h", ""),
            ("master/engine_bench.h", "#include <gtest/gtest.h>\n"),
        ]:
            root, files = tree({name: text})
            self.assertEqual(len(list(names.test_breaches(root, files))), 1, name)
        for name in ("master/fake_engine.h", "master/engine_test_util.h", "master/engine_test.cc", "kernels/toy_device.h"):
            root, files = tree({name: "#include <gtest/gtest.h>\n" if "test" in name else ""})
            self.assertEqual(list(names.test_breaches(root, files)), [], name)

    def test_a_class_defined_once_more_by_a_test_is_found(self):
        real = "std::string Text::Decode(const std::vector<int>& ids) const {\n}\nText::~Text() = default;\n"
        for double in ("std::string Text::Decode(const std::vector<int>&) const { return x; }\n", "Text::~Text() = default;\n"):
            root, files = tree({"master/text/text.cc": real, "master/text/fake_text.cc": double})
            self.assertEqual(len(list(names.test_breaches(root, files))), 1, double)
        own = "std::string FakeText::Decode(int) const {\n  return Text::Decode(1);\n}\n// Text::Decode(x)\n"
        root, files = tree({"master/text/text.cc": real, "master/text/fake_text.cc": own})
        self.assertEqual(list(names.test_breaches(root, files)), [])

    def test_two_tests_may_share_a_name(self):
        root, files = tree(
            {"master/a_test.cc": "namespace pangea {\nclass A {\n};\n}\n", "clients/a_test.cc": "namespace pangea {\nclass A {\n};\n}\n"}
        )
        self.assertEqual(list(names.breaches(root, files)), [])


class ThreadSafety(unittest.TestCase):
    HOUSE = pathlib.Path(__file__).resolve().parents[2]

    def breaches(self, body):
        """of a function `body` in a class whose `count_` a mutex guards"""
        wrapper = (self.HOUSE / thread_safety.WRAPPER).read_text()
        text = f'#include "{thread_safety.WRAPPER}"\nclass C {{ void F() {{ {body} }}\npangea::Mutex mutex_; int count_ ABSL_GUARDED_BY(mutex_); }};\n'
        root, names = tree({thread_safety.WRAPPER: wrapper, "agent/c.cc": text})
        units = thread_safety.rooms(root, names)
        self.assertEqual(dict(units), {"agent": ["agent/c.cc"]})
        return thread_safety.analyse(root, root, units["agent"])

    def test_what_a_mutex_guards_is_touched_with_it_alone(self):
        self.assertEqual(self.breaches("pangea::MutexLock lock(mutex_); ++count_;"), "")
        self.assertIn("requires holding mutex", self.breaches("++count_;"))
        self.assertIn("requires holding mutex", self.breaches("pangea::MutexLock lock(mutex_); lock.unlock(); ++count_;"))

    def test_a_source_that_names_no_lock_is_looked_at(self):
        wrapper = (self.HOUSE / thread_safety.WRAPPER).read_text()
        header = f'#pragma once\n#include "{thread_safety.WRAPPER}"\nstruct C {{ void F(); pangea::Mutex mutex_; int count_ ABSL_GUARDED_BY(mutex_); }};\n'
        root, names = tree(
            {thread_safety.WRAPPER: wrapper, "agent/c.h": header, "agent/d.cc": '#include "agent/c.h"\nvoid C::F() { ++count_; }\n'}
        )
        (files,) = thread_safety.rooms(root, names).values()
        self.assertIn("agent/d.cc:2", thread_safety.analyse(root, root, files))

    def test_a_lock_that_the_analysis_cannot_see_is_a_breach(self):
        root, names = tree(
            {"agent/a.cc": "std::mutex m;  // std::mutex\n", "agent/b.cc": "// std::mutex\n", "agent/c_test.cc": "std::mutex m;\n"}
        )
        self.assertEqual([b.split(": ")[0] for b in thread_safety.unseen_locks(root, names)], ["agent/a.cc:1"])


if __name__ == "__main__":
    unittest.main()
