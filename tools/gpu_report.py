#!/usr/bin/env python3
"""gpu_report.py FOLDER COMMIT REPORT: of what tools/gpu_check.sh has measured so far, REPORT in JSON and the table of bars (docs/cuda.md)."""

import datetime, json, pathlib, shutil, subprocess, sys

folder = pathlib.Path(sys.argv[1])
card = None
if shutil.which("nvidia-smi"):
    card = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True
    ).stdout.strip()
report = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(), "commit": sys.argv[2], "card": card, "runs": {}}
for path in sorted(folder.glob("*.json")):
    if path.stat().st_size:
        report["runs"][path.stem] = json.loads(path.read_text())
pathlib.Path(sys.argv[3]).write_text(json.dumps(report, indent=1) + "\n")
runs = report["runs"]


def find(run, **like):
    return next((row for row in runs.get(run, []) if all(row.get(k) == v for k, v in like.items())), None)


def line(case, row, key, bar, goal, scale=100, unit="%"):
    value = None if row is None else row.get(key)
    said = "not measured" if value is None else f"{value * scale:.1f} {unit}"
    print(f"{case:58} {said:>14}   bar {bar:>7}, goal {goal:>7}")


print()
line("Llama-3-8B shape, bf16, batch 1, context 1k, of read", find("model_8b", what="decode", batch=1), "of_read_bandwidth", "65 %", "85 %")
line("Llama-3.2-1B shape, bf16, batch 1, of read", find("model_1b", what="decode", batch=1), "of_read_bandwidth", "45 %", "70 %")
line("8B, batch 64, context 1k, of read", find("model_8b", what="decode", batch=64), "of_read_bandwidth", "55 %", "80 %")
line("prefill of 8k, 8B, of the matrix rate", find("model_8b", what="prefill"), "of_matrix_rate", "50 %", "75 %")
line("idle between steps, 8B, batch 1", find("model_8b", what="decode", batch=1), "device_idle", "< 5 %", "< 1 %")
line("fusion 3 over 0, 8B, batch 1", find("fusion_8b", what="fusion", level=3), "gain", "3x", "5x", 1, "x")
line("fusion 3 over 0, 1B, batch 1", find("fusion_1b", what="fusion", level=3), "gain", "3x", "5x", 1, "x")
for shape, run, peers in (("8B", "model_8b", "peers-llama-3-8b"), ("1B", "model_1b", "peers-llama-3.2-1b")):
    for theirs in runs.get(peers, []):
        ours = find(run, what=theirs["what"], batch=theirs.get("batch"))
        if ours and "seconds" in theirs:
            ratio = theirs["seconds"] / ours["step_seconds" if theirs["what"] == "decode" else "seconds"]
            print(f"{shape}, {theirs['what']}, batch {theirs.get('batch', 1)}: {theirs['by']} takes {ratio:.2f} of our time")
for row in (row for part in runs.get("8b", []) for row in part["rows"]):
    if not row["case"].startswith("attention"):
        continue
    if "rows" in row["case"]:
        line(f"a prompt's {row['case']}", row, "flops_per_second", "-", "-", 1e-12, "TFLOP/s")
    else:
        line(f"decode attention alone, {row['case']}", row, "of_read_bandwidth", "65 %", "90 %")
