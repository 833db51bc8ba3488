"""`cmake --install` makes a folder that runs when it is copied elsewhere: whatever exists only as a shared library lies beside it."""

import os
import pathlib
import re
import shutil
import subprocess

import harness
import pytest
from harness import PANGEA, STORIES, layout, serve

# What a copy may take from the system it runs on: glibc itself, nothing else.
GLIBC = re.compile(r"^(linux-vdso|ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libresolv|libutil|libanl)\.so")
GLIBC_LIMIT = (2, 36)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    build = pathlib.Path(PANGEA).parent
    if not (build / "CMakeCache.txt").exists():
        pytest.skip(f"{build} is no build folder")
    base = tmp_path_factory.mktemp("install")
    subprocess.run(["cmake", "--install", str(build), "--prefix", str(base / "first"), "--strip"], check=True, capture_output=True)
    shutil.copytree(base / "first", base / "copy", symlinks=True)
    shutil.rmtree(base / "first")
    return base / "copy"


def executables(folder):
    return [p for p in folder.rglob("*") if p.is_file() and p.read_bytes()[:4] == b"\x7fELF"]


def without_paths():
    return {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}


def test_every_library_is_in_the_folder(copy):
    r = subprocess.run(["ldd", str(copy / "pangea")], capture_output=True, text=True, check=True, env=without_paths())
    outside = []
    for line in r.stdout.splitlines():
        name, _, where = line.strip().partition(" => ")
        where = where.split(" (")[0]
        if not GLIBC.match(pathlib.PurePath(name.split(" ")[0]).name) and not where.startswith(str(copy)):
            outside.append(line.strip())
    assert not outside, outside


def test_no_newer_glibc_is_needed(copy):
    for path in executables(copy):
        symbols = subprocess.run(["objdump", "-T", str(path)], capture_output=True, text=True, check=True).stdout
        newest = max((tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d+\.\d+)", symbols)), default=(0, 0))
        assert newest <= GLIBC_LIMIT, f"{path.name} needs glibc {newest}"


def test_the_copy_runs(copy, monkeypatch, expected_story):
    r = subprocess.run(
        [str(copy / "pangea"), "--help"], capture_output=True, text=True, env={**without_paths(), "LD_LIBRARY_PATH": ""}, cwd="/"
    )
    assert r.returncode == 0 and "serve" in r.stdout
    monkeypatch.setattr(harness, "PANGEA", str(copy / "pangea"))
    with serve(STORIES, *layout("2x2"), env={"LD_LIBRARY_PATH": ""}) as s:
        (choice,), _ = s.complete(prompt=[1], max_tokens=60, temperature=0)
        assert expected_story.startswith(choice["text"].strip()) and len(choice["text"]) > 60


def test_the_copy_runs_where_there_is_only_glibc(copy, tmp_path):
    """a root that holds the copy, a model and glibc: no libstdc++, no library of the build machine"""
    root = tmp_path / "root"
    for folder in ("lib64", "lib/x86_64-linux-gnu", "tmp", "proc", "dev"):
        (root / folder).mkdir(parents=True)
    # ld.so finds $ORIGIN by /proc/self/exe.
    if os.getuid() != 0 or subprocess.run(["mount", "--bind", "/proc", str(root / "proc")], capture_output=True).returncode != 0:
        pytest.skip("a chroot with a /proc needs root that may mount")
    try:
        shutil.copytree(copy, root / "opt/pangea", symlinks=True)
        shutil.copytree(STORIES, root / "model")
        for name in ("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libresolv.so.2"):
            shutil.copy(f"/lib/x86_64-linux-gnu/{name}", root / "lib/x86_64-linux-gnu")
        shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib64")
        chroot = shutil.which("chroot", path=os.environ["PATH"] + ":/usr/sbin")
        r = subprocess.run([chroot, str(root), "/opt/pangea/pangea", "check", "/model"], capture_output=True, text=True, env={}, timeout=60)
    finally:
        subprocess.run(["umount", str(root / "proc")], check=True)  # before anybody clears the folder away
    assert r.returncode == 0 and "token" in r.stdout, r
