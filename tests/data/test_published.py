"""MNIST and CIFAR-10 from files in their own formats: the content, the split, and files that are wrong."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision import datasets

from harness import data
from harness.base.errors import HarnessError
from harness.base.seeds import numpy_generator
from harness.data.archives import open_tar, pick
from harness.data.sets import cifar10, mnist
from harness.data.source import published as published_source
from tests.data.formats import cifar_batch, cifar_members, idx, tar, with_files, write_cifar10, write_mnist


def test_what_is_pinned_is_what_torchvision_publishes():
    assert list(mnist.FILES.items()) == datasets.MNIST.resources
    assert list(mnist.MIRRORS) == datasets.MNIST.mirrors
    (archive,) = cifar10.CIFAR10.archives
    published = datasets.CIFAR10
    assert (archive.path, archive.md5, archive.urls) == (published.filename, published.tgz_md5, (published.url,))
    names = [f"{published.base_folder}/{name}" for name, _ in [*published.train_list, *published.test_list]]
    assert names == [*cifar10.TRAINING, *cifar10.TEST] == list(archive.members())


@pytest.mark.parametrize(("name", "sizes"), [("mnist", (55_000, 5_000, 10_000)), ("cifar10", (45_000, 5_000, 10_000))])
def test_the_papers_splits(name, sizes):
    published = {"mnist": mnist.MNIST, "cifar10": cifar10.CIFAR10}[name]
    assert tuple(published.sizes.values()) == sizes
    assert data.SOURCES[name].training_samples == sizes[0]


def stored(name, published, tmp_path, use):
    """Through the real path: prepare, then load."""
    use(name, published_source(published, cifar10.arrays if name == "cifar10" else mnist.arrays))
    record = tmp_path / "results" / f"{name}.json"
    data.prepare(name, record)
    return record, data.load(record)


def test_unscaled_mnist_has_the_same_samples_with_pixels_from_0_to_1(folder, tmp_path, use):
    published, _, _ = write_mnist(folder)
    source = data.SOURCES["mnist-0-to-1"]
    scaled, unscaled = (
        stored(name, replace(published, **scale), tmp_path, use)[1]
        for name, scale in (("mnist", {}), ("mnist-0-to-1", {"mean": (0.0,), "std": (1.0,)}))
    )
    assert source.checksum == replace(mnist.MNIST, mean=(0.0,), std=(1.0,)).checksum != data.checksum("mnist")
    for split in ("train", "validation", "test"):
        torch.testing.assert_close(unscaled.x[split], scaled.x[split] * 0.3081 + 0.1307, atol=1e-6, rtol=0)
        torch.testing.assert_close(unscaled.y[split], scaled.y[split], atol=0, rtol=0)
    assert (unscaled.x["train"].min(), unscaled.x["train"].max()) == (0, 1)


def test_mnist_from_its_files(folder, tmp_path, use):
    published, x, y = write_mnist(folder)
    record, found = stored("mnist", published, tmp_path, use)
    index = np.concatenate([raw(record)[f"{split}_index"] for split in ("train", "validation", "test")])
    assert sorted(index[:60]) == list(range(60))
    assert list(index[60:]) == list(range(60, 70))  # the test set stays as published
    assert list(index[:48]) != list(range(48))  # validation is drawn, not the last ones
    for split, part in (("train", index[:48]), ("validation", index[48:60]), ("test", index[60:])):
        expected = (x[part][:, None] / 255 - 0.1307) / 0.3081
        np.testing.assert_allclose(found.x[split].numpy(), expected, atol=1e-5)
        assert found.x[split].dtype == torch.float32
        np.testing.assert_array_equal(found.y[split].numpy(), y[part])
    assert (found.input_shape, found.classes, found.checksum) == ((1, 28, 28), 10, published.checksum)


def raw(record):
    from safetensors.numpy import load_file

    return load_file(record.with_suffix(".safetensors"))


def test_mnist_as_torchvision_reads_it(folder):
    published, x, _ = write_mnist(folder)
    for archive in published.archives:
        path = folder / archive.path
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    np.testing.assert_array_equal(datasets.MNIST(folder, train=True).data.numpy(), x[:60])


def test_cifar10_from_its_archive(folder, tmp_path, use):
    members, x, y = cifar_members()
    record, found = stored("cifar10", write_cifar10(folder, members), tmp_path, use)
    arrays = raw(record)
    assert arrays["train_x"].dtype == np.uint8
    for split in ("train", "validation", "test"):
        part = arrays[f"{split}_index"]
        np.testing.assert_array_equal(arrays[f"{split}_x"], x[part])
        np.testing.assert_array_equal(found.y[split].numpy(), y[part])
    pixel = x[arrays["train_index"][0]][2, 4, 5]
    assert found.x["train"][0, 2, 4, 5].item() == pytest.approx((pixel / 255 - 0.406) / 0.225, abs=1e-5)


def test_cifar10_as_torchvision_reads_it(folder, monkeypatch):
    members, x, y = cifar_members()
    write_cifar10(folder, members)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in members.items()}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name.split("/")[1], sums[name]] for name in cifar10.TRAINING])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums[cifar10.TEST[0]]]])
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)
    with tarfile.open(folder / "cifar-10-python.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    theirs = datasets.CIFAR10(folder, train=True)
    np.testing.assert_array_equal(theirs.data.transpose(0, 3, 1, 2), x[:60])
    assert theirs.targets == y[:60].tolist()


PINNED = [38742, 3551, 18627]  # of CIFAR-10's validation images: a changed split would be a changed data set


def test_a_split_depends_on_its_named_seed_alone(folder):
    published, _, _ = write_mnist(folder)
    first = mnist.arrays(published)
    drawn = numpy_generator("mnist", "split").permutation(60).tolist()
    assert [*first["train_index"], *first["validation_index"]] == drawn
    assert numpy_generator("cifar10", "split").permutation(50_000)[-3:].tolist() == PINNED


def test_whatever_settles_the_content_is_in_the_checksum(folder):
    published, _, _ = write_mnist(folder)
    other = (with_files(published, folder, {**published.sizes, "train": 47, "validation": 13}), mnist.MNIST)
    sums = {
        published.checksum,
        *(one.checksum for one in other),
        with_files(published, folder, published.sizes, std=(1.0,)).checksum,
    }
    assert len(sums) == 4


# files that are wrong


def test_a_truncated_file_is_found_by_its_checksum(folder, tmp_path, use):
    published, _, _ = write_mnist(folder)
    path = folder / published.archives[0].path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        HarnessError,
        match=r"train-images-idx3-ubyte\.gz can't be downloaded.*train-images-idx3-ubyte\.gz: damaged: MD5",
    ):
        stored("mnist", published, tmp_path, use)


@pytest.mark.parametrize("cut", [20, 2000, -9])
def test_a_truncated_file_with_the_right_checksum_is_found_too(folder, cut):
    published, _, _ = write_mnist(folder)
    path = folder / published.archives[0].path
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(HarnessError, match=r"train-images-idx3-ubyte\.gz: can't be read"):
        mnist.arrays(with_files(published, folder, published.sizes))


@pytest.mark.parametrize("shape", [(59, 28, 28), (61, 28, 28), (60, 27, 28), (60, 28)])
def test_an_idx_file_of_another_shape_is_refused(folder, shape):
    published, _, _ = write_mnist(folder)
    (folder / published.archives[0].path).write_bytes(idx(np.zeros(shape, np.uint8)))
    with pytest.raises(
        HarnessError, match=r"train-images-idx3-ubyte\.gz: does not hold 60 x 28 x 28 bytes in idx form"
    ):
        mnist.arrays(with_files(published, folder, published.sizes))


def test_an_idx_file_that_unpacks_to_far_more_is_not_read_on(folder):
    published, _, _ = write_mnist(folder)
    path = folder / published.archives[0].path
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(5_000_000)))
    with pytest.raises(HarnessError, match="does not hold"):
        mnist.arrays(with_files(published, folder, published.sizes))


def test_a_label_out_of_range_is_refused(folder):
    published, _, _ = write_mnist(folder)
    (folder / published.archives[1].path).write_bytes(idx(np.full(60, 11, np.uint8)))
    with pytest.raises(HarnessError, match=r"70 samples of classes . to 11 instead of 70 of 0 to 9"):
        mnist.arrays(with_files(published, folder, published.sizes))


def test_a_tampered_converted_file_is_found_on_load(folder, tmp_path, use):
    published, _, _ = write_mnist(folder)
    record, _ = stored("mnist", published, tmp_path, use)
    path = record.with_suffix(".safetensors")
    for at in (-5, 400):
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(
            HarnessError, match=r"mnist\.safetensors: its checksum is not the one in mnist\.json\. Delete"
        ):
            data.load(record)
    record.write_text("[]")
    with pytest.raises(HarnessError, match=r"mnist\.json: not the record of a data set"):
        data.load(record)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_cifar_archive(folder, keep):
    members, _, _ = cifar_members()
    path = folder / write_cifar10(folder, members).archives[0].path
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(HarnessError, match=r"cifar-10-python\.tar\.gz: (can't be read|its member .* is damaged)"):
        cifar10.arrays(with_files(cifar10.CIFAR10, folder, {"train": 48, "validation": 12, "test": 10}))


class Evil:
    """Would make a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_hostile_pickle_is_refused_and_nothing_of_it_runs(folder, tmp_path):
    members, _, _ = cifar_members()
    members[cifar10.TRAINING[2]] = pickle.dumps([Evil(tmp_path / "made")], protocol=2)
    published = write_cifar10(folder, members)
    with pytest.raises(
        HarnessError, match=r"data_batch_3: asks for posix\.mkdir, which no CIFAR-10 batch does: refused"
    ):
        cifar10.arrays(published)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x80\x02cbuiltins\neval\nU\x011\x85R.",
        b"\x80\x02cnumpy.core.multiarray\nscalar\n.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",  # a path through an attribute of a known name
        b"\x80\x02cnumpy\nndarray\nU\x011\x85R.",  # calling what may only be an argument
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x01aU\x01bsb.",  # setting attributes of a known class
        b"\x80\x02}.",
        b"\x80\x02]." + b"x" * 10,
        b"not a pickle",
        b"",
    ],
)
def test_other_pickles_are_refused_in_one_line(hostile):
    with pytest.raises(HarnessError, match=r"^here: (asks for|not a CIFAR-10 batch)") as caught:
        cifar10.read_batch(hostile, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"), [(b"u1", b"O8"), (b"K\x03U", b"K\xffU"), (b"T\x00\x0c\x00\x00", b"T\xff\xff\xff\xff")]
)
def test_an_array_that_is_not_what_it_says_is_refused(old, new):
    batch = cifar_batch(np.zeros((1, 3072), np.uint8), [3])
    assert old in batch
    tampered = batch.replace(old, new)
    if old == b"K\x03U":
        pixels, labels = cifar10.read_batch(tampered, "here")  # the version of the dtype's state: not looked at
        assert (pixels.shape, labels.tolist()) == ((1, 3072), [3])
    else:
        with pytest.raises(HarnessError, match="here: not a CIFAR-10 batch"):
            cifar10.read_batch(tampered, "here")


def test_too_few_images_are_counted(folder):
    members, x, y = cifar_members()
    members[cifar10.TEST[0]] = cifar_batch(x[:4].reshape(4, -1), y[:4].tolist())
    with pytest.raises(HarnessError, match=r"4 test images instead of 10"):
        cifar10.arrays(write_cifar10(folder, members))
    members, x, y = cifar_members()
    members[cifar10.TRAINING[0]] = cifar_batch(x[:4].reshape(4, -1), y[:4].tolist())
    with pytest.raises(HarnessError, match=r"62 samples of classes . to . instead of 70"):
        cifar10.arrays(write_cifar10(folder, members))


@pytest.mark.parametrize("name", ["../../outside", "/outside", "cifar-10-batches-py/../../outside"])
def test_a_member_with_a_climbing_path_is_refused(folder, name):
    members, _, _ = cifar_members()
    published = write_cifar10(folder, {name: b"x", **members})
    with pytest.raises(HarnessError, match=r"its member '.*outside' leads out of the archive"):
        cifar10.arrays(published)
    assert not list(folder.parent.rglob("outside"))


def archive(tmp_path, info, content=b""):
    path, out = tmp_path / "x.tar", io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        made.addfile(info, io.BytesIO(content) if content else None)
    path.write_bytes(out.getvalue())
    return path


def test_links_are_not_followed_and_large_members_and_missing_ones_are_refused(tmp_path):
    link = tarfile.TarInfo("a")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    large = tarfile.TarInfo("a")
    large.size = 11
    for info, content, message in ((link, b"", "has no member 'a'"), (large, b"x" * 11, "is larger than 10 bytes")):
        with pytest.raises(HarnessError, match=message), open_tar(archive(tmp_path, info, content)) as tar_file:
            pick(("a",), tar_file, 10)
    (tmp_path / "y.tar").write_bytes(tar({"b": b""}))
    with pytest.raises(HarnessError, match="has no member 'a'"), open_tar(tmp_path / "y.tar") as tar_file:
        pick(("a",), tar_file, 10)
