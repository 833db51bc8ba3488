"""`pangea chat` at a terminal: editing, pastes, history, commands, interrupts; and what it prints where there is none."""

import json
import shlex
import signal
import stat
import termios

import pytest
from fake_grpc import FakeGrpc
from fake_openai import FakeOpenAI
from harness import PANGEA, run, until
from terminal import Terminal, columns_of

UP, DOWN, RIGHT, LEFT, HOME, END = ("\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[F")
CTRL_A, CTRL_C, CTRL_D, CTRL_U, CTRL_W, CTRL_Z, CTRL_BACKSLASH = "\x01", "\x03", "\x04", "\x15", "\x17", "\x1a", "\x1c"


@pytest.fixture
def fake():
    with FakeOpenAI() as server:
        yield server


@pytest.fixture(params=["grpc", "rest"])
def door(request, fake):
    """flags that name a server which answers "wait" by "waiting", and goes on only when it is told to"""
    if request.param == "rest":
        yield ["--rest", fake.url]
        return
    with FakeGrpc() as server:
        yield ["--grpc", server.address]


@pytest.fixture
def chat(fake, tmp_path):
    """-> start(*flags, **of_terminal): a chat at its first prompt; the history of a test is its own. before: words of a shell"""
    opened = []

    def start(*flags, env=None, address=None, before="", after="", **kw):
        environment = {"XDG_STATE_HOME": str(tmp_path / "state"), "NO_COLOR": None, **(env or {})}
        command = [PANGEA, "chat", *(address or ["--rest", fake.url]), *flags]
        if before or after:
            command = ["sh", "-c", f"{before} exec {shlex.join(map(str, command))} {after}"]
        terminal = Terminal(*command, env=environment, **kw)
        opened.append(terminal)
        terminal.wait("> ")
        return terminal

    yield start
    for terminal in opened:
        terminal.__exit__()


def ask(terminal, keys, answer):
    terminal.type(keys)
    terminal.wait(answer)
    terminal.wait("> ")


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_a_paste_of_several_lines_is_one_message(fake, chat, line_end):
    terminal = chat()
    terminal.paste(line_end.join(["def f(x):", "\treturn x", "", "What is f(1)?"]))
    ask(terminal, "\r", "1:def")
    assert fake.asked() == ["def f(x):\n\treturn x\n\nWhat is f(1)?"]
    terminal.paste(line_end.join(["a", "b"]))
    ask(terminal, " and c\r", "3:a")
    assert fake.asked()[-1] == "a\nb and c"


def test_long_lines_arrive_whole(fake, chat):
    terminal = chat()
    typed = "".join(chr(97 + i % 26) for i in range(8003))
    ask(terminal, typed + "\r", "1:abc")
    pasted = "".join(chr(65 + i % 26) for i in range(1 << 20))
    terminal.paste(pasted)
    ask(terminal, "\r", "3:ABC")
    assert fake.asked() == [typed, pasted]


def test_several_lines_can_be_typed(fake, chat):
    terminal = chat()
    ask(terminal, "one\\\rtwo\x1b\rthree\r", "1:one")
    ask(terminal, "a\\b\r", "3:a")
    assert fake.asked() == ["one\ntwo\nthree", "a\\b"]


def test_a_message_can_end_in_a_backslash(fake, chat):
    terminal = chat()
    ask(terminal, "C:\\new\\ \r", "1:C:")
    ask(terminal, "1 & 2 \\\\\r", "3:1 & 2")
    assert fake.asked() == ["C:\\new\\", "1 & 2 \\\\"]


def test_what_is_not_utf8_is_dropped_and_the_chat_goes_on(fake, chat):
    terminal = chat()
    for keys in (b"caf\xe9 in Latin-1\r", b"\xff\xfe\r", b"one\x80\rtwo\rthree\r"):
        terminal.type(keys)
        terminal.wait("[dropped: what came from the terminal is not UTF-8]")
        terminal.wait("> ")
    ask(terminal, "caf\u00e9\r", "1:caf\u00e9")
    assert fake.asked() == ["caf\u00e9"]


def test_editing_keys(fake, chat):
    terminal = chat()
    for keys, sent in [
        (f"helo{LEFT}l", "hello"),
        (f"orld{HOME}w{END}!", "world!"),
        (f"orld{CTRL_A}w{RIGHT}{RIGHT}{RIGHT}{RIGHT}s", "worlds"),
        (f"nonsense{CTRL_U}sense", "sense"),
        (f"keep this word{CTRL_W}line", "keep this line"),
        (f"日本語{LEFT}\x7f人", "日人語"),
        ("typo\x7f\x7fre", "tyre"),
    ]:
        terminal.type(keys)
        ask(terminal, "\r", sent)
        assert fake.asked()[-1] == sent


@pytest.mark.parametrize(
    "text",
    ["plain", "日本語のテキスト", "привет", "e\u0301te\u0301", "👍🎉 ok", "a\u200bb", "한국어", "ไทยที่", "❤\ufe0f x"],
    ids=["ascii", "japanese", "russian", "combining", "emoji", "zero-width", "korean", "thai", "variation"],
)
def test_the_cursor_stands_where_the_text_ends(fake, chat, text):
    terminal = chat()
    terminal.type(text)
    width = 2 + sum(map(columns_of, text))
    assert until(lambda: terminal.screen.cursor == ("> " + text.rstrip(), width), 10), terminal.screen.cursor
    # One step back and one letter: the screen shows what will be sent.
    terminal.type(LEFT + "|")
    assert until(lambda: "|" in terminal.screen.cursor[0], 10)
    shown = terminal.screen.cursor[0][2:]
    terminal.type("\r")
    assert until(lambda: fake.bodies, 10) and fake.asked() == [shown]
    assert shown.replace("|", "") == text and not shown.endswith("|")


def test_wide_text_wraps_at_the_margin(fake, chat):
    terminal = chat(columns=20)
    terminal.type("漢" * 25 + LEFT * 3 + "x")
    assert until(lambda: "x" in terminal.screen.text, 10)
    assert terminal.screen.text.split("\n")[-3:] == ["> " + "漢" * 9, "漢" * 10, "漢" * 3 + "x" + "漢" * 3], terminal.screen.text
    ask(terminal, "\r", "1:")
    assert fake.asked() == ["漢" * 22 + "x" + "漢" * 3]


def test_history_is_recalled_and_kept_for_this_user_alone(fake, chat, tmp_path):
    terminal = chat()
    ask(terminal, "first\r", "1:first")
    terminal.paste("two\nlines")
    ask(terminal, "\r", "3:two")
    ask(terminal, UP * 3 + "!\r", "5:first!")  # in a message of two lines the first step is to the other line
    terminal.type(CTRL_D)
    assert terminal.ends() == 0
    file = tmp_path / "state/pangea/chat_history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = chat()
    ask(again, UP + UP + DOWN + UP + "\r", "1:two")
    assert fake.asked() == ["first", "two\nlines", "first!", "two\nlines"]


def test_history_is_bounded(fake, chat, tmp_path):
    file = tmp_path / "state/pangea/chat_history"
    file.parent.mkdir(parents=True)
    file.write_text("#V2\n" + "".join(f"old {i}\n" for i in range(5000)))
    terminal = chat()
    ask(terminal, "newest\r", "1:newest")
    kept = file.read_text().split("\n")
    assert "newest" in kept and len(kept) <= 1010 and "old 4999" in kept


def test_history_can_be_off(fake, chat, tmp_path):
    terminal = chat("--no-history")
    ask(terminal, "secret\r", "1:secret")
    ask(terminal, UP + "\r", "3:secret")
    assert not (tmp_path / "state").exists()


def test_an_interrupt_ends_the_answer_and_a_second_one_the_chat(fake, chat):
    terminal = chat()
    terminal.type("wait for it\r")
    terminal.wait("waiting")
    terminal.type(CTRL_C)
    terminal.wait("[stopped]")
    terminal.wait("> ")
    assert until(fake.hung_up.is_set, 10)
    ask(terminal, "go on\r", "3:go on")
    assert [m["content"] for m in fake.bodies[-1]["messages"]] == ["wait for it", "waiting", "go on"]
    terminal.type("unfinished" + CTRL_C)  # drops the line, not the chat
    ask(terminal, "other\r", "5:other")
    terminal.type(CTRL_C)
    assert terminal.ends() == 130
    assert fake.asked() == ["wait for it", "go on", "other"]


def test_an_interrupt_ends_an_answer_at_either_door(chat, door):
    terminal = chat(address=door)
    for _ in range(2):
        terminal.type("wait\r")
        terminal.wait("waiting")
        terminal.type(CTRL_C)
        terminal.wait("[stopped]")
        terminal.wait("> ")
    terminal.type(CTRL_C)
    assert terminal.ends() == 130


@pytest.mark.parametrize("end", ["terminate", "hang up", "quit key"])
def test_an_answer_under_way_is_ended_and_the_terminal_given_back(chat, door, end):
    terminal = chat(address=door)
    terminal.type("wait\r")
    terminal.wait("waiting")
    which = {"terminate": signal.SIGTERM, "hang up": signal.SIGHUP, "quit key": signal.SIGQUIT}[end]
    if end == "quit key":
        terminal.type(CTRL_BACKSLASH)
    else:
        terminal.interrupt_process(which)
    assert terminal.ends() == 128 + which
    assert termios.tcgetattr(terminal.child) == terminal.modes


def test_an_interrupt_for_an_answer_that_just_ended_does_not_end_the_chat(fake, chat):
    """the key was pressed while the terminal still made a signal of it, and the signal comes when the prompt is there"""
    terminal = chat()
    ask(terminal, "hello\r", "1:hello")
    modes = termios.tcgetattr(terminal.child)
    late = modes[:3] + [modes[3] | termios.ISIG] + modes[4:]
    termios.tcsetattr(terminal.child, termios.TCSANOW, late)
    terminal.type(CTRL_C + "x")
    assert until(lambda: terminal.screen.cursor[0] == "> x", 10)
    termios.tcsetattr(terminal.child, termios.TCSANOW, modes)
    ask(terminal, "yz\r", "3:xyz")


def test_a_hang_up_that_nohup_ignores_is_ignored(fake, chat):
    terminal = chat(before="trap '' HUP;")
    terminal.interrupt_process(signal.SIGHUP)
    ask(terminal, "hello\r", "1:hello")
    terminal.type("wait\r")
    terminal.wait("waiting")
    terminal.interrupt_process(signal.SIGHUP)
    fake.go.set()
    terminal.wait("3:wait")
    terminal.wait("> ")
    terminal.type(CTRL_D)
    assert terminal.ends() == 0


def test_suspending_gives_the_terminal_back(fake, tmp_path):
    """in a shell that leaves the terminal as its jobs do; Ctrl-Z during an answer waits for the prompt"""
    with Terminal("sh", "-i", env={"PS1": "shell: ", "ENV": None, "XDG_STATE_HOME": str(tmp_path)}, columns=200) as terminal:
        terminal.wait("shell: ")
        terminal.type(f"{PANGEA} chat --rest {fake.url}\r")
        terminal.wait("/help")
        terminal.wait("> ")
        terminal.type("half a ")
        terminal.wait("half a ")
        terminal.type(CTRL_Z)
        terminal.wait("shell: ")
        assert termios.tcgetattr(terminal.child) == terminal.modes
        terminal.type("fg\r")
        terminal.wait("half a ")
        ask(terminal, "message\r", "1:half a message")
        terminal.type("wait\r")
        terminal.wait("waiting")
        terminal.type(CTRL_Z)
        fake.go.set()
        terminal.wait("3:wait")
        terminal.wait("shell: ")
        assert termios.tcgetattr(terminal.child) == terminal.modes
        terminal.type("fg\r")
        terminal.wait("> ")
        ask(terminal, "more\r", "5:more")
        terminal.type(CTRL_D)
        terminal.wait("shell: ")
        assert termios.tcgetattr(terminal.child) == terminal.modes
        assert fake.asked() == ["half a message", "wait", "more"]


def test_an_output_that_goes_to_a_file_gets_answers_alone(fake, chat, tmp_path):
    terminal = chat(after=f"> {tmp_path}/answers")
    terminal.type("hello\r")
    assert until(lambda: (tmp_path / "answers").read_text() == "1:hello\n", 10)
    terminal.wait("> ")
    terminal.type("/help\r")
    terminal.wait("/retry")
    terminal.wait("> ")
    terminal.type(CTRL_D)
    assert terminal.ends() == 0 and b"Talking with fake" in terminal.raw
    assert (tmp_path / "answers").read_text() == "1:hello\n"


def test_what_is_typed_during_an_answer_waits_unseen(fake, chat):
    terminal = chat()
    terminal.type("wait\r")
    terminal.wait("waiting")
    terminal.type("typed ahead\rand more")
    terminal.paste("\npasted ahead")
    fake.go.set()
    terminal.wait("1:wait")
    answer = terminal.raw[: terminal.raw.index(b"1:wait")].decode()
    assert "ahead" not in answer, answer
    terminal.wait("3:typed ahead")
    terminal.wait("pasted ahead")
    ask(terminal, "\r", "5:and more")
    assert fake.asked() == ["wait", "typed ahead", "and more\npasted ahead"]


def test_what_was_typed_is_kept_when_the_answer_is_stopped(fake, chat):
    terminal = chat()
    terminal.type("wait\r")
    terminal.wait("waiting")
    terminal.type("still here" + CTRL_C)
    terminal.wait("[stopped]")
    ask(terminal, "\r", "3:still here")


def test_commands(fake, chat, tmp_path):
    terminal = chat("--system", "be brief")
    ask(terminal, "hello\r", "2:hello")
    assert fake.bodies[-1]["messages"][0] == {"role": "system", "content": "be brief"} and "temperature" not in fake.bodies[-1]
    ask(terminal, "/retry\r", "2:hello")
    assert [m["content"] for m in fake.bodies[-1]["messages"]] == ["be brief", "hello"]
    ask(terminal, "/set temperature 0.25\r", "temperature = 0.25")
    ask(terminal, "/set max-tokens 9\r", "max_tokens = 9")
    ask(terminal, "/set seed -4\r", "seed = -4")
    ask(terminal, "/set top_p 2\r", "top_p: expected a number from 0 to 1")
    ask(terminal, "/set temprature 2\r", "did you mean temperature?")
    ask(terminal, "/set max_tokens default\r", "temperature = 0.25")
    ask(terminal, "/system speak like a pirate\r", "system: speak like a pirate")
    ask(terminal, "//etc is a folder\r", "4:/etc")
    body = fake.bodies[-1]
    assert body["temperature"] == 0.25 and body["seed"] == -4 and "max_tokens" not in body and "top_p" not in body
    assert [m["content"] for m in body["messages"]] == ["speak like a pirate", "hello", "2:hello", "/etc is a folder"]
    ask(terminal, f"/save {tmp_path}/talk.json\r", "5 messages are in")
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert saved["messages"] == body["messages"] + [{"role": "assistant", "content": "4:/etc is a folder"}] and saved["model"] == "fake"
    ask(terminal, "/save /no/such/folder/x\r", "cannot write /no/such/folder/x: No such file")
    ask(terminal, "/rest\r", "unknown command /rest; did you mean /reset?")
    ask(terminal, "/frobnicate the thing\r", "unknown command /frobnicate (")
    ask(terminal, "/reset\r", "starts anew")
    ask(terminal, "again\r", "2:again")
    ask(terminal, f"/load {tmp_path}/talk.json\r", "a conversation of 5 messages")
    ask(terminal, "and then\r", "6:and then")
    ask(terminal, "/load /dev/null\r", "holds no")
    ask(terminal, "/system -\r", "no system message")
    ask(terminal, "bare\r", "7:bare")
    ask(terminal, "/help\r", "/retry")
    terminal.paste("/* a comment */\nint main();")
    ask(terminal, "\r", "9:/*")
    terminal.type("/exit\r")
    assert terminal.ends() == 0


def test_the_end_of_an_answer_tells_its_speed_and_whether_it_was_cut(fake, chat):
    terminal = chat()
    terminal.type("hello there friend\r")
    terminal.wait("[7 tokens, ")
    terminal.wait(" tokens/s]")
    fake.finish = "length"
    terminal.type("more\r")
    terminal.wait("cut off by length: the server's limit, or the context is full]")
    terminal.wait("> ")
    terminal.type("/set max_tokens 7\r")
    terminal.wait("> ")
    terminal.type("more\r")
    terminal.wait("cut off by length: max_tokens = 7")


def test_the_oldest_turns_go_when_the_context_is_full(fake, chat):
    fake.most = 4
    terminal = chat("--system", "be brief")
    for i in range(3):
        terminal.type(f"question {i}\r")
        if i == 2:
            terminal.wait("[the context is full: the oldest turn was dropped]")
        terminal.wait(f":question {i}")
        terminal.wait("> ")
    assert [m["content"] for m in fake.bodies[-1]["messages"]] == ["be brief", "question 1", "4:question 1", "question 2"]
    fake.most = 2
    terminal.type("question 3\r")
    terminal.wait("[the context is full: the oldest 2 turns were dropped]")
    terminal.wait("2:question 3")
    terminal.wait("> ")
    fake.most = 1  # not even system message and question fit: nothing is forgotten for it
    terminal.type("question 4\r")
    terminal.wait("error: This model's maximum context length")
    terminal.wait("> ")
    fake.most = 1000
    ask(terminal, "question 5\r", "4:question 5")
    piped = run("chat", "--rest", fake.url, stdin="a\n")
    fake.most = 1
    piped = run("chat", "--rest", fake.url, stdin="a\nb\n")
    assert piped.stdout == "1:a\n1:b\n" and "the oldest turn was dropped" in piped.stderr and piped.returncode == 0, piped


def test_colours_are_for_terminals_that_want_them(fake, chat):
    def colours(**env):
        terminal = chat(env=env)
        ask(terminal, "hello\r", "1:hello")
        terminal.type(CTRL_D)
        assert terminal.ends() == 0
        return b"\x1b[2m" in terminal.raw, terminal.raw

    assert colours()[0]
    assert not colours(NO_COLOR="1")[0]
    assert colours(NO_COLOR="")[0], "an empty NO_COLOR asks for nothing (no-color.org)"
    assert not colours(TERM=None)[0]
    assert b"\x1b" not in colours(TERM="dumb")[1]
    piped = run("chat", "--rest", fake.url, stdin="hello\n")
    assert piped.stdout == "1:hello\n" and piped.stderr == ""


def test_a_terminal_without_editing_sends_no_line_that_it_cut(fake, chat):
    terminal = chat(env={"TERM": "dumb"})
    terminal.type("x" * 6000 + "\r")
    terminal.wait("[not sent: this terminal cuts lines at 4095 bytes")
    terminal.wait("> ")
    ask(terminal, "y" * 4000 + "\r", "1:yyy")
    assert fake.asked() == ["y" * 4000]


def test_words_are_not_cut_at_the_margin(fake, chat):
    fake.answer = "The quick brown fox jumps over the lazy dog while 日本語日本語日本語日本語日本語 and an unreasonablyoverlongwordwithoutanyspace ends it"
    terminal = chat(columns=24)
    terminal.type("go\r")
    terminal.wait("ends it")
    lines = terminal.screen.text.split("\n")
    assert "The quick brown fox" in lines and "jumps over the lazy dog" in lines, lines
    assert fake.answer.replace(" ", "") in "".join(lines).replace(" ", ""), lines
    assert all(sum(map(columns_of, line)) <= 24 for line in lines)


def test_the_model_is_checked_before_the_greeting(fake, chat):
    fake.models = ("one", "two")
    r = run("chat", "--rest", fake.url, "--model", "wrong", stdin="hello\n")
    assert r.returncode == 1 and r.stdout == "" and "no model 'wrong'; it serves one, two" in r.stderr and not fake.bodies, r
    terminal = Terminal(PANGEA, "chat", "--rest", fake.url, "--model", "wrong")
    terminal.wait("it serves one, two")
    assert terminal.ends() == 1 and b"Talking" not in terminal.raw
    chat("--model", "two").wait("")


@pytest.mark.parametrize("end", ["exit", "terminate", "interrupt"])
def test_the_terminal_is_given_back_as_it_was(fake, chat, end):
    terminal = chat()
    ask(terminal, "hello\r", "1:hello")
    assert termios.tcgetattr(terminal.child) != terminal.modes
    if end == "exit":
        terminal.type("/exit\r")
        assert terminal.ends() == 0
    else:
        which = signal.SIGTERM if end == "terminate" else signal.SIGINT
        terminal.interrupt_process(which)
        assert terminal.ends() == 128 + which
    assert termios.tcgetattr(terminal.child) == terminal.modes
    marked = lambda: terminal.raw.rfind(b"\x1b[?2004h") > terminal.raw.rfind(b"\x1b[?2004l")
    assert until(lambda: not marked(), 10), "pastes are still marked"


@pytest.mark.parametrize("door", ["grpc", "rest"])
def test_a_real_server_answers(stories, door, tmp_path):
    messages, answers = [], []
    for line in ("Hello", "And then?"):
        messages.append(dict(role="user", content=line))
        ((_, text),) = stories.chat(messages=messages, temperature=0, max_tokens=12)
        messages.append(dict(role="assistant", content=text))
        answers.append(text)
    address = ["--grpc", stories.grpc] if door == "grpc" else ["--rest", stories.rest]
    with Terminal(PANGEA, "chat", *address, "--temperature", "0", "--max-tokens", "12", "--no-history", columns=0) as terminal:
        terminal.wait("Talking with stories260k")
        terminal.wait("> ")
        for line, answer in zip(("Hello", "And then?"), answers):
            terminal.type(line + "\r")
            terminal.wait(answer.replace("\n", "\r\n"))
            terminal.wait("12 tokens")
            terminal.wait("cut off by length: max_tokens = 12")
            terminal.wait("> ")
        terminal.type(CTRL_D)
        assert terminal.ends() == 0


@pytest.mark.parametrize("door", ["grpc", "rest"])
def test_a_real_server_whose_context_is_full(stories, door):
    """long turns until the oldest ones must go: the conversation goes on"""
    story = "Once upon a time there was a little girl. " * 8
    address = ["--grpc", stories.grpc] if door == "grpc" else ["--rest", stories.rest]
    r = run("chat", *address, "--temperature", "0", "--max-tokens", "20", stdin=(story + "\n") * 6)
    assert r.returncode == 0 and "the context is full" in r.stderr, r
