#!/bin/bash
# llama.cpp's server and its RPC back end, for bench/serving/run.py --only versus,kill: the source that the npm package node-llama-cpp carries, built with its own CMake. Nothing of it is a part of
# this project: all of it stays below build/peer.
set -euo pipefail
cd "$(dirname "$0")/../.."
package=node-llama-cpp@3.22.1 # llama.cpp v0.5.0
mkdir -p build/peer && cd build/peer
npm install --ignore-scripts --no-audit --no-fund --omit=optional "$package"
[ -d llama.cpp ] || git clone -q node_modules/node-llama-cpp/llama/gitRelease.bundle llama.cpp
# g++ 12's own text of this says that it reads 8 of the 64 bytes, so that the others are never written: an illegal instruction where there is AMX.
sed -i 's/^\( *\)_tile_loadconfig(&tc);/\1__asm__ volatile("" : "+m"(tc)); _tile_loadconfig(\&tc);/' llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp
cmake -S llama.cpp -B llama.cpp/build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DGGML_RPC=ON
nice ninja -C llama.cpp/build llama-server ggml-rpc-server
echo "$PWD/llama.cpp/build/bin/llama-server"
