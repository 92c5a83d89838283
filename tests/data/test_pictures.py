"""Pictures of one's own: what every format becomes, what is refused and how, and that only the content counts."""

import io
import json
import os
import tarfile
import time
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.numpy import load_file

from harness import data
from harness.base.errors import HarnessError
from harness.data import decode, picture_files, pictures
from harness.data.pictures import channel_statistics, decoded
from harness.paper.models import Pictures
from tests.data.picture_sets import (
    CLASSES,
    colours,
    encoded,
    picture_set,
    pixels_by_name,
    png,
    write_folder,
    write_tar,
    write_zip,
)

PINNED_BY_HAND = {"classes": ["a", "b"], "train": 5, "test": 2, "sha256": "0" * 64}


@pytest.fixture(autouse=True)
def _nothing_remembered():
    pictures._pin.cache_clear()


def own(folder="own", **fields) -> dict[str, Pictures]:
    """The data sets of a scale that has one of its own."""
    return {"own": Pictures.model_validate({"folder": str(folder), "size": 6, **fields})}


def prepared(record, **fields) -> dict[str, np.ndarray]:
    data.prepare("own", record, own(**fields))
    return load_file(record.with_suffix(".safetensors"))


def picture(content: bytes, name: str = "train/ant/0.png", **fields) -> np.ndarray:
    return decoded(own(**fields)["own"], name, content)


def refusal(content: bytes, name: str = "train/ant/0.png", **fields) -> str:
    with pytest.raises(HarnessError) as caught:
        picture(content, name, **fields)
    line = str(caught.value)
    assert line.startswith(f"{name}: ")
    assert "\n" not in line
    return line


# what pictures become


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM", "TIFF"])
def test_a_format_without_loss_gives_its_pixels(form):
    for pixels in (colours(1), colours(1)[..., 0]):
        expected = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else np.stack([pixels] * 3)
        assert np.array_equal(picture(encoded(pixels, form)), expected)


def test_webp_without_loss_gives_its_pixels():
    pixels = colours(1)
    assert np.array_equal(picture(encoded(pixels, "WEBP", lossless=True)), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("form", ["JPEG", "GIF", "WEBP"])
def test_a_format_with_loss_gives_what_pillow_shows(form):
    content = encoded(np.kron(colours(1, 3, 3), np.ones((2, 2, 1), np.uint8)), form)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(picture(content), expected.transpose(2, 0, 1))


def test_one_channel_gives_the_luminance_of_colours_and_grey_levels_as_they_are():
    pixels = colours(1)
    luminance = pixels.astype(np.float64) @ [0.299, 0.587, 0.114]  # ITU-R 601-2
    assert np.abs(picture(encoded(pixels), channels=1)[0] - luminance).max() <= 1
    grey = pixels[..., 0]
    assert np.array_equal(picture(encoded(grey), channels=1), grey[None])


def test_black_and_white_is_0_and_255():
    bits = colours(1)[..., 0] > 127
    assert np.array_equal(picture(encoded(bits), channels=1)[0], np.where(bits, 255, 0))


def test_a_palette_becomes_its_colours():
    indexes = np.random.default_rng(1).integers(0, 4, (6, 6), np.uint8)
    palette = np.array([[0, 0, 0], [255, 10, 20], [30, 255, 40], [50, 60, 255]], np.uint8)
    image, out = Image.fromarray(indexes, "L"), io.BytesIO()
    image.putpalette(palette.tobytes())
    image.save(out, "PNG")
    assert np.array_equal(picture(out.getvalue()), palette[indexes].transpose(2, 0, 1))


def test_alpha_that_hides_nothing_is_dropped():
    opaque = np.dstack([colours(1), np.full((6, 6), 255, np.uint8)])
    assert np.array_equal(picture(encoded(opaque)), colours(1).transpose(2, 0, 1))


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (8, 1), (3, 2), (6, 3)])
def test_pictures_are_turned_upright_as_exif_says(orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = colours(1, 4, 8)
    upright = np.rot90(pixels, turns)  # counter-clockwise
    content = encoded(pixels, "PNG", exif=exif)
    assert np.array_equal(picture(content, size=list(upright.shape[:2])), upright.transpose(2, 0, 1))


def test_another_size_is_refused_or_stretched_or_cropped_as_the_scale_says():
    pixels = colours(1, 6, 12)
    line = refusal(encoded(pixels))
    assert line == (
        "train/ant/0.png: is 6 x 12 pixels, not 6 x 6. Give resize: crop or resize: stretch, or another size"
    )
    assert np.array_equal(picture(encoded(pixels), resize="crop"), pixels[:, 3:9].transpose(2, 0, 1))
    constant = np.full((12, 24, 3), (9, 80, 200), np.uint8)
    stretched = picture(encoded(constant), resize="stretch", size=[5, 7])
    assert stretched.shape == (3, 5, 7)
    assert (stretched == np.array([9, 80, 200])[:, None, None]).all()
    ramp = np.repeat(np.repeat(colours(1, 6, 6), 2, 0), 4, 1)
    with Image.open(io.BytesIO(encoded(ramp))) as image:
        theirs = np.asarray(image.resize((6, 6), Image.Resampling.BILINEAR))
    assert np.array_equal(picture(encoded(ramp), resize="stretch"), theirs.transpose(2, 0, 1))


# what is refused


def cmyk() -> bytes:
    out = io.BytesIO()
    Image.new("CMYK", (6, 6)).save(out, "JPEG")
    return out.getvalue()


def frames(form: str) -> bytes:
    out, images = io.BytesIO(), [Image.fromarray(colours(seed)) for seed in range(3)]
    images[0].save(out, form, save_all=True, append_images=images[1:])
    return out.getvalue()


def transparent_palette() -> bytes:
    return encoded(np.zeros((6, 6), np.uint8), "PNG", transparency=0)


REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"ant,bee\n" * 9, "not a picture in JPEG, PNG, BMP, GIF, WEBP, PPM, TIFF"),
    "cut short, PNG": (encoded(colours(1, 64, 64))[:500], "can't be decoded"),
    "cut short, JPEG": (encoded(colours(1, 64, 64), "JPEG")[:900], "can't be decoded"),
    "altered PNG": (encoded(colours(1)).replace(b"IDAT", b"IDAX"), "can't be decoded"),
    "CMYK": (cmyk(), "is CMYK, neither grey levels nor RGB"),
    "16-bit grey PNG": (encoded(np.zeros((6, 6), np.uint16)), "more than 8 bits"),
    "16-bit colour PNG": (png(6, 6, 16, 2, bytes(6 * (1 + 36))), "more than 8 bits"),
    "16-bit grey TIFF": (encoded(np.zeros((6, 6), np.uint16), "TIFF"), "more than 8 bits"),
    "32-bit float TIFF": (encoded(np.zeros((6, 6), np.float32), "TIFF"), "more than 8 bits"),
    "16-bit grey PGM": (b"P5 6 6 65535\n" + bytes(72), "more than 8 bits"),
    "16-bit colour PPM": (b"P6 6 6 65535\n" + bytes(216), "more than 8 bits"),
    "animated GIF": (frames("GIF"), "has 3 frames"),
    "animated PNG": (frames("PNG"), "has 3 frames"),
    "animated WebP": (frames("WEBP"), "has 3 frames"),
    "TIFF of three pages": (frames("TIFF"), "has 3 frames or pages"),
    "transparent": (encoded(np.dstack([colours(1), colours(2)[..., 0]])), "is partly transparent"),
    "transparent palette": (transparent_palette(), "is partly transparent"),
    "another format": (encoded(colours(1), "ICO"), "not a picture in JPEG"),
    "a bomb": (png(60_000, 60_000, 8, 2, b""), "can't be decoded"),
    "a small bomb": (png(12_000, 12_000, 8, 0, b""), "12000 x 12000 pixels"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_not_be_used_is_refused_in_one_line(kind):
    content, words = REFUSED[kind]
    assert words in refusal(content)


def failure(folder="own", **fields) -> str:
    with pytest.raises(HarnessError) as caught:
        data.source_of("own", own(folder, **fields))
    return str(caught.value)


def test_every_picture_that_can_not_be_used_has_a_line_and_nothing_is_written(folder):
    files = picture_set() | {"train/ant/9.png": b"", "test/bee/9.png": b"text", "test/cow/9.png": cmyk()}
    write_folder(folder / "own", files)
    lines = failure().splitlines()
    assert len(lines) == 3
    for name in ("train/ant/9.png", "test/bee/9.png", "test/cow/9.png"):
        assert sum(name in line for line in lines) == 1
    assert not (folder / "pictures").exists()


def test_many_are_counted(folder):
    write_folder(folder / "own", picture_set() | {f"train/ant/{at}.txt": b"" for at in range(50)})
    lines = failure().splitlines()
    assert len(lines) == 21
    assert lines[-1] == "  and 30 more"


WRONG_NAMES = {
    "a class without test pictures": ({"train/dog/1.png": encoded(colours(1))}, "class 'dog': has no pictures in test"),
    "a class without training pictures": ({"test/dog/1.png": encoded(colours(1))}, "class 'dog': has no pictures in t"),
    "a picture in no class": ({"train/1.png": encoded(colours(1))}, "'train/1.png': pictures lie at train/<class>/<fi"),
    "a folder in a class": ({"train/ant/x/1.png": b"x"}, "'train/ant/x/1.png': pictures lie at train/<class>/<file>"),
    "a third part": ({"val/ant/1.png": b"x"}, "'val/ant/1.png' lies in neither train nor test"),
    "two sets": ({"more/train/ant/1.png": b"x"}, "train and test lie in more than one folder"),
    "a class of odd characters": (
        {f"{part}/a\nb/1.png": encoded(colours(1)) for part in ("train", "test")},
        r"class 'a\nb': can't be printed",
    ),
}


@pytest.mark.parametrize("kind", WRONG_NAMES)
@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_classes_that_differ_and_files_elsewhere_are_refused_in_one_line(folder, kind, write):
    more, words = WRONG_NAMES[kind]
    write(folder / "own", picture_set() | more)
    line = failure()
    assert words in line
    assert "\n" not in line


def test_a_set_without_a_part_or_with_one_class_is_refused(folder):
    write_folder(folder / "own", {name: c for name, c in picture_set().items() if name.startswith("train/")})
    assert failure() == f"{folder}/own: test: has no pictures"
    write_folder(folder / "one", {name: c for name, c in picture_set().items() if "/ant/" in name})
    assert failure(folder="one") == f"{folder}/one: has one class only"


def test_a_path_to_nothing_and_to_no_archive_is_refused(folder):
    assert failure() == (
        f"{folder}/own: missing. Put the pictures there, or give their path: in full, or below HARNESS_DATA"
    )
    folder.mkdir()
    (folder / "own").write_bytes(b"no archive")
    assert failure() == f"{folder}/own: neither a folder nor a tar or zip archive. Give one of them"
    with pytest.raises(HarnessError, match="missing"):
        data.require("own", own("elsewhere", pinned=PINNED_BY_HAND))


def test_links_and_devices_in_a_folder_are_refused(folder, tmp_path):
    outside = tmp_path / "outside.png"
    outside.write_bytes(encoded(colours(1)))
    root = write_folder(folder / "own", picture_set())
    (root / "train/ant/link.png").symlink_to(outside)
    assert failure() == (f"{root}/train/ant: 'link.png' is a link, and none is followed. Put the picture itself there")
    (root / "train/ant/link.png").unlink()
    (root / "test/dog").symlink_to(tmp_path)
    assert "'dog' is a link" in failure()
    (root / "test/dog").unlink()
    os.mkfifo(root / "train/bee/pipe")
    assert "'pipe' is neither a file nor a folder" in failure()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, "/etc/passwd"
    return info


MEMBERS = {
    "a symbolic link": (member("train/ant/a.png", tarfile.SYMTYPE), "is a link"),
    "a hard link": (member("train/ant/a.png", tarfile.LNKTYPE), "is a link"),
    "a device": (member("train/ant/a.png", tarfile.CHRTYPE), "is neither a file nor a folder"),
    "a pipe": (member("train/ant/a.png", tarfile.FIFOTYPE), "is neither a file nor a folder"),
    "a path that climbs": (member("train/ant/../../../a.png"), "leads out of the archive"),
    "a path from the root": (member("/train/ant/a.png"), "leads out of the archive"),
    "too large": (member("train/ant/a.png", size=2**40), "is larger than 67,108,864 bytes"),
}


@pytest.mark.parametrize("kind", MEMBERS)
def test_members_that_are_no_files_of_an_archive_are_refused(folder, kind):
    info, words = MEMBERS[kind]
    path = write_tar(folder / "own.tar", picture_set())
    with tarfile.open(path, "a") as archive:
        archive.addfile(info)
    line = failure(folder="own.tar")
    assert words in line
    assert "\n" not in line


def test_links_and_encrypted_and_large_members_of_a_zip_are_refused(folder, monkeypatch):
    link = zipfile.ZipInfo("train/ant/a.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(write_zip(folder / "link.zip", picture_set()), "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "'train/ant/a.png' is a link" in failure(folder="link.zip")
    path = write_zip(folder / "secret.zip", picture_set())
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the first entry of the directory
    path.write_bytes(content)
    assert "is encrypted" in failure(folder="secret.zip")
    path = write_zip(folder / "climb.zip", {"../a.png": b""} | picture_set())
    assert "'../a.png' leads out of the archive" in failure(folder="climb.zip")
    monkeypatch.setattr(picture_files, "LARGEST_MEMBER", 20)
    write_zip(folder / "large.zip", picture_set())
    assert "is larger than 20 bytes" in failure(folder="large.zip")
    write_folder(folder / "large", picture_set())
    assert "is larger than 20 bytes" in failure(folder="large")


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_an_archive_that_is_cut_short_is_refused_in_one_line(folder, mode):
    path = write_tar(folder / "own.tar", {f"train/ant/{at}.png": encoded(colours(at, 40, 40)) for at in range(9)}, mode)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-40] + bytes(40)):
        path.write_bytes(damaged)
        line = failure(folder="own.tar", size=40)
        assert "own.tar" in line
        assert "\n" not in line


def test_files_that_systems_leave_are_passed_over(folder):
    plain = write_folder(folder / "own", picture_set())
    left = (".DS_Store", "train/.hidden", "train/ant/._0.png", "train/ant/Thumbs.db", "README.md", "test/.git/x/y/z")
    write_folder(folder / "left", picture_set() | dict.fromkeys(left, b"x"))
    write_tar(folder / "left.tar", picture_set() | dict.fromkeys((*left, "__MACOSX/train/ant/._0.png"), b"x"))
    sums = {data.checksum("own", own(name)) for name in ("own", "left", "left.tar")}
    assert len(sums) == 1
    assert plain.is_dir()


# what a set becomes


@pytest.fixture
def arrays(folder, tmp_path) -> dict[str, np.ndarray]:
    write_folder(folder / "own", picture_set())
    return prepared(tmp_path / "own.json", validation=0.25)


def test_every_picture_is_in_one_split_with_the_class_of_its_folder(arrays):
    expected = {pixels.transpose(2, 0, 1).tobytes(): name.split("/") for name, pixels in pixels_by_name().items()}
    seen = {}
    for split in ("train", "validation", "test"):
        for x, y in zip(arrays[f"{split}_x"], arrays[f"{split}_y"], strict=True):
            part, label, _ = expected[x.tobytes()]
            assert part == ("test" if split == "test" else "train")
            assert CLASSES[y] == label
            seen[x.tobytes()] = split
    assert len(seen) == len(expected)
    assert [len(arrays[f"{split}_y"]) for split in ("train", "validation", "test")] == [9, 3, 6]


def test_the_test_part_keeps_the_order_of_names(arrays):
    names = sorted(name for name in pixels_by_name() if name.startswith("test/"))
    assert np.array_equal(arrays["test_x"], [pixels_by_name()[name].transpose(2, 0, 1) for name in names])
    assert arrays["test_index"].tolist() == list(range(12, 18))


def test_mean_and_deviation_are_those_of_the_training_split_and_recorded(arrays, tmp_path):
    train = arrays["train_x"].astype(np.float64) / 255
    for part, value in (("mean", train.mean((0, 2, 3))), ("std", train.std((0, 2, 3)))):
        np.testing.assert_allclose(arrays[part], value, rtol=1e-6)
        assert json.loads((tmp_path / "own.json").read_text())[part] == arrays[part].tolist()
    loaded = data.load(tmp_path / "own.json")
    x = loaded.x["train"].double()
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3, dtype=x.dtype), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3, dtype=x.dtype), atol=1e-5, rtol=0)
    assert (loaded.input_shape, loaded.classes) == ((3, 6, 6), 3)


def test_statistics_are_exact_and_a_constant_channel_is_not_divided_by_zero():
    x = np.random.default_rng(0).integers(0, 256, (50, 2, 5, 7), np.uint8)
    x[:, 1] = 51
    mean, std = channel_statistics(x)
    np.testing.assert_allclose(mean, [(x[:, 0] / 255).mean(), 0.2], rtol=1e-13)
    np.testing.assert_allclose(std, [(x[:, 0] / 255).std(), 1.0], rtol=1e-13)


def test_the_record_names_classes_and_digest_and_no_place(arrays, folder, tmp_path):
    record = json.loads((tmp_path / "own.json").read_text())
    assert record["pinned"]["classes"] == list(CLASSES)
    assert (record["pinned"]["train"], record["pinned"]["test"], record["classes"]) == (12, 6, 3)
    assert str(folder) not in (tmp_path / "own.json").read_text()


FORMS = {
    "folder elsewhere": lambda place: write_folder(place / "elsewhere", picture_set()),
    "folder in a folder": lambda place: write_folder(place / "outer/pictures", picture_set()).parent,
    "tar": lambda place: write_tar(place / "own.tar", picture_set()),
    "tar in another order": lambda place: write_tar(place / "o.tar", dict(reversed(picture_set().items()))),
    "tar.xz with a folder": lambda place: write_tar(place / "own.tar.xz", picture_set(), "w:xz", "./pictures/"),
    "tar.gz": lambda place: write_tar(place / "own.tgz", picture_set(), "w:gz", "./"),
    "zip": lambda place: write_zip(place / "own.zip", picture_set(), "pictures/"),
}


@pytest.mark.parametrize("form", FORMS)
def test_only_the_content_counts_not_its_place_its_form_or_its_name(folder, tmp_path, form):
    write_folder(folder / "own", picture_set())
    here = prepared(tmp_path / "own.json")
    there = {"other": own(FORMS[form](tmp_path / "there"))["own"]}
    data.prepare("other", tmp_path / "other.json", there)
    assert data.checksum("other", there) == data.checksum("own", own())
    assert data.content(tmp_path / "other.json") == data.content(tmp_path / "own.json")
    arrays = load_file(tmp_path / "other.safetensors")
    assert all(np.array_equal(arrays[name], value) for name, value in here.items())


def test_a_zip_archive_beside_the_pictures_makes_a_tar_archive_no_zip_archive(folder):
    other = write_zip(folder / "other.zip", {"notes": b"x"}).read_bytes()
    write_folder(folder / "own", picture_set())
    write_tar(folder / "own.tar", picture_set() | {"notes.zip": other})
    assert data.checksum("own", own("own.tar")) == data.checksum("own", own())


def test_all_that_changes_the_arrays_changes_the_checksum(folder):
    files = picture_set()
    write_folder(folder / "own", files)
    pixel = pixels_by_name()["train/ant/0.png"].copy()
    pixel[0, 0, 0] ^= 1
    write_folder(folder / "pixel", files | {"train/ant/0.png": encoded(pixel)})
    write_folder(folder / "moved", {name.replace("ant/0", "bee/9"): content for name, content in files.items()})
    write_folder(folder / "fewer", {name: content for name, content in files.items() if name != "test/cow/1.png"})
    sums = [data.checksum("own", own(name)) for name in ("own", "pixel", "moved", "fewer")]
    changes = ({"channels": 1}, {"resize": "crop"}, {"validation": 0.5}, {"size": [6, 7], "resize": "stretch"})
    sums += [data.checksum("own", own(**change)) for change in changes]
    assert len(set(sums)) == len(sums)


def test_pinned_pictures_need_not_be_there_to_be_known_and_no_others_are_converted(folder, tmp_path):
    root = write_folder(folder / "own", picture_set())
    source = data.source_of("own", own())
    pinned = source.details["pinned"]
    known = data.source_of("own", own("not/here", pinned=pinned))
    assert (known.checksum, known.shape, known.classes) == (source.checksum, (3, 6, 6), 3)
    assert (known.training_samples, known.test_samples) == (source.training_samples, 6) == (11, 6)
    prepared(tmp_path / "own.json", pinned=pinned)
    (root / "train/ant/0.png").write_bytes(encoded(colours(99)))
    with pytest.raises(HarnessError, match="holds other pictures than those that are pinned") as caught:
        prepared(tmp_path / "again.json", pinned=pinned)
    assert "\n" not in str(caught.value)
    (root / "train/ant/4.png").write_bytes(encoded(colours(99)))  # one more
    with pytest.raises(HarnessError, match=r"13 \+ 6 of 3 classes.* instead of 12 \+ 6"):
        prepared(tmp_path / "again.json", pinned=pinned)
    assert not list(tmp_path.glob("*again*"))


@pytest.mark.parametrize("write", [write_folder, write_tar])
def test_pictures_are_read_again_when_their_files_change_and_only_then(folder, capsys, write):
    path = write(folder / "own", picture_set())
    first = data.checksum("own", own())
    assert "To hold the scale to these pictures, add to data.own: pinned: {" in capsys.readouterr().err
    for _ in range(2):
        pictures._pin.cache_clear()
        assert data.checksum("own", own()) == first
    assert capsys.readouterr().err == ""
    write(path, picture_set() | {"train/ant/0.png": encoded(colours(99))})
    os.utime(path if path.is_file() else path / "train/ant/0.png", (1, time.time() + 9))
    pictures._pin.cache_clear()
    assert data.checksum("own", own()) != first
    (note,) = (folder / "pictures").iterdir()
    note.write_text("{")  # damaged
    pictures._pin.cache_clear()
    data.checksum("own", own())
    assert json.loads(note.read_text())["pinned"]["train"] == 12


def test_more_than_the_memory_holds_is_refused_before_it_is_converted(folder, tmp_path):
    write_folder(folder / "own", picture_set())
    pinned = data.source_of("own", own()).details["pinned"] | {"train": 10**8}
    with pytest.raises(HarnessError, match=r"100,000,006 pictures of 4096 x 4096 take .* GB of memory"):
        prepared(tmp_path / "own.json", pinned=pinned, size=4096)


# how it is converted


def test_few_pictures_are_in_memory_at_once(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    drawn = []
    for at, (item, double) in enumerate(decode.in_windows(lambda x: 2 * x, (drawn.append(n) or n for n in range(99)))):
        assert double == 2 * item == 2 * at
        assert len(drawn) <= at + 8


def test_progress_is_told(capsys):
    progress = decode.Progress("own", "pictures", 4, every_seconds=0.0)
    progress.add()
    assert capsys.readouterr().err.startswith("data set own: 1 of 4 pictures converted, about ")
    progress = decode.Progress("own", "pictures", 0, every_seconds=0.0)
    for _ in range(2):
        progress.add()
    assert capsys.readouterr().err.splitlines()[-1] == "data set own: 2 pictures checked"


# how it is named in a scale


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"folder": "~/pictures"}, "~ stands for nothing here"),
        ({"folder": "a\nb"}, "can't be printed"),
        ({"folder": ""}, "at least 1 character"),
        ({"size": 0}, "greater than or equal to 1"),
        ({"size": [6]}, "size"),
        ({"size": "six"}, "size"),
        ({"channels": 2}, "1 or 3"),
        ({"resize": "pad"}, "'refuse', 'stretch' or 'crop'"),
        ({"validation": 1.0}, "less than 1"),
        ({"pinned": {**PINNED_BY_HAND, "sha256": "abc"}}, "sha256"),
        ({"pinned": {**PINNED_BY_HAND, "classes": ["a"]}}, "at least 2 items"),
        ({"colour": True}, "Extra inputs"),
    ],
)
def test_a_wrong_field_is_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        own(**fields)


# CIFAR-10's own pictures as JPEGs: train/<class>/NNNN.jpg and test/<class>/NNNN.jpg, in an archive that is not shipped
ARCHIVE = os.environ.get("HARNESS_TEST_PICTURES", "")
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not ARCHIVE, reason="HARNESS_TEST_PICTURES names no archive of CIFAR-10's pictures")
def test_cifar10_as_jpegs_from_its_archive_and_from_a_folder(folder, tmp_path):
    unpacked = tmp_path / "unpacked"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(unpacked, filter="data")
    sums = []
    for place in (ARCHIVE, unpacked):
        here = {"cifar": Pictures(folder=str(place), size=(32, 32))}
        source, record = data.source_of("cifar", here), tmp_path / "cifar.json"
        assert (source.training_samples, source.test_samples, source.shape) == (45_000, 10_000, (3, 32, 32))
        assert source.details["pinned"]["classes"] == CIFAR10
        data.prepare("cifar", record, here)
        sums.append((source.checksum, data.content(record), json.loads(record.read_text())["content"]))
    assert sums[0] == sums[1]
    arrays = load_file(tmp_path / "cifar.safetensors")
    # of the 50,000 pictures, before the JPEGs: what is usually quoted
    np.testing.assert_allclose(arrays["mean"], [0.4914, 0.4822, 0.4465], atol=0.003)
    np.testing.assert_allclose(arrays["std"], [0.2470, 0.2435, 0.2616], atol=0.003)
    assert np.bincount(arrays["test_y"]).tolist() == [1000] * 10
    assert np.bincount(np.concatenate([arrays["train_y"], arrays["validation_y"]])).tolist() == [5000] * 10
    files = sorted(unpacked.glob("test/*/*.jpg"))
    for at in range(0, 10_000, 997):
        with Image.open(files[at]) as image:
            assert np.array_equal(np.asarray(image).transpose(2, 0, 1), arrays["test_x"][at])
        assert files[at].parent.name == CIFAR10[arrays["test_y"][at]]


def test_an_archive_that_would_fill_memory_is_refused(tmp_path):
    """A zip member that holds more than the archive says, one by a method without a limit, and a huge tar header."""
    zeros = b"\0" * (8 << 20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/a/1.png", zeros)
    lying = bytearray((tmp_path / "a.zip").read_bytes())
    at = lying.rfind(b"PK\x01\x02") + 24
    lying[at : at + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(lying)
    with pytest.raises(HarnessError, match=r"a\.zip"):
        list(picture_files.picture_files(tmp_path / "a.zip"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("train/a/1.png", zeros)
    with pytest.raises(HarnessError, match="another method than deflate"):
        list(picture_files.picture_files(tmp_path / "b.zip"))
    with tarfile.open(tmp_path / "c.tar.xz", "w:xz") as tar:
        name = tarfile.TarInfo("././@LongLink")
        name.type, name.size = tarfile.GNUTYPE_LONGNAME, len(zeros)
        tar.addfile(name, io.BytesIO(zeros))
    with pytest.raises(HarnessError, match=r"c\.tar\.xz: can't be read \(a header of 8388608 bytes\)"):
        list(picture_files.picture_files(tmp_path / "c.tar.xz"))
