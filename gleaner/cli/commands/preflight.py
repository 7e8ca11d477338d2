"""`gleaner preflight`: say what a cluster lacks for a release, before anything is created."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.preflight.cluster import make_kubectl, read_facts, read_server
from gleaner.cli.preflight.helm import Release, parse_manifests, render_release
from gleaner.cli.preflight.registry import TIMEOUT_S, check_image
from gleaner.cli.preflight.requirements import Requirements, list_requirements
from gleaner.cli.preflight.verdicts import check_release, list_needs
from gleaner.cli.printing import AsJson, print_findings


def check_cluster(
    values: Annotated[
        list[Path] | None, typer.Option("--values", "-f", help="Values file, as for helm; may be repeated.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, as for helm; may be repeated.")
    ] = None,
    chart: Annotated[str, typer.Option(help="The chart: a folder, an archive or oci://.")] = "charts/gleaner",
    release: Annotated[str, typer.Option(help="Name of the release.")] = "gleaner",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the release.")] = "gleaner",
    manifest: Annotated[
        Path | None,
        typer.Option(help="Rendered manifests in YAML or JSON, instead of running helm; - for standard input."),
    ] = None,
    context: Annotated[str | None, typer.Option(help="kubectl's context.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="List everything that must exist, without asking a cluster.")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Ask the registries for the images, from this machine.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Check Secrets, CRDs, classes, quotas, nodes and images that a release needs; creates nothing.

    Needs helm and kubectl on the PATH. Exit code 1 if something is missing.
    """
    wanted = Release(release, chart, namespace, tuple(values or ()), tuple(settings or ()))
    if offline:
        requirements = _read_requirements(wanted, manifest, "", frozenset())
        print_findings(list_needs(requirements), as_json)
        return
    kubectl = make_kubectl(context)
    version, apis = read_server(kubectl)
    requirements = _read_requirements(wanted, manifest, version, apis)
    facts = read_facts(kubectl, requirements, namespace, apis)
    bad = print_findings(check_release(requirements, facts), as_json)
    if images:
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
            findings = (check_image(client, need) for need in requirements.images)
            bad = print_findings(findings, as_json) or bad
    if bad:
        raise typer.Exit(1)


def _read_requirements(
    release: Release, manifest: Path | None, kube_version: str, apis: frozenset[tuple[str, str, str]]
) -> Requirements:
    if manifest is None:
        text = render_release(release, kube_version, apis)
    else:
        text = sys.stdin.read() if str(manifest) == "-" else manifest.read_text()
    try:
        return list_requirements(parse_manifests(text), release.namespace)
    except (KeyError, TypeError, ValueError) as error:
        raise CommandError(f"a manifest is not valid ({type(error).__name__}: {error}); try helm lint") from None
