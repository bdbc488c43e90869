"""Downloads that break off, are killed, meet each other, or come from a server with its own ideas."""

import fcntl
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from hashbench.datasets.files.downloading import download
from hashbench.errors import HashbenchError

CONTENT = os.urandom(100_000)
COMMAND = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job starts without
from hashbench.datasets.files.downloading import download
download(sys.argv[1], Path(sys.argv[2]), check=lambda path: None)
"""


@pytest.fixture
def server():
    """Serve CONTENT: no more than `most` bytes an answer before `stall` is set, and from the start if not `ranges`."""
    served = SimpleNamespace(most=len(CONTENT), ranges=True, asked=[], stall=None, content=CONTENT)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            served.asked.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and served.ranges else 0
            if start and start >= len(served.content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(served.content) - start))
            self.end_headers()
            self.wfile.write(served.content[start : start + served.most])
            if served.stall is not None:
                served.stall.wait(60)
                with suppress(OSError):  # whoever asked may be dead
                    self.wfile.write(served.content[start + served.most :])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{running.server_port}/set.zip"
        yield served
        running.shutdown()
        thread.join()


def check(path):
    if hashlib.md5(path.read_bytes()).digest() != hashlib.md5(CONTENT).digest():
        raise HashbenchError("another file")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_transfer_that_breaks_off_is_no_file_and_goes_on_where_it_was(server, tmp_path):
    target = tmp_path / "set.zip"
    server.most = 40_000
    for done in (40_000, 80_000):
        with pytest.raises(OSError, match=f"broke after {done:,} of 100,000 bytes; the same command goes on"):
            download(server.url, target, check=lambda path: None)
        assert names(tmp_path) == [".set.zip.part"]
    download(server.url, target, check=check)
    assert server.asked == [None, "bytes=40000-", "bytes=80000-"]
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["set.zip"]


def test_a_server_that_cannot_go_on_is_asked_for_all_of_it(server, tmp_path):
    server.ranges = False
    (tmp_path / ".set.zip.part").write_bytes(b"x" * 500)
    download(server.url, tmp_path / "set.zip", check=check)
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_what_was_whole_when_it_was_killed_is_only_checked(server, tmp_path):
    (tmp_path / ".set.zip.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "set.zip", check=check)
    assert server.asked == [f"bytes={len(CONTENT)}-"]
    assert names(tmp_path) == ["set.zip"]


def test_what_the_check_refuses_is_fetched_anew_the_next_time(server, tmp_path):
    (tmp_path / ".set.zip.part").write_bytes(b"of another release")
    with pytest.raises(HashbenchError, match="another file"):
        download(server.url, tmp_path / "set.zip", check=check)
    assert names(tmp_path) == []
    download(server.url, tmp_path / "set.zip", check=check)
    assert server.asked[-1] is None


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_goes_on_where_it_was(server, tmp_path, kill):
    target, part = tmp_path / "set.zip", tmp_path / ".set.zip.part"
    server.most, server.stall = 60_000, threading.Event()
    process = subprocess.Popen([sys.executable, "-c", COMMAND, server.url, target], stderr=subprocess.DEVNULL)
    try:
        while not (part.exists() and part.stat().st_size):
            assert process.poll() is None
        process.send_signal(kill)
        assert process.wait(60)
    finally:
        server.stall.set()
        process.kill()
    assert names(tmp_path) == [".set.zip.part"]
    kept = part.stat().st_size
    server.most, server.stall = len(CONTENT), None
    download(server.url, target, check=check)
    assert server.asked[-1] == f"bytes={kept}-"
    assert names(tmp_path) == ["set.zip"]


def test_of_two_that_want_a_file_one_fetches_it_and_the_other_waits(server, tmp_path, monkeypatch):
    target, part = tmp_path / "set.zip", tmp_path / ".set.zip.part"
    server.most, server.stall = 60_000, threading.Event()
    trying, flock = threading.Event(), fcntl.flock
    first = subprocess.Popen([sys.executable, "-c", COMMAND, server.url, target])
    try:
        while not (part.exists() and part.stat().st_size):
            assert first.poll() is None
        monkeypatch.setattr(fcntl, "flock", lambda *asked: trying.set() or flock(*asked))
        second = threading.Thread(target=download, args=(server.url, target), kwargs={"check": check})
        second.start()
        assert trying.wait(60)
    finally:
        server.stall.set()  # the first one holds the file until the second one wants it
    assert first.wait(60) == 0
    second.join(60)
    assert server.asked == [None]
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["set.zip"]


def test_a_full_disk_is_one_sentence(server, tmp_path):
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n{COMMAND}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.url, tmp_path / "set.zip"], capture_output=True, text=True, check=False
    )
    assert "HashbenchError: Cannot write" in done.stderr
    assert "make room there" in done.stderr
    assert not (tmp_path / "set.zip").exists()


def test_a_folder_that_was_made_for_nothing_goes(tmp_path):
    with pytest.raises(OSError, match="refused"):
        download("http://127.0.0.1:9/set.zip", tmp_path / "new" / "set.zip", check=check)
    assert names(tmp_path) == []
