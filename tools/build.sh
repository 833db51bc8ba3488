#!/usr/bin/env bash
# build.sh [PRESET] [TARGET…]: configures and builds one preset of CMakePresets.json (default release) into build/PRESET.
# JOBS=n limits the parallel jobs (default: one a core, but no more than memory allows at 1.5 GiB a job).
. "$(dirname "$(readlink -f "$0")")/lib.sh"
case ${1:-} in
  -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
  -*) say "unknown option $1; see --help"; exit 64 ;;
esac
preset=${1:-release}
[ $# -gt 0 ] && shift
jobs=${JOBS:-}
if [ -z "$jobs" ]; then
  memory_jobs=$(($(awk '/^MemAvailable/{print $2}' /proc/meminfo) / 1572864))
  jobs=$(nproc)
  [ "$memory_jobs" -lt "$jobs" ] && jobs=$memory_jobs
  [ "$jobs" -lt 1 ] && jobs=1
fi
dir=build/$preset
say "configuring $dir"
mkdir -p build
if ! cmake --preset "$preset" >"build/configure-$preset.log" 2>&1; then cat "build/configure-$preset.log" >&2; die "configuring $preset failed"; fi

# ninja's own status line when a person watches; a line every ten seconds in a log.
say "building $dir with $jobs jobs (the first build takes minutes; later ones only what changed)"
if [ -t 2 ]; then
  ninja -C "$dir" -j "$jobs" "$@" >&2 || die "the build failed"
else
  log=build/build-$preset.log
  ninja -C "$dir" -j "$jobs" "$@" >"$log" 2>&1 &
  ninja=$!
  trap 'kill $ninja 2>/dev/null; wait $ninja 2>/dev/null' INT TERM
  seconds=0
  while kill -0 $ninja 2>/dev/null; do
    sleep 1
    seconds=$((seconds + 1))
    [ $((seconds % 10)) -eq 0 ] && say "$(tail -c 200 "$log" | tr '\r' '\n' | tail -n 1 | cut -c1-120)"
  done
  if ! wait $ninja; then grep -E -A 12 'FAILED:|error:' "$log" | tail -n 80 >&2 || tail -n 80 "$log" >&2; die "the build failed; the whole log is $log"; fi
fi
say "built $dir"
