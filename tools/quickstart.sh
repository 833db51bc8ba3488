#!/usr/bin/env bash
# quickstart.sh [--once]: from nothing to an answer. Installs what is missing, builds, fetches SmolLM2-135M-Instruct (98 MB), serves it on
# 2 pipeline stages x 2 tensor-parallel ranks, and asks it something over REST and over gRPC. The server then stays in the foreground
# until Ctrl-C; with --once it is stopped after the answers.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
once=
case ${1:-} in
  --once) once=1 ;;
  "") ;;
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
  *) say "unknown option $1; see --help"; exit 64 ;;
esac

tools/install_deps.sh
fetch_log=$(mktemp)
tools/get_model.sh 2>"$fetch_log" &  # while the compiler works
fetch=$!
trap 'kill $fetch 2>/dev/null || true; rm -f "$fetch_log"' EXIT
tools/build.sh release pangea
wait $fetch || { cat "$fetch_log" >&2; die "no model"; }
tail -n 1 "$fetch_log" >&2
rm -f "$fetch_log"

# The example file's ports, or any free ones when somebody has those.
ports=()
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
if taken 8000; then say "port 8000 is taken; REST gets a free one"; ports+=(--set rest.listen=127.0.0.1:0); fi
if taken 8001; then say "port 8001 is taken; gRPC gets a free one"; ports+=(--set grpc.listen=127.0.0.1:0); fi

folder=$(mktemp -d)
server=
finish() {
  if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then kill -TERM "$server"; wait "$server" || true; fi
  rm -rf "$folder"
}
trap finish EXIT
interrupted() { [ -n "$server" ] && kill -INT "$server" 2>/dev/null || exit 130; }  # once: running answers are finished; twice: now
trap interrupted INT TERM

say "serving configs/smollm2-2x2.yaml: 2 stages x 2 ranks, one master and four agents"
# In a session of its own, so that Ctrl-C reaches it once, through this script.
setsid build/release/pangea serve configs/smollm2-2x2.yaml ${ports[@]+"${ports[@]}"} >"$folder/out" 2>"$folder/log" &
server=$!
for _ in $(seq 1200); do
  ready=$(grep -m1 '^ready ' "$folder/out" || true)
  [ -n "$ready" ] && break
  kill -0 "$server" 2>/dev/null || { tail -n 40 "$folder/log" >&2; die "the server ended before it was ready"; }
  sleep 0.1
done
[ -n "$ready" ] || { tail -n 40 "$folder/log" >&2; die "not ready after two minutes"; }
rest=${ready#*rest=}; rest=${rest%% *}
grpc=${ready#*grpc=}; grpc=${grpc%% *}
say "$ready"

question="What is the capital of France?"
body=$(printf '{"model": "smollm2", "messages": [{"role": "user", "content": "%s"}], "temperature": 0, "max_tokens": 48, "stream": true}' "$question")
printf '\nREST, streamed:\n> %s\n' "$question"
curl -sSN --fail-with-body "$rest/v1/chat/completions" -H 'Content-Type: application/json' -d "$body" | python3 -u -c '
import json, sys
done = False
for line in sys.stdin:
    if not line.startswith("data: "):
        if line.strip() and not line.startswith(":"): print(line, end="")
        continue
    if line[6:].strip() == "[DONE]": done = True; break
    event = json.loads(line[6:])
    if "error" in event: sys.exit("\nerror: %s" % event["error"]["message"])
    for choice in event["choices"]: print(choice["delta"].get("content") or "", end="", flush=True)
print()
sys.exit(not done)'

printf '\ngRPC, streamed (pangea chat):\n> %s\n' "$question"
printf '%s\n' "$question" | build/release/pangea chat --grpc "$grpc" --model smollm2 --temperature 0 --max-tokens 48

printf '\nAgain, by hand:\n  curl -N %s/v1/chat/completions -H '\''Content-Type: application/json'\'' -d '\''%s'\''\n\n' "$rest" "$body"
if [ -n "$once" ]; then
  kill -TERM "$server"
  code=0; wait "$server" || code=$?
  server=
  [ $code -eq 0 ] || { tail -n 20 "$folder/log" >&2; die "the server ended with $code"; }
  say "done"
  exit 0
fi

say "the server goes on; Ctrl-C stops it"
tail -n +1 -f "$folder/log" --pid="$server" >&2 &
code=0
while kill -0 "$server" 2>/dev/null; do code=0; wait "$server" || code=$?; done  # a signal to this script ends a wait early
server=
[ $code -lt 128 ] || code=0
exit $code
