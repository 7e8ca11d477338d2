"""Deprecated name of `gleaner.dataframes`."""

from __future__ import annotations

import warnings

from gleaner.dataframes import MissingExtraError, annotate, entities, extract, library_of

__all__ = ["MissingExtraError", "annotate", "entities", "extract", "library_of"]

warnings.warn("gleaner.frame was renamed; import gleaner.dataframes", DeprecationWarning, stacklevel=2)
