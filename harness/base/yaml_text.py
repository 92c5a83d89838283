"""Reads YAML as it is written: what could be taken for something else stays text, for the models to refuse by name.

Whole numbers have no leading zero, base 60 or underscores, truth is ``true`` and ``false``, real numbers are finite,
and there are no dates. Keys are text. Tags, duplicate keys, and aliases that multiply a file are errors.
"""

import math
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from harness.base.errors import HarnessError
from harness.base.untrusted import DEEPEST

LARGEST_TEXT = 4 * 2**20  # bytes; the largest claims file takes a thirtieth of it
MOST_VALUES = 200_000  # with every alias written out; the largest file has 11,000
WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
REAL = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]{0,300})(?:\.[0-9]*|(?=[eE]))|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?")

# the parser in C, where PyYAML was built with it, takes a tenth of the time
_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Written(float):
    """A number whose repr is its text in the file, for messages: 1e9, not 1000000000.0."""

    text: str

    def __new__(cls, text: str) -> "Written":
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises HarnessError naming the file and the line."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_TEXT + 1)
        if len(data) > LARGEST_TEXT:
            raise HarnessError(f"{path}: more than {LARGEST_TEXT:,} bytes; no file of a paper is so large")
        return _Document(data.decode("utf-8")).read()
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing; restore it from the repository") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise HarnessError(f"{path}:{where} is not valid YAML: {problem:.300}") from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from None
    except OSError as error:
        raise HarnessError(f"{path}: can't be read ({error.strerror}); give a readable file") from None


class _Document:
    """The one document of a text, built from the parser's events."""

    def __init__(self, text: str):
        self._parser = _Parser(text)
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0

    def read(self) -> Any:
        self._parser.get_event()  # the stream's start
        if self._parser.check_event(yaml.StreamEndEvent):
            return None
        self._parser.get_event()  # the document's start
        content = self._value(self._parser.get_event(), 1)
        self._parser.get_event()  # the document's end
        if not self._parser.check_event(yaml.StreamEndEvent):
            _refuse(self._parser.peek_event(), "a second document; keep one")
        return content

    def _value(self, event: Any, depth: int) -> Any:
        if depth > DEEPEST:
            _refuse(event, f"nested more than {DEEPEST} deep; no file of a paper is")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                _refuse(event, f"nothing before *{event.anchor} is named &{event.anchor}; correct the name")
            value, size = self._anchors[event.anchor]
            self._count(event, size)
            return value
        if event.tag is not None:
            _refuse(event, f"tag {event.tag!r:.80}; remove it, types are known here")
        before = self._values
        self._count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            value = scalar(event.value) if event.implicit[0] else event.value
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(item := self._parser.get_event(), yaml.SequenceEndEvent):
                value.append(self._value(item, depth + 1))
        else:
            value = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._values - before)
        return value

    def _mapping(self, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        mapping: dict[str, Any] = {}
        while not isinstance(key := self._parser.get_event(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or key.tag is not None or key.anchor is not None:
                _refuse(key, "a key that is no plain text; write the name out")
            value = self._value(self._parser.get_event(), depth + 1)
            if key.value == "<<" and key.implicit[0]:
                for part in value if isinstance(value, list) else [value]:
                    if not isinstance(part, dict):
                        _refuse(key, "<< takes a mapping, or a list of them")
                    merged = {**part, **merged}
                continue
            if key.value in mapping:
                _refuse(key, f"key {key.value!r:.80} is duplicated")
            self._count(key, 1)
            mapping[key.value] = value
        return {**merged, **mapping}

    def _count(self, event: Any, size: int) -> None:
        self._values += size
        if self._values > MOST_VALUES:
            _refuse(event, f"over {MOST_VALUES:,} values with aliases written out; no file of a paper has so many")


def scalar(text: str) -> Any:
    """The value of a plain scalar: a number, a truth value or nothing only where the text can mean nothing else."""
    if text in WORDS:
        return WORDS[text]
    if WHOLE.fullmatch(text):
        return int(text)
    if REAL.fullmatch(text) and math.isfinite(number := Written(text)):
        return number
    return text


def _refuse(event: Any, problem: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
