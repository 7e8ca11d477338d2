"""Starts Flower on Gleaner's queues (`python -m jobs.queue.flower`): read-only, with a password, without texts."""

from __future__ import annotations

from pydantic import Field, SecretStr

from jobs import naming
from jobs.observability import logs
from jobs.queue.celery_queues import build_celery_app, model_queues
from jobs.settings import Settings


class FlowerSettings(Settings):
    """Settings of Flower."""

    flower_host: str = Field("127.0.0.1", description="Address Flower listens on.")
    flower_port: int = Field(5555, ge=1, le=65535, description="Port Flower listens on.")
    flower_user: str = Field("gleaner", description="User of Flower's basic auth.")
    flower_password: SecretStr = Field(description="Password of Flower's basic auth; required.")
    flower_url_prefix: str = Field("", description="Path prefix of Flower behind a proxy.")
    flower_db: str = Field("", description="File in which Flower stores its state across restarts; empty: none.")


def main() -> None:
    """Run Flower until SIGTERM."""
    settings = FlowerSettings()
    logs.configure_logging(settings, "flower")
    app = build_celery_app(
        settings.broker_url, [*model_queues(settings.models.served), naming.WEBHOOK_QUEUE], "flower"
    )
    app.start(["flower", *command_line(settings)])


def command_line(settings: FlowerSettings) -> list[str]:
    """Return Flower's command-line arguments."""
    persistence = [f"--db={settings.flower_db}", "--persistent=true", "--state_save_interval=60000"]
    return [
        f"--address={settings.flower_host}",
        f"--port={settings.flower_port}",
        f"--basic_auth={settings.flower_user}:{settings.flower_password.get_secret_value()}",
        f"--url_prefix={settings.flower_url_prefix}",
        "--read_only=true",  # Flower's control API can run any task
        "--xheaders=true",  # it runs behind a proxy or on loopback
        "--max_tasks=10000",
        "--purge_offline_workers=300",  # or worker names, and so metrics, would grow with every pod
        "--logging=none",  # or Tornado would add a handler with another format to the root logger
        *(persistence if settings.flower_db else ()),
    ]


if __name__ == "__main__":
    main()
