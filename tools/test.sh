#!/usr/bin/env bash
# test.sh [--all] [--quick] [--sanitize] [--unit] [--integration] [-- PYTEST_ARGUMENTS…]
# Installs what is missing, builds, and runs the tests. Prints per group what ran and what was skipped; a committed group that ran
# nothing is a failure. The last line is `N passed, M failed, K skipped`.
#   --all          fetches the default model and the tests' own first, and a skipped test is a failure
#   --quick        leaves out the integration tests that take long
#   --sanitize     instead: unit tests and a smoke test of the server under ASan+UBSan, and under TSan
#   --unit, --integration   only these
. "$(dirname "$(readlink -f "$0")")/lib.sh"
all= quick= sanitize= only=both more=()
while [ $# -gt 0 ]; do
  case $1 in
    --all) all=1 ;;
    --quick) quick=1 ;;
    --sanitize) sanitize=1 ;;
    --unit) only=unit ;;
    --integration) only=integration ;;
    --) shift; more=("$@"); break ;;
    -h | --help) sed -n '2,9s/^# //p' "$0"; exit 0 ;;
    *) say "unknown option $1; see --help"; exit 64 ;;
  esac
  shift
done

tools/install_deps.sh --tests
tools/get_cuda.sh
python_venv build/venv integration_tests/requirements.txt
tools/format.sh --check
report=() broken=()

unit() {  # PRESET
  local out=build/tests/$1
  rm -rf "$out" && mkdir -p "$out/unit"
  say "unit tests and rules, $1"
  # One at a time under a sanitizer (memory); else one a core.
  GTEST_OUTPUT=xml:$PWD/$out/unit/ ctest --test-dir "build/$1" --output-on-failure --output-junit "$PWD/$out/ctest.xml" --no-tests=error -j "$(nproc)" >"$out/ctest.log" 2>&1 \
    || { say "ctest $1 has failures; $out/ctest.log"; grep -E 'FAILED|Failure|\(Failed\)|Timeout|ERROR: |WARNING: ThreadSanitizer|runtime error' -A 6 "$out/ctest.log" | head -n 120 || true; }
  [ -e "$out/ctest.xml" ] || broken+=(--broken "ctest $1")
  report+=(--unit "$out/unit" --ctest "$out/ctest.xml")
}

integration() {  # PRESET [PYTEST_ARGUMENTS…]
  local preset=$1 out=build/tests/$1-integration.xml code=0
  shift
  mkdir -p build/tests && rm -f "$out"
  say "integration tests, $preset"
  PANGEA=build/$preset/pangea build/venv/bin/python -m pytest integration_tests -c integration_tests/pytest.ini --junitxml "$out" -q -o junit_family=xunit1 "$@" >&2 || code=$?
  if [ ! -e "$out" ] || [ $code -gt 1 ]; then broken+=(--broken "pytest $preset (exit $code)"); fi
  [ -e "$out" ] && report+=(--integration "$out")
  return 0
}

if [ -n "$sanitize" ]; then
  for preset in asan tsan; do
    tools/build.sh "$preset"
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    # Kernels on fibers are one thread: one order of theirs is enough here, and for what only computes, the other sanitizer.
    skipped='*/cuda_on_cpu_unfused:*/cuda_on_cpu_reversed:*/cuda_on_cpu_reverse:*/cuda_on_cpu_forward'
    [ "$preset" = asan ] || skipped+=':Devices.AddInAnyOrderWhereTheyMay:Devices.RunModelsOfEveryKind'
    export GTEST_FILTER="-$skipped"
    export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 suppressions=$PWD/tools/tsan.supp" LSAN_OPTIONS=suppressions=$PWD/tools/lsan.supp
    unit "$preset"
    PANGEA_SLOW=10 integration "$preset" -m smoke ${more[@]+"${more[@]}"}
  done
  python3 tools/test_report.py ${report[@]+"${report[@]}"} ${broken[@]+"${broken[@]}"} --only unit ${all:+--all}
  exit
fi

if [ "$only" = integration ]; then tools/build.sh release pangea pangea_failpoints; else tools/build.sh release; fi
if [ -n "$all" ]; then tools/get_model.sh --tests; fi
[ "$only" = integration ] || unit release
[ "$only" = unit ] || integration release ${quick:+-m "not long"} ${more[@]+"${more[@]}"}
[ ${#more[@]} -gt 0 ] && quick=1  # a selection of one's own: what it leaves out is not missed
python3 tools/test_report.py ${report[@]+"${report[@]}"} ${broken[@]+"${broken[@]}"} --only "$only" ${all:+--all} ${quick:+--quick}
