"""State dicts from other projects' files: arrays by name, and nothing in the file ever runs."""

import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from multibox.errors import InputError
from multibox.importers.imported import Array

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
# What people give by mistake, by the first bytes of the file.
_OTHER_KINDS = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file (Keras)"),
    (b"\x1f\x8b", "a gzip archive: unpack it and give the file inside"),
    (b"BZh", "a bzip2 archive: unpack it and give the file inside"),
    (b"<", "a web page: the download went wrong"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
)
# Where training scripts put the weights among other things, outermost first.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
# What DistributedDataParallel and torch.compile put before every name.
_PREFIXES = ("module.", "_orig_mod.")
# Arrays that share memory or are half precision grow on reading; a file that grows more than this
# is made to fill the memory.
_LARGEST_GROWTH = 8
_SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_SAVE_AGAIN = (
    "load it once in the project that wrote it, in an environment you trust, and save "
    "model.state_dict()"
)


def read_state_dict(path: Path) -> dict[str, Array]:
    """The arrays of a PyTorch file (``.pth``, ``.pt``, ``.pth.tar``) or a ``.safetensors`` file.

    The state dict is found where training scripts put it ("state_dict", "model",
    "model_state_dict", "net"), and the prefix of ``DistributedDataParallel`` is taken off. Floats
    of every precision become float32; entries that are no tensors are left out. Pickles are read
    by ``torch.load(weights_only=True)`` alone, which builds tensors and calls nothing else.

    Raises: InputError for a file that is missing, damaged, of another kind, or needs more than
    weights to be loaded, and where a PyTorch file is given but torch is not installed.
    """
    kind = _first_bytes(path)
    if _is_safetensors(path, kind):
        found = _read_safetensors(path)
    elif kind.startswith(_ZIP):
        _check_zip(path)
        found = _read_torch(path)
    elif kind.startswith(_PICKLE):
        found = _read_torch(path)
    else:
        other = next((what for start, what in _OTHER_KINDS if kind.startswith(start)), None)
        said = f"is {other}" if other else "is not a PyTorch or safetensors file, or is damaged"
        raise InputError(f"{path}: {said}: give the weights (.pth, .pt or .safetensors)")
    if not found:
        raise InputError(f"{path}: has no arrays: give a file that model.state_dict() was saved in")
    return _without_prefixes(found)


def _first_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder: give the file with the weights in it")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is not a regular file: give the file with the weights")
        with path.open("rb") as file:
            start = file.read(32)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path of the weights") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {why}") from error
    if not start:
        raise InputError(f"{path}: is empty: copy or download it again")
    return start


def _is_safetensors(path: Path, start: bytes) -> bool:
    if path.suffix == ".safetensors":
        return True
    # The length of a JSON header, then the header.
    return start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= path.stat().st_size


def _read_safetensors(path: Path) -> dict[str, Array]:
    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: is damaged or not a safetensors file ({_one_line(error)}): copy it again"
        ) from error
    arrays = {}
    for name, entry in entries:
        kind, shape, data = entry["dtype"], entry["shape"], entry["data"]
        if kind == "BF16":
            # The upper half of a float32.
            bits = np.frombuffer(data, "<u2").astype(np.uint32) << 16
            arrays[name] = bits.view(np.float32).reshape(shape)
        elif kind in _SAFETENSORS_TYPES:
            array = np.frombuffer(data, _SAFETENSORS_TYPES[kind]).reshape(shape)
            arrays[name] = array.astype(np.float32 if array.dtype.kind == "f" else array.dtype)
        else:
            raise InputError(f"{path}: {name!r} is of the type {kind}: save it as float32")
    return arrays


def _check_zip(path: Path) -> None:
    """Refuse archives that ``torch.save`` did not write, in words that say what they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    # zipfile's NotImplementedError is a damaged header that asks for a newer zip.
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is truncated or damaged: copy or download it again") from error
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise InputError(
            f"{path}: is a TorchScript program, not weights: load it with torch.jit.load in an "
            "environment you trust, and save model.state_dict()"
        )
    if names and all(name.endswith(".npy") for name in names):
        raise InputError(f"{path}: is a NumPy archive, not a PyTorch file: give the .pth file")
    if not any(name.endswith("data.pkl") for name in names):
        raise InputError(f"{path}: is a zip archive without weights: unpack it, or give the .pth")
    # torch.save stores without compression. Entries that unpack to more than the file holds would
    # fill the memory.
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise InputError(f"{path}: was not written by torch.save (compressed), or is damaged")


def _read_torch(path: Path) -> dict[str, Array]:
    try:
        import torch
    except ImportError:
        raise InputError(
            f'{path}: PyTorch files need torch: pip install "multibox[train]", or give the same '
            "weights as .safetensors"
        ) from None
    try:
        with warnings.catch_warnings():
            # torch warns of formats that are refused below in our own words.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    # Damage can surface as anything; whatever it is, the file is at fault.
    except Exception as error:
        raise InputError(f"{path}: {_why_not(error)}") from error
    tensors = {
        name: value.detach()
        for name, value in _unwrapped(content).items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise InputError(
                f"{path}: {name!r} is a sparse or quantised tensor: save it as float32"
            )
        if tensor.is_complex():
            raise InputError(f"{path}: {name!r} holds complex numbers: not weights of a detector")
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > _LARGEST_GROWTH * path.stat().st_size:
        raise InputError(f"{path}: describes {size} bytes of weights, many more than it holds")
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy(force=True)
        for name, tensor in tensors.items()
    }


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    """The innermost dictionary behind the usual wrappers; empty when there is none."""
    # A hostile dictionary can hold itself: follow no more wrappers than there are names for them.
    for _ in _WRAPPERS:
        if not isinstance(content, Mapping):
            return {}
        inner = (content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping))
        content = next(filter(None, inner), content)
    return content if isinstance(content, Mapping) else {}


def _without_prefixes(arrays: dict[str, Array]) -> dict[str, Array]:
    while prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in arrays)), None):
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _why_not(error: Exception) -> str:
    message = str(error)
    # torch names the class or function that a pickle asks for and that is no part of weights.
    asked = re.search(r"GLOBAL ([\w.]+)|got <class '([\w.]+)'>", message)
    if asked:
        what = asked[1] or asked[2]
        return f"needs more than weights to be loaded ({what}), which may run code: {_SAVE_AGAIN}"
    if isinstance(error, MemoryError) or "allocate" in message:
        return "asks for more memory than there is: is damaged, or made to do that"
    if ".tar format" in message:
        return f"is in PyTorch's oldest format: {_SAVE_AGAIN}"
    return "is truncated, damaged or not written by torch.save: copy or download it again"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
