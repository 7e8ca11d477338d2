"""Starts Flower on Gleaner's queues, `python -m jobs.queue.flower`: read-only, with a password, without texts."""

from __future__ import annotations

from pydantic import Field, SecretStr

from jobs import naming
from jobs.observability import logs
from jobs.queue.celery_queues import build_celery_app, model_queues
from jobs.settings import Settings


class FlowerSettings(Settings):
    """Flower's own settings."""

    flower_host: str = Field("127.0.0.1", description="Address Flower listens on.")
    flower_port: int = Field(5555, ge=1, le=65535, description="Port Flower listens on.")
    flower_user: str = Field("gleaner", description="User of Flower's basic auth.")
    flower_password: SecretStr = Field(description="Password of Flower's basic auth; it does not start without.")
    flower_url_prefix: str = Field("", description="Path prefix when Flower sits behind a proxy.")
    flower_db: str = Field("", description="File that keeps what Flower saw over restarts; empty: none.")


def main() -> None:
    """Run Flower until SIGTERM."""
    settings = FlowerSettings()
    logs.configure_logging(settings, "flower")
    app = build_celery_app(
        settings.broker_url, [*model_queues(settings.models.served), naming.WEBHOOK_QUEUE], "flower"
    )
    app.start(["flower", *arguments(settings)])


def arguments(settings: FlowerSettings) -> list[str]:
    """Flower's command line."""
    kept = [f"--db={settings.flower_db}", "--persistent=true", "--state_save_interval=60000"]
    return [
        f"--address={settings.flower_host}",
        f"--port={settings.flower_port}",
        f"--basic_auth={settings.flower_user}:{settings.flower_password.get_secret_value()}",
        f"--url_prefix={settings.flower_url_prefix}",
        "--read_only=true",  # Flower's control API can run any task
        "--xheaders=true",  # it sits behind a proxy or on loopback
        "--max_tasks=10000",
        "--purge_offline_workers=300",  # their names, and so their metrics, grow with every pod
        "--logging=none",  # else Tornado puts a handler of its own shape on the root logger
        *(kept if settings.flower_db else ()),
    ]


if __name__ == "__main__":
    main()
