#!/usr/bin/env python3
"""test_report.py --unit DIR --ctest FILE --integration FILE [--all] [--quick]: what ran and what was skipped, per group; the last line counts.

Reads the XML that GoogleTest, ctest and pytest wrote. A group is a committed test file: one that ran nothing is a failure, since a
test that nobody runs proves nothing. Exit 0 only when nothing failed (and, with --all, nothing was skipped).
"""

import argparse
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as xml


class Group:
    def __init__(self):
        self.passed, self.failed, self.skipped, self.seconds, self.notes = 0, [], [], 0.0, []


def tracked(pattern):
    names = subprocess.run(["git", "ls-files", "--", pattern], capture_output=True, text=True, check=False).stdout.split()
    return names or [str(p) for p in pathlib.Path(".").glob("**/" + pattern.rsplit("/", 1)[-1]) if "build" not in p.parts]


def count(group, case, name):
    group.seconds += float(case.get("time") or 0)
    failure = case.find("failure") if case.find("failure") is not None else case.find("error")
    skip = case.find("skipped")
    if failure is not None:
        group.failed.append((name, (failure.get("message") or failure.text or "").strip().split("\n")[0][:200]))
    elif skip is not None or case.get("status") == "notrun" or case.get("result") in ("skipped", "suppressed"):
        group.skipped.append((name, ((skip.get("message") if skip is not None else "") or "disabled").strip().split("\n")[0][:160]))
    else:
        group.passed += 1


def unit_groups(folder, groups):
    """GoogleTest's own files: a case knows the source file it stands in. -> {executable: whether a case of it failed}"""
    root, found = f"{pathlib.Path.cwd()}/", {}
    for path in sorted(pathlib.Path(folder).glob("**/*.xml")):
        try:
            tree = xml.parse(path)
        except xml.ParseError:
            continue  # the process died while it wrote: ctest reports that
        for case in tree.iter("testcase"):
            source = (case.get("file") or path.stem).replace(root, "")
            group = groups.setdefault(source, Group())
            before = len(group.failed)
            count(group, case, f"{case.get('classname')}.{case.get('name')}")
            found[path.stem] = found.get(path.stem, False) or len(group.failed) > before
    return found


def ctest_groups(path, groups, executables):
    """what only ctest knows: executables that crashed, timed out or could not run, and the rules (tests that are scripts)"""
    if not pathlib.Path(path).exists():
        return
    for case in xml.parse(path).iter("testcase"):
        name = case.get("name")
        if case.get("status") == "fail":
            if not executables.get(name):  # no case of it is told as failed yet
                out = (case.findtext("system-out") or "").strip()
                groups.setdefault(f"ctest: {name}", Group()).failed.append((name, out.split("\n")[-1][:200]))
        elif name not in executables:
            count(groups.setdefault(f"ctest: {name}", Group()), case, name)


def integration_groups(path, groups):
    if not pathlib.Path(path).exists():
        return False
    for case in xml.parse(path).iter("testcase"):
        source = "integration_tests/" + (case.get("classname") or "?").split(".")[-1] + ".py"
        count(groups.setdefault(source, Group()), case, case.get("name"))
    return True


def print_table(groups):
    rooms = {}
    for name, g in groups.items():
        room = (
            "rules"
            if name.startswith("ctest: ")
            else name
            if name.startswith("integration_tests/test_")
            else str(pathlib.PurePath(name).parent)
        )
        rooms.setdefault(room, []).append(g)
    print(f"\n{'group':44} {'passed':>7} {'failed':>7} {'skipped':>7} {'seconds':>8}")
    for room in sorted(rooms):
        gs = rooms[room]
        print(
            f"{room:44} {sum(g.passed for g in gs):7} {sum(len(g.failed) for g in gs):7} {sum(len(g.skipped) for g in gs):7} {sum(g.seconds for g in gs):8.1f}"
        )
    for title, pick in (("skipped", lambda g: g.skipped), ("failed", lambda g: g.failed)):
        rows = [(name, *row) for name, g in sorted(groups.items()) for row in pick(g)]
        for name, test, why in rows:
            print(f"{title}: {name} {test}: {why}")
    print()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--unit", action="append", default=[])
    ap.add_argument("--ctest", action="append", default=[])
    ap.add_argument("--integration", action="append", default=[])
    ap.add_argument("--only", choices=("unit", "integration", "both"), default="both", help="which committed groups must have run")
    ap.add_argument("--all", action="store_true", help="a skipped test is a failure")
    ap.add_argument("--quick", action="store_true", help="deselected tests are not missed")
    ap.add_argument("--broken", action="append", default=[], help="a stage of the run that ended badly by itself")
    a = ap.parse_args()
    groups = {}
    for folder, path in zip(a.unit, a.ctest, strict=True):
        ctest_groups(path, groups, unit_groups(folder, groups))
    for path in a.integration:
        integration_groups(path, groups)
    required = []
    if a.only in ("unit", "both"):
        required += tracked("*_test.cc")
    if a.only in ("integration", "both") and not a.quick:
        required += tracked("integration_tests/test_*.py")
    for name in required:
        g = groups.setdefault(name, Group())
        weights_only = g.skipped and all(
            "tools/get_model.sh" in why for _, why in g.skipped
        )  # not committed: may be left out, and is shown
        if not g.passed and not g.failed and not weights_only:
            g.failed.append(("(the whole file)", "ran nothing" + (f", {len(g.skipped)} skipped" if g.skipped else "")))
    for what in a.broken:
        groups.setdefault(f"ctest: {what}", Group()).failed.append((what, "ended badly"))
    print_table(groups)
    passed, failed, skipped = (
        sum(g.passed for g in groups.values()),
        sum(len(g.failed) for g in groups.values()),
        sum(len(g.skipped) for g in groups.values()),
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(bool(failed) or not passed or (a.all and bool(skipped)))


if __name__ == "__main__":
    main()
