"""Every helm command of the pages and of our scripts, rendered with its own values, release and namespace."""

from __future__ import annotations

from dataclasses import dataclass, field

import helm_python as helm
import pytest
import yaml

from tests.conftest import ROOT
from tests.operations.pages.recorder import PAGES, Call, list_commands, record_calls
from tests.support import chart

FLAGS = {
    "--create-namespace", "--wait", "--logs", "--rollback-on-failure", "--force-conflicts", "--hide-secret",
    "--install", "--dry-run=server",
}  # fmt: skip
VALUED = {
    "-n": "-n",
    "--namespace": "-n",
    "-f": "-f",
    "--values": "-f",
    "--set": "--set",
    "--timeout": "",
    "--version": "",
    "-o": "",
}
CHARTS = ("charts/gleaner", "/../../charts/gleaner", "oci://ghcr.io/OWNER/charts/gleaner")
OURS = {
    "backup": {"enabled": True, "destination": "store:bucket/ledger"},
    "models": {"gliner-medium": {"source": "s3://acme/ner-7"}, "gliner-medium-next": {"source": "s3://acme/ner-8"}},
    "modelSplits": {
        "medium": {"gliner-medium": 90, "gliner-medium-next": 10},
        "gliner-medium": {"gliner-medium": 90, "gliner-medium-next": 10},
    },
}
"""The reader's `values.yaml`."""


@dataclass(frozen=True, slots=True)
class HelmCall:
    """A call of helm, or of `gleaner preflight`, which renders as helm does."""

    verb: str
    names: list[str]
    namespace: str
    files: list[str]
    settings: list[str] = field(default_factory=list)


def parse_call(call: Call) -> HelmCall:
    """Return what a call says.

    Raises:
        AssertionError: helm has no such option, as far as the pages use it.
    """
    words = [word for word in call.arguments if word not in ("diff", "…")]
    plain: list[str] = []
    options: dict[str, list[str]] = {}
    while words:
        word = words.pop(0)
        if word in VALUED:
            options.setdefault(VALUED[word], []).append(words.pop(0))
        elif word.startswith("-"):
            assert word in FLAGS, (str(call), word)
        else:
            plain.append(word)
    [namespace] = options.get("-n", [""])
    return HelmCall(plain[0], plain[1:], namespace, options.get("-f", []), options.get("--set", []))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HelmCall]:
    """Return every distinct call that names a release."""
    workplace = tmp_path_factory.mktemp("page")
    codes = [code for page in PAGES.values() for code in list_commands(page)]
    recorded = record_calls(codes, workplace)
    wanted = [
        call
        for call in recorded
        if call.program == "helm" or (call.arguments[:1] == ("preflight",) and call.arguments[1:])
    ]
    return {str(call): parse_call(call) for call in wanted if len(call.arguments) > 1}


def test_every_helm_command_renders(calls: dict[str, HelmCall]) -> None:
    """Its overlays and the values of `--set` exist, and templates and validations accept the combination."""
    rendered = 0
    for text, call in calls.items():
        if call.verb in ("install", "upgrade", "preflight") and (call.names or call.files or call.settings):
            assert _render(call), text
            rendered += 1
    assert rendered >= 10


def _render(call: HelmCall) -> list[chart.Manifest]:
    """Render as helm would; a release that is tested is one that was installed."""
    layers = [OURS if name == "values.yaml" else yaml.safe_load((ROOT / name).read_text()) for name in call.files]
    layers += [helm.parse_set_string(setting) for setting in call.settings]
    if call.names:
        assert call.names[1].endswith(CHARTS), call
    release = call.names[0] if call.names else "gleaner"
    return chart.render_manifests(chart.merge_values(*layers), release=release, namespace=call.namespace)


def test_every_helm_command_is_for_a_release_of_the_pages(calls: dict[str, HelmCall]) -> None:
    """Release and namespace belong together; `registry` and `push` have none."""
    for text, call in calls.items():
        if call.verb in ("test", "rollback", "uninstall", "install", "upgrade") and call.names:
            assert (call.names[0], call.namespace) in (("gleaner", "gleaner"), ("drill", "gleaner-drill")), text


def test_the_example_of_a_wrong_value_is_refused() -> None:
    """The check can fail: a value that the chart does not have."""
    wrong = Call(
        "helm", ("upgrade", "gleaner", "charts/gleaner", "-n", "gleaner", "--set", "backup.fetch.enable=true")
    )
    with pytest.raises(helm.HelmError, match="enable"):
        _render(parse_call(wrong))
    with pytest.raises(AssertionError, match="--atomic"):
        parse_call(Call("helm", ("upgrade", "gleaner", "charts/gleaner", "--atomic")))
