"""Data as people have it: unpacked, packed again, renamed, in Kaggle's folders, incomplete, unreadable.

Content is recognised by the checksums of what is in the archives. What can't be used is told in one line, before any
image is converted.
"""

import errno
import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile

import numpy as np
import pytest
from torchvision import datasets

from harness import data
from harness.base.errors import HarnessError
from harness.data import archives, ilsvrc
from harness.data.archives import fetch, md5
from harness.data.sets import cifar10, imagenet, mnist
from tests.data.formats import (
    WNIDS,
    cifar_members,
    imagenet_images,
    tar,
    with_files,
    write_cifar10,
    write_imagenet,
    write_mnist,
)

CIFAR = "cifar-10-python.tar.gz"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"


def refused(call, *arguments):
    """The one line that a call is refused with."""
    with pytest.raises(HarnessError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# MNIST: single files, gzipped or not

MNIST_LAYOUTS = {  # of a file's name: where it is and whether it is gzipped
    "unpacked": ("MNIST/raw/{}", False),
    "dot": ("MNIST/raw/{dot}", False),
    "dot, gzipped": ("{dot}.gz", True),
    "browser has unpacked it": ("MNIST/raw/{}.gz", False),
    "gzipped again": ("MNIST/raw/{}.gz", True),
    "Kaggle's": ("archive/{}/{}", False),
    "a folder of the archive's name": ("MNIST/raw/{}.gz/{}", False),
    "the data folder itself": ("{}.gz", True),
    "torchvision's in lower case": ("mnist/raw/{}.gz", True),
}


@pytest.mark.parametrize("layout", MNIST_LAYOUTS)
def test_mnist_is_recognised_by_the_content_of_its_files(folder, layout):
    published, x, y = write_mnist(folder)
    place, gzipped = MNIST_LAYOUTS[layout]
    contents = {path.stem: gzip.decompress(path.read_bytes()) for path in (folder / "MNIST/raw").iterdir()}
    shutil.rmtree(folder)
    for name, content in contents.items():
        path = folder / place.format(name, name, dot=name.replace("-idx", ".idx"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, 1, mtime=7) if gzipped else content)
    arrays = mnist.arrays(published)
    np.testing.assert_array_equal(arrays["train_x"][:, 0], x[arrays["train_index"]])
    np.testing.assert_array_equal(arrays["test_y"], y[60:])


def test_a_file_of_other_content_is_named_and_not_used(folder):
    published, _, _ = write_mnist(folder)
    path = folder / published.archives[0].path
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.unlink()
    path.with_suffix("").write_bytes(content)
    message = refused(fetch, published)
    assert f"(there is {path.with_suffix('')}: damaged: MD5 {md5(content)} is not the published one)" in message


def test_what_lies_there_instead_is_named(folder):
    published, _, _ = write_mnist(folder)
    shutil.rmtree(folder / "MNIST")
    (folder / "mnist_train.csv").write_text("5,0\n")
    assert f"({folder} holds only mnist_train.csv)" in refused(fetch, published)


# CIFAR-10: a folder of batches


@pytest.fixture
def cifar(folder, monkeypatch):
    """The small set with its checksums in torchvision's place; its members."""
    members, _, _ = cifar_members()
    published = write_cifar10(folder, members)
    sums = {name.split("/")[1]: hashlib.md5(content).hexdigest() for name, content in members.items()}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name[20:], sums[name[20:]]] for name in cifar10.TRAINING])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    return published, members


def unpack(folder, into="."):
    with tarfile.open(folder / CIFAR) as archive:
        archive.extractall(folder / into, filter="data")
    (folder / CIFAR).unlink()
    return folder / into / "cifar-10-batches-py"


@pytest.mark.parametrize("layout", ["unpacked", "deeper", "other name", "tar", "packed again", "other folder"])
def test_cifar10_is_recognised_by_the_content_of_its_batches(folder, cifar, layout):
    published, members = cifar
    expected = cifar10.arrays(published)
    path = folder / CIFAR
    if layout == "tar":
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    elif layout == "packed again":
        path.write_bytes(tar(dict(sorted(members.items())), compressed=True))
        assert archives.file_md5(path) != published.archives[0].md5
    elif layout == "other folder":
        path.rename((folder / "x").mkdir() or folder / "x" / CIFAR)
    else:
        batches = unpack(folder, "a/b" if layout == "deeper" else ".")
        if layout == "other name":
            batches.rename(folder / "batches")
    arrays = cifar10.arrays(published)
    assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


def test_a_folder_of_batches_is_used_only_if_all_have_their_checksum(folder, cifar):
    batch = unpack(folder) / "data_batch_3"
    content = batch.read_bytes()
    batch.write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    assert "cifar-10-batches-py: cifar-10-batches-py/data_batch_3 is altered)" in refused(fetch, cifar[0])
    batch.unlink()
    assert f"{batch}: can't be read (No such file or directory)" in refused(fetch, cifar[0])
    batch.write_bytes(content)
    assert fetch(cifar[0]) == [batch.parent]


def test_without_torchvision_no_batch_can_be_checked(folder, cifar, monkeypatch):
    unpack(folder)
    for module in (archives, cifar10):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    message = refused(fetch, cifar[0])
    assert "torchvision, which downloads it and knows the checksums of unpacked files, is not installed" in message
    assert "holds only cifar-10-batches-py" in message


# ImageNet: folders of classes, and labels


@pytest.fixture
def small(folder, monkeypatch):
    """ImageNet's unpacked folders, small."""
    monkeypatch.setattr(ilsvrc, "CLASSES", 2)
    monkeypatch.setattr(ilsvrc, "TESTS", 4)
    return write_imagenet(folder, unpacked=True)


def flatten(val):
    for image in list(val.glob("*/*")):
        image.rename(val / image.name)


def kaggle(root, base):
    """Kaggle's folders below `base`: images, annotations of the same names, a flat val and a table of labels."""
    flatten(root / "val")
    (root / DEVKIT).unlink()
    images, annotations = base / "ILSVRC/Data/CLS-LOC", base / "ILSVRC/Annotations/CLS-LOC"
    images.mkdir(parents=True)
    for split, name in (("train", f"{WNIDS[0]}/{WNIDS[0]}_0.xml"), ("val", "ILSVRC2012_val_00000001.xml")):
        (root / split).rename(images / split)
        (annotations / split / name).parent.mkdir(parents=True)
        (annotations / split / name).write_text("<annotation/>")
    _, tests, labels = imagenet_images()
    rows = [f"{name[:-5]},{WNIDS[label]} 1 2 3 4 \n" for name, label in zip(tests, labels, strict=True)]
    (base / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(reversed(rows)))


def devkit_folder(root):
    with tarfile.open(root / DEVKIT) as archive:
        archive.extractall(root, filter="data")
    (root / DEVKIT).unlink()


def droppings(root):
    for place in ("train", "val", f"train/{WNIDS[0]}", f"val/{WNIDS[1]}"):
        for name in (".DS_Store", "Thumbs.db", "._n01440764_0.JPEG", "._ILSVRC2012_val_00000001.JPEG"):
            (root / place / name).write_bytes(b"\0\5\x16\7")


def sorted_in_part(root):
    for image in list((root / "val" / WNIDS[0]).iterdir()):
        image.rename(root / "val" / image.name)


def copied(root):
    for image in list((root / "val").glob("*/*")):
        shutil.copy(image, root / "val")


def archives_names(root):
    (root / "train").rename(root / "ILSVRC2012_img_train")
    (root / "val").rename(root / "validation")


IMAGENET_LAYOUTS = {
    "flat val": lambda root: flatten(root / "val"),
    "val sorted in part": sorted_in_part,
    "val copied into classes": copied,
    "droppings": droppings,
    "devkit as a folder": devkit_folder,
    "Kaggle's": lambda root: kaggle(root, root),
    "Kaggle's in its own folder": lambda root: kaggle(root, root / "imagenet-object-localization-challenge"),
    "other names": archives_names,
}


@pytest.mark.parametrize("layout", IMAGENET_LAYOUTS)
def test_imagenet_in_other_layouts_is_the_same(folder, small, layout):
    root = folder / "imagenet"
    expected = imagenet.arrays(small)
    shutil.rmtree(root / "converted-32")
    IMAGENET_LAYOUTS[layout](root)
    imagenet.require(small)
    arrays = imagenet.arrays(small)
    assert all(np.array_equal(arrays[name], expected[name]) for name in expected)
    assert imagenet.unchecked(small) == {"not_verified_by_checksum": ["imagenet/train", "imagenet/val"]}


def test_an_empty_folder_does_not_hide_the_archive(folder, small):
    for name in ("train", "val"):
        shutil.rmtree(folder / "imagenet" / name)
        (folder / "imagenet" / name).mkdir()
    imagenet.arrays(write_imagenet(folder))
    assert imagenet.unchecked(small) == {"not_verified_by_checksum": []}


def test_checksums_by_which_trained_networks_are_found_stay():
    names = ("mnist", "mnist-0-to-1", "cifar10", "imagenet", "imagenet-299")
    pinned = ["48cfce593751e312", "5b92111926d1bd7f", "e13c69f4c4e2daa1", "1441cccf250af199", "7f8d0cb4cf6613c7"]
    assert [data.checksum(name)[:16] for name in names] == pinned


@pytest.mark.parametrize("name", ["LOC_val_solution.csv", "ILSVRC2012_validation_ground_truth.txt"])
def test_labels_that_are_not_the_published_ones_are_refused(folder, small, name):
    root = folder / "imagenet"
    if name.startswith("LOC"):
        kaggle(root, root)
        path, old, new = root / name, WNIDS[0], WNIDS[1]
    else:
        devkit_folder(root)
        path, old, new = root / ilsvrc.TRUTH, "2\n", "1\n"
    path.write_text(path.read_text().replace(old, new, 1))
    assert f"{path}: these are not the published labels" in refused(imagenet.arrays, small)


def packed(root):
    for wnid in WNIDS:
        folder = root / "train" / wnid
        (root / "train" / f"{wnid}.tar").write_bytes(tar({path.name: path.read_bytes() for path in folder.iterdir()}))
        shutil.rmtree(folder)


def shifted(root):
    """A flat val of the right number, in which later images would get the labels of others."""
    flatten(root / "val")
    (root / "val/ILSVRC2012_val_00000003.JPEG").rename(root / "val/ILSVRC2012_val_00000008.JPEG")


def duplicate(root):
    image = root / "train" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG"
    shutil.copy(image, image.with_name(f"{WNIDS[1]}_0 (1).JPEG"))


def folder_as_image(root):
    image = root / "val" / WNIDS[2] / "ILSVRC2012_val_00000006.JPEG"
    image.unlink()
    image.mkdir()


def dead_link(root):
    image = root / "val" / WNIDS[2] / "ILSVRC2012_val_00000006.JPEG"
    image.unlink()
    image.symlink_to("nowhere")


WRONG = {
    shifted: r"7 images \(ILSVRC2012_val_00000004\.JPEG where ILSVRC2012_val_00000003 belongs\)",
    folder_as_image: r"6 images \(ILSVRC2012_val_00000007\.JPEG where ILSVRC2012_val_00000006 belongs\)",
    dead_link: r"6 images \(ILSVRC2012_val_00000007\.JPEG where ILSVRC2012_val_00000006 belongs\)",
    duplicate: rf"16 images .* instead of 15 \({WNIDS[1]} has 5 instead of 4\)",
    packed: rf"\({WNIDS[0]}\.tar is not unpacked: `cd .*/train && for f in \*\.tar; do .* done`\)",
    lambda root: shutil.rmtree(root / "train" / WNIDS[1]): rf"11 images .* instead of 15 \({WNIDS[1]} has none\)",
    lambda root: shutil.rmtree(root / "val" / WNIDS[1]): r"5 images \(.* where ILSVRC2012_val_00000003 belongs\)",
    lambda root: shutil.rmtree(root / "val"): r"ILSVRC2012_img_val\.tar is missing",
}


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_layout_is_found_before_anything_is_converted(folder, small, change):
    change(folder / "imagenet")
    with pytest.raises(HarnessError, match=WRONG[change]):
        imagenet.arrays(small)
    assert not list(folder.glob("imagenet/converted-32/*.u8"))


def test_the_command_for_packed_classes_unpacks_them(folder, small):
    packed(folder / "imagenet")
    command = refused(imagenet.arrays, small).split("`")[1]
    subprocess.run(["bash", "-c", command], check=True)
    imagenet.arrays(small)


def test_a_wrong_archive_of_test_images_is_found_before_anything_is_converted(folder, small):
    small = write_imagenet(folder)
    for name in ("train", "val"):
        shutil.rmtree(folder / "imagenet" / name)
    path = folder / small.archives[1].path
    path.write_bytes(path.read_bytes()[:-600])
    assert "ILSVRC2012_img_val.tar: damaged: MD5" in refused(imagenet.arrays, small)
    _, tests, _ = imagenet_images()
    tests.popitem()
    path.write_bytes(tar(tests))
    assert "6 images instead of the devkit's 7" in refused(imagenet.arrays, with_files(small, folder, small.sizes))
    assert not list(folder.glob("imagenet/converted-32/*.u8"))


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val"),
        ("train", "val", DEVKIT),
        (DEVKIT,),
        ("kaggle",),
    ],
)
def test_files_elsewhere_in_the_data_folder_are_told_with_the_command_that_moves_them(folder, small, names):
    elsewhere = folder / "it's here"
    elsewhere.mkdir()
    if names == ("kaggle",):
        kaggle(folder / "imagenet", elsewhere)
    else:
        for name in names:
            (folder / "imagenet" / name).rename(elsewhere / name)
    message = refused(imagenet.require, small)
    subprocess.run(["bash", "-c", message.split("`")[1]], check=True)
    imagenet.require(small)
    imagenet.arrays(small)


# the system's errors


READ_ERROR = "/proc/self/mem"  # reading it is an input/output error, for whoever asks


def in_place_of(path, how):
    path.unlink()
    if how == "folder":
        path.mkdir()
    else:
        path.symlink_to(READ_ERROR if how == "read error" else path.name)


SYSTEM = {
    "folder": r"is a folder where the archive belongs: `mv .*\.folder` and run again",
    "read error": r"can't be read \(Input/output error\)",
    "loop": r"(can't be read \(Too many levels of symbolic links\)|is missing and can't be downloaded)",
}


@pytest.mark.parametrize("how", SYSTEM)
@pytest.mark.parametrize("name", ["mnist", "cifar10", "train", "val", "devkit"])
def test_an_archive_that_can_not_be_read_is_named_with_the_reason(folder, cifar, name, how):
    if name == "mnist":
        published, _, _ = write_mnist(folder)
        make, at = mnist.arrays, 0
    elif name == "cifar10":
        (published, _), make, at = cifar, cifar10.arrays, 0
    else:
        published, make, at = write_imagenet(folder), imagenet.arrays, ("train", "val", "devkit").index(name)
    path = folder / published.archives[at].path
    in_place_of(path, how)
    with pytest.raises(HarnessError, match=SYSTEM[how]) as caught:
        make(published)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["train", f"train/{WNIDS[1]}", f"train/{WNIDS[1]}/{WNIDS[1]}_0.JPEG"])
def test_a_folder_or_an_image_that_can_not_be_read_is_named_with_the_reason(folder, small, place):
    path = folder / "imagenet" / place
    if path.is_dir():
        shutil.rmtree(path)
        path.symlink_to(path.name)
    else:
        in_place_of(path, "read error")
    message = refused(imagenet.arrays, small)
    assert f"{path}" in message
    assert "Input/output error" in message or "Too many levels of symbolic links" in message


def test_a_data_folder_that_can_not_be_written_is_told_first(folder, small, monkeypatch):
    monkeypatch.setattr(imagenet, "read_labels", lambda _: pytest.fail("read before it was known"))
    (folder / "imagenet/converted-32").symlink_to("/proc/self")  # a folder in which nothing can be made
    message = refused(imagenet.arrays, small)
    assert "converted-32: can't be written (" in message
    assert "HARNESS_DATA" in message


def test_a_disk_that_fills_up_leaves_whole_files_only(folder, small, monkeypatch):
    original, room = imagenet.image_digest, iter(range(11))  # images: the second file has begun

    def fill(pixels):
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(pixels)

    monkeypatch.setattr(imagenet, "image_digest", fill)
    message = refused(imagenet.arrays, small)
    assert "train-0001.u8: can't be written" in message
    assert "No space left on device" in message
    left = {path.name for path in (folder / "imagenet/converted-32").iterdir() if path.suffix != ".json"}
    assert left == {"train-0000.u8", "train-0000.safetensors"}
    monkeypatch.setattr(imagenet, "image_digest", original)
    imagenet.arrays(small)


@pytest.mark.parametrize("how", ["folder", "read error"])
def test_stored_arrays_that_can_not_be_read_are_named_with_the_reason(tmp_path, how):
    record = tmp_path / "digits.json"
    data.prepare("digits", record)
    path = record.with_suffix(".safetensors")
    in_place_of(path, how)
    reason = {
        "folder": "(Is a directory). Move what lies there away and run again.",
        "read error": "(Input/output error). The disk or the network failed: check it and run again.",
    }[how]
    assert refused(data.load, record) == f"{path}: can't be read {reason}"
    assert json.loads(record.read_text())["name"] == "digits"


def test_a_folder_in_place_of_a_converted_file_is_named(folder, small):
    for name in ("train-0000.u8", "train-0000.safetensors"):
        path = folder / "imagenet/converted-32" / name
        path.mkdir(parents=True)
        message = refused(imagenet.arrays, small)
        assert "train-0000.u8: can't be written" in message
        assert "Is a directory" in message
        path.rmdir()
