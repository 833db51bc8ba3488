# Shared by the scripts of this folder; sourced, never run.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
export LC_ALL=C.UTF-8

started=$SECONDS
say() { printf '[%3dm%02ds] %s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) "$*" >&2; }
die() { say "error: $*"; exit 1; }

# The cargo to build with: one of at least 1.95 on PATH, or none.
cargo_is_new_enough() {
  command -v cargo >/dev/null || return 1
  local version; version=$(cargo --version 2>/dev/null | awk '{print $2}')
  [ "$(printf '%s\n1.95.0\n' "$version" | sort -V | head -n 1)" = 1.95.0 ]
}

# python_venv DIR REQUIREMENTS: a virtual environment that holds exactly these pinned packages; made anew when the file changes.
python_venv() {
  local dir=$1 requirements=$2 stamp="$1/.ready"
  if [ ! -e "$stamp" ] || ! cmp -s "$requirements" "$stamp"; then
    say "installing the Python packages of $requirements into $dir"
    rm -rf "$dir" && mkdir -p "$(dirname "$dir")"
    /usr/bin/python3 -m venv "$dir"
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$stamp"
  fi
}
