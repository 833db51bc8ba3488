#!/usr/bin/env python3
"""sizes.py ROOT [--list N]: no source file over 500 lines, no function over 100, of the tracked C++, CUDA, Rust and Python files.

The best code of the field differs from the feared code only in its tail, so the tail is policed. Lines are lines of the file: blank lines
and comments count. --list prints the N largest of each.
"""

import ast
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from include_table import tracked  # noqa: E402

FILE_LINES, FUNCTION_LINES = 500, 100
BRACED = {".cc", ".h", ".cu", ".cuh", ".inc", ".rs", ".mjs", ".js"}
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|r(#+)".*?"\2|"(?:\\.|[^"\\\n])*"|\'(?:\\.[^\'\n]*|[^\'\\\n])\'', re.S)
# A brace that opens one of these is not a function's: what is inside is looked at instead.
CONTAINER = re.compile(r"\b(namespace|class|struct|union|enum|extern|impl|trait|mod|concept)\b")


def blank(text):
    """comments, strings and character literals replaced by blanks; lines keep their numbers"""
    return TOKEN.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def braced_functions(text):
    """(name, first line, lines) of every outermost function body: from the line its signature begins to its closing brace"""
    code = blank(text)
    code = re.sub(r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), code)  # preprocessor lines
    line, head_start, stack, head, found = 1, None, [], "", []
    for c in code:
        if c == "{":
            inside = any(kind == "function" for kind, *_ in stack)
            name = re.search(r"([~\w:<>=!+\-*/\[\]]+)\s*\(", head)
            kind = "plain"
            # A signature has a parameter list; an initialiser `= {` and a container have none or say so.
            # What matters of a container is the text before its own brace, so template parameters are cut off first.
            bare = re.sub(r"template\s*<[^{};]*?>\s*(?=\w)", "", head)
            if not inside and name and not re.search(r"=\s*$", head) and not CONTAINER.match(bare.lstrip().removeprefix("pub ").lstrip()):
                kind = "function"
            stack.append((kind, name[1] if name else "", head_start or line))
            head, head_start = "", None
        elif c == "}":
            if stack:
                kind, name, first = stack.pop()
                if kind == "function":
                    found.append((name, first, line - first + 1))
            head, head_start = "", None
        elif c == ";":
            # a semicolon inside parentheses (a for statement) cannot end a declaration at file level
            head, head_start = "", None
        elif not c.isspace():
            head_start = head_start or line
            head += c
        elif head:
            head += " "
        if c == "\n":
            line += 1
    return found


def python_functions(text):
    return [
        (n.name, n.lineno, n.end_lineno - n.lineno + 1)
        for n in ast.walk(ast.parse(text))
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def measure(root, names):
    """-> [(file, lines)], [(file, name, first line, lines)]"""
    files, functions = [], []
    for name in names:
        suffix = pathlib.PurePath(name).suffix
        if suffix not in BRACED | {".py", ".proto", ".sh"}:
            continue
        text = (root / name).read_text(errors="replace")
        files.append((name, len(text.splitlines())))
        if suffix in BRACED:
            functions += [(name, *f) for f in braced_functions(text)]
        elif suffix == ".py":
            functions += [(name, *f) for f in python_functions(text)]
    return files, functions


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    files, functions = measure(root, tracked(root))
    if "--list" in sys.argv:
        n = int(sys.argv[sys.argv.index("--list") + 1])
        for name, lines in sorted(files, key=lambda f: -f[1])[:n]:
            print(f"{lines:5} {name}")
        for name, function, first, lines in sorted(functions, key=lambda f: -f[3])[:n]:
            print(f"{lines:5} {name}:{first} {function}")
    over = [f"{name}: {lines} lines, the cap is {FILE_LINES}" for name, lines in files if lines > FILE_LINES]
    over += [
        f"{name}:{first}: {function} has {lines} lines, the cap is {FUNCTION_LINES}"
        for name, function, first, lines in functions
        if lines > FUNCTION_LINES
    ]
    print(*over, sep="\n", end="\n" if over else "")
    print(f"sizes: {len(files)} files, {len(functions)} functions, {len(over)} over the cap")
    sys.exit(bool(over) or not files or not functions)


if __name__ == "__main__":
    main()
