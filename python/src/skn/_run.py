"""A run's folder."""

from __future__ import annotations

import csv
import io
import json
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Union

import numpy as np

from ._errors import Place, RunError
from ._tensors import Tensors, read_tensors

if TYPE_CHECKING:
    import pandas

#: A frame if pandas is there, else a list with a dict for each row.
Table = Union["pandas.DataFrame", List[Dict[str, Any]]]

#: Files of what perturbing did, and whose neurons they are of.
_CURVES = {
    "mask_perf.json": "skill",
    "cmp_perf.json": "random",
    "matched_perf.json": "matched",
    "class_perf.json": "class",
}

#: Columns of neurons.csv and of answers that are whole numbers ..
_WHOLE = {"rank", "layer", "index", "position", "class", "predicted_class"}

#: The folder of masks of one class of a task, which is no task of its own.
_OF_CLASS = re.compile(r"(.+)-class-([0-9]+)")


def load(run: Place, task: Optional[str] = None) -> Run:
    """Opens the folder of a run. Nothing is read yet but which tasks it has.

    ``task`` is needed where a run has more than one. Raises `RunError` if this is no run, or has no such task.
    """
    return Run(run, task)


class Run:
    """A run: its neurons, masks, counts, averages, curves and summary, each read when it is first asked for."""

    #: The run's folder.
    path: Path
    #: The task that its files are of.
    task: str

    def __init__(self, run: Place, task: Optional[str] = None) -> None:
        self.path = Path(run)
        record = self.path / "run.json"
        if not record.is_file():
            found = "no such folder" if not self.path.is_dir() else _names(self.path)
            raise RunError(self.path, "the folder of a run, with run.json", found)
        tasks = self._tasks()
        if task is not None and task not in tasks:
            raise RunError(self.path, f"task {task}", ", ".join(tasks) or "no task's folder")
        whole = [name for name in tasks if not _is_of_class(name, tasks)]
        if task is None and len(whole) != 1:
            found = ", ".join(whole) or "none with counts, averages or masks"
            raise RunError(self.path, "one task", found, "say which: skn.load(run, task=..)" if whole else "")
        self.task = task or whole[0]

    def _tasks(self) -> List[str]:
        """The tasks that have counts, averages, inference or masks here."""
        of_files = ("*_perf.safetensors", "*_avg.safetensors", "inference_perf.json")
        found = {file.parent.name for pattern in of_files for file in self.path.glob(f"*/{pattern}")}
        found.update(file.parent.name for file in self.path.glob("info/*/*.safetensors"))
        return sorted(found)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, task={self.task!r})"

    @property
    def folder(self) -> Path:
        """The task's folder: averages, counts, activations."""
        return self.path / self.task

    @property
    def masks_folder(self) -> Path:
        """The folder of the task's masks and of neurons.csv."""
        return self.path / "info" / self.task

    @property
    def report(self) -> Path:
        """The page of the run. Raises `RunError` if there is none."""
        return self._file(self.path / "report.html", "skn-report writes it")

    @cached_property
    def record(self) -> Dict[str, Any]:
        """run.json: how each file came about, with the options of each stage."""
        found: Dict[str, Any] = self._json(self.path / "run.json", dict)
        return found

    @cached_property
    def summary(self) -> Dict[str, Any]:
        """summary.json: what the whole chain found. Raises `RunError` if single stages made this run, which have none."""
        self._file(self.path / "summary.json", "skn-run writes it")
        found: Dict[str, Any] = self._json(self.path / "summary.json", dict)
        return found

    @cached_property
    def neurons(self) -> Table:
        """Every neuron, the best first: rank, layer, index, position, class, score, dev, test, p, q ..

        Layer, index and position count from 0. What is not known is None in a list, and missing in a frame.
        """
        path = self._file(self.masks_folder / "neurons.csv", "skn-select writes it")
        rows = _csv(path, _text(path))
        return _table(path, rows, _number)

    @cached_property
    def masks(self) -> "Dict[float, np.ndarray[Any, Any]]":
        """The selected neurons by share of each layer: bool [L, F]."""
        return self._masks("skn.share", self.masks_folder)

    @cached_property
    def class_masks(self) -> "Dict[int, Dict[float, np.ndarray[Any, Any]]]":
        """The neurons selected for one class alone, by class and share: bool [L, F]. Of more than two classes skn-run selects them."""
        found = {}
        for folder in self.masks_folder.parent.glob("*-class-*"):
            name = _OF_CLASS.fullmatch(folder.name)
            if name and name[1] == self.task and folder.is_dir():
                found[int(name[2])] = self._masks("skn.share", folder)
        return dict(sorted(found.items()))

    @cached_property
    def discoveries(self) -> "Dict[float, np.ndarray[Any, Any]]":
        """The selected neurons by rate of false discoveries (``skn-select --fdr``): bool [L, F]."""
        return self._masks("skn.fdr", self.masks_folder)

    @staticmethod
    def _masks(key: str, folder: Path) -> "Dict[float, np.ndarray[Any, Any]]":
        found = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = read_tensors(path, ["mask"])
            said = file.metadata.get(key)
            if said is None:
                continue
            mask = file["mask"]
            if mask.dtype != np.bool_ or mask.ndim != 2:
                raise RunError(path, "mask BOOL [L, F]", f"{mask.dtype}{list(mask.shape)}")
            found[_float(path, key, said)] = mask
        return dict(sorted(found.items()))

    @cached_property
    def averages(self) -> Dict[str, Tensors]:
        """Average activations over train by the file's name: ``run.averages["train_avg"]["train_avg"]`` is F32 [L, P, F]."""
        return self._tensors("*_avg.safetensors")

    @cached_property
    def counts(self) -> Dict[str, Tensors]:
        """How often each neuron tells the label, by the file's name: ``run.counts["dev_perf"]["correct"]`` is I64 [L, P, F]."""
        return self._tensors("*_perf.safetensors")

    def _tensors(self, pattern: str) -> Dict[str, Tensors]:
        paths = sorted(self.folder.glob(pattern))
        return {path.name[: -len(".safetensors")]: read_tensors(path) for path in paths}

    @cached_property
    def curves(self) -> Table:
        """What perturbing did: a row for each mask and whose neurons were edited (``who``: skill, random, matched, class).

        Beside that the columns of mask_perf.json: mean over draws, std, interval (low and high), unperturbed, mask, edit .. ``share``
        is the mask's as a number, where it has one.
        """
        rows: List[Dict[str, Any]] = []
        for name, who in _CURVES.items():
            path = self.path / name
            if not path.is_file():
                continue
            found = self._json(path, (dict, list))
            for result in found if isinstance(found, list) else [found]:
                rows.append(_result(path, who, result))
        if not rows:
            raise RunError(self.path, "mask_perf.json", "none", "skn-mask writes it")
        return _framed(rows)

    def predictions(self, path: Place) -> Table:
        """What skn-predict printed into a file: its lines of word, probability and text with tabs between; or ``--json``, JSON
        lines, or CSV with a header, whose columns it has then. Where a record could not be read (``--on-error skip``) ``error`` says
        why, and the answer is None."""
        path = Path(path)
        text = _text(path)
        begin = text.lstrip()[:1]
        if begin == "[":
            return _framed(self._rows(path, _parsed(path, text)))
        # Texts have ends of lines of their own, such as U+2028, which end no answer.
        lines = (text[:-1] if text.endswith("\n") else text).split("\n")
        if begin == "{":
            return _framed(self._rows(path, [_parsed(path, line, at) for at, line in enumerate(lines, 1) if line.strip()]))
        if _parts(lines[0]) is not None:
            rows = [_answer(path, at, line) for at, line in enumerate(lines, 1)]
            if any("error" in row for row in rows):
                rows = [{**row, "error": row.get("error")} for row in rows]
            return _framed(rows)
        return _table(path, _csv(path, text), _number_or_text)

    @staticmethod
    def _rows(path: Path, rows: Any) -> List[Dict[str, Any]]:
        for at, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                raise RunError(path, f"answer {at} as a JSON object", type(row).__name__)
        return list(rows)

    @staticmethod
    def _file(path: Path, hint: str) -> Path:
        if not path.is_file():
            raise RunError(path, "a file", "none", hint)
        return path

    @staticmethod
    def _json(path: Path, kind: Any) -> Any:
        found = _parsed(path, _text(path))
        if not isinstance(found, kind):
            raise RunError(path, "a JSON object", type(found).__name__)
        return found


def _text(path: Path) -> str:
    try:
        # As it is: a text in quotes keeps its ends of lines.
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RunError(path, "a file", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise RunError(path, "UTF-8", f"byte {error.object[error.start]:#04x} at {error.start}") from error


def _parsed(path: Path, text: str, line: Optional[int] = None) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        place = "JSON" if line is None else f"JSON in line {line}"
        raise RunError(path, place, f"something else ({error})") from error


def _csv(path: Path, text: str) -> List[Dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                width = len(reader.fieldnames or ())
                cells = sum(value is not None for value in row.values()) + len(row.get(None) or ()) - (None in row)
                raise RunError(path, f"line {reader.line_num} of {width} cells", str(cells))
            rows.append(row)
    except csv.Error as error:
        raise RunError(path, f"CSV at line {reader.line_num}", str(error)) from error
    return rows


def _table(path: Path, rows: List[Dict[str, str]], value: Callable[[Path, int, str, str], Any]) -> Table:
    made = [{name: value(path, at, name, cell) for name, cell in row.items()} for at, row in enumerate(rows, 2)]
    return _framed(made)


def _framed(rows: List[Dict[str, Any]]) -> Table:
    try:
        import pandas
    except ImportError:
        return rows
    frame = pandas.DataFrame(rows)
    # A column of whole numbers in which some are not known stays one of whole numbers.
    names = _WHOLE | ({"line"} if "error" in frame else set())
    whole = {name: "Int64" for name in names if name in frame and frame[name].isna().any()}
    return frame.astype(whole)


def _number(path: Path, line: int, column: str, cell: str) -> Any:
    if cell == "":
        return None
    try:
        return int(cell) if column in _WHOLE else float(cell)
    except ValueError:
        raise RunError(path, f"a number in line {line}, column {column}", repr(cell)) from None


def _number_or_text(_: Path, __: int, column: str, cell: str) -> Any:
    # What the user's own columns hold stays text, whatever it looks like.
    if column == "predicted_class":
        return int(cell) if cell.isdigit() else None
    if re.fullmatch(r"(probability|logit)(_\d+)?", column):
        return float(cell) if _is_number(cell) else None
    if column in ("predicted_word", "predicted_label", "error"):
        return cell or None
    return cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parts(line: str) -> Optional[List[str]]:
    """Word, probability and text of an answer, or what stands in their places; None of another line."""
    parts = (line[:-1] if line.endswith("\r") else line).split("\t", 2)
    if len(parts) == 3 and (_is_number(parts[1]) or (parts[:2] == ["error", ""] and parts[2].startswith("line "))):
        return parts
    return None


def _answer(path: Path, at: int, line: str) -> Dict[str, Any]:
    parts = _parts(line)
    if parts is None:
        raise RunError(path, f"line {at} of word, probability and text with tabs between", repr(line[:80]))
    word, probability, text = parts
    if probability == "":
        return {"word": None, "probability": None, "text": None, "error": text}
    return {"word": word, "probability": float(probability), "text": text}


def _result(path: Path, who: str, result: Any) -> Dict[str, Any]:
    if not isinstance(result, dict):
        raise RunError(path, "results as JSON objects", type(result).__name__)
    missing = [name for name in ("mask", "mean", "interval", "unperturbed") if name not in result]
    if missing:
        raise RunError(path, ", ".join(missing), ", ".join(result) or "nothing")
    low, high = result["interval"]
    mask = str(result["mask"])
    row = {"who": who, "share": float(mask) if _is_number(mask) else None, "low": low, "high": high}
    row.update((name, value) for name, value in result.items() if name != "interval")
    return row


def _is_of_class(name: str, tasks: List[str]) -> bool:
    """Whether a folder has masks of one class of a task that is here too."""
    found = _OF_CLASS.fullmatch(name)
    return found is not None and found[1] in tasks


def _float(path: Path, key: str, said: str) -> float:
    if not _is_number(said):
        raise RunError(path, f"{key}: a number", repr(said))
    return float(said)


def _names(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8] + ([".."] if len(names) > 8 else [])) or "an empty folder"
