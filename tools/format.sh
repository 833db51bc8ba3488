#!/usr/bin/env bash
# format.sh [--check]: clang-format, ruff and rustfmt over every tracked source file. --check changes nothing and fails when a file is not
# formatted. The first two are pinned in integration_tests/requirements.txt; rustfmt is the one beside cargo.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
check=
case ${1:-} in
  --check) check=1 ;;
  "") ;;
  -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
  *) say "unknown option $1; see --help"; exit 64 ;;
esac

python_venv build/venv integration_tests/requirements.txt
mapfile -t cpp < <(git ls-files '*.cc' '*.cu' '*.h')
mapfile -t python < <(git ls-files '*.py')
broken=()
if [ -n "$check" ]; then how=(--dry-run --Werror); else how=(-i); fi
build/venv/bin/clang-format "${how[@]}" "${cpp[@]}" || broken+=("C++")
build/venv/bin/ruff format --quiet ${check:+--check} "${python[@]}" || broken+=("Python")
cargo fmt --all ${check:+--check} || broken+=("Rust")
# What the formatters leave alone: comments.
git ls-files '*.cc' '*.cu' '*.h' '*.rs' '*.proto' | python3 -c '
import sys
long = [f"{f}:{n}" for f in sys.stdin.read().split() for n, l in enumerate(open(f, encoding="utf-8"), 1) if l.lstrip().startswith("//") and len(l) > 121]
sys.exit("comments over 120 columns: " + " ".join(long) if long else 0)' || broken+=("comments")
[ ${#broken[@]} -eq 0 ] || die "not formatted: ${broken[*]}; run tools/format.sh"
say "formatted: ${#cpp[@]} C++ files, ${#python[@]} Python files, the Rust crates"
