"""How tests alter a run, and its records to match."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from safetensors import safe_open

from harness.base.files import file_sha256, read_json, write_json
from harness.report.card import read_card
from harness.report.crate import write_crate
from harness.results.folders import Folders
from harness.stages.tickets import save
from harness.verify.shared_run import SharedRun
from harness.verify.verify import CHECKS


def lines_of(shared: SharedRun) -> list[str]:
    """Every line of the checks that train nothing and draw nothing."""
    return [line for _, check, _ in CHECKS for line in check(shared)]


def change_json(path: Path, change: Callable) -> None:
    content = read_json(path)
    change(content)
    write_json(path, content)


def change_table(path: Path, change: Callable) -> None:
    table = pd.read_parquet(path)
    change(table)
    table.to_parquet(path, index=False)


def change_pack(path: Path, change: Callable, **facts: str) -> None:
    """A pack of tickets with its tensors changed, and other facts in its metadata."""
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    change(tensors)
    save(tensors, {**metadata, **facts}, path)


def list_again(base: Path, *names: str) -> None:
    """What a tamperer does: the card's checksums follow the altered files, and the crate the card."""
    entries = {name: {"sha256": file_sha256(base / name), "bytes": (base / name).stat().st_size} for name in names}
    change_json(base / "card.json", lambda card: card["files"].update(entries))
    write_crate(read_card(Folders(base)), Folders(base))


def record_again(base: Path, stage: str, name: str) -> None:
    """The stage's record follows a file that it wrote."""
    key = name if name.startswith("tickets/") else name.rpartition("/")[2]
    change_json(base / f"stages/{stage}.json", lambda record: record["outputs"].update({key: file_sha256(base / name)}))
