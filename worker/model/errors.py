"""Errors raised when a model is not available."""

from __future__ import annotations


class ModelError(Exception):
    """A model is not available; the message says what to do."""


class ModelNotFoundError(ModelError):
    """The source does not exist."""


class ModelBrokenError(ModelError):
    """The files are incomplete, damaged, unsafe, or not a model that can be run."""


class PickleRefusedError(ModelError):
    """The weights are pickled, and a pickle can run any code."""


class ExtraMissingError(ModelError):
    """The source needs a package that is not installed."""
