"""Data sets: content, fixed splits, checksums, and what happens to broken files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from harness import data
from harness.base.errors import HarnessError
from harness.data.base import content_checksum


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    record = tmp_path_factory.mktemp("data") / "digits.json"
    data.prepare("digits", record)
    return record


def test_digits_are_scikit_learns_scans_in_a_fixed_split(digits):
    found = data.load(digits)
    assert {split: len(y) for split, y in found.y.items()} == {"train": 1197, "validation": 60, "test": 540}
    assert found.input_shape == (1, 8, 8)
    assert found.classes == 10
    x, y = found.x["train"].numpy(), found.y["train"].numpy()
    assert abs(x.mean()) < 1e-6
    assert x.std() == pytest.approx(1.0, abs=1e-6)
    # undo the standardisation: the first sample must be one of scikit-learn's images, with its label
    source = load_digits()
    zero, step = x.min(), (x.max() - x.min()) / 16
    image = np.rint((x[0, 0] - zero) / step)
    matches = [i for i, candidate in enumerate(source.images) if np.array_equal(candidate, image)]
    assert y[0] in source.target[matches]


def test_splits_do_not_overlap():
    arrays = data.SOURCES["digits"].make()
    indexes = np.concatenate([arrays[f"{split}_index"] for split in ("train", "validation", "test")])
    assert sorted(indexes) == list(range(1797))


@pytest.fixture(scope="module")
def generated():
    """Arrays of the quick generated sets, by name."""
    return {name: data.SOURCES[name].make() for name in ("digits", "mnist1d")}


def test_canonical_mnist1d_is_the_packages_own(generated):
    from mnist1d.data import get_dataset_args, make_dataset

    arrays, made = generated["mnist1d"], make_dataset(get_dataset_args())
    np.testing.assert_array_equal(arrays["test_x"][:, 0], made["x_test"].astype(np.float32))
    np.testing.assert_array_equal(arrays["test_y"], made["y_test"])
    np.testing.assert_array_equal(arrays["train_x"][:, 0], made["x"][:3600].astype(np.float32))


def test_generating_leaves_the_global_generators_alone():
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    data.SOURCES["mnist1d"].make()
    assert np.random.random() == expected


@pytest.mark.parametrize("name", ["digits", "mnist1d"])
def test_pinned_checksums_hold(name, generated):
    source, arrays = data.SOURCES[name], generated[name]
    assert content_checksum(arrays) == source.checksum
    assert arrays["train_x"].shape == (source.training_samples, *source.shape)


@pytest.mark.slow
def test_pinned_checksum_of_the_harder_variant_holds():
    source = data.SOURCES["mnist1d-hard"]
    assert content_checksum(source.make()) == source.checksum


def test_a_checksum_sees_one_changed_value_and_no_rounding():
    arrays = {"x": np.arange(10.0)}
    base = content_checksum(arrays)
    assert content_checksum({"x": np.arange(10.0) + 1e-9}) == base
    changed = np.arange(10.0)
    changed[3] += 0.01
    assert content_checksum({"x": changed}) != base
    pixels = np.arange(12, dtype=np.uint8)
    sums = [content_checksum({"x": values}) for values in (pixels, pixels ^ 1, pixels.reshape(3, 4), pixels[::-1])]
    assert len(set(sums)) == 4


def test_other_content_is_refused(tmp_path, monkeypatch):
    other = dataclasses.replace(data.SOURCES["digits"], checksum="abc")
    monkeypatch.setitem(data.SOURCES, "digits", other)
    with pytest.raises(HarnessError, match=r"data set digits: content checksum [0-9a-f]{16} instead of abc"):
        data.prepare("digits", tmp_path / "digits.json")
    assert not list(tmp_path.iterdir())


def test_altered_and_missing_arrays_are_named(digits, tmp_path):
    record = tmp_path / "digits.json"
    record.write_bytes(digits.read_bytes())
    arrays = record.with_suffix(".safetensors")
    with pytest.raises(HarnessError, match=r"digits\.safetensors: missing\. Delete .*digits\.json and run"):
        data.load(record)
    content = bytearray(digits.with_suffix(".safetensors").read_bytes())
    content[-5] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(HarnessError, match=r"digits\.safetensors: its checksum is not the one"):
        data.load(record)


@pytest.mark.parametrize("ask", [data.checksum, data.require, lambda name: data.prepare(name, Path("x.json"))])
def test_an_unknown_set_is_refused_by_name(ask):
    with pytest.raises(HarnessError, match=r"data set 'cifar11' is unknown: choose one of .*digits.*imagenet"):
        ask("cifar11")


def test_shapes_and_classes_of_every_source_are_those_of_its_networks():
    facts = {name: (source.shape, source.classes, source.training_samples) for name, source in data.SOURCES.items()}
    assert facts["mnist"] == ((1, 28, 28), 10, 55_000)
    assert facts["cifar10"] == ((3, 32, 32), 10, 45_000)
    assert facts["imagenet"] == ((3, 224, 224), 1000, 1_281_167)
    assert len({data.checksum(name) for name in data.SOURCES}) == len(data.SOURCES)
