"""docs/guides/extending.md: what its files train, and that they leave everything else as it was.

`tests/end_to_end/test_extending.py` runs them through the whole workflow.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from harness import data
from harness.base.files import read_json
from harness.base.paths import checkout
from harness.plan.kinds import prepares
from harness.plan.runs import stages
from harness.results.context import Context
from harness.results.folders import Folders
from harness.results.open import load_scale
from harness.stages.tickets import open_pack, pack_path
from harness.workflow.run_stage import run_stage
from tests import extending_run
from tests.data.picture_sets import encoded, write_tar
from tests.docs.pages import extended_copy, files_of_guide

STEPS = 100
WEIGHTS = 16 * 100 + 100 * 10  # prunable: 4 x 4 pixels, 100 units, 10 classes
KEPT = {1: 1664, 2: 1065}  # round(2600 x 0.64), round(2600 x 0.4096)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the project with the guide's files, its scale trained for a few steps there."""
    folder = tmp_path_factory.mktemp("extended")
    extended_copy(folder)
    scales = folder / "papers" / extending_run.PAPER / "scales"
    text = (scales / "extended.yaml").read_text()
    assert text.count("steps: 400") == text.count("signs: 2") == 1
    (scales / "extended.yaml").write_text(text.replace("steps: 400", f"steps: {STEPS}"))
    (scales / "misspelt.yaml").write_text(text.replace("signs: 2", "sings: 2"))
    done = subprocess.run(
        [sys.executable, extending_run.__file__, str(folder)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "answers.json").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def answers(copy) -> dict:
    found = json.loads((copy / "answers.json").read_text())
    assert Path(found["package"]) == copy / "harness"  # and not the checkout's
    return found


def stored(copy: Path, run: str) -> dict[str, np.ndarray]:
    return load_file(copy / "results" / "runs" / "lenet" / f"{run}.safetensors")


def mask(copy: Path, run: str) -> dict[str, np.ndarray]:
    tensors = stored(copy, run)
    return {name: value.astype(bool) for name, value in tensors.items() if name.startswith("mask/")}


def test_every_network_of_the_scale_is_trained(copy):
    records = [json.loads(path.read_text()) for path in (copy / "results" / "runs").rglob("*L[0-9]-*-o[0-9].json")]
    assert {record["status"] for record in records} == {"ok"}
    # of each replicate: dense, trained again, IMP at two levels, a second order of it, and two orders of each branch
    assert len(records) == 2 * (1 + 1 + 2 + 1 + 2 + 2 + 2 + 2)
    dense = [record for record in records if record["level"] == 0]
    assert all(record["steps"] == STEPS and record["test_accuracy"] > 50 for record in dense)  # chance is 10


@pytest.mark.parametrize("level", KEPT)
@pytest.mark.parametrize("replicate", [0, 1])
def test_masks_keep_the_exact_count(copy, replicate, level):
    kept = mask(copy, f"r{replicate}/k40/L{level}-imp-o0")
    assert sum(part.size for part in kept.values()) == WEIGHTS
    assert sum(part.sum() for part in kept.values()) == KEPT[level]


@pytest.mark.parametrize("replicate", [0, 1])
def test_imp_prunes_by_the_new_criterion(copy, replicate):
    final, kept = stored(copy, f"r{replicate}/k0/L0-dense-o0"), mask(copy, f"r{replicate}/k40/L1-imp-o0")

    def smallest_kept_and_largest_pruned(relative: bool) -> tuple[float, float]:
        of_kept, of_pruned = [], []
        for name, part in kept.items():
            magnitude = np.abs(final[name.replace("mask/", "final/weights/")]).astype(np.float64)
            score = magnitude / magnitude.mean() if relative else magnitude
            of_kept.append(score[part].min())
            of_pruned.append(score[~part].max())
        return min(of_kept), max(of_pruned)

    kept_least, pruned_most = smallest_kept_and_largest_pruned(relative=True)
    assert kept_least > pruned_most * (1 - 1e-6)
    kept_least, pruned_most = smallest_kept_and_largest_pruned(relative=False)
    assert kept_least < pruned_most  # by magnitude it would be another mask


@pytest.mark.parametrize("replicate", [0, 1])
def test_the_new_branch_has_the_mask_of_imp(copy, replicate):
    imp = mask(copy, f"r{replicate}/k40/L2-imp-o0")
    for order in (0, 1):
        run = f"r{replicate}/k40/L2-signs-o{order}"
        for name, part in mask(copy, run).items():
            assert np.array_equal(part, imp[name])
            assert not stored(copy, run)[name.replace("mask/", "final/weights/")][~part].any()


@pytest.mark.parametrize("branch", ["regrow", "l1_norm"])
@pytest.mark.parametrize("replicate", [0, 1])
def test_a_branch_whose_masks_change_ends_with_the_exact_count_and_other_masks_in_each_order(copy, replicate, branch):
    ends = [mask(copy, f"r{replicate}/k40/L2-{branch}-o{order}") for order in (0, 1)]
    assert [sum(part.sum() for part in end.values()) for end in ends] == [KEPT[2]] * 2
    assert not all(np.array_equal(part, ends[1][name]) for name, part in ends[0].items())
    for order, end in enumerate(ends):
        final = stored(copy, f"r{replicate}/k40/L2-{branch}-o{order}")
        assert not any(final[name.replace("mask/", "final/weights/")][~part].any() for name, part in end.items())


@pytest.mark.parametrize("replicate", [0, 1])
def test_the_new_branch_starts_from_the_signs_of_the_snapshot(copy, replicate):
    start, snapshots = load_file(copy / "start.safetensors"), stored(copy, f"r{replicate}/k0/L0-dense-o0.snapshots")
    for name in ("hidden.weight", "output.weight"):
        rewound = snapshots[f"k40/weights/{name}"]
        expected = np.sign(rewound) * np.abs(rewound).astype(np.float64).mean()
        np.testing.assert_allclose(start[name][replicate], expected, rtol=1e-5)
    for name in ("hidden.bias", "output.bias"):
        assert np.array_equal(start[name][replicate], snapshots[f"k40/weights/{name}"])


def test_nothing_that_is_trained_is_trained_again(answers):
    shipped = extending_run.shipped_digests(checkout())
    assert {"lenet/r0/k20/L2-snip-o0", "resnet20-standard/c0/tickets"} <= shipped.keys()
    assert answers["digests"] == shipped


def test_a_misspelt_branch_is_refused_in_one_line_that_names_the_new_one(answers):
    line = answers["refusal"]
    assert "\n" not in line
    assert "misspelt.yaml: experiments.lenet.sweeps: at level 2: 'sings' is unknown" in line
    assert "random_prune, random_reinit, regrow, rigl, scratch_b, set, signs, snip, snip_reinit" in line
    assert "l0_units, l1_norm, lr_rewind" in line


def pets() -> dict[str, bytes]:
    """Pictures of several sizes: dark cats and bright dogs, 24 and 8 of each."""
    files = {}
    for part, count in (("train", 24), ("test", 8)):
        for label, level in (("cat", 60), ("dog", 190)):
            for at in range(count):
                noise = np.random.default_rng([level, count, at]).integers(-40, 41, (32 + at % 3, 40, 3))
                files[f"{part}/{label}/{at:02}.png"] = encoded((level + noise).astype(np.uint8))
    return files


def test_the_scale_of_ones_own_pictures_trains_on_an_archive_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    shutil.copytree(checkout() / "papers", tmp_path / "papers")
    (name,) = (name for name in files_of_guide() if name.endswith("pictures.yaml"))
    text = files_of_guide()[name].replace("replicates: 3", "replicates: 1")
    for old, new in (("steps: 1000, drops: [667, 833]", "steps: 6, drops: [4, 5]"), ("[0, 50]", "[0, 2]")):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / name).write_text(text.replace("levels: 4", "levels: 1").replace("{4: {", "{1: {"))
    write_tar(tmp_path / "data" / "pets.tar.xz", pets(), "w:xz")
    spec, folders = load_scale(tmp_path, "stabilizing-lth", "pictures"), Folders(tmp_path / "results")
    trained = [stage.name for stage in stages(spec) if stage.kind in ("dense", "levels", "branches", "tickets")]
    for stage in [prepares("pets"), *trained]:
        run_stage(spec, folders, stage, 1)
    context = Context(spec, folders, "resnet20-standard")
    assert context.data.x["train"].shape == (43, 3, 32, 32)
    network = context.store.read("resnet20-standard/r0/k2/L1-imp-o0")
    assert (network["status"], network["inputs"]["data"]) == ("ok", context.data_content)
    pack = open_pack(pack_path(folders, "resnet20-standard", 0)).metadata
    assert (pack.data, pack.data_checksum, pack.classes) == ("pets", data.checksum("pets", spec.scale.data), 2)
    assert str(tmp_path) not in json.dumps(read_json(folders.stage("prepare/pets")))
