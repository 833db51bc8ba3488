"""Renders the templates of cases.json anew, with Jinja2 3.1 set up as Transformers sets it up for chat templates.

pip install jinja2==3.1.6; python make_cases.py. A case is [template, result]; a result of null means that Jinja2 refuses the template or
its rendering. To add a case, add its template with any result and run this."""

import copy
import datetime
import json
import pathlib

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

FILE = pathlib.Path(__file__).with_name("cases.json")
REFUSALS = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class Generation(Extension):
    """Transformers' tag around what an assistant wrote."""

    tags = frozenset(("generation",))

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_write"), [], [], body).set_lineno(line)

    def _write(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return env


def render(source, context):
    try:
        out = environment().from_string(source).render(**copy.deepcopy(context))
        out.encode()  # half a surrogate pair is no text
        return out
    except REFUSALS:
        return None


def main():
    file = json.loads(FILE.read_text())
    cases = [[source, render(source, file["context"])] for source, _ in file["cases"]]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    context = json.dumps(file["context"], ensure_ascii=False)
    FILE.write_text(f'{{"context": {context},\n"cases": [\n{lines}\n]}}\n')
    print(len(cases), "cases,", sum(case[1] is None for case in cases), "refused")


if __name__ == "__main__":
    main()
