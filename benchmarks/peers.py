"""The nearest peers, each with 32 clients: gliner's own Ray Serve deployment, and a plain Celery task a request.

Ray has an environment of its own, .cache/serve, made on request; without it the speed recorded below stands in.
The child of each is this file: `python -m benchmarks.peers celery`, or `benchmarks/peers.py serve` with its Python.
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
"""What the peer that works like this passes to gliner."""
SERVE_RECORDED = 13.0
"""Documents a second of gliner.serve on 2 cores with gleaner-small in fp32, measured on 24 November 2026."""
SERVE_VENV = ROOT / ".cache" / "serve"
RAY = "ray[serve]==2.60.0"
READY_S = 120.0


class CeleryTask:
    """A task a request, a result backend, and Celery's defaults: a process a core, each with its model."""

    name = "celery task"

    def __init__(self, model: Path) -> None:
        from celery import Celery

        from tests.support.processes.harness import Server

        self._folder = tempfile.TemporaryDirectory(prefix="gl-")
        self._server = Server(Path(self._folder.name))
        broker, backend = self._server.tcp(0), self._server.tcp(2)
        environment = {**os.environ, "BENCH_BROKER": broker, "BENCH_BACKEND": backend, "BENCH_MODEL": str(model)}
        self._worker = _child([sys.executable, "-m", "benchmarks.peers", "celery"], environment)
        self._app = Celery("peer", broker=broker, backend=backend, set_as_current=False)

    def run(self, mix: Mix) -> Run:
        """Every text of the mix, once, from 32 clients."""
        from benchmarks.contestants import Run, spans
        from benchmarks.usage import Usage

        found: list[Any] = [None] * len(mix.texts)
        waiting = iter(range(len(mix.texts)))
        usage = Usage({"server": self._server.process.pid, "worker": self._worker.pid})
        with self._server.client(2) as client, client.pubsub() as news:
            news.psubscribe("celery-task-meta-*")
            news.get_message(timeout=5)
            began = time.perf_counter()
            sent = sum(self._send(mix, waiting) for _ in range(CLIENTS))
            while sent:
                message = news.get_message(timeout=READY_S)
                if message is None:
                    raise RuntimeError("the peer's worker does not answer")
                answer = json.loads(message["data"])
                if answer["status"] != "SUCCESS":
                    raise RuntimeError(answer["result"])
                found[int(answer["task_id"].partition(".")[0])] = answer["result"][0]
                sent += self._send(mix, waiting) - 1
            seconds = time.perf_counter() - began
        return Run(seconds, [spans(one) for one in found], usage.spent())

    def _send(self, mix: Mix, waiting: Any) -> bool:
        number = next(waiting, None)
        if number is None:
            return False
        arguments = [[mix.texts[number]], list(mix.labels[number])]
        self._app.send_task("predict", arguments, task_id=f"{number}.{time.monotonic_ns()}")
        return True

    def close(self) -> None:
        """End its processes."""
        _end(self._worker)
        self._app.close()
        self._server.stop()
        self._folder.cleanup()


class GlinerServe:
    """gliner.serve on Ray, one text a call, in fp32."""

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
        self._process = _child([str(SERVE_VENV / "bin" / "python"), __file__, "serve"], environment, self._log)
        try:
            self._await()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def here() -> bool:
        """Whether its environment was made."""
        return (SERVE_VENV / "bin" / "python").exists()

    @staticmethod
    def install() -> None:
        """Make its environment: ours, and Ray over it."""
        subprocess.run([sys.executable, "-m", "venv", str(SERVE_VENV)], check=True)
        packages = next(SERVE_VENV.glob("lib/python*/site-packages"))
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (packages / "house.pth").write_text(ours)
        subprocess.run([str(SERVE_VENV / "bin" / "pip"), "install", "-qq", RAY], check=True)

    def _await(self) -> None:
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
        """Every text of the mix, once, from 32 clients."""
        from benchmarks import load
        from benchmarks.contestants import Run, spans
        from benchmarks.usage import Usage

        requests = [
            load.post("/gliner", {"text": text, "labels": labels}, {})
            for text, labels in zip(mix.texts, mix.labels, strict=True)
        ]
        usage = Usage({"ray": self._process.pid})
        began = time.perf_counter()
        answers = load.closed(self._url, requests, CLIENTS)
        seconds = time.perf_counter() - began
        found = [spans(answer.body["entities"]) for answer in answers]
        return Run(seconds, found, usage.spent())

    def close(self) -> None:
        """End its processes."""
        _end(self._process)
        self._folder.cleanup()


def _child(command: list[str], environment: dict[str, str], log: Path = Path(os.devnull)) -> Any:
    with log.open("wb") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)


def _end(process: Any) -> None:
    """End a child, and whatever it started and left behind."""
    import psutil

    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    _, left = psutil.wait_procs(below, timeout=30)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.kill()
    process.wait()


def _celery() -> None:
    """The peer's worker: its model is loaded by the first task, as there."""
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


def _serve() -> None:
    """gliner.serve in fp32 on all cores, on loopback alone."""
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
    {"celery": _celery, "serve": _serve}[sys.argv[1]]()
