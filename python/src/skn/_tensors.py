"""Tensor files (safetensors) as NumPy arrays."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from ._errors import Place, RunError

#: The numbers of the form, little-endian. bfloat16 is none of NumPy's, and no file that skn writes for Python has it.
_DTYPES: Dict[str, "np.dtype[Any]"] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?",
        "U8": "<u1",
        "I8": "<i1",
        "U16": "<u2",
        "I16": "<i2",
        "U32": "<u4",
        "I32": "<i4",
        "U64": "<u8",
        "I64": "<i8",
        "F16": "<f2",
        "F32": "<f4",
        "F64": "<f8",
    }.items()
}

#: The longest header that safetensors allows.
_LONGEST_HEADER = 100_000_000


class Tensors(Mapping[str, "np.ndarray[Any, Any]"]):
    """The arrays of a tensor file by their names, with what the file says of itself.

    ``metadata`` has strings under keys such as ``skn.kind``, ``skn.task`` and ``skn.model_sha256``.
    """

    def __init__(self, path: Path, arrays: "Dict[str, np.ndarray[Any, Any]]", metadata: Dict[str, str]) -> None:
        self.path = path
        self.metadata = metadata
        self._arrays = arrays

    def __getitem__(self, name: str) -> "np.ndarray[Any, Any]":
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in self.items())
        return f"Tensors({self.path}: {shapes})"


def read_tensors(path: Place, names: Optional[Iterable[str]] = None) -> Tensors:
    """Reads the arrays of a safetensors file; with ``names`` these alone, and only their bytes.

    Raises `RunError` if the file is missing, damaged, or lacks one of ``names``.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin = file.read(8)
            if len(begin) < 8:
                raise RunError(path, "a safetensors file, which begins with 8 bytes of length", f"{len(begin)} bytes")
            (length,) = struct.unpack("<Q", begin)
            if length > min(size - 8, _LONGEST_HEADER):
                raise RunError(path, f"a header of at most {size - 8} bytes", f"one of {length} bytes")
            header = _header(path, file.read(length))
            metadata = _metadata(path, header.pop("__metadata__", {}))
            # All are checked, whichever are read: a file that ends early is none.
            rest = size - 8 - length
            entries = {name: _entry(path, name, entry, rest) for name, entry in header.items()}
            used = max((end for *_, end in entries.values()), default=0)
            if used != rest:
                raise RunError(path, f"{used} bytes of tensors", str(rest))
            arrays = {}
            for name in entries if names is None else names:
                if name not in entries:
                    raise RunError(path, f"tensor {name}", ", ".join(sorted(entries)) or "no tensor")
                dtype, shape, start, end = entries[name]
                file.seek(8 + length + start)
                arrays[name] = np.frombuffer(file.read(end - start), dtype=dtype).reshape(shape)
    except OSError as error:
        raise RunError(path, "a tensor file", error.strerror or str(error)) from error
    return Tensors(path, arrays, metadata)


def _header(path: Path, text: bytes) -> Dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise RunError(path, "a header in JSON", f"something else ({error})") from error
    if not isinstance(header, dict):
        raise RunError(path, "a header with tensors by their names", type(header).__name__)
    return header


def _metadata(path: Path, metadata: Any) -> Dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise RunError(path, "__metadata__ of strings", repr(metadata)[:80])
    return metadata


def _entry(path: Path, name: str, entry: Any, size: int) -> Any:
    """A tensor's type, shape and place in the ``size`` bytes behind the header."""
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in [*shape, start, end])
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise RunError(path, f"tensor {name} with dtype, shape and data_offsets", repr(entry)[:80])
    if dtype not in _DTYPES:
        raise RunError(path, f"tensor {name} of one of {', '.join(_DTYPES)}", str(dtype))
    count = 1
    for length in shape:
        count *= length
    expected = count * _DTYPES[dtype].itemsize
    if not start <= end <= size or end - start != expected:
        raise RunError(path, f"tensor {name}: {expected} bytes for {dtype} {shape}", f"bytes {start} to {end} of {size}")
    return _DTYPES[dtype], shape, start, end
