"""A program in a pseudo-terminal: what a person types there, and what the screen then shows."""

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unicodedata

from harness import SLOW, until


def columns_of(character):
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Screen:
    """As much of a terminal as a line editor uses: text, line ends, movements, erasing. A cell holds a character and its marks."""

    SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b[=>()][0-9A-B]?")

    def __init__(self, columns, rows):
        self.columns, self.rows, self.row, self.column = columns, rows, 0, 0
        self.lines = [[]]

    def feed(self, text):
        at = 0
        while at < len(text):
            if m := self.SEQUENCE.match(text, at):
                at = m.end()
                if m[2]:
                    self.control(m[1], m[2])
                continue
            self.put(text[at])
            at += 1
        return self

    def put(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.down()
        elif character == "\b":
            self.column = max(self.column - 1, 0)
        elif character >= " ":
            width = columns_of(character)
            if self.column + width > self.columns:
                self.column = 0
                self.down()
            line = self.lines[self.row]
            line += [" "] * (self.column + max(width, 1) - len(line) if width else 0)
            if width == 0:
                line[self.column - 1] += character
            else:
                line[self.column : self.column + width] = [character] + [""] * (width - 1)
                self.column += width

    def down(self):
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def control(self, numbers, letter):
        if numbers.startswith("?"):
            return
        n = int(numbers or 0) if ";" not in numbers else 0
        line = self.lines[self.row]
        if letter == "A":
            self.row = max(self.row - max(n, 1), 0)
        elif letter == "B":
            for _ in range(max(n, 1)):
                self.down()
        elif letter == "C":
            self.column = min(self.column + max(n, 1), self.columns - 1)
        elif letter == "D":
            self.column = max(min(self.column, self.columns - 1) - max(n, 1), 0)
        elif letter == "G":
            self.column = max(n, 1) - 1
        elif letter == "K":
            del line[0 if n == 2 else self.column :]
        elif letter == "J":
            del line[self.column :], self.lines[self.row + 1 :]

    @property
    def text(self):
        return "\n".join("".join(line).rstrip() for line in self.lines)

    @property
    def cursor(self):
        """(the text of its line, its column)"""
        return "".join(self.lines[self.row]).rstrip(), self.column


def new_terminal():
    """(the side that types, the terminal) of a new pseudo-terminal; in a root without /dev/pts of a file system mounted for this one alone"""
    try:
        return os.openpty()
    except OSError:
        if os.geteuid() != 0:
            raise
    folder = tempfile.mkdtemp()
    subprocess.run(["mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", folder], check=True)
    try:
        typing = os.open(f"{folder}/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(typing, 0x40045431, struct.pack("i", 0))  # TIOCSPTLCK: unlocked
        (number,) = struct.unpack("i", fcntl.ioctl(typing, 0x80045430, bytes(4)))  # TIOCGPTN
        return typing, os.open(f"{folder}/{number}", os.O_RDWR | os.O_NOCTTY)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        os.rmdir(folder)


class Terminal:
    def __init__(self, *command, columns=80, rows=24, env=None):
        self.columns, self.rows, self.code, self.raw, self.mark = columns, rows, None, b"", 0
        self.fd, child = new_terminal()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.modes = termios.tcgetattr(child)
        environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        environment = {k: v for k, v in environment.items() if v is not None}
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(child, termios.TIOCSCTTY, 0)
            for n in (0, 1, 2):
                os.dup2(child, n)
            os.closerange(3, 256)
            os.execvpe(command[0], [str(c) for c in command], environment)
        self.child = child  # kept open: the terminal outlives the program, and its modes can be read then
        self.reader = threading.Thread(target=self.collect, daemon=True)
        self.reader.start()

    def collect(self):
        with contextlib.suppress(OSError):
            while data := os.read(self.fd, 1 << 16):
                self.raw += data

    @property
    def seen(self):
        """what was written since the last `wait`"""
        return self.raw[self.mark :].decode(errors="replace")

    @property
    def screen(self):
        return Screen(self.columns, self.rows).feed(self.raw.decode(errors="replace"))

    def type(self, text):
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self.fd, data[:4096]) :]

    def paste(self, text):
        """as a terminal does once a program has asked for it: the text between two marks"""
        assert self.raw.rfind(b"\x1b[?2004h") > self.raw.rfind(b"\x1b[?2004l"), "the program did not ask for marked pastes"
        self.type(b"\x1b[200~" + text.encode() + b"\x1b[201~")

    def wait(self, text, seconds=30):
        """waits until `text` was written after what the last wait found"""
        found = until(lambda: text.encode() in self.raw[self.mark :], seconds)
        assert found, f"{text!r} did not come; this did: {self.seen[-2000:]!r}"
        self.mark = self.raw.index(text.encode(), self.mark) + len(text.encode())

    def ends(self, seconds=30):
        """-> the exit code; negative: the signal that ended it"""
        end = time.monotonic() + seconds * SLOW
        while self.code is None and time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.01)
        assert self.code is not None, f"it still runs: {self.seen[-2000:]!r}"
        return self.code

    def interrupt_process(self, which):
        os.kill(self.pid, which)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.code is None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        os.close(self.child)
        self.reader.join(5)
        os.close(self.fd)
