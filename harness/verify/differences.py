"""A line for each value of a run that is not as it is made again."""

import math
from collections.abc import Iterator


def differences(
    place: str, recorded: object, expected: object, source: str = "made again", close: float = 0
) -> Iterator[str]:
    """Compare JSON values: `recorded` is the run's, `expected` what `source` says. Each line begins with the place.

    `close` is the relative difference that numbers may have, for arithmetic on another machine.
    """
    if isinstance(recorded, dict) and isinstance(expected, dict):
        for name in sorted({*recorded, *expected}):
            field = f"{place}: {shown(name)}"
            if name not in recorded:
                yield f"{field}: is missing"
            elif name not in expected:
                yield f"{field}: has no place there"
            else:
                yield from differences(field, recorded[name], expected[name], source, close)
    elif isinstance(recorded, list | tuple) and isinstance(expected, list | tuple) and len(recorded) == len(expected):
        for number, (value, due) in enumerate(zip(recorded, expected, strict=True)):
            yield from differences(f"{place}: {_label(due, number)}", value, due, source, close)
    elif not _alike(recorded, expected, close):
        yield f"{place}: {short(recorded)}, {source} {short(expected)}"


def _label(entry: object, number: int) -> object:
    """What an entry of a list is called: its own name, or its number."""
    names = [entry[name] for name in ("id", "@id", "stage") if name in entry] if isinstance(entry, dict) else []
    return names[0] if names else number


def _alike(recorded: object, expected: object, close: float) -> bool:
    if isinstance(recorded, float) and isinstance(expected, float | int):
        return math.isclose(recorded, expected, rel_tol=close)
    return type(recorded) is type(expected) and recorded == expected


def shown(name: object) -> str:
    """A name from somebody's file in one short line."""
    return f"{name!s:.120}" if str(name).isprintable() else f"{name!r:.120}"


def short(value: object) -> str:
    """A value in one short line."""
    return f"{len(value)} entries" if isinstance(value, list) else f"{value!r:.100}"
