#!/usr/bin/env bash
# install_deps.sh [--tests]: installs what Pangea needs on Debian 12, from nothing: compilers, libraries, Rust (when there is none that is
# new enough), Python; with --tests also what only the tests need (Node, network tools, the formatters, clang). As root, or through sudo. Says
# what it does; with everything in place it returns at once.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
tests=
case ${1:-} in
  --tests) tests=1 ;;
  "") ;;
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
  *) say "unknown option $1; see --help"; exit 64 ;;
esac

packages=(
  build-essential cmake ninja-build ccache pkg-config git curl ca-certificates
  libgrpc++-dev libssl-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler libabsl-dev
  libyaml-cpp-dev nlohmann-json3-dev libgtest-dev libboost1.81-dev libboost-context1.81-dev libboost-url1.81-dev libgloo-dev libsentencepiece-dev
  python3 python3-venv
)
# Commands that may come from elsewhere (nodesource, rustup): the package only when the command is missing.
cargo_is_new_enough || packages+=(cargo-web)
if [ -n "$tests" ]; then
  packages+=(procps iproute2 clang-16)
  command -v node >/dev/null || packages+=(nodejs)
  command -v npm >/dev/null || packages+=(npm)
  command -v rustfmt >/dev/null || packages+=(rustfmt-web)
fi

installed() { dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }
missing=()
for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done
if [ ${#missing[@]} -eq 0 ]; then say "dependencies: all ${#packages[@]} packages are there"; exit 0; fi

command -v apt-get >/dev/null || die "this script knows Debian 12 and apt; install by hand: ${missing[*]}"
if [ "$(id -u)" -eq 0 ]; then root=(); elif command -v sudo >/dev/null; then root=(sudo); else die "neither root nor sudo: cannot install ${missing[*]}"; fi
apt() { ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"; }

say "installing ${#missing[@]} packages: ${missing[*]}"
apt update -qq || say "apt-get update failed; going on with the lists at hand"
log=$(mktemp)
if ! apt install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1; then tail -n 30 "$log" >&2; rm -f "$log"; die "apt-get install failed"; fi
rm -f "$log"
hash -r
cargo_is_new_enough || die "cargo is $(cargo --version 2>/dev/null || echo missing), 1.95 or newer is needed"
say "dependencies: installed"
