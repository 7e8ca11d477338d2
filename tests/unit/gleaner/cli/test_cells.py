from __future__ import annotations

import inspect

from gleaner.cli import cells as client_cells
from jobs import cells as service_cells


def test_the_client_and_the_service_write_the_same_cells() -> None:
    """The client's copy is the service's module, its docstring aside."""
    ours, theirs = (inspect.getsource(module).split('"""', 2)[2] for module in (client_cells, service_cells))
    assert ours == theirs
