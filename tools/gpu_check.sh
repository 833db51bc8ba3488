#!/usr/bin/env bash
# gpu_check.sh --pack | [FOLDER]: what only a GPU can show, in one run of some minutes (docs/cuda.md).
# --pack: puts what a machine with a GPU needs into build/gpu_check (below 64 MiB), out of build/release; carry it there with this script.
# FOLDER (default build/gpu_check): on that machine, runs it: every word of the kernels against the reference, bit for bit; products whose
# sums may have any order within their bounds; compute-sanitizer over a part, where there is one; the speed of each kernel beside the read
# bandwidth of the same minute. Writes report.txt and report.json to $OUT, or to FOLDER.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then sed -n '2,7s/^# //p' "$0"; exit 0; fi
case ${1:-} in
  --pack) ;;
  -*) echo "unknown option $1; see --help" >&2; exit 64 ;;
esac
if [ "${1:-}" = --pack ]; then
  to=build/gpu_check
  rm -rf "$to" && mkdir -p "$to/lib"
  for program in kernels/kernels_words_test kernels/kernels_fast_products_test agent/sampler_test bench/cuda_bench; do
    cp "build/release/$program" "$to/" && strip "$to/$(basename "$program")"
    ldd "build/release/$program" | awk '/=> \//{print $3}' | grep -vE '/lib(c|m|dl|rt|pthread)\.so' | xargs -r -I{} cp -Lu {} "$to/lib/"
  done
  git rev-parse HEAD >"$to/commit" 2>/dev/null || true
  size=$(du -sm "$to" | cut -f1)
  echo "packed $to: $size MiB"
  [ "$size" -lt 64 ] || { echo "that is too much to carry" >&2; exit 1; }
  exit 0
fi
folder=$(readlink -f "${1:-build/gpu_check}")
out=${OUT:-$folder}
libraries=$folder/lib:/usr/local/cuda/lib64
for dir in $(python3 -c 'import glob, sysconfig; print(*glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib"))' 2>/dev/null); do libraries+=:$dir; done
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
code=0
check() {  # NAME COMMAND…: its last lines, and whether it held
  local name=$1 begin=$SECONDS
  shift
  if "$@" >"$out/$name.log" 2>&1; then echo "ok      $name ($((SECONDS - begin)) s)"; else echo "FAILED  $name ($((SECONDS - begin)) s)"; tail -n 15 "$out/$name.log"; code=1; fi
}
{
  date -u '+%F %T UTC'
  echo "commit $(cat "$folder/commit" 2>/dev/null || echo unknown)"
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv,noheader 2>&1 || true
  check words timeout 150 "$folder/kernels_words_test" '--gtest_filter=*/cuda'
  grep -q 'Words.*/cuda ' "$out/words.log" || { echo "FAILED  no GPU was opened"; code=1; }
  check draws timeout 60 "$folder/sampler_test" '--gtest_filter=*/cuda'
  check fast_products timeout 60 "$folder/kernels_fast_products_test"
  grep -q 'on a GPU, too' "$out/fast_products.log" || { echo "FAILED  no GPU with cuBLASLt was opened for them"; code=1; }
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      check "$tool" timeout 60 compute-sanitizer --tool $tool --error-exitcode 9 "$folder/kernels_words_test" '--gtest_filter=Words.PagesAndAttention/cuda:Words.SplitProducts/cuda:Words.ReduceAddNorm/cuda'
    done
  else
    echo "none    compute-sanitizer"
  fi
  check bench_8b timeout 150 "$folder/cuda_bench" --shape 8b --json "$out/8b.json"
  cat "$out/bench_8b.log"
  check bench_1b timeout 60 "$folder/cuda_bench" --shape 1b --json "$out/1b.json"
  cat "$out/bench_1b.log"
} 2>&1 | tee "$out/report.txt"
python3 - "$out" "$(cat "$folder/commit" 2>/dev/null || echo unknown)" <<'PY'
import datetime, json, pathlib, subprocess, sys
out = pathlib.Path(sys.argv[1])
card = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True) if __import__("shutil").which("nvidia-smi") else None
report = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(), "commit": sys.argv[2], "card": card.stdout.strip() if card else None}
report["shapes"] = {p.stem: json.loads(p.read_text()) for p in (out / "8b.json", out / "1b.json") if p.exists()}
(out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
PY
grep -q '^FAILED' "$out/report.txt" && exit 1
exit 0
