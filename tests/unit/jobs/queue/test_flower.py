"""Flower's command line; tests/operations/test_flower.py runs it."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from jobs.queue.flower import FlowerSettings, command_line

PASSWORD = SecretStr("geheim")  # pragma: allowlist secret


def test_flower_only_shows() -> None:
    """Its control API could run tasks; its log handler would write in another format."""
    arguments = command_line(FlowerSettings(flower_password=PASSWORD, flower_port=5556, flower_url_prefix="/f"))

    assert {"--read_only=true", "--logging=none", "--port=5556", "--url_prefix=/f"} <= set(arguments)
    assert "--basic_auth=gleaner:geheim" in arguments
    assert not any(argument.startswith("--db") for argument in arguments)


def test_its_state_is_kept_on_request() -> None:
    """In a file, saved once a minute."""
    arguments = command_line(FlowerSettings(flower_password=PASSWORD, flower_db="/data/flower"))

    assert {"--db=/data/flower", "--persistent=true", "--state_save_interval=60000"} <= set(arguments)


def test_a_password_is_required() -> None:
    """Without one, anybody could read the names of jobs and workers."""
    with pytest.raises(ValidationError, match="flower_password"):
        FlowerSettings()
