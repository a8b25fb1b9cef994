"""Downloads that end within seconds where there is no network."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let every new connection wait this long: a firewall that swallows packets must not hang."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def knock(url: str) -> None:
    """Return when the server of ``url`` answers, whatever it says; OSError when none does."""
    try:
        urlopen(Request(url, method="HEAD"), timeout=10).close()
    except HTTPError as answer:
        answer.close()
