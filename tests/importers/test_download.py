"""Against a server on this machine; no test leaves it."""

import gzip
import hashlib
import io
import socket
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from weights_server import CONTENT, SHA256, Server, weights

from multibox.errors import InputError
from multibox.importers import download
from multibox.importers.download import cache_folder, fetch, fetch_prototxt


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for proxy in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("MULTIBOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def visible(cache):
    return sorted(path.name for path in cache.iterdir() if not path.name.startswith("."))


def refusal(wanted):
    with pytest.raises(InputError) as error:
        fetch(wanted)
    line = str(error.value)
    assert "\n" not in line
    assert wanted.file.url in line or "cache" in line
    return line


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8]], ids=["full", "prefix"])
def test_a_whole_file(server, cache, size, sha256):
    told = []
    path = fetch(weights(server, sha256, size), lambda done, total: told.append((done, total)))
    assert path == cache / "weights.pth"
    assert path.read_bytes() == CONTENT
    assert visible(cache) == ["weights.pth"]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    fetch(weights(server, sha256, size))
    assert server.asked == [None]


def test_a_server_that_does_not_say_the_length(server):
    server.says_length = False
    told = []
    path = fetch(weights(server, size=None), lambda *both: told.append(both))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), None)


def test_a_partial_file_is_resumed(server, cache):
    cache.mkdir()
    (cache / "weights.pth.part").write_bytes(CONTENT[:300_000])
    told = []
    path = fetch(weights(server), lambda *both: told.append(both))
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-"]
    assert told[0][0] > 300_000
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_without_ranges_it_starts_over(server, cache):
    server.ranges = False
    cache.mkdir()
    (cache / "weights.pth.part").write_bytes(b"something else entirely")
    assert fetch(weights(server)).read_bytes() == CONTENT
    assert server.asked == ["bytes=23-"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_partial_file_that_is_whole_is_only_verified(server, cache, size):
    cache.mkdir()
    (cache / "weights.pth.part").write_bytes(CONTENT)
    assert fetch(weights(server, size=size)).read_bytes() == CONTENT
    assert server.asked == ([] if size else [f"bytes={len(CONTENT)}-"])


def test_a_partial_file_that_is_too_long_is_begun_anew(server, cache):
    cache.mkdir()
    (cache / "weights.pth.part").write_bytes(CONTENT + b"x")
    assert fetch(weights(server)).read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_connection_that_breaks_is_taken_up_again(server, cache):
    server.cut_at = [200_000, 100_000]
    assert fetch(weights(server)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=200000-", "bytes=300000-"]


def test_a_connection_that_goes_on_breaking_keeps_what_came(server, cache):
    server.cut_at = [10_000] * 5
    line = refusal(weights(server))
    assert "the connection ended after 50000 of 700001 bytes" in line
    assert "50000 bytes so far are kept" in line
    assert (cache / "weights.pth.part").read_bytes() == CONTENT[:50_000]
    assert fetch(weights(server)).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=50000-"


def test_a_server_that_breaks_at_once_is_not_asked_again(server):
    server.cut_at = [0] * 5
    assert "ended after 0 of" in refusal(weights(server))
    assert server.asked == [None]


def test_a_wrong_hash_keeps_nothing(server, cache):
    wanted = weights(server, sha256="0" * 64)
    line = refusal(wanted)
    assert SHA256 in line
    assert "0" * 64 in line
    assert str(cache / "weights.pth") in line
    assert visible(cache) == []


def test_a_wrong_partial_file_is_found_out(server, cache):
    cache.mkdir()
    (cache / "weights.pth.part").write_bytes(b"x" * 1000)
    assert "not the published file" in refusal(weights(server))
    assert visible(cache) == []
    assert fetch(weights(server)).read_bytes() == CONTENT


def test_a_file_of_another_size_is_refused_before_it_comes(server, cache):
    server.content = b"<html>sign in</html>"
    cache.mkdir()
    (cache / "weights.pth.part").write_bytes(CONTENT[:5])
    server.ranges = False
    assert "offers 20 bytes instead of 700001" in refusal(weights(server))
    assert (cache / "weights.pth.part").read_bytes() == CONTENT[:5]


def test_more_than_the_limit_is_not_taken(server, cache, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 100_000)
    assert "offers 700001 bytes instead of 100000" in refusal(weights(server, size=None))
    server.says_length = False
    assert "sends more than 100000 bytes" in refusal(weights(server, size=None))
    assert sum(path.stat().st_size for path in cache.iterdir()) == 0


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_an_answer_that_is_no_file(server, cache, status):
    server.status = status
    line = refusal(weights(server))
    assert f"the server answers {status}" in line
    assert str(cache / "weights.pth") in line
    assert visible(cache) == []


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x/", "http:///"]
)
def test_a_redirect_to_elsewhere_is_refused(server, cache, to):
    server.status, server.location = 302, to
    refusal(weights(server))
    assert visible(cache) == []


def test_a_redirect_without_end_is_refused(server):
    server.status, server.location = 302, "/again"
    assert "302" in refusal(weights(server))


def test_a_redirect_is_followed(server):
    elsewhere = Server()
    threading.Thread(target=elsewhere.serve_forever, args=(0.01,), daemon=True).start()
    server.status = 302
    server.location = f"http://127.0.0.1:{elsewhere.server_address[1]}/other"
    try:
        assert fetch(weights(server)).read_bytes() == CONTENT
    finally:
        elsewhere.shutdown()
        elsewhere.server_close()


@pytest.mark.parametrize(
    ("start", "to", "follows"),
    [
        ("https://a/x", "https://b/y", True),
        ("http://a/x", "https://b/y", True),
        ("http://a/x", "http://b/y", True),
        ("https://a/x", "http://b/y", False),
        ("https://a/x", "file:///y", False),
        ("https://a/x", "ftp://b/y", False),
    ],
)
def test_https_is_never_left(start, to, follows):
    request = download.urllib.request.Request(start, headers={"Range": "bytes=5-"})
    handler = download._SafeRedirects()
    arguments = (io.BytesIO(), 302, "Found", download.http.client.HTTPMessage(), to)
    if follows:
        new = handler.redirect_request(request, *arguments)
        assert new.full_url == to
        assert new.get_header("Range") == "bytes=5-"
    else:
        with pytest.raises(download._Unusable, match="redirects from https to"):
            handler.redirect_request(request, *arguments)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_only_http_is_opened(server, cache, url):
    wanted = weights(server, size=None)
    wanted = replace(wanted, file=replace(wanted.file, url=url))
    with pytest.raises(InputError, match="cannot be downloaded"):
        fetch(wanted)
    assert visible(cache) == []


@pytest.mark.parametrize("sent", [0, 50_000])
def test_a_server_that_hangs_is_left(server, cache, monkeypatch, sent):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.hang_at = sent
    start = time.perf_counter()
    line = refusal(weights(server))
    assert time.perf_counter() - start < 5
    assert "no data for 0.2 s" in line
    if sent:
        assert (cache / "weights.pth.part").stat().st_size == 5 * sent


def test_a_server_that_never_answers_is_left(server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        wanted = weights(server)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.pth"
        assert "0.2 s" in refusal(replace(wanted, file=replace(wanted.file, url=url)))


@pytest.mark.parametrize("host", ["127.0.0.1:9", "weights.invalid", "127.0.0.1:0"])
def test_offline(server, cache, monkeypatch, host):
    def no_names(*arguments, **others):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    if host == "weights.invalid":
        monkeypatch.setattr(socket, "getaddrinfo", no_names)
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    wanted = weights(server)
    wanted = replace(wanted, file=replace(wanted.file, url=f"http://{host}/weights.pth"))
    line = refusal(wanted)
    assert "torchvision:ssd300_vgg16: cannot be downloaded" in line
    assert str(cache / "weights.pth") in line
    assert visible(cache) == []
    (cache / "weights.pth").write_bytes(CONTENT)
    assert fetch(wanted).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\nabc",
        b"HTTP/1.1 200 " + b"\x1b[31m" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\n\r\nabcde",
    ],
)
def test_a_server_that_talks_nonsense(server, cache, monkeypatch, answer):
    monkeypatch.setattr(download, "TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk():
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(65536)
                    client.sendall(answer)

        threading.Thread(target=talk, daemon=True).start()
        wanted = weights(server, size=None)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/weights.pth"
        line = refusal(replace(wanted, file=replace(wanted.file, url=url)))
        listening.shutdown(socket.SHUT_RDWR)
    assert line.isprintable()
    assert len(line) < 1000
    assert "weights.pth" not in visible(cache)


def test_a_wrong_part_is_not_appended(server, cache):
    cache.mkdir()
    (cache / "weights.pth.part").write_bytes(CONTENT[:100])
    server.content_range = "bytes 7-9/10"
    assert "another part than it was asked for" in refusal(weights(server))
    assert (cache / "weights.pth.part").read_bytes() == CONTENT[:100]


@pytest.mark.parametrize("bad", [b"", CONTENT[:-1], b"x" + CONTENT[1:], CONTENT + b"x"])
def test_what_lies_in_the_cache_is_verified_again(server, cache, bad):
    fetch(weights(server)).write_bytes(bad)
    line = refusal(weights(server))
    assert str(cache / "weights.pth") in line
    assert "delete it" in line
    assert (cache / "weights.pth").read_bytes() == bad
    assert len(server.asked) == 1


def test_many_at_once_download_once(server, cache):
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda _: fetch(weights(server)), range(6)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.asked == [None]
    assert visible(cache) == ["weights.pth"]


def test_a_cache_that_cannot_be_written(server, cache, monkeypatch):
    cache.write_text("a file")
    line = refusal(weights(server))
    assert "MULTIBOX_CACHE" in line
    cache.unlink()
    (cache / "weights.pth").mkdir(parents=True)
    assert "cannot be used" in refusal(weights(server))


def test_a_full_disk_is_one_line(server, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    assert "No space left on device" in refusal(weights(server))


def archive(*names):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1000
            tar.addfile(info, io.BytesIO(name.encode().ljust(1000)))
    return raw.getvalue()


def test_a_member_of_an_archive(server, cache):
    server.content = archive("m/a.caffemodel", "../evil", "m/deploy.prototxt")
    sha256 = hashlib.sha256(server.content).hexdigest()
    found = weights(server, sha256, len(server.content), "net.tar.gz", "m/a.caffemodel")
    found = replace(found, prototxt=replace(found.file, member="m/deploy.prototxt"))
    assert fetch(found) == cache / "net-a.caffemodel"
    assert fetch(found).read_bytes() == b"m/a.caffemodel".ljust(1000)
    assert fetch_prototxt(found).read_bytes() == b"m/deploy.prototxt".ljust(1000)
    assert len(server.asked) == 1
    assert visible(cache) == ["net-a.caffemodel", "net-deploy.prototxt", "net.tar.gz"]
    # What was taken out is never trusted later: it comes out of the verified archive again.
    (cache / "net-a.caffemodel").write_bytes(b"tampered")
    assert fetch(found).read_bytes() == b"m/a.caffemodel".ljust(1000)


def test_an_archive_without_the_member(server):
    server.content = gzip.compress(b"no tar")
    sha256 = hashlib.sha256(server.content).hexdigest()
    assert "net.tar.gz" in refusal(weights(server, sha256, None, "net.tar.gz", "m/a"))


def test_no_prototxt_where_there_is_none(server):
    assert fetch_prototxt(weights(server)) is None
    assert server.asked == []


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("MULTIBOX_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "multibox"
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == Path.home() / ".cache" / "multibox"
