"""Photographs that PyPI packages carry: a test has no other real ones."""

from pathlib import Path


def photograph(name: str) -> Path:
    """One of those that scikit-image's wheel brings."""
    import skimage

    return Path(skimage.__file__).parent / "data" / name
