"""Image files to arrays, with torchvision as the reference."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import resize

from hashbench.datasets.files.decoding import decode, inspect
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.errors import HashbenchError

CHANCE = np.random.default_rng(3)


def picture(height=50, width=70, channels=3):
    """Return smooth shapes with noise and hard edges on them, (height, width, channels) uint8."""
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = 120 + 60 * np.sin(rows / 7)[..., None] * np.cos(columns / 11)[..., None] * np.ones(channels)
    smooth[height // 3 : height // 2, width // 4 :] = 250
    return (smooth + CHANCE.normal(0, 20, smooth.shape)).clip(0, 255).astype(np.uint8)


def files(root, *paths):
    labels = np.ones((len(paths), 1), np.uint8)
    return ImageFiles("tree", root, paths, labels, ("a",))


@pytest.mark.parametrize(("height", "width"), [(50, 70), (300, 200), (16, 16), (9, 500), (1, 1)])
@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_it_is_torchvisions_antialiased_resize_within_one_level(tmp_path, height, width, size, ending):
    path = tmp_path / f"one.{ending}"
    Image.fromarray(picture(height, width)).save(path)
    with Image.open(path) as opened:
        pixels = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)
    expected = resize(pixels.float(), [size, size], antialias=True).numpy()
    found = decode(path, size)
    assert (found.shape, found.dtype) == ((3, size, size), np.uint8)
    assert np.abs(found - expected).max() <= 1 + 1e-4  # of rounding


def test_grey_palette_and_cmyk_pictures_become_rgb(tmp_path):
    grey = picture(16, 16, 1)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert (decode(tmp_path / "grey.png", 16) == grey).all()  # the same in all three channels
    Image.fromarray(grey > 128).save(tmp_path / "bits.png")
    assert (decode(tmp_path / "bits.png", 16) == 255 * (grey > 128)).all()
    colours = np.array([[250, 0, 0], [0, 200, 0], [10, 20, 90]], np.uint8)
    palette = Image.fromarray((np.arange(256) % 3).astype(np.uint8).reshape(16, 16), "P")
    palette.putpalette(colours.tobytes())
    palette.save(tmp_path / "palette.png")
    assert (
        decode(tmp_path / "palette.png", 16) == colours[np.arange(256) % 3].reshape(16, 16, 3).transpose(2, 0, 1)
    ).all()
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "red.jpg")  # no cyan, all magenta and yellow
    red, green, blue = decode(tmp_path / "red.jpg", 16)
    assert (red > 200).all()
    assert (green < 60).all()
    assert (blue < 60).all()


def test_transparency_and_orientation_tags_are_ignored_as_in_torchvisions_folders(tmp_path):
    pixels = picture(16, 16)
    clear = np.concatenate([pixels, np.zeros((16, 16, 1), np.uint8)], axis=2)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (decode(tmp_path / "clear.png", 16) == pixels.transpose(2, 0, 1)).all()
    tags = Image.Exif()
    tags[0x0112] = 6  # lies on its side
    Image.fromarray(pixels).save(tmp_path / "plain.jpg")
    Image.fromarray(pixels).save(tmp_path / "tagged.jpg", exif=tags)
    assert (decode(tmp_path / "tagged.jpg", 16) == decode(tmp_path / "plain.jpg", 16)).all()


def test_a_damaged_file_is_named(tmp_path):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(picture(200, 200)).save(whole)
    content = whole.read_bytes()
    for name, damaged, reason in [
        ("cut.jpg", content[: len(content) // 2], "truncated"),
        ("text.jpg", b"<html>not found</html>", "cannot identify"),
        ("ends.png", b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
    ]:
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(HashbenchError, match=rf"{name} cannot be decoded as an image.*") as error:
            decode(tmp_path / name, 16)
        assert reason in str(error.value)
        assert str(error.value).count(name) == 1


def test_pixels_of_more_than_8_bits_and_formats_that_start_programs_are_refused(tmp_path):
    Image.fromarray(picture(8, 8, 1)[..., 0].astype(np.uint16) * 200).save(tmp_path / "deep.png")
    with pytest.raises(HashbenchError, match=r"deep\.png cannot be decoded .*instead of 8 bits a channel"):
        decode(tmp_path / "deep.png", 16)
    Image.fromarray(picture(8, 8)).save(tmp_path / "script.eps")
    with pytest.raises(HashbenchError, match=r"script\.eps cannot be decoded"):
        decode(tmp_path / "script.eps", 16)


def test_the_state_of_files_is_their_size_and_time_of_change(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(b"123")
    os.utime(tmp_path / "in/a.jpg", ns=(5, 7_000))
    (tmp_path / "b.jpg").symlink_to(tmp_path / "in/a.jpg")  # a link that stays inside
    assert inspect(files(tmp_path, "in/a.jpg", "b.jpg")).tolist() == [[3, 7_000], [3, 7_000]]


def test_names_and_links_that_leave_the_folder_are_refused(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"1")
    (tmp_path / "root2").mkdir()  # begins like the root
    (tmp_path / "root2/a.jpg").write_bytes(b"1")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "folder").symlink_to(tmp_path / "root2")
    for path in ("../secret.jpg", "a/../../secret.jpg", str(tmp_path / "secret.jpg"), "a\0.jpg"):
        with pytest.raises(HashbenchError, match="which is outside of its folder"):
            inspect(files(root, path))
    for path in ("link.jpg", "folder/a.jpg"):
        with pytest.raises(HashbenchError, match=f"{path} is a link to .*, which is outside of"):
            inspect(files(root, path))
    linked_root = tmp_path / "linked root"
    linked_root.symlink_to(tmp_path / "root2")  # the folder itself may be a link
    assert inspect(files(linked_root, "a.jpg"))[0, 0] == 1


def test_missing_empty_and_odd_files_are_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(HashbenchError, match=r"2 of the 3 images of tree are missing, the first of them .*/b\.jpg"):
        inspect(files(tmp_path, "a.jpg", "b.jpg", "broken.jpg"))
    with pytest.raises(HashbenchError, match=r"empty\.jpg is empty"):
        inspect(files(tmp_path, "a.jpg", "empty.jpg"))
    with pytest.raises(HashbenchError, match=r"folder\.jpg is no file"):
        inspect(files(tmp_path, "folder.jpg"))
