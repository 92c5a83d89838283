"""The page of somebody's run against the page that its tables give here."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.claims.judge import read_claims
from harness.share.drawings import DRAWN
from harness.share.given import Given
from harness.spec.load import dump
from harness.workflow.identity import identity


def page(given: Given) -> Iterator[str]:
    """The page and its Markdown twin, built again from the run's tables. Figures count where they are drawn alike."""
    from harness.report import build_report
    from harness.workflow.judging import published, scale_facts

    here = identity(given.spec)
    code = {part: given.card["code"]["digests"].get(part, "") for part in here["code"]}
    provenance = {**given.provenance, "identity": {**here, "code": code}}
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as folder:
        out, own = Path(folder), given.folders.report
        build_report(
            dump(given.spec.paper),
            scale_facts(given.spec),
            read_claims(given.folders.claims),
            given.table,
            given.curves,
            published(given.spec),
            provenance,
            out,
        )
        drawn_alike = given.same_machine
        for name in ("index.html", "report.md"):
            made, told = ((place / name).read_text(encoding="utf-8") for place in (out, own))
            shown, expected = DRAWN.sub("<svg/>", told), DRAWN.sub("<svg/>", made)
            if shown != expected:
                yield f"report/{name}: is not what its tables give: {_first_difference(shown, expected)}"
            elif drawn_alike and made != told:
                yield f"report/{name}: its figures are not those that its tables give"
        figures = [{path.name for path in (place / "figures").glob("*")} for place in (out, own)]
        for name in sorted(figures[0] ^ figures[1]):
            yield f"report/figures/{name}: is {'missing' if name in figures[0] else 'not a figure of the page'}"
        for name in sorted(figures[0] & figures[1]):
            if drawn_alike and (out / "figures" / name).read_bytes() != (own / "figures" / name).read_bytes():
                yield f"report/figures/{name}: is not what its tables give"


def _first_difference(told: str, made: str) -> str:
    """The first line that differs, as it is and as it was built again."""
    pairs = zip([*told.splitlines(), ""], [*made.splitlines(), ""], strict=False)
    one, other = next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", ""))
    return f"{one[:100]!r} instead of {other[:100]!r}"
