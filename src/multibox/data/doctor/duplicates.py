"""Pictures that are the same pixel by pixel, in one split or in several."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from multibox.data.doctor.finding import Finding, finding
from multibox.data.doctor.pictures import PictureFacts
from multibox.data.labels import Catalogue
from multibox.data.splits import canonical, is_split_name


def duplicate_images(
    catalogue: Catalogue, facts: Mapping[Path, PictureFacts], also: Iterable[Path] = ()
) -> Iterator[Finding]:
    """One finding for each picture that another one repeats; across splits it is an error.

    ``also`` are pictures of no split. A file that two splits list is a repetition too, unless the
    splits overlap by their nature: ``trainval`` holds ``train`` and ``val``.
    """
    splits: dict[Path, set[str]] = defaultdict(set)
    for split, pictures in catalogue.splits.items():
        for picture in pictures:
            if picture.image is not None:
                splits[picture.image].add(split)
    for path in also:
        splits.setdefault(path, set())
    same_lists = _same_lists(splits)
    if same_lists is not None:
        file = catalogue.names_file or str(next(iter(splits)).parent)
        what = f"the splits {' and '.join(same_lists)} have the very same pictures"
        yield finding("duplicate-image", "warning", file, what, _SEPARATE, train=_MEASURED)
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in splits:
        if path in facts and facts[path].pixels:
            groups[facts[path].pixels].append(path)
        else:
            groups[str(path)].append(path)
    for paths in groups.values():
        yield from _of_group(sorted(paths, key=lambda p: _rank(splits[p])), splits, same_lists)


_SEPARATE = "keep it in one of them"
_MEASURED = "what is measured on learned pictures says little about others"


def _of_group(
    paths: list[Path], splits: Mapping[Path, set[str]], same_lists: tuple[str, ...] | None
) -> Iterator[Finding]:
    first = paths[0]
    for path in paths:
        learned = sorted(_kinds(splits[path]))
        if same_lists is None and len(learned) > 1:
            what = f"the same file is in the splits {' and '.join(learned)}"
            yield finding("duplicate-image", "error", str(path), what, _SEPARATE, train=_MEASURED)
    for path in paths[1:]:
        kinds, others = _kinds(splits[path]), _kinds(splits[first])
        across = bool(kinds and others) and kinds != others
        where = (
            f" across splits: this one in {_named(kinds)}, that one in {_named(others)}"
            if across
            else ""
        )
        what = f"the same pixels as {first}{where}"
        yield finding(
            "duplicate-image",
            "error" if across else "warning",
            str(path),
            what,
            "remove one of the two, with its label",
            train=_MEASURED if across else "",
        )


def _kinds(splits: set[str]) -> set[str]:
    """The splits by their usual names, without those that hold another of them.

    Lists of other names are taken as selections, which may overlap.
    """
    kinds = {canonical(split) for split in splits if is_split_name(split)}
    return kinds - {"trainval"} if kinds & {"train", "val"} else kinds


def _rank(splits: set[str]) -> tuple[int, list[str]]:
    """Pictures that are learned first, so that the one in the other split is named."""
    kinds = _kinds(splits)
    return (0 if kinds & {"train", "trainval"} else 1 if kinds else 2), sorted(kinds)


def _named(kinds: set[str]) -> str:
    return " and ".join(sorted(kinds))


def _same_lists(splits: Mapping[Path, set[str]]) -> tuple[str, ...] | None:
    """Splits that share every one of their pictures, as small examples do with train and val."""
    distinct = {tuple(sorted(names)) for names in splits.values() if names}
    if len(distinct) != 1:
        return None
    names = next(iter(distinct))
    return names if len(_kinds(set(names))) > 1 else None
