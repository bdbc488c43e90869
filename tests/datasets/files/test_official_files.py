"""Roots, downloads, checksums: hashbench/datasets/files/releases.py."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from functools import partial
from pathlib import Path

import pytest

from hashbench.datasets.files.releases import data_root
from hashbench.errors import HashbenchError
from hashbench.storage.cache import cache_root


@pytest.fixture
def site(tmp_path):
    """Serve a folder on this machine; returns its address and the folder."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", folder
        server.shutdown()
        thread.join()


def pack(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-binary/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_roots_follow_argument_then_environment_then_home(monkeypatch, tmp_path):
    monkeypatch.delenv("HASHBENCH_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache/hashbench"
    assert data_root() == tmp_path / ".cache/hashbench/data"
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path / "elsewhere"))
    assert data_root() == tmp_path / "elsewhere/data"
    monkeypatch.setenv("HASHBENCH_DATA", "~/sets")
    assert data_root() == tmp_path / "sets"
    assert data_root(str(tmp_path)) == tmp_path


def test_a_data_dir_that_is_not_there_is_never_filled(cifar, tmp_path):
    with pytest.raises(HashbenchError, match=r"typo does not exist.*--data-dir"):
        cifar().release.read(tmp_path / "typo")
    with pytest.raises(HashbenchError, match="does not exist"):
        cifar().release.read(tmp_path / ("x" * 5_000))
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("layout", ["folder", "root", "archive", "archive with ./"])
def test_official_files_are_read_from_any_layout(cifar, tmp_path, write, layout):
    replica = cifar()
    if layout == "folder":
        write(tmp_path / "cifar-binary", replica.files)
    elif layout == "root":
        write(tmp_path, replica.files)
    elif layout == "archive":
        write(tmp_path, {"cifar-binary.tar.gz": replica.packed})
    else:
        write(tmp_path / "x" / "cifar-binary", replica.files)
        with tarfile.open(tmp_path / "cifar-binary.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "x", arcname=".")
    contents, sources = replica.release.read(tmp_path)
    assert contents == replica.files
    assert list(contents) == ["train.bin", "test.bin"]
    assert [source.official for source in sources] == {
        "folder": [True, True], "root": [True, True], "archive": [True], "archive with ./": [True, True],
    }[layout]  # fmt: skip


def test_an_archive_is_fetched_once_and_checked(cifar, site, tmp_path, write, monkeypatch):
    url, folder = site
    replica = cifar(url=url)
    write(folder, {"cifar-binary.tar.gz": replica.packed})
    monkeypatch.setenv("HASHBENCH_DATA", str(tmp_path / "new/root"))
    contents, (source,) = replica.release.read()
    assert contents == replica.files
    assert source.official
    assert files_under(tmp_path / "new/root") == ["cifar-binary.tar.gz"]
    (folder / "cifar-binary.tar.gz").unlink()
    assert replica.release.read()[0] == replica.files


def test_single_files_are_fetched_and_only_those_that_are_missing(idx, site, tmp_path, write):
    url, folder = site
    replica = idx(url=url)
    names = list(replica.packed)
    write(folder, {name: replica.packed[name] for name in names[1:]})
    write(tmp_path / "data" / "fashion-mnist", {names[0]: replica.packed[names[0]]})
    contents, sources = replica.release.read(tmp_path / "data")
    assert contents == replica.files
    assert all(source.official for source in sources)
    assert files_under(tmp_path / "data") == sorted(f"fashion-mnist/{name}" for name in names)


def test_a_download_that_is_not_the_official_file_leaves_nothing(cifar, idx, site, tmp_path, write):
    url, folder = site
    data = write(tmp_path / "data", {})
    replica = cifar(url=url)
    write(folder, {"cifar-binary.tar.gz": replica.packed[:-20]})
    with pytest.raises(HashbenchError, match=r"cifar-binary.tar.gz is damaged or not the official file.*try again"):
        replica.release.read(data)
    replica = idx(url=url)
    write(folder, replica.packed)
    write(folder, {"train-images-idx3-ubyte.gz": gzip.compress(b"something else")})
    with pytest.raises(HashbenchError, match="train-images-idx3-ubyte is damaged or not the official file"):
        replica.release.read(data)
    write(folder, {"train-images-idx3-ubyte.gz": replica.packed["train-images-idx3-ubyte.gz"][:-50]})
    with pytest.raises(HashbenchError, match=r"train-images-idx3-ubyte.gz.* is damaged"):
        replica.release.read(data)
    assert files_under(data) == []


def test_without_files_and_without_a_network_one_sentence_says_what_goes_where(cifar, idx, tmp_path, site):
    with pytest.raises(HashbenchError) as error:
        cifar().release.read(tmp_path)
    for part in ("cannot be downloaded", "Connection refused", "cifar-binary.tar.gz", "train.bin, test.bin",
                 "http://127.0.0.1:9/", str(tmp_path), "--data-dir"):  # fmt: skip
        assert part in str(error.value)
    with pytest.raises(HashbenchError) as error:
        idx(url=site[0]).release.read(tmp_path)
    assert files_under(tmp_path) == []
    assert not (tmp_path / "fashion-mnist").exists()
    for part in ("404", "t10k-labels-idx1-ubyte", str(tmp_path / "fashion-mnist"), "a Debian package has it"):
        assert part in str(error.value)


@pytest.mark.parametrize("content", [b"", b"short", None], ids=["empty", "truncated", "too long"])
def test_a_file_of_the_wrong_length_is_named(cifar, tmp_path, write, content):
    replica = cifar()
    write(tmp_path, replica.files)
    write(tmp_path, {"test.bin": replica.files["test.bin"] + b"x" if content is None else content})
    with pytest.raises(HashbenchError, match=r"test\.bin is truncated or another file: it holds .* bytes instead of"):
        replica.release.read(tmp_path)


def test_a_missing_file_of_a_folder_is_named(cifar, tmp_path, write):
    replica = cifar()
    write(tmp_path / "cifar-binary", {"train.bin": replica.files["train.bin"]})
    with pytest.raises(
        HashbenchError, match=r"cifar-binary holds CIFAR without test\.bin; unpack cifar-binary\.tar\.gz"
    ):
        replica.release.read(tmp_path)


def test_another_checksum_is_recorded_for_whoever_decides(cifar, tmp_path, write):
    replica = cifar()
    other = bytearray(replica.files["test.bin"])
    other[5] ^= 1
    write(tmp_path, {**replica.files, "test.bin": bytes(other)})
    write(tmp_path / "packed", {"cifar-binary.tar.gz": pack({**replica.files, "test.bin": bytes(other)})})
    for root in (tmp_path, tmp_path / "packed"):
        train, test = replica.release.read(root)[1]
        assert (train.official, test.official) == (True, False)
        assert test.digest == f"md5:{hashlib.md5(other).hexdigest()}"
        assert test.path.endswith("test.bin")


@pytest.mark.parametrize("damage", ["truncated", "not an archive", "lacks a file", "other length"])
def test_a_damaged_archive_is_named(cifar, tmp_path, write, damage):
    replica = cifar()
    packed = replica.packed
    if damage == "truncated":
        packed = packed[: len(packed) // 2]
    elif damage == "not an archive":
        packed = b"<html>not found</html>"
    else:
        train = replica.files["train.bin"]
        packed = pack({"train.bin": train[1:] if damage == "other length" else train})
    write(tmp_path, {"cifar-binary.tar.gz": packed})
    with pytest.raises(HashbenchError, match=r"cifar-binary\.tar\.gz") as error:
        replica.release.read(tmp_path)
    assert "delete" in str(error.value)
    assert {"lacks a file": "lacks test.bin", "other length": "bytes long instead of"}.get(damage, "damaged") in str(
        error.value
    )


def test_links_and_paths_out_of_the_archive_are_not_followed(cifar, tmp_path, write):
    replica = cifar()
    write(tmp_path / "secret", replica.files)
    with tarfile.open(tmp_path / "cifar-binary.tar.gz", "w:gz") as tar:
        for name, content in replica.files.items():
            link = tarfile.TarInfo(f"cifar-binary/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret" / name)
            tar.addfile(link)
            outside = tarfile.TarInfo(f"../cifar-binary/{name}")
            outside.size = len(content)
            tar.addfile(outside, io.BytesIO(content))
    before = files_under(tmp_path)
    with pytest.raises(HashbenchError, match=r"lacks train\.bin, test\.bin"):
        replica.release.read(tmp_path)
    assert files_under(tmp_path) == before
