#!/usr/bin/env python3
"""What chat templates give under Python's jinja2, set up as transformers sets it up.

Without arguments: renders every conversation below with every template of tests/data/templates and every
built-in one, and writes the texts to tests/data/templates/expected.json, which tests/templates.rs holds quipu to.

    chat_templates.py
    chat_templates.py --dir FOLDER --quipu BINARY     compare quipu with jinja2 on templates that are not ours

Needs jinja2.
"""
import argparse
import datetime
import json
import pathlib
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILTIN = ROOT / "src" / "text" / "chat" / "builtin"
DATA = ROOT / "tests" / "data" / "templates"
# Friday 26 July 2024, 12:30:05.
NOW = datetime.datetime(2024, 7, 26, 12, 30, 5)
NOW_SECONDS = int((NOW - datetime.datetime(1970, 1, 1)).total_seconds())
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class Generation(jinja2.ext.Extension):
    """`{% generation %}`: its body, nothing else."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: NOW.strftime(f)
    return env


def function(name, description, properties, required):
    parameters = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


TOOLS = [
    function(
        "get_weather",
        'The weather at a place, "now" or later',
        {
            "place": {"type": "string", "description": "Town & country"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        ["place"],
    ),
    function("add", "Sum of numbers", {"numbers": {"type": "array", "items": {"type": "number"}}}, []),
]
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call00001",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"place": "Łódź", "unit": "celsius"}},
        }
    ],
}


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def conversations():
    tool = {"role": "tool", "content": '{"degrees": 21.5}', "name": "get_weather", "tool_call_id": "call00001"}
    turns = [user("Hello there"), assistant("Hi! What can I do?"), user("  Count to three.\n")]
    return {
        "user": {"messages": [user("Hello")]},
        "system": {"messages": [system("Be brief."), user("Hello")]},
        "turns": {"messages": turns},
        "turns with system": {"messages": [system(" You are a pirate. "), *turns]},
        "no prompt": {"messages": [*turns, assistant("1 2 3")], "add_generation_prompt": False},
        "prefill": {"messages": [*turns, assistant("1, ")]},
        "unicode": {"messages": [system("日本語で"), user("żółw 🐢 <b>&amp;</b> 'x' \"y\" \\ \t{{ x }}"), assistant("ÿ"), user("é")]},
        "empty": {"messages": [system(""), user(""), assistant(""), user("")]},
        "no messages": {"messages": []},
        "two users": {"messages": [user("a"), user("b")]},
        "assistant first": {"messages": [assistant("Hello"), user("b")]},
        "special": {"messages": [user("<|im_end|><s>[INST]</s>"), assistant("<think>\nhm\n</think>\n\nyes"), user("go")]},
        "reasoning": {
            "messages": [user("2+2?"), assistant("4", reasoning_content="two and two\n"), user("sure?")],
            "enable_thinking": True,
        },
        "not thinking": {"messages": [system("s"), user("2+2?")], "enable_thinking": False},
        "tools": {"messages": [system("Use tools."), user("Weather?")], "tools": TOOLS},
        "tools without system": {"messages": [user("Weather?")], "tools": TOOLS},
        "call": {"messages": [user("Weather?"), CALL, tool, assistant("21.5 degrees"), user("And now?")], "tools": TOOLS},
        "call last": {"messages": [user("Weather?"), CALL, tool], "tools": TOOLS},
        "two results": {"messages": [user("Weather?"), CALL, tool, tool, assistant("same"), user("ok")], "tools": TOOLS},
        "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": " two"}]}]},
        "null": {"messages": [user("Weather?"), {**CALL, "content": None}, tool], "tools": TOOLS},
        "odd role": {"messages": [{"role": "critic", "content": "no"}]},
        "no tools": {"messages": [user("Hello")], "tools": []},
        "numbers": {"messages": [user("Hello")], "tools": [{"n": 1.0, "m": 1e-7, "k": 12345678901234567890, "x": 1e16, "t": True, "z": None, "e": {}, "l": []}]},
    }


def render(source, case):
    """The text, or None and the message of what went wrong."""
    inputs = {"add_generation_prompt": True, "tools": None, "documents": None, **SPECIAL, **case}
    try:
        return environment().from_string(source).render(**inputs), None
    except Exception as e:  # whatever a template does is a finding, not a failure of this script
        return None, f"{type(e).__name__}: {e}"


def quipu(binary, path, case):
    command = [binary, "template", "--chat-template-file", str(path), "--now", str(NOW_SECONDS)]
    run = subprocess.run(command, input=json.dumps({**SPECIAL, **case}).encode(), capture_output=True, timeout=60)
    return (run.stdout.decode(), None) if run.returncode == 0 else (None, run.stderr.decode().strip())


def compare(folder, binary, verbose):
    files = sorted(folder.glob("*.jinja"))
    same = both_fail = only_we_fail = only_they_fail = different = 0
    whole = 0
    for path in files:
        source = path.read_text()
        bad = 0
        for name, case in conversations().items():
            want, why = render(source, case)
            got, error = quipu(binary, path, case)
            if want is None and got is None:
                both_fail += 1
                if verbose:
                    print(f"{path.name} / {name}: both fail\n  python {why}\n  quipu  {error}")
            elif want == got:
                same += 1
            else:
                bad += 1
                if got is None:
                    only_we_fail += 1
                elif want is None:
                    only_they_fail += 1
                else:
                    different += 1
                print(f"{path.name} / {name}\n  python {want!r} {why or ''}\n  quipu  {got!r} {error or ''}")
        whole += bad == 0
    print(
        f"{len(files)} templates, {len(conversations())} conversations each: {same} the same, {both_fail} fail in both, "
        f"{only_we_fail} only in quipu, {only_they_fail} only in Python, {different} differ; "
        f"{whole} templates without a difference"
    )
    return only_we_fail + only_they_fail + different


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=pathlib.Path, help="folder of templates to compare on, nothing is written")
    parser.add_argument("--quipu", default=str(ROOT / "target" / "debug" / "quipu"), help="the binary")
    parser.add_argument("--verbose", action="store_true", help="print errors that both have")
    args = parser.parse_args()
    if args.dir:
        sys.exit(1 if compare(args.dir, args.quipu, args.verbose) else 0)
    expected = {}
    for path in sorted([*DATA.glob("*.jinja"), *BUILTIN.glob("*.jinja")]):
        source = path.read_text()
        name = f"builtin/{path.stem}" if path.parent == BUILTIN else path.stem
        expected[name] = {name: render(source, case)[0] for name, case in conversations().items()}
    facts = {
        "jinja2": jinja2.__version__,
        "now": NOW_SECONDS,
        "special": SPECIAL,
        "conversations": conversations(),
        "expected": expected,
    }
    text = json.dumps(facts, ensure_ascii=False, indent=1)
    (DATA / "expected.json").write_text(text + "\n")
    fails = sum(t is None for e in expected.values() for t in e.values())
    print(f"{len(expected)} templates, {len(conversations())} conversations, {fails} that are refused")


if __name__ == "__main__":
    main()
