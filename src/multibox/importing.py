"""``multibox.import_weights``: another project's weights become a checkpoint, with proof."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from multibox import checkpoints
from multibox.card import ModelCard
from multibox.errors import InputError, MultiboxError
from multibox.importers.imported import Imported
from multibox.importers.published import PublishedSource, find_published, is_published_name

if TYPE_CHECKING:
    from multibox.parity.compare import Parity

Source = PublishedSource


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The checkpoint that was written, its card, and what a reference said to it.

    ``parity`` is None where PyTorch is not installed: nothing could be run.
    """

    file: Path
    card: ModelCard
    parity: "Parity | None"
    unused: tuple[str, ...]


def import_weights(
    file: Path | str,
    source: Source | None = None,
    *,
    prototxt: Path | str | None = None,
    names: Sequence[str] | None = None,
    out: Path | str | None = None,
    on_download: Callable[[int, int | None], None] | None = None,
) -> ImportResult:
    """Turn foreign weights into a checkpoint, and compare the two networks.

    ``file`` is a weights file of the project ``source``, or a published name such as
    "torchvision:ssd300_vgg16", which is downloaded. ``prototxt`` belongs to a caffemodel. ``names``
    are the classes, background not among them; without any, 20 are VOC's and 80 or 90 COCO's.
    ``out`` is the checkpoint, the file's name with the ending .safetensors by default.
    ``on_download`` is told how many bytes have come, and of how many.

    Raises: InputError when the file cannot be used, and names the remedy; MultiboxError when the
    imported network does not agree with the reference: nothing is written then.
    """
    if is_published_name(str(file)):
        from multibox.importers.download import fetch, fetch_prototxt

        published = find_published(str(file))
        if source not in (None, published.source):
            raise InputError(f"{file} is of {published.source}, not of {source}: leave --from out")
        out = Path(f"{published.name.replace(':', '-')}.safetensors") if out is None else Path(out)
        file, source = fetch(published, on_download), published.source
        prototxt = prototxt or fetch_prototxt(published, on_download)
        names = published.class_names if names is None else names
    path = Path(file)
    if source is None:
        raise InputError(f"{path}: say which project it is of: --from {'|'.join(get_args(Source))}")
    out = Path(f"{path.stem}.safetensors") if out is None else Path(out)
    if out.resolve() == path.resolve():
        raise InputError(f"{path}: would be overwritten: name another file with --out")
    prototxt = None if prototxt is None else Path(prototxt)
    imported = read_foreign(path, source, names=names, prototxt=prototxt)
    parity = _parity(path, source, imported, prototxt)
    card = imported.card
    if parity is not None:
        card = card.model_copy(update={"parity": parity.model_dump()})
        if not parity.agrees:
            raise MultiboxError(
                f"{path}: read, but the imported network differs from {parity.reference}: class "
                f"scores by {parity.class_logits:.2g}, box offsets by {parity.box_offsets:.2g}; "
                "nothing was written"
            )
    checkpoints.save(out, imported.arrays, card)
    return ImportResult(out, card, parity, imported.unused)


def read_foreign(
    path: Path,
    source: Source,
    *,
    names: Sequence[str] | None = None,
    prototxt: Path | None = None,
) -> Imported:
    """The arrays and the card of a foreign file, compared with nothing yet.

    Raises: InputError when the file is not there, damaged, of another project or of an
    unsupported variant, or the names do not fit.
    """
    if source not in get_args(Source):
        raise InputError(f"no importer {source!r}: there are {', '.join(get_args(Source))}")
    for file in (path, prototxt):
        if file is not None and not file.exists():
            raise InputError(f"{file}: no such file: check the path")
        if file is not None and file.is_dir():
            raise InputError(f"{file}: is a folder: give the file with the weights")
    if names is not None and not (names and all(name.strip() for name in names)):
        raise InputError("a class name is empty: give names such as person,car")
    if source == "caffe":
        if prototxt is None:
            raise InputError(f"{path}: a caffemodel needs its network: --prototxt FILE")
        from multibox.importers import caffe

        return caffe.read(path, names, prototxt)
    if prototxt is not None:
        raise InputError(f"{prototxt}: a prototxt belongs to --from caffe, not to {source}")
    from multibox.importers import amdegroot, lufficc, nvidia, qfgaohao, tensorflow, torchvision

    readers = {
        "amdegroot": amdegroot.read,
        "lufficc": lufficc.read,
        "nvidia": nvidia.read,
        "qfgaohao": qfgaohao.read,
        "tensorflow": tensorflow.read,
        "torchvision": torchvision.read,
    }
    return readers[source](path, names)


def local_checkpoint(name: str) -> Path:
    """The checkpoint of published weights: imported at the first call, from the cache after it.

    Raises: InputError when there is no such name, or its file cannot be had.
    """
    from multibox.importers.download import cache_folder

    published = find_published(name)
    # With the version: a newer multibox may read the same file better.
    file = f"{published.name.replace(':', '-')}-{version('multibox')}.safetensors"
    path = cache_folder() / file
    if not path.is_file():
        import_weights(name, out=path)
    return path


def _parity(
    path: Path, source: Source, imported: Imported, prototxt: Path | None
) -> "Parity | None":
    try:
        from multibox.parity.importing import check_import
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] not in ("torch", "torchvision"):
            raise
        return None
    return check_import(path, source, imported, prototxt)
