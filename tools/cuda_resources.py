#!/usr/bin/env python3
"""cuda_resources.py FOLDER --compiler VERSION [--write]: what each kernel takes of a multiprocessor, as ptxas said (FOLDER/*.ptxas), against
kernels/cuda/resources.txt.

A register that is spilled is an error with every compiler; numbers are compared with the compiler that they were written with.
"""

import argparse
import pathlib
import re
import sys

TABLE = pathlib.Path(__file__).resolve().parent.parent / "kernels/cuda/resources.txt"
ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


def said(folder):
    """-> {(kernel, architecture): (registers, stack, shared, spilled)}"""
    found = {}
    for path in sorted(folder.glob("*.ptxas")):
        for kernel, sm, stack, stores, loads, registers, rest in ENTRY.findall(path.read_text()):
            shared = re.search(r"(\d+) bytes smem", rest)
            found[kernel.removeprefix("Pangea"), sm] = (
                int(registers),
                int(stack),
                int(shared[1]) if shared else 0,
                int(stores) + int(loads),
            )
    return found


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=pathlib.Path)
    options.add_argument("--compiler", required=True)
    options.add_argument("--write", action="store_true", help="the table, instead of comparing with it")
    args = options.parse_args()
    found = said(args.folder)
    if not found:
        sys.exit(f"{args.folder} has no *.ptxas that names a kernel")
    # As ptxas puts it where it cannot let products of a warp group run ahead.
    faults = [f"{p.name}: wgmma is serialized" for p in args.folder.glob("*.ptxas") if "wgmma" in p.read_text()]
    faults += [f"{kernel} on {sm} spills {row[3]} bytes" for (kernel, sm), row in found.items() if row[3]]
    lines = [
        f"# nvcc {args.compiler}: registers of a thread, bytes of its stack, static shared memory of a block. tools/cuda_resources.py --write"
    ]
    lines += [f"{kernel:<16} {sm:<7} {r:>4} {stack:>5} {shared:>6}" for (kernel, sm), (r, stack, shared, _) in sorted(found.items())]
    if args.write:
        TABLE.write_text("\n".join(lines) + "\n")
    elif (old := TABLE.read_text().splitlines())[0] == lines[0]:
        faults += [f"is now: {line}" for line in lines if line not in old] + [f"was: {line}" for line in old if line not in lines]
    for fault in faults:
        print(fault)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
