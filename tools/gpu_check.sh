#!/usr/bin/env bash
# gpu_check.sh --pack | [FOLDER]: what only a GPU can show, in one run of some minutes (docs/cuda.md).
# --pack: puts what a machine with a GPU needs into build/gpu_check (below 64 MiB), out of build/release; carry it there with this script.
# FOLDER (default build/gpu_check): on that machine, runs it: every word of the kernels against the reference, bit for bit, and draws
# against the host's; products whose sums may have any order within their bounds; compute-sanitizer over a part, where there is one; the
# speed of each kernel, and of whole models whose weights are made on the device, beside the read bandwidth and the matrix rate of the same
# minute. Writes report.txt and report.json to $OUT, or to FOLDER.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then sed -n '2,8s/^# //p' "$0"; exit 0; fi
case ${1:-} in
  --pack) ;;
  -*) echo "unknown option $1; see --help" >&2; exit 64 ;;
esac
if [ "${1:-}" = --pack ]; then
  to=build/gpu_check
  rm -rf "$to" && mkdir -p "$to/lib"
  for program in kernels/kernels_words_test kernels/kernels_fast_products_test agent/sampler_test bench/cuda_bench pangea; do
    cp "build/release/$program" "$to/" && strip "$to/$(basename "$program")"
    ldd "build/release/$program" | awk '/=> \//{print $3}' | grep -vE '/lib(c|m|dl|rt|pthread)\.so' | xargs -r -I{} cp -Lu {} "$to/lib/"
  done
  cp tools/make_shape.py "$to/"
  git rev-parse HEAD >"$to/commit" 2>/dev/null || true
  (cd "$to" && tar czf programs.tar.gz --remove-files lib cuda_bench kernels_words_test kernels_fast_products_test pangea sampler_test)
  size=$(du -sm "$to" | cut -f1)
  echo "packed $to: $size MiB"
  [ "$size" -lt 64 ] || { echo "that is too much to carry" >&2; exit 1; }
  exit 0
fi
folder=$(readlink -f "${1:-build/gpu_check}")
out=${OUT:-$folder}
tar xzf "$folder/programs.tar.gz" -C "$folder"
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
  # Whole models. A prompt of 8192 ids is one step.
  for model in llama-3-8b llama-3.2-1b; do python3 "$folder/make_shape.py" "$model" "$folder/$model"; done
  model() {  # NAME SHAPE ARGUMENTS…
    local name=$1 shape=$2
    shift 2
    check "$name" sh -c 'json=$1; shift; "$@" --json >"$json"' -- "$out/$name.json" timeout 90 "$folder/pangea" bench model "$folder/$shape" \
      --device cuda --made-weights --context 1024 --set schedule.max_batch_tokens=8192 --set cache.memory=12GiB "$@"
  }
  model model_8b llama-3-8b --batch 1,8,64 --prompt 8192 --set kernels.exact=false
  model model_8b_exact llama-3-8b --batch 1,64 --prompt 2048
  model model_1b llama-3.2-1b --batch 1,64 --prompt 8192 --set kernels.exact=false
  model fusion_8b llama-3-8b --batch 1 --fusion all --set kernels.exact=false
  model fusion_1b llama-3.2-1b --batch 1 --fusion all --set kernels.exact=false
} 2>&1 | tee "$out/report.txt"
python3 - "$out" "$(cat "$folder/commit" 2>/dev/null || echo unknown)" <<'PY' | tee -a "$out/report.txt"
import datetime, json, pathlib, shutil, subprocess, sys
out = pathlib.Path(sys.argv[1])
card = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True) if shutil.which("nvidia-smi") else None
report = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(), "commit": sys.argv[2], "card": card.stdout.strip() if card else None, "runs": {}}
for path in sorted(out.glob("*.json")):
    if path.name != "report.json" and path.stat().st_size:
        report["runs"][path.stem] = json.loads(path.read_text())
(out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
runs = report["runs"]

def find(run, **like):
    return next((row for row in runs.get(run, []) if all(row.get(k) == v for k, v in like.items())), None)

def line(case, row, key, bar, goal, scale=100, unit="%"):
    value = "not measured" if row is None else f"{row[key] * scale:.1f} {unit}"
    print(f"{case:58} {value:>14}   bar {bar:>7}, goal {goal:>7}")

# The table of the bars (docs/cuda.md).
print()
line("Llama-3-8B shape, bf16, batch 1, context 1k, of read", find("model_8b", what="decode", batch=1), "of_read_bandwidth", "65 %", "85 %")
line("Llama-3.2-1B shape, bf16, batch 1, of read", find("model_1b", what="decode", batch=1), "of_read_bandwidth", "45 %", "70 %")
line("8B, batch 64, context 1k, of read", find("model_8b", what="decode", batch=64), "of_read_bandwidth", "55 %", "80 %")
line("prefill of 8k, 8B, of the matrix rate", find("model_8b", what="prefill"), "of_matrix_rate", "50 %", "75 %")
line("idle between steps, 8B, batch 1", find("model_8b", what="decode", batch=1), "device_idle", "< 5 %", "< 1 %")
line("fusion 3 over 0, 8B, batch 1", find("fusion_8b", what="fusion", level=3), "gain", "3x", "5x", 1, "x")
line("fusion 3 over 0, 1B, batch 1", find("fusion_1b", what="fusion", level=3), "gain", "3x", "5x", 1, "x")
for row in (row for part in runs.get("8b", []) for row in part["rows"]):
    if row["case"].startswith("attention"):
        line(f"decode attention alone, {row['case']}", row, "of_read_bandwidth", "65 %", "90 %")
PY
grep -q '^FAILED' "$out/report.txt" && exit 1
exit 0
