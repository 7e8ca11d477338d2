"""Values become manifests."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.preflight.helm import Release, parse_manifests, render_release


def test_the_chart_is_rendered_as_on_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm gets values in their order, the server's version and kinds; its error is the command's."""
    helm = tmp_path / "helm"
    helm.write_text(f"""#!{sys.executable}
import sys
print("kind: Seen", sys.argv[1:], sep="\\nargs: ")
sys.exit("refused" if "bad=1" in sys.argv else 0)
""")
    helm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    release = Release("gleaner", "chart", "ns", (Path("a.yaml"), Path("b.yaml")), ("x=1",))
    [seen] = parse_manifests(render_release(release, "v1.36.2", [("keda.sh", "v1alpha1", "ScaledObject")]))
    arguments = " ".join(seen["args"])
    assert arguments.startswith(
        "template gleaner chart --namespace ns --include-crds --values a.yaml --values b.yaml"
    )
    assert "--set x=1 --kube-version v1.36.2" in arguments
    # Charts ask for a group's version, or for a kind.
    assert "--api-versions keda.sh/v1alpha1 --api-versions keda.sh/v1alpha1/ScaledObject" in arguments
    with pytest.raises(CommandError, match="helm template failed: refused"):
        render_release(replace(release, settings=("bad=1",)), "", [])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError, match="helm is not on the PATH"):
        render_release(release, "", [])


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "List", "items": [{"kind": "A"}, {"kind": "B"}]}',
        "kind: A\n---\n---\nkind: List\nitems: [{kind: B}]\n",
        "---\nkind: A\n---\nkind: B\n",
    ],
)
def test_documents_of_yaml_and_json(text: str) -> None:
    """Empty documents are none, and a List is its items."""
    assert [document["kind"] for document in parse_manifests(text)] == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("a: [", "not YAML"),
        ("a: 1", "not a Kubernetes object"),
        ("- kind: A", "not a Kubernetes object"),
    ],
)
def test_what_is_no_manifest_is_refused(text: str, message: str) -> None:
    """With the parser's reason."""
    with pytest.raises(CommandError, match=message):
        parse_manifests(text)
