"""A process that runs jq expressions: it reads requests from standard input and writes answers to standard output.

`jq.py` starts it as a script, and changes together with it. It imports nothing of zizq, so that it starts fast.
Expressions come from outside, so it shuts every door before it reads the first one (docs/decisions/jq.md).

Each message is a frame: its length in four bytes, big end first, then so many bytes.

hello
    Sent from here, once: empty, or the reason why no expression can run.
request
    MessagePack: `[task, arguments, seconds of processor time, sizes of the payloads]`. The payloads follow, unframed.
answer
    MessagePack, and what it says depends on the task:

    `filter`, with an expression
        A verdict for each payload, or what is wrong with the expression as text.
    `check`, with `when` and `fold` of a batch
        What is wrong with them, as a dry run with the only payload shows; empty when nothing is.
    `fold`, with `when` and `fold` of a batch, the most bytes of JSON and the deepest nesting of a result
        `[result, count, error]`: what the first payload is after so many of the others were folded into it, as JSON;
        and why the next one could not be, or nil when `when` did not let it in or there is none.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

try:
    import resource
except ImportError:  # not a POSIX system: it has no such limits
    resource = None  # type: ignore[assignment]

_LENGTH = struct.Struct(">I")
_FILTERS = 8
"""Compiled filters that are kept. More than one, so that clients who ask in turn do not compile again each time."""
_BATCHES = 64
"""Compiled batches that are kept: 50 kB and 3 ms each. Each kind of job has its own, and asks with every job."""
_MOST_TEXT = 300
"""Characters of an error that are passed on; an expression can raise one of any length."""

_REFUSED = (
    "debug", "debug(x)", "env", "get_jq_origin", "get_prog_origin", "get_search_list", "halt", "halt_error",
    "halt_error(x)", "input", "input_filename", "input_line_number", "inputs", "modulemeta", "stderr",
)  # fmt: skip
"""Builtins that look or reach out of the expression. `$ENV` is left: it is empty, as the environment here is."""

# jq drops a definition that is not used. One that is used has a body that does not compile, so that its use is an
# error of syntax. A definition also ends the part of a program where `import` and `include` may stand.
_PRELUDE = "".join(f"def {name}: refused_{name.partition('(')[0]};" for name in _REFUSED) + "\n"
# Two line ends, since a comment that ends in a backslash goes on in the next line.
_TRUTHY = "\n\n| if . then true else empty end"
_PLACE = re.compile(r" at <top-level>, line (\d+), column (\d+)$")

# Of a payload and a list of others, for each of these: whether `when` lets it in, and then the fold as JSON, or how
# many outputs it has when they are not one, or null when one is infinite or not a number. Of such a number jq makes
# another one or null without a word; that text is looked for first, since most payloads have none and a walk is slow.
# As JSON, and not as values, since the values of the package `jq` are rounded to doubles.
# The expressions see two variables more than when they were compiled alone, so they cannot have named them.
_STEPS = """
. as [$start, $news] | foreach $news[] as $new ([$start];
    .[0] as $existing
    | ([first(null | ({when}\n\n))] | if .[0] then true else false end), [limit(2; null | ({fold}\n\n))];
    if type == "boolean" then .
    elif length != 1 then length
    else .[0] as $value | $value | tojson
        | if (contains("null") or contains("e+308")) and any($value | ..; type == "number" and (isnan or isinfinite))
          then null else . end
    end)
"""
_UNFIT = {
    0: "it has no output: write it so that it has one",
    2: "it has more than one output: write it so that it has one",
    None: "its result holds a number that JSON has not: leave out what is infinite or not a number",
}

# Writing what a fold makes is nearly all that it takes. Where nothing can be wrong with it on the way, only the last of
# a chain is written; its size and its depth count then. Expressions of these words alone do not see the order of keys,
# and make a number that JSON has not only of one that is near it: at most so many sums a fold, so many folds, and no
# number from 1e100 on in the payloads make less than 1e255, even if each sum doubles all that there is.
_PLAIN = re.compile(
    r"""(?> \s | \$(?:existing|new)\b | \.(?![.\d])(?:[A-Za-z_]\w*)? | \[(?:\d{1,9}|"[^"\\]*")\] | \d{1,9}(?![\w.])
    | (?:and|length|null|or|sort|sort_by|true|unique|unique_by)\b | [=!<>]=? | //(?!/) | \+=? | \|(?!=) | [()] )*+""",
    re.VERBOSE,
)
_SUMS = 8
_LEAP = 64
"""Folds of which only the outcome is written."""
_LARGE = re.compile(r"[:,\[]-?[\d.]+e\+?\d{3}")
_LEAPS = """
. as [$start, $news] | reduce $news[] as $new ([$start];
    .[0] as $existing
    | if first((null | ({when}\n\n)), false) then [limit(2; null | ({fold}\n\n))] else [] end
    | if length == 1 then . else error("one step at a time") end)
| .[0] | tojson
"""
_NESTS = frozenset((dict, list))
_TOO_DEEP = "its result is nested too deeply: make it flatter"


class Runner:
    """Runs expressions over payloads.

    Raises:
        ImportError: When jq is not installed.
    """

    def __init__(self) -> None:
        import jq
        import msgspec

        self._compile = jq.compile
        self._read = msgspec.msgpack.Decoder().decode
        self._write = msgspec.msgpack.Encoder().encode
        self._from_json = msgspec.json.Decoder().decode
        self._to_json = msgspec.json.Encoder().encode
        self._to_sorted_json = msgspec.json.Encoder(order="sorted").encode
        self._decode_error = msgspec.DecodeError
        self._filter_program = functools.lru_cache(_FILTERS)(self._compiled_filter)
        self._batch_program = functools.lru_cache(_BATCHES)(self._compiled_batch)
        self._leap_program = functools.lru_cache(_BATCHES)(self._compiled_leap)
        self._tasks: dict[str, Callable[..., object]] = {
            "filter": self._filter,
            "check": self._check,
            "fold": self._fold,
        }

    def prove(self) -> None:
        """Run the simplest filter, so that too little memory for any is known before an expression is blamed."""
        self._matches(self._filter_program("."), b"")

    def answer(self, request: bytes) -> bytes:
        """The answer to a request, whose payloads are read here."""
        task, arguments, seconds, sizes = self._read(request)
        allow(seconds)
        payloads = [sys.stdin.buffer.read(size) for size in sizes]
        return self._write(self._tasks[task](payloads, *arguments))

    # ── filters ──

    def _filter(self, payloads: list[bytes], expression: str) -> list[bool] | str:
        try:
            program = self._filter_program(expression)
        except ValueError as error:
            return str(error)
        return [self._matches(program, payload) for payload in payloads]

    def _compiled_filter(self, expression: str) -> Any:
        self._try(expression)
        return self._compile(_PRELUDE + expression + _TRUTHY)

    def _matches(self, program: Any, payload: bytes) -> bool:
        """Whether any output is truthy. An error ends the outputs, and is none itself."""
        try:
            return next(iter(program.input_text(self._json(payload))), False)
        except ValueError:
            return False

    # ── batches ──

    def _check(self, payloads: list[bytes], when: str, fold: str) -> str:
        try:
            program = self._batch_program(when, fold)
        except _Malformed as error:
            return f"batch expression: {error}"
        trouble = self._dry_run(program, self._sorted_json(payloads[0]))
        _forget(program)
        return f"batch dry-run: {trouble}" if trouble else ""

    def _fold(
        self, payloads: list[bytes], when: str, fold: str, most_bytes: int, most_depth: int
    ) -> tuple[bytes, int, str | None]:
        try:
            program = self._batch_program(when, fold)
        except _Malformed as error:
            return b"", 0, None if error.name == "when" else str(error)
        existing, *news = map(self._sorted_json, payloads)
        result, count, trouble = b"", 0, None
        leap = self._leap_program(when, fold)
        while leap and len(news) > 1 and (text := self._leap(leap, existing, news[:_LEAP], most_bytes, most_depth)):
            result, existing = text, text.decode()
            count, news = count + len(news[:_LEAP]), news[_LEAP:]
        try:
            for text in self._chain(program, existing, news, most_depth):
                _check_size(text, most_bytes)
                result, count = text, count + 1
        except ValueError as error:
            trouble = _shortened(error)
        _forget(program)
        return result, count, trouble

    def _dry_run(self, program: Any, payload: str) -> str:
        """What is wrong with the expressions of a batch, when the payload is both the existing and the new one."""
        name, outputs = "when", _outputs(program, payload, [payload])
        try:
            next(outputs, False)
            name = "fold"
            self._result(outputs)
        except ValueError as error:
            return f"{name}: {_shortened(error)}"
        return ""

    def _compiled_batch(self, when: str, fold: str) -> Any:
        for name, expression in (("when", when), ("fold", fold)):
            try:
                self._try(expression, {"existing": None, "new": None})
            except ValueError as error:
                raise _Malformed(name, str(error)) from None
        return self._compile(_PRELUDE + _STEPS.format(when=when, fold=fold))

    def _compiled_leap(self, when: str, fold: str) -> Any:
        """A program that writes only the last result of a chain; None where each one has to be looked at."""
        if not is_plain(when, fold):
            return None
        return self._compile(_PRELUDE + _LEAPS.format(when=when, fold=fold))

    def _leap(self, program: Any, existing: str, news: Sequence[str], most_bytes: int, most_depth: int) -> bytes:
        """What a chain makes of all new payloads; empty where it does not, and one step at a time must tell why."""
        chained = _chained(existing, news)
        if _LARGE.search(chained):
            return b""
        try:
            value = self._result(iter(program.input_text(chained)))
            text = self._to_sorted_json(value)
            _check_size(text, most_bytes)
            _check_depth(value, text, most_depth)
        except ValueError:
            return b""
        finally:
            _forget(program)
        return text

    def _chain(self, program: Any, existing: str, news: Sequence[str], most_depth: int) -> Iterator[bytes]:
        """The results as JSON, one after the other; a ValueError says what is wrong with a fold."""
        outputs = _outputs(program, existing, news)
        for done in range(1, len(news) + 1):
            if not _says_yes(outputs):
                return
            value = self._result(outputs)
            text = self._to_sorted_json(value)
            _check_depth(value, text, most_depth)
            yield text
            if done < len(news) and text != self._to_json(value):
                # The next one must find the keys as they are stored, however the new payloads happen to be divided.
                # A program has one state: for a second one at the same time it would be compiled again.
                del outputs
                outputs = _outputs(program, text.decode(), news[done:])

    def _result(self, outputs: Iterator[Any]) -> Any:
        """The value of a fold, which is the next output; a ValueError says what is wrong with it."""
        text = next(outputs, 0)
        if not isinstance(text, str):
            raise ValueError(_UNFIT[text])  # noqa: TRY004
        try:
            return self._from_json(text)
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
        except self._decode_error as error:
            raise ValueError(f"its result cannot be read: {error}") from None

    # ── both ──

    def _try(self, expression: str, variables: dict[str, None] | None = None) -> None:
        """Compile it alone: what is incomplete alone could be complete with what is put around it."""
        if "\0" in expression:
            raise ValueError("it contains a NUL character")
        try:
            self._compile(_PRELUDE + expression, args=variables)
        except ValueError as error:
            raise ValueError(_explained(str(error))) from None

    def _json(self, payload: bytes) -> str:
        return self._to_json(self._read(payload)).decode() if payload else "null"

    def _sorted_json(self, payload: bytes) -> str:
        return self._to_sorted_json(self._read(payload)).decode() if payload else "null"


class _Malformed(ValueError):
    """One expression of a batch does not compile."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name


def is_plain(when: str, fold: str) -> bool:
    """Whether of a chain of folds only the last result has to be looked at."""
    return all(map(_PLAIN.fullmatch, (when, fold))) and fold.count("+") <= _SUMS


def _outputs(program: Any, existing: str, news: Sequence[str]) -> Iterator[Any]:
    """What a batch has to say; an output is not computed before it is asked for."""
    return iter(program.input_text(_chained(existing, news)))


def _chained(existing: str, news: Sequence[str]) -> str:
    return f"[{existing},[{','.join(news)}]]"


def _forget(program: Any) -> None:
    """Have jq give up the memory that the last outputs of a program take, which may not have come to their end."""
    next(_outputs(program, "null", []), None)


def _says_yes(outputs: Iterator[Any]) -> bool:
    """Whether `when`, which is the next output, lets one more payload in. An error does not."""
    try:
        return next(outputs, False)
    except ValueError:
        return False


def _check_size(text: bytes, most: int) -> None:
    if len(text) > most:
        raise ValueError(f"its result is larger than {most / 2**20:g}MiB of JSON: let fewer payloads in")


def _check_depth(value: Any, text: bytes, most: int) -> None:
    """Hold a value to a depth, which the brackets in its text show for most."""
    if text.count(b"[") + text.count(b"{") <= most:
        return
    level = [value] if type(value) in _NESTS else []
    # All items of a depth at once: a call for each list and object is what a fold would take longest for.
    for _ in range(most):
        items = [item for one in level for item in (one.values() if type(one) is dict else one)]
        level = [item for item in items if type(item) in _NESTS]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _shortened(error: ValueError) -> str:
    text = str(error)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _explained(error: str) -> str:
    """The first error of a compilation, without noise and placed in the text as it was given."""
    first = error.partition("\n")[0].removeprefix("jq: error: ").removesuffix(":")
    if refused := re.match(r"refused_(\w+)/0 is not defined", first):
        return f"{refused[1]} is not available here"
    return _PLACE.sub(lambda place: f" at line {int(place[1]) - 1}, column {place[2]}", first)


# ── the doors ────────────────────────────────────────────────────────────────────────────────────────


def _shut(memory_bytes: int) -> None:
    """Give up what no expression needs: memory, files and sockets yet to be opened, processes yet to be begun."""
    limits = {"AS": memory_bytes, "CORE": 0, "FSIZE": 0, "NOFILE": 0, "NPROC": 0}
    for name, most in limits.items():
        # A limit may be missing here, or be tighter already.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))


def allow(seconds: int) -> None:
    """End this process after so much more processor time; the server's own limit is meant to come before."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        most = math.ceil(time.process_time()) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _die_with_parent() -> None:
    """Have the system end this process when the server dies, even in the middle of an expression."""
    if sys.platform == "linux":
        import ctypes

        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# ── frames ───────────────────────────────────────────────────────────────────────────────────────────


def _send(frame: bytes) -> None:
    sys.stdout.buffer.write(_LENGTH.pack(len(frame)) + frame)
    sys.stdout.buffer.flush()


def _receive() -> bytes:
    """The next frame; empty when the server has closed its end."""
    head = sys.stdin.buffer.read(_LENGTH.size)
    return sys.stdin.buffer.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""


class Worker(Protocol):
    """What answers requests."""

    def prove(self) -> None:
        """Do the least that there is, so that too little memory for anything is known at once."""

    def answer(self, request: bytes) -> bytes:
        """The answer to a request."""


def serve(make: Callable[[], Worker], memory_bytes: int) -> None:
    """Answer requests until there are no more.

    Args:
        make: Makes what answers them; with an ImportError nothing can.
        memory_bytes: The address space that this process may have.
    """
    _die_with_parent()
    os.environ.clear()  # not empty even when it was given empty: the interpreter sets LC_CTYPE
    try:
        runner = make()
    except ImportError as error:
        _send(str(error).encode())
        return
    _shut(memory_bytes)
    runner.prove()
    _send(b"")
    while request := _receive():
        _send(runner.answer(request))


if __name__ == "__main__":
    sys.path += sys.argv[2:]
    serve(Runner, int(sys.argv[1]))
