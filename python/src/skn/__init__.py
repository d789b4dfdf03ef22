"""Reads the runs that the programs of skn write.

>>> import skn
>>> run = skn.load("runs/demo")  # doctest: +SKIP
>>> run.masks[0.1].sum(axis=1)   # doctest: +SKIP
"""

from ._errors import RunError
from ._run import Run, Table, load
from ._tensors import Tensors, read_tensors

__all__ = ["Run", "RunError", "Table", "Tensors", "load", "read_tensors"]
