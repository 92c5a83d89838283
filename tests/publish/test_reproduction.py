"""docs/reproduction.md: the paper's numbers beside those of the table, the claims' sizes, and what was not run."""

import re

import numpy as np
import pytest
from scipy import stats

from harness.base.files import read_json, write_json
from harness.data import checksum
from harness.publish.reproduction import page, printed

EVIL = '<script>alert("x")</script> | `a` **b** [c](javascript:d) \x1b[31m'


@pytest.fixture(scope="module")
def text(made) -> str:
    return page(made.root).replace("\\", "")


def cells(text: str, *beginning: str) -> list[str]:
    """The cells of the one row of a table that begins with these."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    (row,) = [row for row in rows if row[: len(beginning)] == list(beginning)]
    return row


def by_hand(made, branch: str, measure: str, comparison: str = "") -> np.ndarray:
    """Each replicate's mean of all dense networks, or of a branch at k = 0 and 10.7%, straight from the table."""
    table = made.table()
    rows = table[(table["branch"] == branch) & (table["comparison"] == comparison)]
    level, rows = (0, rows) if branch == "dense" else (5, rows[rows["k"] == 0])
    rows = rows[(rows["level"] == level) & (rows["row"] == ("pair" if comparison else "network"))]
    return rows.groupby("replicate")[measure].mean().to_numpy()


@pytest.mark.parametrize(
    ("network", "measure", "published", "branch", "column", "comparison"),
    [
        ("dense", "test accuracy, %", "98.0 ± 0.2", "dense", "test_accuracy", ""),
        ("IMP, k = 0, 10.7% left", "test accuracy, %", "98.3 ± 0.1", "imp", "test_accuracy", ""),
        ("random prune, k = 0, 10.7% left", "test accuracy, %", "97.5 ± 0.3", "random_prune", "test_accuracy", ""),
        ("IMP, k = 0, 10.7% left", "distance, L2 (pruning)", "48.1 ± 0.6", "imp", "distance", "pruning"),
        ("IMP, k = 0, 10.7% left", "angle, ° (data order)", "22.7 ± 0.5", "imp", "angle", "data_order"),
    ],
)
def test_a_published_number_stands_beside_the_mean_and_t_interval_of_the_table(
    made, text, network, measure, published, branch, column, comparison
):
    values = by_hand(made, branch, column, comparison)
    half = stats.t.isf(0.025, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    mean = values.mean()
    row = cells(text, network, measure)
    assert row[2:4] == [published, f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"]


def test_a_ratio_is_that_of_the_means_of_logarithms_with_the_claims_interval(made, text):
    row = cells(text, "random prune / IMP, k = 0, 10.7% left", "ratio of distances (data order)")
    both = [by_hand(made, branch, "distance", "data_order") for branch in ("random_prune", "imp")]
    assert row[2] == "2.8"
    assert row[3].startswith(f"{np.exp(np.mean(np.log(both[0] / both[1]))):.2f} [")
    (claim,) = [claim for claim in read_json(made.folders.claims) if claim["id"] == "C2"]
    low, high = claim["interval"]
    assert row[3].endswith(f"[{low:.2f}, {high:.2f}]")


def test_the_sizes_are_those_of_the_claims_at_each_number_that_they_judge(made, text):
    sizes = {
        (claim["id"], size["name"]): size["verdict"]
        for claim in read_json(made.folders.claims)
        for size in claim["sizes"]
    }
    assert {"agrees", "differs"} <= set(sizes.values())
    imp, prune = "IMP, k = 0, 10.7% left", "random prune, k = 0, 10.7% left"
    for network, measure, claim, part in (
        (imp, "test accuracy, %", "C1", "IMP accuracy"),
        (prune, "test accuracy, %", "C1", "random pruning accuracy"),
        (imp, "distance, L2 (data order)", "C2", "data-order distance, IMP"),
        (f"{prune.split(',')[0]} / {imp}", "ratio of distances (pruning)", "C3", "pruning distance, random / IMP"),
        (prune, "angle, ° (pruning)", "C4", "pruning angle, random pruning"),
    ):
        assert cells(text, network, measure)[4] == f"{sizes[claim, part]} ({claim})"
    assert cells(text, imp, "distance, L2 (pruning)")[4] == "–"  # C3 has the ratio alone
    part = cells(text, "IMP above random pruning")  # a difference of two published numbers
    assert part[-2:] == ["0.80 points", sizes["C1", "IMP above random pruning"]]


def test_every_published_number_of_lenet_stands_there_once_and_none_of_a_claim_is_told_twice(made, text):
    (table,) = re.findall(r"### Published and measured: LeNet-300-100\n(.*?)\n###", text, re.DOTALL)
    assert len([line for line in table.splitlines() if line.startswith("| ")]) == 1 + 13  # 1 of Fig. 2, 8 of 3, 4 of 10
    assert "Published too" not in text


def test_what_was_not_run_is_said(text):
    skipped = text[text.rindex("Not run") :]
    assert "ResNet-20, standard learning rate (" in skipped
    assert "not selected, and so are not tested: C5, C6, C7" in skipped
    assert "Of 34 claims, 4 could be judged at the paper scale" in text
    assert 'Only a part of the scale was run: see <a href="#stabilizing-lth-paper-not-run">what was not</a>.' in text


def test_the_run_is_told_with_its_machine_time_code_and_replicates(made, text):
    provenance = read_json(made.folders.provenance)
    assert cells(text, "Code")[1].startswith(provenance["code_revision"])
    assert cells(text, "Processor")[1].startswith(provenance["hardware"]["cpu"])
    assert cells(text, "LeNet-300-100", "mnist-0-to-1")[2] == "5"
    assert provenance["finished"][:10] in text
    assert "\nharness reproduce --paper stabilizing-lth --scale paper --claims C1,C2,C3,C4\n" in text


@pytest.mark.parametrize(
    ("name", "digest", "outdated"),
    [
        ("mnist-0-to-1", checksum("mnist-0-to-1"), []),
        ("mnist-0-to-1", "0" * 64, ["mnist-0-to-1"]),
        ("mnist", checksum("mnist"), ["mnist"]),
    ],
)
def test_a_run_on_other_data_than_the_scale_trains_on_today_is_told(made, name, digest, outdated):
    path = made.folders.card
    card = read_json(path)
    try:
        write_json(path, {**card, "data": {name: digest}})
        rows = [line for line in page(made.root).splitlines() if "older recipe" in line]
    finally:
        write_json(path, card)
    rows = [row.replace("\\", "") for row in rows]
    assert rows == [
        f"| Data sets that the scale no longer trains on | {n}: this run is of an older recipe |" for n in outdated
    ]


@pytest.mark.parametrize(
    ("value", "error", "least", "shown"),
    [
        (98.0, 0.2, 1, "98.0 ± 0.2"),
        (90.5, 0.0, 1, "90.5 ± 0.0"),
        (76.25, None, 1, "76.25"),
        (0.0, float("nan"), 1, "0.0"),
        (500.0, None, 0, "500"),
        (0.035, None, 0, "0.035"),
        (-1.6, 0.25, 1, "−1.60 ± 0.25"),
        (112000.0, None, 0, "112,000"),
    ],
)
def test_published_numbers_stand_as_printed(value, error, least, shown):
    assert printed(value, error, least) == shown


def test_the_same_references_give_the_same_page_and_another_number_another(published):
    before = page(published.root)
    assert page(published.root) == before
    table = published.table()
    table.loc[(table["row"] == "network") & (table["level"] == 0), "test_accuracy"] += 0.02
    published.write_table(table)
    assert page(published.root) != before


def test_text_of_a_strangers_reference_is_shown_as_text(published):
    claims = read_json(published.folders.claims)
    for claim in claims[:4]:
        claim |= dict.fromkeys(("title", "statement", "reason"), EVIL)
        claim["source"] |= {"where": EVIL}
        claim["published"].append({"quantity": EVIL, "value": 7.5, "error": None, "unit": EVIL, "obtained": "text"})
        for part in claim["parts"]:
            part["name"] = EVIL
    write_json(published.folders.claims, claims)
    provenance = read_json(published.folders.provenance)
    provenance["hardware"]["cpu"] = provenance["code_revision"] = EVIL
    write_json(published.folders.provenance, provenance)
    text = page(published.root)
    assert text.count("alert") > 10
    for markup in ("<script", "**b**", "`a`", "[c](", "\x1b"):
        assert markup not in text
    columns = [line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("| C1 ")]
    assert columns == [8]


def test_a_verdict_that_a_reference_lacks_is_not_on_its_page(published):
    claims = read_json(published.folders.claims)
    write_json(published.folders.claims, [claim for claim in claims if claim["id"] != "C1"])
    text = page(published.root).replace("\\", "")
    assert cells(text, "IMP, k = 0, 10.7% left", "test accuracy, %")[4] == "–"
    assert "Of 33 claims, 3 could be judged" in text


def test_without_a_reference_the_page_says_so(published):
    published.folders.card.unlink()
    assert page(published.root).rstrip().endswith("No run is published yet.")
