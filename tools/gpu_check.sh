#!/usr/bin/env bash
# gpu_check.sh --pack | [FOLDER]: what only a GPU can show, in one run of some minutes (docs/cuda.md).
# --pack: puts what a machine with a GPU needs into build/gpu_check (below 64 MiB), out of build/release; carry it there with this script.
# FOLDER (default build/gpu_check): on that machine, runs it: every word of the kernels against the reference, bit for bit, and draws
# against the host's; products and attention whose sums may have any order within their bounds; how devices exchange, all on this one;
# compute-sanitizer over a part, where there is one; the speed of each kernel, and of whole models whose weights are made on the device,
# beside the read bandwidth and the matrix rate of the same minute; where python3 has PyTorch, what that does with them. Writes report.txt, report.json and logs.tar.gz to $OUT, or to FOLDER.
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
  for program in kernels/kernels_words_test kernels/kernels_fast_products_test kernels/kernels_fast_attention_test kernels/kernels_exchange_test agent/sampler_test agent/executor_test bench/cuda_bench pangea; do
    cp "build/release/$program" "$to/" && strip "$to/$(basename "$program")"
    ldd "build/release/$program" | awk '/=> \//{print $3}' | grep -vE '/lib(c|m|dl|rt|pthread)\.so' | xargs -r -I{} cp -Lu {} "$to/lib/"
  done
  cp -r tools/make_shape.py tools/gpu_report.py tools/gpu_peers.py models/stories260k "$to/"
  git rev-parse HEAD >"$to/commit" 2>/dev/null || true
  (cd "$to" && tar czf programs.tar.gz --remove-files lib cuda_bench kernels_words_test kernels_fast_products_test kernels_fast_attention_test kernels_exchange_test executor_test pangea sampler_test)
  size=$(du -sm "$to" | cut -f1)
  echo "packed $to: $size MiB"
  [ "$size" -lt 64 ] || { echo "that is too much to carry" >&2; exit 1; }
  exit 0
fi
folder=$(readlink -f "${1:-build/gpu_check}")
out=${OUT:-$folder}
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
tar xzf "$folder/programs.tar.gz" -C "$work"
libraries=$work/lib:/usr/local/cuda/lib64
for dir in $(python3 -c 'import glob, sysconfig; print(*glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib"))' 2>/dev/null); do libraries+=:$dir; done
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} XDG_CACHE_HOME=$work
commit=$(cat "$folder/commit" 2>/dev/null || echo unknown)
# All of it ends within ten minutes: what would begin later than so many seconds is left out.
latest=480
check() {  # NAME SECONDS COMMAND…: its last lines, and whether it held
  local name=$1 limit=$2 begin=$SECONDS
  shift 2
  if [ "$begin" -gt "$latest" ]; then echo "FAILED  $name: no time was left"; return; fi
  if timeout "$limit" "$@" >"$work/$name.log" 2>&1; then echo "ok      $name ($((SECONDS - begin)) s)"; else echo "FAILED  $name ($((SECONDS - begin)) s)"; tail -n 15 "$work/$name.log"; fi
  python3 "$folder/gpu_report.py" "$work" "$commit" "$out/report.json" >"$work/table" || true
  tar czf "$out/logs.tar.gz" -C "$work" --exclude='llama-*' $(cd "$work" && ls | grep -E '\.(log|json)$') || true
}
model() {  # NAME SHAPE ARGUMENTS…: a whole model, and a line a measurement
  local name=$1 shape=$2
  shift 2
  check "$name" 100 sh -c 'json=$1; shift; exec "$@" --json >"$json"' -- "$work/$name.json" "$work/pangea" bench model "$work/$shape" \
    --device cuda --made-weights --context 1024 --set schedule.max_batch_tokens=8192 --set cache.memory=12GiB "$@"
  python3 -c 'import json, sys; [print("       ", row) for row in json.load(open(sys.argv[1]))]' "$work/$name.json" 2>/dev/null || true
}
{
  date -u '+%F %T UTC'
  echo "commit $commit"
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv,noheader 2>&1 || true
  for shape in llama-3-8b llama-3.2-1b; do python3 "$folder/make_shape.py" "$shape" "$work/$shape"; done
  check words 150 "$work/kernels_words_test" '--gtest_filter=*/cuda'
  grep -q 'Words.*/cuda ' "$work/words.log" || echo "FAILED  no GPU was opened"
  check draws 60 "$work/sampler_test" '--gtest_filter=*/cuda'
  check fast_products 60 "$work/kernels_fast_products_test"
  grep -q 'on a GPU, too' "$work/fast_products.log" || echo "FAILED  no GPU with cuBLASLt was opened for them"
  check fast_attention 60 "$work/kernels_fast_attention_test" '--gtest_filter=*/cuda*:-*/cuda_on_cpu*'
  check exchange 60 "$work/kernels_exchange_test" '--gtest_filter=*/cuda'  # several devices, which are one GPU
  check two_agents 100 env PANGEA_STORIES="$folder/stories260k" "$work/executor_test" '--gtest_filter=Devices.TwoAgentsOfOneGpu*'
  model model_8b llama-3-8b --batch 1,64 --prompt 8192 --set kernels.exact=false  # a prompt of 8192 ids is one step
  model model_1b llama-3.2-1b --batch 1,64 --prompt 8192 --set kernels.exact=false
  model fusion_1b llama-3.2-1b --batch 1 --fusion all --set kernels.exact=false
  model fusion_8b llama-3-8b --batch 1 --fusion all --set kernels.exact=false
  check bench_8b 150 "$work/cuda_bench" --shape 8b --json "$work/8b.json"
  cat "$work/bench_8b.log" || true
  model model_8b_exact llama-3-8b --batch 1,64 --prompt 2048
  check bench_1b 60 "$work/cuda_bench" --shape 1b --json "$work/1b.json"
  cat "$work/bench_1b.log" || true
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      check "$tool" 60 compute-sanitizer --tool $tool --error-exitcode 9 "$work/kernels_words_test" '--gtest_filter=Words.PagesAndAttention/cuda:Words.SplitProducts/cuda:Words.ReduceAddNorm/cuda'
    done
  else
    echo "none    compute-sanitizer"
  fi
  if python3 -c 'import torch' 2>/dev/null; then
    check logits 60 python3 "$folder/gpu_peers.py" logits "$folder/stories260k" "$work/pangea"
    cat "$work/logits.log" || true
    for shape in llama-3-8b llama-3.2-1b; do
      check "peers_$shape" 100 sh -c 'exec python3 "$1" speed "$2" >"$3"' -- "$folder/gpu_peers.py" "$work/$shape" "$work/peers-$shape.json"
      cat "$work/peers_$shape.log" || true
    done
  else
    echo "none    PyTorch"
  fi
  cat "$work/table" || true
} 2>&1 | tee "$out/report.txt"
grep -q '^FAILED' "$out/report.txt" && exit 1
exit 0
