"""ImageNet from small files of its own form: conversion, what training and test get to see, files that are wrong."""

import json
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from torchvision import datasets, transforms
from torchvision.datasets.imagenet import ARCHIVE_META
from torchvision.transforms import functional

from harness import data
from harness.base.errors import HarnessError
from harness.data import feed, ilsvrc
from harness.data.feed import Feed, draw_boxes
from harness.data.images import pixel_buffer, wait
from harness.data.sets import imagenet
from tests.data.formats import IMAGES, WNIDS, imagenet_images, tar, with_files, write_imagenet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(ilsvrc, "CLASSES", 2)
    monkeypatch.setattr(ilsvrc, "TESTS", 4)


def prepared(tmp_path, use, published):
    use("imagenet", imagenet.images(published))
    record = tmp_path / "imagenet.json"
    data.prepare("imagenet", record)
    return record


def test_what_is_pinned_is_what_torchvision_publishes():
    archives = [(archive.path.removeprefix("imagenet/"), archive.md5) for archive in imagenet.IMAGENET.archives]
    assert archives == [ARCHIVE_META[part] for part in ("train", "val", "devkit")]
    assert not any(archive.urls for archive in imagenet.IMAGENET.archives)


@pytest.fixture
def loaded(folder, tmp_path, use):
    """The small set, from its archives, converted and loaded."""
    return data.load(prepared(tmp_path, use, write_imagenet(folder)))


def test_shapes_labels_and_order(loaded):
    train, test = loaded.x["train"], loaded.x["test"]
    assert (train.shape, test.shape, len(loaded.x["validation"])) == ((15, 3, 28, 28), (7, 3, 28, 28), 0)
    assert (loaded.input_shape, loaded.classes) == ((3, 28, 28), 3)
    assert np.bincount(loaded.y["train"]).tolist() == list(IMAGES["train"])
    assert len(set(loaded.y["train"][:6].tolist())) == 3  # mixed: the first samples stand for all classes
    assert loaded.y["test"].tolist() == [2, 0, 1, 1, 0, 2, 0]


def test_test_images_are_bit_for_bit_torchvisions(loaded, folder, monkeypatch):
    for part in ("train", "val", "devkit"):
        name = ARCHIVE_META[part][0]
        published = next(one for one in write_imagenet(folder).archives if one.path.endswith(name))
        monkeypatch.setitem(ARCHIVE_META, part, (name, published.md5))
    standard = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(28), transforms.PILToTensor()])
    theirs = datasets.ImageNet(folder / "imagenet", split="val", transform=standard)
    order = np.argsort([path.rpartition("/")[2] for path, _ in theirs.imgs])
    pixels = torch.stack([theirs[at][0] for at in order])
    expected = functional.normalize(pixels / 255, MEAN, STD)
    torch.testing.assert_close(loaded.x["test"].to("cpu"), expected, atol=1e-5, rtol=0)
    assert loaded.y["test"].tolist() == [theirs.targets[at] for at in order]


def test_an_index_gives_images_and_only_to_reads_them(loaded, folder):
    test = loaded.x["test"]
    whole = test.to("cpu")
    torch.testing.assert_close(test[2:5].to("cpu"), whole[2:5])
    torch.testing.assert_close(test[torch.tensor([6, 0])].to("cpu"), whole[[6, 0]])
    assert test[2:][1:3].shape == (2, 3, 28, 28)


def test_archives_and_unpacked_folders_give_the_same(folder, tmp_path, use):
    first = data.load(prepared(tmp_path, use, write_imagenet(folder)))
    content = json.loads((tmp_path / "imagenet.json").read_text())["content"]
    x = first.x["train"].to("cpu")
    shutil.rmtree(folder)
    record = prepared(tmp_path, use, write_imagenet(folder, unpacked=True))
    assert json.loads(record.read_text())["content"] == content
    assert torch.equal(data.load(record).x["train"].to("cpu"), x)


def test_the_record_says_whether_a_checksum_vouches_for_the_images(folder, tmp_path, use):
    def unchecked(record):
        return json.loads(record.read_text())["not_verified_by_checksum"]

    assert unchecked(prepared(tmp_path, use, write_imagenet(folder))) == []
    shutil.rmtree(folder)
    published = write_imagenet(folder, unpacked=True)
    assert unchecked(prepared(tmp_path, use, published)) == ["imagenet/train", "imagenet/val"]
    for name in ("train", "val"):
        shutil.rmtree(folder / "imagenet" / name)
    record = prepared(tmp_path, use, published)  # from what was converted, whose origin is noted with it
    assert unchecked(record) == ["imagenet/train", "imagenet/val"]
    data.load(record)
    write_imagenet(folder)
    for path in (folder / "imagenet/converted-32").glob("test-*.u8"):
        path.unlink()
    published = with_files(published, folder, published.sizes)
    assert unchecked(prepared(tmp_path, use, published)) == ["imagenet/train"]


def test_an_image_of_another_class_in_a_folder_is_found_by_its_name(folder, tmp_path, use):
    published = write_imagenet(folder, unpacked=True)
    train = folder / "imagenet/train"
    image = train / WNIDS[0] / f"{WNIDS[0]}_1.JPEG"
    image.rename(train / WNIDS[1] / image.name)  # as many images as before
    with pytest.raises(HarnessError, match=rf"{WNIDS[1]}/{image.name}: no image of class {WNIDS[1]} has that name"):
        prepared(tmp_path, use, published)
    assert not list((folder / "imagenet").glob("converted-32/train-*"))


def test_what_imagenet_takes_of_the_disk():
    """The archives once, and both sizes."""
    small, large = data.SOURCES["imagenet"], data.SOURCES["imagenet-299"]
    assert small.archives == large.archives
    archives = sum(archive.size for archive in small.archives)
    assert (archives + small.stored_bytes + large.stored_bytes) / 1e12 == pytest.approx(1.13, abs=0.01)


def test_a_stopped_conversion_goes_on_where_it_was(folder, tmp_path, use, monkeypatch, capsys):
    published = write_imagenet(folder)
    original, done = imagenet.convert_shard, []

    def stop_at_the_third(path, *arguments):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(path.name)
        original(path, *arguments)

    monkeypatch.setattr(imagenet, "convert_shard", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, use, published)
    monkeypatch.setattr(imagenet, "convert_shard", lambda path, *rest: (done.append(path.name), original(path, *rest)))
    record = prepared(tmp_path, use, published)
    assert done == ["train-0000.u8", "train-0001.u8", "test-0000.u8", "test-0001.u8"]
    assert "1 of 3 files converted, about " in capsys.readouterr().err
    content = json.loads(record.read_text())["content"]

    for path in (folder / "imagenet").glob("*.tar*"):
        path.unlink()  # once converted, the archives are not needed
    data.require("imagenet")
    assert json.loads(prepared(tmp_path, use, published).read_text())["content"] == content
    assert len(done) == 4


# training batches


def feed_of(loaded, batch_size=4, orders=(("a", 0), ("a", 1))):
    return Feed(loaded.x["train"], loaded.y["train"], batch_size, list(orders))


def test_a_batch_depends_on_order_and_step_alone(loaded):
    running = feed_of(loaded)
    batches = [running.batch(step) for step in range(9)]
    assert batches[0][0].shape == (2, 4, 3, 28, 28)
    for step in (5, 0, 8, 3):
        x, y = feed_of(loaded).batch(step)
        assert torch.equal(x, batches[step][0])
        assert torch.equal(y, batches[step][1])
    alone = feed_of(loaded, orders=[("a", 1)]).batch(4)  # replicates of a stack don't mix
    assert torch.equal(alone[0][0], batches[4][0][1])
    assert not torch.equal(batches[0][0], batches[3][0])  # a new epoch draws anew (15 samples, 3 steps)


def test_an_epoch_shows_no_sample_twice(loaded):
    running = feed_of(loaded, batch_size=5, orders=[("b", 0)])
    labels = torch.cat([running.batch(step)[1][0] for step in range(3)])
    assert np.bincount(labels).tolist() == list(IMAGES["train"])
    with pytest.raises(ValueError, match="batch_size 16 is larger than the 15 training samples"):
        feed_of(loaded, batch_size=16)


def test_crops_are_those_of_torchvision(loaded):
    images = loaded.x["train"]
    stored = images.stored
    boxes = draw_boxes(np.random.default_rng(0), *(stored.index[side].astype(np.int64) for side in ("height", "width")))
    flips = np.arange(15) % 2 == 0
    out = pixel_buffer(15, 28)
    wait(images.read_crops(out, boxes, flips))
    for at in range(15):
        whole = Image.fromarray(stored.read_rows(at, 0, int(stored.index["height"][at])))
        theirs = functional.resized_crop(whole, *boxes[at].tolist(), size=[28, 28])
        theirs = functional.hflip(theirs) if flips[at] else theirs
        difference = np.abs(np.asarray(theirs).astype(int) - out[at].permute(1, 2, 0).numpy().astype(int))
        assert difference.max() <= 1  # the same filter, rounded by another library


def test_boxes_are_drawn_as_torchvision_draws_them():
    heights, widths = np.full(20_000, 256), np.full(20_000, 341)
    boxes = draw_boxes(np.random.default_rng(1), heights, widths)
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 256).all()
    assert (left + width <= 341).all()
    drawn = transforms.RandomResizedCrop(1)
    torch.manual_seed(0)
    image = torch.empty(3, 256, 341)
    theirs = np.array([drawn.get_params(image, feed.SCALE, feed.RATIO) for _ in range(5_000)])
    for ours, other in zip(boxes.T, theirs.T, strict=True):
        np.testing.assert_allclose(np.quantile(ours, (0.1, 0.5, 0.9)), np.quantile(other, (0.1, 0.5, 0.9)), atol=7)


@pytest.mark.parametrize(("height", "width", "box"), [(10, 1000, (0, 494, 10, 12)), (1000, 10, (494, 0, 12, 10))])
def test_an_image_too_long_for_any_box_gives_its_middle(height, width, box):
    boxes = draw_boxes(np.random.default_rng(2), np.array([height]), np.array([width]))
    assert tuple(boxes[0]) == box


# files that are wrong


def test_missing_archives_are_asked_for_before_anything_runs(folder):
    with pytest.raises(HarnessError, match=r"ILSVRC2012_img_train\.tar is missing and can't be downloaded") as caught:
        data.require("imagenet")
    message = str(caught.value)
    assert "put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar, ILSVRC2012_devkit_t12.tar.gz from" in message
    assert f"image-net.org (a free account is needed) into {folder / 'imagenet'}" in message
    for name in ("digits", "mnist", "cifar10"):
        data.require(name)  # can be generated or downloaded


@pytest.mark.parametrize("name", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"])
def test_a_truncated_archive_is_found_by_its_checksum(folder, tmp_path, use, name):
    published = write_imagenet(folder)
    path = folder / "imagenet" / name
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(HarnessError, match=rf"{name}: damaged: MD5 [0-9a-f]+ instead of .*By hand"):
        prepared(tmp_path, use, published)


@pytest.mark.parametrize("part", [0, 1])
def test_a_truncated_archive_with_the_right_checksum_is_found_too(folder, tmp_path, use, part):
    published = write_imagenet(folder)
    path = folder / published.archives[part].path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    published = with_files(published, folder, published.sizes)
    with pytest.raises(HarnessError, match=r"can't be read|is damaged|classes, which are not|images instead"):
        prepared(tmp_path, use, published)


@pytest.mark.parametrize("unpacked", [True, False])
def test_a_broken_image_is_named(folder, tmp_path, use, unpacked):
    published = write_imagenet(folder, unpacked)
    name = f"{WNIDS[2]}_2.JPEG"
    if unpacked:
        path = folder / "imagenet/train" / WNIDS[2] / name
        path.write_bytes(path.read_bytes()[:300])
    else:
        train, _, _ = imagenet_images()
        train[2][name] = train[2][name][:300]
        inner = {f"{wnid}.tar": tar(images) for wnid, images in zip(WNIDS, train, strict=True)}
        (folder / published.archives[0].path).write_bytes(tar(inner))
        published = with_files(published, folder, published.sizes)
    with pytest.raises(HarnessError, match=rf"{WNIDS[2]}.*{name}: can't be decoded"):
        prepared(tmp_path, use, published)
    assert sorted(path.name for path in (folder / "imagenet/converted-32").glob("*.u8")) == ["train-0000.u8"]


def test_a_missing_image_and_one_in_the_wrong_class_are_found(folder, tmp_path, use):
    published = write_imagenet(folder, unpacked=True)
    val = folder / "imagenet/val"
    image = val / WNIDS[0] / "ILSVRC2012_val_00000002.JPEG"
    image.rename(val / WNIDS[1] / image.name)
    with pytest.raises(HarnessError, match=rf"{image.name}: the devkit has it in class {WNIDS[0]}"):
        prepared(tmp_path, use, published)
    next((folder / "imagenet/train" / WNIDS[0]).iterdir()).unlink()
    shutil.rmtree(folder / "imagenet/converted-32")
    with pytest.raises(HarnessError, match="14 images in the devkit's classes instead of 15"):
        prepared(tmp_path, use, published)


def test_a_member_with_a_climbing_path_is_refused(folder, tmp_path, use):
    published = write_imagenet(folder)
    train, _, _ = imagenet_images()
    train[0] = {"../../outside.JPEG": next(iter(train[0].values()))}
    inner = {f"{wnid}.tar": tar(images) for wnid, images in zip(WNIDS, train, strict=True)}
    (folder / published.archives[0].path).write_bytes(tar(inner))
    with pytest.raises(HarnessError, match=r"its member '\.\./\.\./outside\.JPEG' leads out of the archive"):
        prepared(tmp_path, use, with_files(published, folder, published.sizes))
    assert not list(tmp_path.rglob("outside*"))


@pytest.mark.parametrize("content", [b"", b"not a mat file"])
def test_a_devkit_that_is_none_is_refused(folder, tmp_path, use, content):
    published = write_imagenet(folder)
    path = folder / published.archives[2].path
    path.write_bytes(tar({ilsvrc.META: content, ilsvrc.TRUTH: b"1\n"}, compressed=True))
    with pytest.raises(HarnessError, match="can't be read as ImageNet's devkit"):
        prepared(tmp_path, use, with_files(published, folder, published.sizes))


def test_no_class_name_becomes_a_path(folder, tmp_path, use, monkeypatch):
    monkeypatch.setattr("tests.data.formats.WNIDS", ("../../../x", *WNIDS[1:]))
    with pytest.raises(HarnessError, match=r"devkit_t12\.tar\.gz: 3 classes and 7 labels instead of 3 and 7"):
        prepared(tmp_path, use, write_imagenet(folder))


def test_tampered_and_missing_converted_files_are_found(folder, tmp_path, use):
    record = prepared(tmp_path, use, write_imagenet(folder))
    path = folder / "imagenet/converted-32/train-0001.u8"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    found = data.load(record)
    with pytest.raises(
        HarnessError, match=r"train-0001\.u8: the image at byte 0 is not the one converted.*imagenet\.json"
    ):
        found.x["train"].to("cpu")
    with pytest.raises(HarnessError, match=r"train-0001\.u8: the image at byte 0 is not the one converted"):
        feed_of(found, batch_size=15).batch(0)
    path.write_bytes(content[:50])
    with pytest.raises(HarnessError, match=r"train-0001\.u8: is cut short\. Delete .*imagenet\.json, and that file"):
        found.x["train"].to("cpu")
    with pytest.raises(HarnessError, match=r"train-0001\.u8: \d+ bytes instead of \d+\. Delete"):
        data.load(record)
    path.unlink()
    with pytest.raises(
        HarnessError, match=r"train-0001\.u8: missing\. Delete .*imagenet\.json, and that file if it is there, and run"
    ):
        data.load(record)
    data.prepare("imagenet", record)  # what the messages ask for mends it
    data.load(record).x["train"].to("cpu")
    beside = path.with_suffix(".safetensors")
    beside.write_bytes(beside.read_bytes()[:-20])
    data.prepare("imagenet", record)  # converted anew
    data.load(record).x["train"].to("cpu")
    tampered = {**load_file(beside), "digest": np.zeros(6 * 16, np.uint8)}
    save_file(tampered, beside, {"form": imagenet.FORM, "bytes": str(path.stat().st_size)})
    data.prepare("imagenet", record)
    with pytest.raises(HarnessError, match=r"train-0001\.u8: the image at byte \d+ is not the one converted"):
        data.load(record).x["train"].to("cpu")


def test_a_disk_without_room_is_told_before_the_work(folder, tmp_path, use, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(HarnessError, match="0 GB free, and the images still to be converted take about"):
        prepared(tmp_path, use, write_imagenet(folder))


def test_an_archive_is_hashed_once(folder, tmp_path, use, capsys):
    published = write_imagenet(folder)
    prepared(tmp_path, use, published)
    assert capsys.readouterr().err.count("checking ILSVRC2012") == 3
    (folder / "imagenet/converted-32/train-0000.u8").unlink()
    prepared(tmp_path, use, published)
    assert "checking" not in capsys.readouterr().err
    (folder / "imagenet/converted-32/train-0000.u8").unlink()
    with tarfile.open(folder / published.archives[0].path, "a") as archive:
        archive.addfile(tarfile.TarInfo("more"))
    with pytest.raises(HarnessError, match=r"ILSVRC2012_img_train\.tar: damaged: MD5"):
        prepared(tmp_path, use, published)
