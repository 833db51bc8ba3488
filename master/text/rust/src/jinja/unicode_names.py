"""Writes unicode_names.txt: the names of the characters that a template is likely to spell as \\N{NAME}, from Python's copy of the
Unicode Character Database. A line is the code (where it is not the one after the line before), a space, how many characters of the
name are those of the line before (two digits), and the rest of the name."""

import pathlib
import unicodedata

BLOCKS = [(0x20, 0x52F), (0x590, 0x6FF), (0x1E00, 0x1EFF), (0x2000, 0x27FF), (0x2900, 0x2BFF), (0x3000, 0x30FF), (0xFE00, 0xFE0F)]
BLOCKS += [(0xFF00, 0xFFFF), (0x1F000, 0x1F0FF), (0x1F100, 0x1FAFF)]
CONTROLS = (
    "NULL|START OF HEADING|START OF TEXT|END OF TEXT|END OF TRANSMISSION|ENQUIRY|ACKNOWLEDGE|ALERT|BACKSPACE|CHARACTER TABULATION|"
    "LINE FEED|LINE TABULATION|FORM FEED|CARRIAGE RETURN|SHIFT OUT|SHIFT IN|DATA LINK ESCAPE|DEVICE CONTROL ONE|DEVICE CONTROL TWO|"
    "DEVICE CONTROL THREE|DEVICE CONTROL FOUR|NEGATIVE ACKNOWLEDGE|SYNCHRONOUS IDLE|END OF TRANSMISSION BLOCK|CANCEL|END OF MEDIUM|"
    "SUBSTITUTE|ESCAPE|INFORMATION SEPARATOR FOUR|INFORMATION SEPARATOR THREE|INFORMATION SEPARATOR TWO|INFORMATION SEPARATOR ONE|"
    "TAB|HORIZONTAL TABULATION|NEW LINE|END OF LINE|LF|CR|NUL|ESC|BEL|DELETE|NEXT LINE|NBSP|ZWNJ|ZWJ|ZWSP|LRM|RLM|BOM|BYTE ORDER MARK"
)


def main() -> None:
    names = [(ord(unicodedata.lookup(name)), name) for name in CONTROLS.split("|")]
    for first, last in BLOCKS:
        named = ((code, unicodedata.name(chr(code), "")) for code in range(first, last + 1))
        names += [(code, name) for code, name in named if name and not name.startswith(("CJK UNIFIED", "BRAILLE"))]
    lines, before, last_code = [], "", -1
    for code, name in names:
        same = 0
        while same < min(len(before), len(name), 99) and before[same] == name[same]:
            same += 1
        lines.append(("" if code == last_code + 1 else f"{code:x}") + f" {same:02}{name[same:]}\n")
        before, last_code = name, code
    pathlib.Path(__file__).with_suffix(".txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
