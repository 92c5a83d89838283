"""`harness new paper`: a small, valid folder of papers/, to be filled in."""

from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.base.errors import HarnessError
from harness.base.files import write_text
from harness.base.paths import project_file
from harness.paper.load import check_name

TEMPLATE = Path(__file__).parent / "template"


def new_paper(root: Path, name: str) -> Path:
    """Write papers/<name>/ with one experiment, one claim, and the scales smoke and mini. Returns the folder.

    Raises HarnessError for a name that can't be used, and if the folder exists.
    """
    if wrong := check_name(name):
        raise HarnessError(f"{name!r:.80}: {wrong}")
    folder = root / "papers" / name
    if project_file(root, f"papers/{name}").exists():
        raise HarnessError(f"{folder}: exists already; give another name")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE), undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    fields = {"name": name, "title": name.replace("-", " ").capitalize(), "year": datetime.now(UTC).year}
    for template in sorted(TEMPLATE.rglob("*.j2")):
        place = template.relative_to(TEMPLATE)
        write_text(folder / place.with_suffix(""), environment.get_template(place.as_posix()).render(fields))
    return folder
