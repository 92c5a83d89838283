"""The measurements as tables in the terminal and as a figure."""

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table

from harness.bench.fixed import JOB_PARTS, RUN_PARTS
from harness.bench.measure import Record
from harness.report import style

NOT_MEASURED = "not measured"
_COLOURS = {"yes": "green", "no": "red", NOT_MEASURED: "yellow"}


def tables(records: list[Record]) -> list[Table]:
    """Tables of training, of the machine, of the work between levels and of fixed costs, without empty ones."""
    every = [_training(records), _densities(records), _machine(records), _between(records), _fixed(records)]
    return [table for table in every if table.rows]


def _table(title: str, names: str, numbers: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in names.split(", "):
        table.add_column(column, no_wrap=True)
    for column in filter(None, numbers.split(", ")):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _number(value: float | None, form: str = "{:,.3g}") -> str:
    return "–" if value is None else form.format(value)


def _large(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def goals(record: Record) -> tuple[str, str]:
    """A record's goals, and whether they are met."""
    entries = record.get("goals", [])
    words = {True: "yes", False: "no", None: NOT_MEASURED}
    met = [words[goal["met"]] for goal in entries]
    return ", ".join(goal["text"] for goal in entries), ", ".join(f"[{_COLOURS[word]}]{word}[/]" for word in met)


def _training(records: list[Record]) -> Table:
    on_gpu = any(record.get("device") == "cuda" for record in records)
    last_share, meaning, key = (
        ("memory", "share of the copy rate, if only the layers' reads and writes took time", "share_of_copy_rate")
        if on_gpu
        else ("limit", "share of the limit that adds the optimizer's update at the copy rate", "share_of_limit")
    )
    table = _table(
        "Training",
        "setting, by, fastest as",
        f"nets, steps/s, each, images/s, s a level, ×, × torch, arithm., {last_share}",
    )
    table.caption = (
        "×: steps/s relative to the straightforward training; × torch: relative to the engine without its own kernels; "
        f"arithm.: share of the arithmetic limit; {last_share}: {meaning}"
    )
    table.add_column("goal")
    table.add_column("met")
    last = None
    for record in records:
        if "measured" not in record:
            continue
        if last not in (None, record["group"]):
            table.add_section()
        first, last = record["group"] != last, record["group"]
        names = (escape(record["setting"]) if first else "", record["what"])
        if not record["measured"]:
            table.add_row(*names, NOT_MEASURED)
            continue
        table.add_row(
            *names,
            record["spread"],
            str(record["replicates"]),
            *(_large(record[key]) for key in ("steps_per_second", "steps_per_second_each", "images_per_second")),
            _large(record["seconds_per_level"]),
            *(_number(record[key]) for key in ("ratio_to_straightforward", "ratio_to_torch")),
            *(_number(record[key], "{:.0%}") for key in ("share_of_arithmetic", key)),
            *goals(record),
        )
    return table


def _densities(records: Iterable[Record]) -> Table:
    table = _table(
        "By the density of the masks",
        "setting, as",
        "density, steps/s, dense engine, ×, × dense, sparseprop, × sparseprop, arithm., copy rate",
    )
    table.caption = (
        "steps/s are summed over the networks; ×: relative to the straightforward training; arithm., copy rate: "
        "shares of the arithmetic of kept weights at the matrix rate, and of the bytes of kept weights and activations "
        f"at the copy rate; sparseprop: {NOT_MEASURED} unless the package is installed"
    )
    table.add_column("goal")
    table.add_column("met")
    last = None
    for record in records:
        if record["what"] == "density":
            first, last = record["group"] != last, record["group"]
            if first and table.rows:
                table.add_section()
            name = f"{escape(record['setting'])} × {record['replicates']}" if first else ""
            other = record["sparseprop_steps_per_second"]
            table.add_row(
                name,
                record["spread"] if first else "",
                f"{record['density']:.1%}",
                _large(record["steps_per_second"]),
                _large(record["dense_steps_per_second"]),
                *(_number(record[key]) for key in ("ratio_to_straightforward", "ratio_to_dense")),
                "–" if other is None else _large(other),
                _number(record["ratio_to_sparseprop"]),
                *(_number(record[key], "{:.0%}") for key in ("share_of_arithmetic", "share_of_copy_rate")),
                *goals(record),
            )
    return table


def _machine(records: Iterable[Record]) -> Table:
    table = _table(
        "The machine's limit",
        "setting",
        "matrix rate, copy rate, arithmetic of a step, update of a step, steps/s by arithmetic, steps/s by both",
    )
    for record in records:
        if record["what"] == "limit":
            table.add_row(
                escape(record["setting"]),
                f"{record['matrix_flops_per_second'] / 1e9:,.0f} Gflop/s",
                f"{record['copy_bytes_per_second'] / 1e9:,.1f} GB/s",
                f"{record['flops_per_step'] / 1e6:,.0f} Mflop",
                f"{record['update_bytes_per_step'] / 1e6:,.1f} MB",
                _large(record["steps_per_second_arithmetic"]),
                _large(record["steps_per_second"]),
            )
    return table


def _between(records: Iterable[Record]) -> Table:
    parts = ("evaluate", "save", "load", "prune", "seconds")
    table = _table("Between two levels, seconds", "setting", "networks, evaluate, save, load, prune, all, of a level")
    table.add_column("goal")
    table.add_column("met")
    for record in records:
        if record["what"] == "between levels":
            values = [f"{record[part]:.3f}" for part in parts]
            share = f"{record['share_of_level']:.1%}"
            table.add_row(escape(record["setting"]), str(record["replicates"]), *values, share, *goals(record))
    return table


def _fixed(records: Iterable[Record]) -> Table:
    table = _table("Besides training", "what, of which", "seconds, of a run")
    table.add_column("goal")
    table.add_column("met")
    for record in records:
        if record["group"] == "fixed":
            detail = ", ".join(f"{name} {record[name]:.2f}" for name in JOB_PARTS if name in record)
            detail += ", ".join(
                f"{name} {record[f'share_{name}']:.0%}" for name in RUN_PARTS if f"share_{name}" in record
            )
            share = _number(record.get("share_of_run"), "{:.1%}")
            table.add_row(
                f"{record['what']}, {record['setting']}", detail, _large(record["seconds"]), share, *goals(record)
            )
    return table


def figure(records: list[Record], machine: str) -> str:
    """The figure as SVG: speed relative to the straightforward training, and share of the arithmetic limit."""
    rows = [record for record in records if record.get("measured")][::-1]
    with style.look():
        canvas = Figure(figsize=(10.4, 1.1 + 0.28 * max(len(rows), 2)), layout="constrained")
        left, right = canvas.subplots(1, 2, sharey=True)
        _bars(left, rows, "ratio_to_straightforward", 1.0)
        left.axvline(1.0, color=style.MUTED, lw=0.8)
        left.set_title("steps per second, relative to the straightforward training")
        _bars(right, rows, "share_of_arithmetic", 100.0)
        right.set_title("share of the arithmetic limit (%)")
        left.set_yticks(range(len(rows)), [_label(record) for record in rows])
        left.set_xlabel(f"{machine}; a tick is a goal")
        return style.to_svg(
            canvas, "bench", "Speed of the training engine", "; ".join(_label(row) for row in rows[::-1])
        )


def _label(record: Record) -> str:
    networks = "" if record["replicates"] == 1 else f" × {record['replicates']}"
    return f"{record['setting']}{networks}, {record['what']}"


def _bars(ax: Axes, rows: list[dict[str, Any]], key: str, scale: float) -> None:
    colours = {"harness": style.COLOURS["imp"]}
    for y, record in enumerate(rows):
        value = record[key]
        if value is None:
            continue
        ax.barh(y, value * scale, height=0.62, color=colours.get(record["what"], style.MUTED))
        beside: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 7}
        background = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.6}
        ax.annotate(f"{value * scale:.3g}", (value * scale, y), **beside, bbox=background)
        for goal in record["goals"]:
            if goal["figure"] == key:
                ax.vlines(goal["least"] * scale, y - 0.42, y + 0.42, color=style.COLOURS["random_prune"], lw=1.6)
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.12)
