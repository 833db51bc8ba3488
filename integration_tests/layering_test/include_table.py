#!/usr/bin/env python3
"""include_table.py ROOT: every #include line, and every link list in CMake, against ARCHITECTURE.md's table of who may enter which room.

Looks at the tracked files of ROOT (or at all files, when ROOT is no git checkout). Prints each breach as FILE:LINE and exits 1.
"""

import pathlib
import re
import subprocess
import sys

SOURCES = {".h", ".cc", ".cu", ".cuh", ".inc"}

# What master may see of pipeline: plain data and pure functions. Never a stage, a weight, or an op.
PLAN = [
    *(
        f"pipeline/{name}"
        for name in (
            "activation_buffers",
            "activity",
            "agent_memory",
            "balance",
            "capacity",
            "cost_model",
            "model_config",
            "parallel_plan",
            "plan_text",
        )
    ),
    *(f"pipeline/{name}" for name in ("reduction_tree", "rope", "step")),
    *(f"pipeline/checkpoint/{name}" for name in ("content_hash", "fields", "folder", "gguf", "hash", "header", "hf_config")),
    *(f"pipeline/checkpoint/{name}" for name in ("mapped_file", "safetensors", "sampling", "tensor_names", "tensor_table")),
]
# The plan half of pipeline takes types and byte formulas from the kernels, so that it counts what they really hold; it reaches no op.
PLAN_FROM_KERNELS = ["pipeline/", "configs/", "kernels/types.h", "kernels/cuda/limits.h"]

# What a generation is made of: whose it is, text, the engine, what is counted and drawn of it.
GENERATION_FROM = [
    *PLAN,
    "configs/",
    "protos/",
    "master/keys/",
    "master/text/",
    "master/schedule/",
    "master/metrics/",
]

# The longest prefix of a file's path decides. Each value: path prefixes that the file may include; its own room is always allowed.
TABLE = {
    "kernels/": ["configs/mutex.h"],
    "configs/": [],
    "protos/": [],
    "protos/step_codec": ["pipeline/step.h", "pipeline/activity.h", "configs/values.h"],
    "pipeline/": ["kernels/", "configs/"],
    **{plan: PLAN_FROM_KERNELS for plan in PLAN},
    "agent/": ["pipeline/", "kernels/", "configs/", "protos/"],
    "master/": [*PLAN, "kernels/types.h", "configs/", "protos/"],
    "master/schedule/": ["pipeline/step.h", "configs/mutex.h"],  # integers only: no text, no tensor, no wire
    "master/text/": [*PLAN, "configs/mutex.h", "configs/read_file.h"],  # strings and ids; no engine, no wire, no deployment
    # The doors, from below: JSON and messages; requests on their way, whatever door they came by; the two doors.
    "master/api/openai/": ["configs/", "protos/", "master/text/ascii.h", "master/text/utf8.h"],
    "master/api/generation/": [*GENERATION_FROM, "master/api/openai/"],
    "master/api/http/": ["configs/", "protos/", "master/listen.h", "master/text/ascii.h", "master/api/openai/", "master/api/generation/"],
    "master/api/grpc/": ["configs/", "protos/", "master/listen.h", "master/api/openai/", "master/api/generation/"],
    "master/api/": ["configs/", "master/schedule/"],
    "clients/": ["protos/generation", "configs/command_line.h", "configs/mutex.h"],  # nothing of a deployment
    "bench/": ["kernels/", "pipeline/", "configs/", "agent/", "master/", "protos/", "clients/"],
    "integration_tests/": ["kernels/", "pipeline/", "configs/", "agent/", "master/", "protos/", "clients/"],
    "pangea.cc": ["agent/", "master/", "clients/", "configs/", "pipeline/", "kernels/", "protos/"],
}
# Narrower than the top folder.
OWN_ROOM = {
    room: [room]
    for room in (
        "master/schedule/",
        "master/text/",
        "master/api/openai/",
        "master/api/generation/",
        "master/api/http/",
        "master/api/grpc/",
        "master/api/",
    )
}
ROOMS = ("kernels/", "configs/", "protos/", "pipeline/", "agent/", "master/", "clients/", "bench/", "integration_tests/")

# Libraries that only some rooms may use: (include pattern, rooms that may).
LIBRARIES = [
    (re.compile(r"(grpcpp|grpc)/"), ("agent/", "master/api/grpc/", "master/fleet/", "clients/", "integration_tests/", "bench/")),
    # The doors share one I/O thread, which doors.cc runs.
    (re.compile(r"boost/(beast|asio)"), ("master/api/http/", "master/api/doors.cc", "clients/", "bench/", "integration_tests/")),
    (
        re.compile(r"(sys/socket|netinet/|arpa/)"),
        ("agent/", "master/api/http/", "master/fleet/", "master/listen.cc", "clients/", "integration_tests/", "bench/"),
    ),
    (re.compile(r"gloo/"), ("agent/group/",)),
    (re.compile(r"boost/context"), ("kernels/cuda/fibers.cc",)),
    (re.compile(r"cuda_|nccl|cublas"), ("kernels/cuda/",)),
    (re.compile(r"sentencepiece"), ("master/text/",)),
    (re.compile(r"openssl/"), ("master/keys/", "clients/", "pipeline/checkpoint/hash.cc")),
    (re.compile(r"yaml-cpp/"), ("configs/",)),
]

# Targets that another may never reach through its link lists, however far.
UNREACHABLE = {
    "master": ["agent", "agent_group", "agent_executor", "pipeline_stage", "kernels", "clients"],
    "master_schedule": ["agent", "agent_group", "agent_executor", "pipeline_stage", "protos", "deps_grpc", "master_text", "clients"],
    "master_text": ["agent", "agent_group", "agent_executor", "pipeline_stage", "protos", "deps_grpc", "clients"],
    "master_api_openai": [
        "master_api_generation",
        "master_api_http",
        "master_api_grpc",
        "master_text",
        "master_schedule",
        "Boost::headers",
    ],
    "master_api_generation": ["master_api_http", "master_api_grpc", "Boost::headers", "master_listen"],
    "master_api_http": ["master_api_grpc"],
    "master_api_grpc": ["master_api_http", "Boost::headers"],
    "agent": ["master", "master_api", "master_fleet", "master_schedule", "master_text", "clients"],
    "pipeline_plan": ["kernels", "agent", "agent_group", "agent_executor", "pipeline_stage", "master", "protos", "deps_grpc"],
    "pipeline_stage": ["agent", "agent_group", "agent_executor", "master", "protos", "deps_grpc"],
    "clients": ["agent", "master", "pipeline_plan", "pipeline_stage", "kernels", "configs"],
    "kernels": ["configs", "pipeline_plan", "pipeline_stage", "agent", "master", "protos", "deps_grpc"],
    "configs": ["kernels", "pipeline_plan", "pipeline_stage", "agent", "master", "protos", "deps_grpc"],
}


def is_test(path):
    """Tests and what only tests include (docs/contributing.md has the names) may enter any room."""
    stem = pathlib.PurePath(path).stem
    return stem.endswith(("_test", "_test_util")) or stem.startswith(("fake_", "toy_")) or "/testdata/" in path


def tracked(root):
    run = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True)
    if run.returncode == 0 and run.stdout:
        return [n for n in run.stdout.decode().split("\0") if n and (root / n).exists()]
    return [str(p.relative_to(root)) for p in sorted(root.rglob("*")) if p.is_file() and "build" not in p.relative_to(root).parts[:1]]


def longest(prefixes, path):
    return max((p for p in prefixes if path.startswith(p)), key=len, default=None)


def include_breaches(root, names):
    for name in names:
        rule = longest(TABLE, name)
        if rule is None or pathlib.PurePath(name).suffix not in SOURCES or is_test(name):
            continue
        allowed = TABLE[rule] + OWN_ROOM.get(rule, [name.split("/")[0] + "/"])
        for number, line in enumerate((root / name).read_text(errors="replace").splitlines(), 1):
            m = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not m:
                continue
            target = m[1]
            if target.startswith("../") or "/../" in target:
                yield f"{name}:{number}: includes {target} by a relative path; name it from the root"
            elif target.startswith(ROOMS) and not any(target.startswith(a) for a in allowed):
                yield f"{name}:{number}: {rule} may not include {target}"
            elif not target.startswith(ROOMS):
                for pattern, rooms in LIBRARIES:
                    if pattern.match(target) and not name.startswith(rooms):
                        yield f"{name}:{number}: {target} belongs to {', '.join(rooms)}"


def reached(root, name, known):
    """(header, way to it) of every header of ours that a file reaches, however far"""
    seen, todo = {}, [(name, name)]
    while todo:
        at, way = todo.pop()
        for target in re.findall(r'^\s*#\s*include\s*"([^"]+)"', (root / at).read_text(errors="replace"), re.M):
            if target in known and target not in seen:
                seen[target] = f"{way} -> {target}"
                todo.append((target, seen[target]))
    return seen.items()


def reach_breaches(root, names):
    """No file of master may come to an op through headers: what it reaches is what master may include, however narrow its room is."""
    known = set(names)
    for name in names:
        if not name.startswith("master/") or pathlib.PurePath(name).suffix not in SOURCES or is_test(name):
            continue
        for target, way in reached(root, name, known):
            if not target.startswith(("master/", *TABLE["master/"])):
                yield f"{name}: reaches {target}: {way}"


def link_lists(root, names):
    """target -> targets it links, from the CMakeLists of the rooms (test executables left out)"""
    links = {}
    for name in names:
        if pathlib.PurePath(name).name != "CMakeLists.txt":
            continue
        text = re.sub(r"#[^\n]*", "", (root / name).read_text())
        for m in re.finditer(r"pangea_library\s*\(\s*(\w+)([^)]*)\)", text):
            deps = re.search(r"\bDEPS\b(.*)", m[2], re.S)
            links.setdefault(m[1], set()).update(deps[1].split() if deps else [])
        for m in re.finditer(r"target_link_libraries\s*\(\s*(\w+)\s+(?:PUBLIC|PRIVATE|INTERFACE)([^)]*)\)", text):
            links.setdefault(m[1], set()).update(m[2].split())
    return links


def link_breaches(root, names):
    links = link_lists(root, names)
    for target, forbidden in UNREACHABLE.items():
        seen, todo = {}, [(target, target)]
        while todo:
            at, way = todo.pop()
            # What a library of others links is its own affair: Abseil's archives come with gRPC's.
            for dep in () if at.startswith("deps_") else links.get(at, ()):
                if dep not in seen:
                    seen[dep] = f"{way} -> {dep}"
                    todo.append((dep, seen[dep]))
        for f in forbidden:
            if f in seen:
                yield f"CMake: {target} may not reach {f}: {seen[f]}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    names = tracked(root)
    looked = [n for n in names if longest(TABLE, n) and pathlib.PurePath(n).suffix in SOURCES]
    breaches = [*include_breaches(root, names), *reach_breaches(root, names), *link_breaches(root, names)]
    print(*breaches, sep="\n", end="\n" if breaches else "")
    print(f"layering: {len(looked)} files, {len(breaches)} breaches")
    if not looked:
        print("layering: nothing was looked at")
    sys.exit(bool(breaches) or not looked)


if __name__ == "__main__":
    main()
