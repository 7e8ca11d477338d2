"""Every benchmark with minimal work: its output is complete and answers agree. Times are not checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import figures
from benchmarks.contestants import (
    Contestant,
    EngineAlone,
    Library,
    predict_in_batches,
    predict_one_by_one,
    sorted_batches,
)
from benchmarks.figures import Figures, Speed, Value
from benchmarks.measurements import accept, accuracy, gpu, medium, path, scale, starts
from benchmarks.texts import MEDIAN_WORDS, make_mixes, make_texts
from tests.support.engine import FakeEngine
from worker.app import load_engine
from worker.settings import WorkerSettings

MIX = "ten label sets"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the DeBERTa-sized model with one layer."""
    return medium.medium_folder(tmp_path_factory.mktemp("model") / "medium", layers=1)


def test_texts_are_the_same_for_the_same_seed_and_of_the_lengths_promised() -> None:
    """Measurements can be repeated later."""
    texts = make_texts(101, seed=3)
    assert texts == make_texts(101, seed=3) != make_texts(101, seed=4)
    assert sorted(len(text.split()) for text in texts)[50] == MEDIAN_WORDS
    assert {name: mix.shared for name, mix in make_mixes(40).items()} == {
        "lognormal": True,
        "short": True,
        "long": True,
        "one long in 32": True,
        "ten label sets": False,
    }


def test_every_way_through_the_library_and_the_engine_finds_the_same(tiny: Path) -> None:
    """Contestants are comparable: the same texts, the same model, the same answers."""
    model, mix = medium.load_medium(tiny), make_mixes(6)[MIX]
    ours = load_engine(
        WorkerSettings.model_validate({"model_source": str(tiny), "runtime": "torch", "precision": "fp32"})
    )
    ways: list[Contestant] = [
        Library("one by one", predict_one_by_one, model),
        Library("batches", predict_in_batches, model),
        Library("sorted", sorted_batches(4), model),
        EngineAlone(ours, 2048),
    ]
    alone, *batched = [way.run(mix) for way in ways]
    assert [list(run.spans) for run in batched] == [list(alone.spans)] * 3
    assert sum(map(len, alone.spans)) > 0
    assert batched[-1].fill
    assert EngineAlone(ours, 2048).model_cpu_s(mix) > 0


def test_how_busy_a_model_is_kept_is_a_part_of_the_time() -> None:
    """With a model that only waits, nearly all of the time is spent in it."""
    result = gpu.measure_backlog(FakeEngine(seconds_per_token=1e-5), 2048, make_mixes(64)["lognormal"])
    assert 0.3 < result.busy <= 1
    assert result.rate * result.forward_ms / 1000 == pytest.approx(result.busy)


def test_f1_counts_only_whole_and_rightly_named_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words become characters; a span that is off by one is as wrong as none."""
    assert accuracy.micro_f1([frozenset({(0, 4, "a"), (5, 9, "b")})], [frozenset({(0, 4, "a"), (5, 8, "b")})]) == 50
    (tmp_path / "ner").mkdir()
    line = {"tokenized_text": ["In", "New", "York"], "ner": [[1, 2, "city"]], "space": ["city", "person"]}
    (tmp_path / "ner" / "dev.jsonl").write_text(json.dumps(line))
    monkeypatch.setenv("GLEANER_DATA", str(tmp_path))
    read = accuracy.load_examples()
    assert read is not None
    assert read[0].texts == ("In New York",)
    assert read[1] == [frozenset({(3, 11, "city")})]
    assert accuracy.micro_f1(EngineAlone(FakeEngine(), 512).run(read[0]).spans, read[1]) == 0  # it also takes "In"
    monkeypatch.setenv("GLEANER_DATA", str(tmp_path / "nowhere"))
    assert accuracy.load_examples() is None


def test_costs_say_what_limits_a_ledger() -> None:
    """More workers help until the ledger, or the cores, are saturated."""
    costs = scale.Costs(1e-3, 1e-3, 2e-3, 0.02, 1000, 3)
    assert (costs.worker_rate, costs.ledger_rate, costs.workers_per_ledger) == pytest.approx((50, 700, 14))
    assert [costs.predict_rate(n, 64) for n in (1, 4, 100)] == pytest.approx([50, 200, 1000])
    assert costs.predict_rate(100, cores=2) == pytest.approx(500)
    assert [costs.required_cells(rate, 0, 1e9) for rate in (100, 699, 701)] == [1, 1, 2]
    assert costs.required_cells(1, 1e7, 1e9) == 15
    assert scale.cost_per_million(100, 0.36) == pytest.approx(1)


def test_workers_with_a_fake_model_finish_a_job_and_their_costs_are_found() -> None:
    """Real gateway, ledger, Celery and worker; every part has a plausible cost."""
    costs = scale.measure_costs(70, 1e-5)
    assert min(costs.server_s, costs.gateway_s, costs.worker_s) >= 0
    assert min(costs.model_s, costs.open_bytes, costs.commands) > 0


def test_starts_are_measured_from_exec_to_the_first_answer() -> None:
    """A worker is ready before the waiting document is done; memory never exceeds its peak."""
    first, later = starts.measure_workers(1, "tests.support.processes.worker")
    for start in (first, later):
        assert start.ready_s > 0
        assert start.answer_s > 0
        assert 0 < start.rss_mb <= start.peak_mb


def test_the_path_and_the_gateway_are_measured() -> None:
    """Times of the call and of the model, and rates of both routes, are measured."""
    whole, model = path.measure_path(4, 0, fake=True)
    assert 0 <= model < whole
    rates = accept.measure_accept(clients=2, seconds=0.2, rounds=1)
    assert all(rate > 0 for rate, _ in (rates["gateway"], rates["bare"]))


def test_figures_are_written_shown_plotted_and_compared(tmp_path: Path) -> None:
    """A tenth less of the library's speed is a regression on any machine; missed targets are marked."""

    def speeds(ours: float, library: float) -> Figures:
        run = Figures("2 cores", "2026-11-24", values={"scale": [Value("1 workers, measured", 5.0, "", ">= 9")]})
        pairs = ((figures.BASE, library), (EngineAlone.name, ours))
        run.replace_speeds(
            [Speed("gleaner-small", "lognormal", name, 9, [rate], {"all": 1.0}, 0.9, 0) for name, rate in pairs]
        )
        return run

    committed, same, worse = speeds(40.0, 10.0), speeds(78.0, 20.0), speeds(60.0, 20.0)
    committed.write(tmp_path / "figures.json")
    committed = Figures.read(tmp_path / "figures.json")
    assert list(figures.find_regressions(same, committed)) == []
    assert len(list(figures.find_regressions(worse, committed))) == 1
    shown = "\n".join(figures.format_tables(worse, committed))
    assert "| 40.0 |" in shown
    assert ">= 9 ✗" in shown
    figures.draw_plot(worse, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


def test_every_machine_has_separate_figures(tmp_path: Path) -> None:
    """A machine's figures replace its older ones on the page; those of other machines stay."""
    page, plot = tmp_path / "page.md", tmp_path / "plot.svg"
    page.write_text(f"before\n\n{figures.BEGIN}\nold\n{figures.END}\n\nafter\n")
    for machine, taken, value in (("2 cores, A", "1", 1.0), ("4 cores, B", "2", 2.0), ("4 cores, B", "3", 4.0)):
        figures.publish_figures(Figures(machine, taken, values={"path": [Value("a", value)]}), tmp_path, page, plot)
    assert sorted(file.name for file in tmp_path.glob("*.json")) == ["2-cores-a.json", "4-cores-b.json"]
    rows = ("before", "### 4 cores, B, 3", "| a | 4.00  |  |", "### 2 cores, A, 1", "| a | 1.00  |  |", "after")
    shown = page.read_text()
    assert [line for line in shown.splitlines() if line in rows] == list(rows)
    assert "old" not in shown
