#!/usr/bin/env bash
# get_cuda.sh: fetches the CUDA compiler below build/cuda, as pinned wheels of PyPI, for machines without a toolkit. The next configuring
# of a build finds it there and compiles the kernels for GPUs (docs/cuda.md). 100 MB, 270 MB unpacked; with everything in place it returns
# at once. Its use is bound by NVIDIA's licence, which lies beside it.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
case ${1:-} in
  "") ;;
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
  *) say "unknown option $1; see --help"; exit 64 ;;
esac
python_venv build/cuda tools/cuda_requirements.txt
say "CUDA compiler: build/cuda"
