"""The nearest peers, with 32 clients each: gliner's Ray Serve deployment, and one plain Celery task per request.

Ray has a separate environment, .cache/serve, created on request; without it the speed recorded below is shown.
Both run this file as their child: `python -m benchmarks.peers celery`, or `benchmarks/peers.py serve` with its
Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.contestants import Run
    from benchmarks.texts import Mix

ROOT = Path(__file__).parents[1]
CLIENTS = 32
BATCH = 12
"""Batch size that is passed to gliner by such a peer."""
SERVE_RECORDED = 13.0
"""Documents per second of gliner.serve on 2 cores with gleaner-small in fp32, measured on 24 November 2026."""
SERVE_VENV = ROOT / ".cache" / "serve"
RAY = "ray[serve]==2.60.0"
READY_S = 120.0


class CeleryTask:
    """One task per request, a result backend, and Celery's defaults: one process with a model per core."""

    name = "celery task"

    def __init__(self, model: Path) -> None:
        from celery import Celery

        from tests.support.processes.harness import Server

        self._folder = tempfile.TemporaryDirectory(prefix="gl-")
        self._server = Server(Path(self._folder.name))
        broker, backend = self._server.tcp(0), self._server.tcp(2)
        environment = {**os.environ, "BENCH_BROKER": broker, "BENCH_BACKEND": backend, "BENCH_MODEL": str(model)}
        self._worker = _start_child([sys.executable, "-m", "benchmarks.peers", "celery"], environment)
        self._app = Celery("peer", broker=broker, backend=backend, set_as_current=False)

    def run(self, mix: Mix) -> Run:
        """Run every text of the mix once, from 32 clients."""
        from benchmarks.contestants import Run, to_spans
        from benchmarks.usage import Usage

        results: list[Any] = [None] * len(mix.texts)
        waiting = iter(range(len(mix.texts)))
        usage = Usage({"server": self._server.process.pid, "worker": self._worker.pid})
        with self._server.client(2) as client, client.pubsub() as channel:
            channel.psubscribe("celery-task-meta-*")
            channel.get_message(timeout=5)
            began = time.perf_counter()
            pending = sum(self._send_task(mix, waiting) for _ in range(CLIENTS))
            while pending:
                message = channel.get_message(timeout=READY_S)
                if message is None:
                    raise RuntimeError("the peer's worker does not answer")
                answer = json.loads(message["data"])
                if answer["status"] != "SUCCESS":
                    raise RuntimeError(answer["result"])
                results[int(answer["task_id"].partition(".")[0])] = answer["result"][0]
                pending += self._send_task(mix, waiting) - 1
            seconds = time.perf_counter() - began
        return Run(seconds, [to_spans(entities) for entities in results], usage.spent())

    def _send_task(self, mix: Mix, waiting: Any) -> bool:
        number = next(waiting, None)
        if number is None:
            return False
        arguments = [[mix.texts[number]], list(mix.labels[number])]
        self._app.send_task("predict", arguments, task_id=f"{number}.{time.monotonic_ns()}")
        return True

    def close(self) -> None:
        """Stop its processes."""
        _stop(self._worker)
        self._app.close()
        self._server.stop()
        self._folder.cleanup()


class GlinerServe:
    """gliner.serve on Ray, one text per call, in fp32."""

    name = "gliner.serve"

    def __init__(self, model: Path) -> None:
        from tests.support.processes.harness import free_port

        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="gl-")
        self._log = Path(self._folder.name) / "log"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": self._folder.name,
            "RAY_USAGE_STATS_ENABLED": "0",
            "BENCH_PORT": str(port),
            "BENCH_MODEL": str(model),
        }
        self._process = _start_child(
            [str(SERVE_VENV / "bin" / "python"), __file__, "serve"], environment, self._log
        )
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def is_installed() -> bool:
        """Return whether its environment exists."""
        return (SERVE_VENV / "bin" / "python").exists()

    @staticmethod
    def install() -> None:
        """Create its environment: this one, with Ray added."""
        subprocess.run([sys.executable, "-m", "venv", str(SERVE_VENV)], check=True)
        packages = next(SERVE_VENV.glob("lib/python*/site-packages"))
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (packages / "gleaner.pth").write_text(ours)
        subprocess.run([str(SERVE_VENV / "bin" / "pip"), "install", "-qq", RAY], check=True)

    def _await_ready(self) -> None:
        from benchmarks.texts import LABELS, Mix

        end = time.monotonic() + READY_S
        while True:
            try:
                self.run(Mix(("Ines Faber lives in Lisbon.",), (LABELS,)))
            except (OSError, EOFError, RuntimeError):  # not there yet
                if time.monotonic() > end or self._process.poll() is not None:
                    raise RuntimeError(self._log.read_text()[-2000:]) from None
                time.sleep(0.5)
            else:
                return

    def run(self, mix: Mix) -> Run:
        """Run every text of the mix once, from 32 clients."""
        from benchmarks import load
        from benchmarks.contestants import Run, to_spans
        from benchmarks.usage import Usage

        requests = [
            load.encode_post("/gliner", {"text": text, "labels": labels}, {})
            for text, labels in zip(mix.texts, mix.labels, strict=True)
        ]
        usage = Usage({"ray": self._process.pid})
        began = time.perf_counter()
        answers = load.run_closed_loop(self._url, requests, CLIENTS)
        seconds = time.perf_counter() - began
        return Run(seconds, [to_spans(answer.body["entities"]) for answer in answers], usage.spent())

    def close(self) -> None:
        """Stop its processes."""
        _stop(self._process)
        self._folder.cleanup()


def _start_child(command: list[str], environment: dict[str, str], log: Path = Path(os.devnull)) -> Any:
    with log.open("wb") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)


def _stop(process: Any) -> None:
    """Stop a child and all its descendants."""
    import psutil

    descendants = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    _, alive = psutil.wait_procs(descendants, timeout=30)
    for descendant in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            descendant.kill()
    process.kill()
    process.wait()


def _run_celery() -> None:
    """Run the peer's worker; its model is loaded by the first task, like in such peers."""
    from celery import Celery
    from gliner import GLiNER

    app = Celery("peer", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"])
    models: list[Any] = []

    @app.task(name="predict")
    def predict(texts: list[str], labels: list[str]) -> Any:
        if not models:
            models.append(GLiNER.from_pretrained(os.environ["BENCH_MODEL"], local_files_only=True))
        return models[0].batch_predict_entities(texts, labels, batch_size=BATCH)

    app.worker_main(["worker", "--loglevel=ERROR", "--without-gossip", "--without-mingle"])


def _run_serve() -> None:
    """Run gliner.serve in fp32 on all cores, on the loopback interface only."""
    import ray
    from gliner.serve.config import GLiNERServeConfig
    from gliner.serve.server import serve

    ray.init(_node_ip_address="127.0.0.1", include_dashboard=False, num_cpus=4)
    config = GLiNERServeConfig(
        model=os.environ["BENCH_MODEL"],
        device="cpu",
        dtype="float32",
        num_gpus_per_replica=0,
        num_cpus_per_replica=1,
        enable_compilation=False,
        http_port=int(os.environ["BENCH_PORT"]),
    )
    serve(config, blocking=True)


if __name__ == "__main__":
    {"celery": _run_celery, "serve": _run_serve}[sys.argv[1]]()
