"""What an engine's death means, told from its signal, the end of its log, and what became of its core."""

from __future__ import annotations

import os
import re
import resource
import signal
from pathlib import Path

LOG_TAIL_BYTES = 64 << 10  # a crash may leave the stacks of many threads
LONGEST_LINE = 300
TAIL_LINES = 12
SHOWN_FRAMES = 3
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
CORE_SIGNALS: frozenset[int] = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGQUIT, signal.SIGSYS}
)

# What each signal usually means here; SIGKILL is for ``memory_kills`` to explain.
MEANINGS: dict[int, str] = {
    signal.SIGSEGV: "native code touched memory that it does not own",
    signal.SIGABRT: "a library gave up",
    signal.SIGBUS: "a file that it had mapped became shorter, or its disk failed or was full",
    signal.SIGILL: "it met an instruction that this processor does not have: a library was built for another one",
    signal.SIGFPE: "native code divided by zero",
    signal.SIGSYS: "a system call that it needs is forbidden here",
    signal.SIGXFSZ: "a file grew beyond the limit on file sizes (ulimit -f)",
    signal.SIGXCPU: "it used more processor time than permitted (ulimit -t)",
}

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PATH = re.compile(r"(?<![\w.])/(?:[\w.@+ -]+/)*([\w.@+-]+)")
_FRAME = re.compile(r'^File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>\S+)$')
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+")
# faulthandler's own words; all but the first are of no use in a sentence.
_FATAL = "Fatal Python error: "
_USUAL = re.compile(r"^.{0,60}\b(?:INFO|DEBUG)\b")
_DUMP = re.compile(
    r"^(?:Fatal Python error: |Extension modules: |\.\.\.$|<(?:no Python frame|truncated)|Current thread's C"
    # Of libraries that write down C stacks in their own way.
    r"|!!!!!!! |File \"[^\"]*\", line \d+, in )"
)


def log_lines(path: str, most_bytes: int = LOG_TAIL_BYTES) -> list[str]:
    """The lines at the end of a log that say something, without colours; none when it cannot be read."""
    try:
        with open(path, "rb") as log:
            begin = max(0, os.fstat(log.fileno()).st_size - most_bytes)
            log.seek(begin)
            raw = log.read(most_bytes)
    except OSError:
        return []
    lines = raw.decode(errors="replace").splitlines()
    return [plain for line in lines if (plain := plain_line(line)) and not plain.startswith("#{")]


def plain_line(line: str) -> str:
    return clean(line).strip()[:LONGEST_LINE]


def clean(text: str) -> str:
    """Without colours and whatever else a terminal would obey."""
    return _UNPRINTABLE.sub("", _ANSI.sub("", text))


def last_words(lines: list[str]) -> str:
    """The last line that a person or a library wrote, without the folders of paths; empty when there is none.

    Lines of the level INFO do not count: they tell of what went well.
    """
    words = [line for line in lines if not any(kind.search(line) for kind in (_FRAME, _THREAD, _DUMP, _USUAL))]
    return _PATH.sub(r"\1", words[-1]) if words else ""


def crashed_in(lines: list[str]) -> str:
    """``f (model.py:12), called by g (batch.py:7)``: from the stack that faulthandler left of the crashed thread."""
    fatal = [place for place, line in enumerate(lines) if line.startswith(_FATAL)]
    if not fatal:
        return ""
    frames: list[str] = []
    inside = False
    for line in lines[fatal[-1] :]:
        found = _FRAME.match(line)
        if found and inside:
            frames.append(f"{found['function']} ({os.path.basename(found['file'])}:{found['line']})")
        elif _THREAD.match(line):
            if frames:
                break
            inside = line.startswith("Current")
    return ", called by ".join(frames[:SHOWN_FRAMES])


def core_note(pid: int, number: int, wait_status: int, pattern: str, folder: str, limit_bytes: int) -> str:
    """Where the core of a crashed process is, or how to get one the next time; empty for signals that leave none.

    ``pattern``: the kernel's core_pattern; ``folder``: the process's working folder; ``limit_bytes``: RLIMIT_CORE,
    below 0 for none.
    """
    if number not in CORE_SIGNALS:
        return ""
    pattern = pattern.strip()
    if os.WCOREDUMP(wait_status):
        if pattern.startswith("|"):
            return f"its core went to {pattern[1:].split()[0]} (where that is systemd-coredump: coredumpctl dump {pid})"
        return f"its core is at {os.path.join(folder, _expanded(pattern, pid))}"
    if limit_bytes == 0:
        return "no core was written: cores are limited to 0 bytes (run `ulimit -c unlimited` before `roundhouse up`)"
    return "no core was written"


def _expanded(pattern: str, pid: int) -> str:
    if "%" not in pattern:
        # The kernel appends the pid when core_uses_pid is on.
        return f"{pattern} (or {pattern}.{pid})"
    known = {"%%": "%", "%p": str(pid), "%P": str(pid), "%i": "*", "%I": "*"}
    return re.sub(r"%.", lambda found: known.get(found[0], "*"), pattern)


def core_limit_bytes() -> int:
    """Of this process, which its children inherit; below 0: none."""
    limit = resource.getrlimit(resource.RLIMIT_CORE)[0]
    return -1 if limit == resource.RLIM_INFINITY else limit


def core_pattern() -> str:
    try:
        return CORE_PATTERN.read_text()
    except OSError:
        return "core"
