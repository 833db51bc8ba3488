#!/usr/bin/env python3
"""The engine's speed, all figures of docs/performance_results.md: bench/serving/run.py [--rounds 5] [--only cpu,bubble,...]

Needs a release build, SmolLM2 (tools/get_model.sh) and the Python of build/venv; llama.cpp's server is compared (versus, kill) when bench/serving/peer.sh has made it,
a former build of this one when the environment variable FORMER names its executable.
Exit code 1: a figure is beyond its bound.
"""

import argparse
import sys

import common
import kill
import overhead
import prefill
import versus

EXPERIMENTS = {
    "steps": overhead.between_steps,
    "cpu": overhead.master_cpu,
    "bubble": overhead.bubble,
    "cancel": overhead.cancel,
    "long": prefill.long_prompt,
    "prefix": prefill.prefix,
    "versus": versus.versus,
    "former": versus.former,
    "kill": kill.kill,
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--model", type=common.pathlib.Path, help="for versus and former (default: SmolLM2)")
parser.add_argument("--layouts", help="of versus, such as 1x1 (default: all)")
parser.add_argument("--only", default=",".join(EXPERIMENTS), help="of " + ", ".join(EXPERIMENTS))
options = parser.parse_args()
versus.MODEL = options.model or versus.MODEL
versus.LAYOUTS = options.layouts and options.layouts.split(",")
chosen = options.only.split(",")
if unknown := [name for name in chosen if name not in EXPERIMENTS]:
    parser.error(f"unknown: {', '.join(unknown)}")
print(
    f"{common.CORES} cores, load average {common.os.getloadavg()[0]:.1f}, {common.subprocess.run([common.harness.PANGEA, 'version'], capture_output=True, text=True).stdout.strip()}, {options.rounds} rounds"
)
for name in chosen:
    EXPERIMENTS[name](options.rounds)
print(f"\n{len(common.Table.missed)} beyond their bounds{': ' if common.Table.missed else ''}{'; '.join(common.Table.missed)}")
sys.exit(bool(common.Table.missed))
