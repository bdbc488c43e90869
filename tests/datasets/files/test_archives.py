"""Archives: unpacked whole or not at all, nothing outside of their folder, and one sentence for everything else."""

import gzip
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import suppress

import pytest

from hashbench.datasets.files import archives
from hashbench.datasets.files.archives import ImageRelease, Packed, unpack
from hashbench.errors import HashbenchError

NOWHERE = "http://127.0.0.1:9/"  # the discard port: refused at once
FILES = {"pics/a.jpg": b"a" * 3000, "pics/sub/b.jpg": b"b" * 3000, "list.txt": b"a\n"}


def zipped(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def tarred(path, files=FILES, *extra):
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        for member in extra:
            file.addfile(member)
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def contents(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.name.endswith(".lock"))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz"])
def test_the_folder_with_the_marker_is_what_stays(tmp_path, name):
    path = (zipped if name.endswith("zip") else tarred)(tmp_path / name)
    unpack(path, tmp_path / "out" / "pics", marker="a.jpg")
    assert contents(tmp_path / "out") == ["pics", "pics/a.jpg", "pics/sub", "pics/sub/b.jpg"]
    assert (tmp_path / "out/pics/sub/b.jpg").read_bytes() == b"b" * 3000
    unpack(path, tmp_path / "flat", marker="list.txt")
    assert (tmp_path / "flat/pics/a.jpg").is_file()
    unpack(path, tmp_path / "sub", marker="")
    assert contents(tmp_path / "sub") == ["b.jpg"]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
@pytest.mark.parametrize(
    "member", ["../evil.jpg", "pics/../../evil.jpg", "/tmp/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"]
)
def test_a_member_that_would_leave_the_folder_is_named_and_nothing_stays(tmp_path, name, member):
    path = (zipped if name.endswith("zip") else tarred)(tmp_path / name, {**FILES, member: b"evil"})
    with pytest.raises(HashbenchError) as error:
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")
    assert str(error.value).startswith(f"{member} in {path} would leave the folder")
    assert contents(tmp_path / "out") == []
    assert not list(tmp_path.rglob("evil.jpg"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    path = tarred(tmp_path / "x.tar", FILES, link("pics/out", "/etc", kind))
    with pytest.raises(HashbenchError, match=r"pics/out in .* is a link or a device"):
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")
    assert contents(tmp_path / "out") == []


def test_links_in_a_zip_are_refused(tmp_path):
    path = zipped(tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a") as file:
        member = zipfile.ZipInfo("pics/out")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, "/etc")
    with pytest.raises(HashbenchError, match=r"pics/out in .* is a link"):
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")
    assert contents(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.95])
def test_a_truncated_archive_is_one_sentence_and_leaves_nothing(tmp_path, name, share):
    files = {**FILES, **{f"pics/{number}.jpg": os.urandom(2000) for number in range(20)}}
    path = (zipped if name.endswith("zip") else tarred)(tmp_path / name, files)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        HashbenchError, match=r"x\.\w+ is damaged, truncated or no archive \(.*\); delete it and fetch it again"
    ):
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")
    assert contents(tmp_path / "out") == []


def test_a_tar_that_was_cut_between_two_members_is_not_whole(tmp_path):
    path = tarred(tmp_path / "x.tar")
    with tarfile.open(path) as file:
        second = file.getmembers()[1].offset
    path.write_bytes(path.read_bytes()[:second])
    with pytest.raises(HashbenchError, match="it has no end"):
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")


def test_a_flipped_byte_in_a_zip_is_noticed(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:  # stored, so that only the checksum can tell
        file.writestr("pics/a.jpg", FILES["pics/a.jpg"])
    path.write_bytes(path.read_bytes().replace(b"aaaa", b"aaba", 1))
    with pytest.raises(HashbenchError, match="Bad CRC-32"):
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")


def test_a_flipped_byte_in_a_gzip_is_noticed(tmp_path):
    path = tmp_path / "x.tgz"
    plain = tarred(tmp_path / "x.tar").read_bytes()
    packed = bytearray(gzip.compress(plain, compresslevel=0))
    packed[packed.index(b"bbbb") + 1] ^= 1
    path.write_bytes(packed)
    with pytest.raises(HashbenchError, match="CRC check failed"):
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")
    assert contents(tmp_path / "out") == []


def test_another_archive_and_a_folder_in_the_way(tmp_path):
    path = zipped(tmp_path / "x.zip", {"other/c.jpg": b"c"})
    with pytest.raises(HashbenchError, match=r"x\.zip holds no a\.jpg; is it another archive"):
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")
    (tmp_path / "out" / "pics").mkdir()
    with pytest.raises(HashbenchError, match=r"pics is there without a\.jpg; move it away"):
        unpack(zipped(path), tmp_path / "out" / "pics", marker="a.jpg")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path; from hashbench.datasets.files.archives import unpack\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]), marker='a.jpg')"
    )
    path = zipped(tmp_path / "x.zip")
    done = subprocess.run([sys.executable, "-c", code, path, tmp_path / "out/pics"], capture_output=True, text=True)
    assert "HashbenchError: Cannot write" in done.stderr
    assert "make room there" in done.stderr
    assert contents(tmp_path / "out") == []


def test_a_killed_unpacking_is_never_taken_for_ready_and_starts_cleanly(tmp_path):
    files = {f"pics/{number:04d}.jpg": os.urandom(500) for number in range(3000)}
    path = zipped(tmp_path / "x.zip", {"pics/a.jpg": b"first", **files})
    target = tmp_path / "out" / "pics"
    code = (
        "import sys; from pathlib import Path; from hashbench.datasets.files.archives import unpack\n"
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]), marker='a.jpg')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, path, target], stderr=subprocess.DEVNULL)
    part = target.with_name(".pics.part")
    while process.poll() is None and not (part / "pics" / "0003.jpg").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.is_dir(), "it was not killed half-way"
    assert not target.exists()
    (part / "pics" / "stale.jpg").write_bytes(b"of the killed one")
    unpack(path, target, marker="a.jpg")
    assert len(contents(target)) == 3001
    assert not part.exists()


def release(path, **packed):
    return ImageRelease("Pics", "set", (Packed(path.name, "pics", "a.jpg", **packed),), "https://example.org/pics")


def test_a_release_is_found_unpacked_packed_or_in_the_data_folder_itself(tmp_path):
    data = tmp_path / "data"
    (data / "set").mkdir(parents=True)
    path = zipped(data / "set" / "x.zip")
    made = release(path)
    root = made.locate(data)
    assert root == data / "set"
    path.unlink()
    assert made.locate(data) == root
    assert made.locate(root) == root  # --data-dir names the very folder


def test_a_release_that_is_not_there_says_what_to_put_where(tmp_path):
    made = release(tmp_path / "x.zip")
    with pytest.raises(HashbenchError) as error:
        made.locate(tmp_path)
    for words in ("Pics", str(tmp_path / "set"), "x.zip", "pics/", "https://example.org/pics", "--data-dir"):
        assert words in str(error.value)
    with pytest.raises(HashbenchError, match=r"cannot be downloaded \(.*[Rr]efused"):
        release(tmp_path / "x.zip", url=f"{NOWHERE}x.zip").locate(tmp_path)
    assert not list(tmp_path.rglob("x.zip"))


def test_the_checksum_of_an_archive_decides(tmp_path, monkeypatch):
    data = tmp_path / "data" / "set"
    data.mkdir(parents=True)
    path = zipped(data / "x.zip")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(HashbenchError, match=f"its md5 is {md5} instead of 0; fetch it again, or unpack it"):
        release(path, md5="0").locate(tmp_path / "data")
    assert not (data / "pics").exists()
    release(path, md5=md5).locate(tmp_path / "data")
    assert (data / "pics" / "a.jpg").is_file()


def test_what_is_downloaded_is_checked_and_unpacked(tmp_path, monkeypatch):
    source = zipped(tmp_path / "source.zip")
    md5 = hashlib.md5(source.read_bytes()).hexdigest()

    def download(url, target, *, check):
        assert url == f"{NOWHERE}x.zip"
        target.parent.mkdir(parents=True, exist_ok=True)
        check(source)
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(archives, "download", download)
    with pytest.raises(HashbenchError, match=r"download of x\.zip is damaged or not the official file"):
        release(tmp_path / "x.zip", url=f"{NOWHERE}x.zip", md5="0").locate(tmp_path)
    release(tmp_path / "x.zip", url=f"{NOWHERE}x.zip", md5=md5).locate(tmp_path)
    assert (tmp_path / "set" / "pics" / "a.jpg").is_file()


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members_of_every_compression_are_one_sentence(tmp_path, compression):
    content = os.urandom(3000)
    with zipfile.ZipFile(tmp_path / "whole.zip", "w", compression) as file:
        file.writestr("pics/a.jpg", content)
    whole = (tmp_path / "whole.zip").read_bytes()
    refused = 0
    for place in range(0, len(whole), len(whole) // 40):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        (tmp_path / "x.zip").write_bytes(damaged)
        target = tmp_path / str(place) / "pics"
        with suppress(HashbenchError):
            unpack(tmp_path / "x.zip", target, marker="a.jpg")
        assert not target.exists() or (target / "a.jpg").read_bytes() == content
        refused += not target.exists()
    assert refused > 30


@pytest.mark.parametrize("name", ["", ".", "x" * 300, "pics/a.jpg/b"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_no_file_can_have_blame_the_archive(tmp_path, name, kind):
    if kind == "tar":
        path = tarred(tmp_path / "x.tar", {**FILES, name: b"x"})
    else:
        path = zipped(tmp_path / "x.zip")
        with zipfile.ZipFile(path, "a") as file:
            file.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(HashbenchError, match=r"x\.(zip|tar) (has no name that a file can have|is damaged)"):
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")


def test_the_top_of_a_tar_is_no_name_to_refuse(tmp_path):
    top = tarfile.TarInfo(".")
    top.type = tarfile.DIRTYPE
    unpack(tarred(tmp_path / "x.tgz", FILES, top), tmp_path / "out" / "pics", marker="a.jpg")
    assert (tmp_path / "out/pics/a.jpg").is_file()


@pytest.mark.parametrize("name", ["x.zip", "x.tgz"])
def test_an_archive_gives_so_many_bytes_and_no_more(tmp_path, name, monkeypatch):
    monkeypatch.setattr(archives, "SMALL_ARCHIVE", 1000)
    path = (zipped if name.endswith("zip") else tarred)(tmp_path / name, {"pics/a.jpg": bytes(2_000_000)})
    with pytest.raises(
        HashbenchError, match=r"unpacks to more than .* bytes, 100 times its size; .*HASHBENCH_MAX_UNPACKED"
    ):
        unpack(path, tmp_path / "out" / "pics", marker="a.jpg")
    assert contents(tmp_path / "out") == []
    monkeypatch.setenv("HASHBENCH_MAX_UNPACKED", "2000000")
    unpack(path, tmp_path / "out" / "pics", marker="a.jpg")
    assert (tmp_path / "out/pics/a.jpg").stat().st_size == 2_000_000
