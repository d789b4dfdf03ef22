"""What is wrong with a file of a run."""

from __future__ import annotations

import os
from typing import Union

Place = Union[str, "os.PathLike[str]"]


class RunError(ValueError):
    """A file that is not what it should be: which one, what was expected, and what was found."""

    def __init__(self, file: Place, expected: str, found: str, hint: str = "") -> None:
        self.file = os.fspath(file)
        self.expected = expected
        self.found = found
        hint = f"; {hint}" if hint else ""
        super().__init__(f"{self.file}: expected {expected}, found {found}{hint}")
