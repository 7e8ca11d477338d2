from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT


def loaded_by(module: str) -> set[str]:
    """Top-level packages in memory once a fresh interpreter has imported the module, Python's own left out."""
    code = (
        f"import sys, {module}; "
        "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("gateway.app", {"torch", "gliner", "transformers", "worker", "celery", "kombu"}),
        ("gateway.http.processes", {"fastapi", "starlette", "uvicorn", "celery", "kombu"}),
        ("gateway.courier.app", {"torch", "gliner", "transformers", "worker"}),
        ("worker.app", {"fastapi", "starlette", "uvicorn", "gateway"}),
        ("worker.model.engine", {"torch", "gliner", "transformers", "openvino", "onnxruntime"}),
    ],
)
def test_a_process_does_not_load_the_other_side(module: str, absent: set[str]) -> None:
    """The gateway starts without torch, the worker without a web framework, whatever their libraries import.

    A parent of gateway processes has neither: its children serve. A worker imports the library only on demand.
    """
    assert not loaded_by(module) & absent


@pytest.mark.parametrize(
    "module", ["gleaner", "gleaner.client", "gleaner.aio", "gleaner.dataframes", "gleaner.exports"]
)
def test_the_client_needs_httpx_alone(module: str) -> None:
    """`import gleaner` in a notebook costs httpx and nothing else of other people's."""
    assert loaded_by(module) - loaded_by("httpx") == {"gleaner"}
