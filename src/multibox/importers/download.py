"""Published weights, downloaded when asked for: into a cache, resumed, and never unverified.

A file gets its name in the cache only after its hash was found right. Before that it is called
``NAME.part``, and a later call goes on where it ends.
"""

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from multibox.errors import InputError
from multibox.importers.archives import extract_member
from multibox.importers.published import PublishedFile, PublishedWeights

OnDownload = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes that there will be, None where nobody knows."""

TIMEOUT = 20.0
"""Seconds without a byte after which a server counts as gone."""
LARGEST = 1 << 30
"""Bytes that a file of unknown size may have."""
_CHUNK = 1 << 18
# Connections that break after some bytes are taken up again, as often as this.
_ATTEMPTS = 5
# Windows waits ten seconds for a lock at each try: an hour.
_LOCK_TRIES = 360


def fetch(weights: PublishedWeights, on_download: OnDownload | None = None) -> Path:
    """The weights' file in the cache, downloaded if it is not there yet.

    What lies in the cache is verified anew by every call. That takes a fraction of a second, and
    is done once for an import: its checkpoint is what runs afterwards.

    Raises: InputError when the file cannot be had or is not the published one, with the address
    and the path to put it to by hand.
    """
    return _fetch(weights.file, weights.name, on_download)


def fetch_prototxt(weights: PublishedWeights, on_download: OnDownload | None = None) -> Path | None:
    """The network that a caffemodel comes with, as ``fetch`` does it; None for other weights."""
    if weights.prototxt is None:
        return None
    return _fetch(weights.prototxt, weights.name, on_download)


def cache_folder() -> Path:
    """Where downloads lie: ``$MULTIBOX_CACHE``, or ``multibox`` in the user's cache folder.

    That is ``$XDG_CACHE_HOME``, or ``~/.cache`` without it. The folder need not exist.
    """
    chosen = os.environ.get("MULTIBOX_CACHE")
    if chosen:
        return Path(chosen)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    if not shared.is_absolute():
        try:
            shared = Path.home() / ".cache"
        except RuntimeError:
            raise InputError("no home folder to keep downloads in: set MULTIBOX_CACHE") from None
    return shared / "multibox"


def _fetch(file: PublishedFile, name: str, on_download: OnDownload | None) -> Path:
    target = cache_folder() / file.file_name
    try:
        # Looked at first without a lock: a cache may be read-only.
        if target.exists():
            _check_cached(target, file)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _alone(target):
                if target.exists():
                    _check_cached(target, file)
                else:
                    _download(file, name, target, on_download)
        if file.member is None:
            return target
        # The archive is what the hash is known of: its member is taken out anew every time.
        out = target.with_name(f"{target.name.removesuffix('.tar.gz')}-{Path(file.member).name}")
        with _alone(out):
            extract_member(target, file.member, out)
        return out
    except OSError as error:
        raise InputError(
            f"{target}: the cache cannot be used ({error.strerror or error}): make room, or name "
            "another folder with MULTIBOX_CACHE"
        ) from error


def _check_cached(target: Path, file: PublishedFile) -> None:
    found = _sha256(target)
    if not found.startswith(file.sha256):
        raise InputError(
            f"{target}: not the published file: its SHA-256 is {found}, expected {file.sha256}: "
            "delete it, and it will be downloaded"
        )


def _download(file: PublishedFile, name: str, target: Path, on_download: OnDownload | None) -> None:
    partial = target.with_name(f"{target.name}.part")
    by_hand = f"get {file.url} in another way and put it at {target}"
    for attempt in range(1, _ATTEMPTS + 1):
        before = _size(partial)
        try:
            _transfer(file, partial, on_download)
            break
        except _Unusable as error:
            raise InputError(f"{name}: {error}: {by_hand}") from error
        except _ConnectionFailed as error:
            kept = _size(partial)
            if attempt == _ATTEMPTS or kept <= before:
                again = f"try again, the {kept} bytes so far are kept" if kept else "try again"
                raise InputError(
                    f"{name}: cannot be downloaded ({error}): {again}; or {by_hand}"
                ) from error
    found = _sha256(partial)
    if not found.startswith(file.sha256):
        partial.unlink()
        raise InputError(
            f"{name}: what {file.url} gives is not the published file: its SHA-256 is {found}, "
            f"expected {file.sha256}; nothing was kept: try again, or put the right file at "
            f"{target}"
        )
    partial.replace(target)


class _Unusable(Exception):
    """What the server offers cannot be the file."""


class _ConnectionFailed(Exception):
    """The network failed; an OSError of the disk is another matter."""


def _transfer(file: PublishedFile, partial: Path, on_download: OnDownload | None) -> None:
    """Append to ``partial`` what is missing of it, or begin it where the server cannot resume."""
    limit = LARGEST if file.size is None else file.size
    start = _size(partial)
    if start > limit:
        partial.unlink()
        start = 0
    if start == file.size:
        return
    request = urllib.request.Request(file.url, headers={"Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = _open(request)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            return  # Nothing follows: the hash says whether this is the file.
        words = http.client.responses.get(error.code, "")
        raise _Unusable(f"the server answers {error.code} {words}".rstrip()) from error
    with response:
        done = start if response.status == 206 else 0
        if done and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise _Unusable("the server sends another part than it was asked for")
        total = _announced(response, done)
        if total is not None and (total > limit or file.size not in (None, total)):
            raise _Unusable(f"the server offers {total} bytes instead of {file.size or limit}")
        with partial.open("ab" if done else "wb") as out:
            while chunk := _read(response):
                done += len(chunk)
                if done > limit:
                    out.truncate(0)
                    raise _Unusable(f"the server sends more than {limit} bytes")
                out.write(chunk)
                if on_download is not None:
                    on_download(done, total)
            out.flush()
            os.fsync(out.fileno())
    if total is not None and done < total:
        raise _ConnectionFailed(f"the connection ended after {done} of {total} bytes")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to https, and from plain http to plain http, but never out of https."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and scheme != req.type:
            raise _Unusable(f"the server redirects from {req.type} to {scheme or 'nowhere'}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    # Not build_opener: that would open file:, ftp: and data: as well.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SafeRedirects(),
    ):
        opener.add_handler(handler)
    with _network():
        response = opener.open(request, timeout=TIMEOUT)
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network():
        return response.read1(_CHUNK)


@contextmanager
def _network() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except TimeoutError as error:
        raise _ConnectionFailed(f"no data for {TIMEOUT:g} s") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _ConnectionFailed(f"no answer for {TIMEOUT:g} s") from error
        raise _ConnectionFailed(_said(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _ConnectionFailed(_said(error)) from error


def _said(error: BaseException | str) -> str:
    # A server's words may be long and have control characters in them.
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "".join(letter if letter.isprintable() else " " for letter in words)[:200]


def _announced(response: http.client.HTTPResponse, done: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return done + int(length) if length.isascii() and length.isdigit() else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Whoever comes second waits; the lock ends with the process, however that ends.

    Where a file system has no locks the hash still decides what gets its name.
    """
    with target.with_name(f".{target.name}.lock").open("ab") as lock:
        if sys.platform == "win32":
            import msvcrt

            for _ in range(_LOCK_TRIES):
                with suppress(OSError):
                    msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            import fcntl

            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
