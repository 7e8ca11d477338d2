"""The wheels as a user installs them: in an environment and a folder with nothing else of this repository."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.processes.local_stack import RUNTIME

DEMO_S = 240


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, built, by distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ".", "./service"],
        cwd=ROOT,
        check=True,
    )
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture
def environment(tmp_path: Path, wheels: dict[str, Path]) -> Path:
    """Return the `bin` of a virtual environment with both wheels."""
    return install(list(wheels.values()), tmp_path)


def install(wheels: list[Path], parent: Path) -> Path:
    """Install wheels in a new virtual environment below `parent`; return its `bin`.

    Dependencies are those of this environment, read from where they are: to install them again would take minutes.
    This environment's pip installs them, so that it needs none.
    Its editable installations are not seen, since `.pth` files count only in a site directory.
    """
    folder = parent / "environment"
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-compile", *wheels], check=True)
    [site] = (folder / "lib").glob("python3.*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def top_level(wheel: Path) -> set[str]:
    """Return the names that a wheel puts into site-packages, its own metadata aside."""
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    return {name for name in names if not name.endswith(".dist-info")}


def test_the_client_installs_one_package(wheels: dict[str, Path]) -> None:
    """`pip install gleaner-ner` puts `gleaner` into site-packages and nothing else."""
    assert top_level(wheels["gleaner_ner"]) == {"gleaner"}
    assert top_level(wheels["gleaner_ner_service"]) == {"gateway", "jobs", "worker"}


def test_the_client_alone_has_a_working_command(wheels: dict[str, Path], tmp_path: Path) -> None:
    """Without the service `gleaner` lists its commands and reads files; commands of the service name its extra."""
    bin_folder = install([wheels["gleaner_ner"]], tmp_path)
    variables = {"PATH": f"{bin_folder}:/usr/bin:/bin", "HOME": str(tmp_path)}
    for arguments in (["--help"], ["extract", "--help"], ["redact", "--help"], ["jobs", "--help"]):
        subprocess.run(
            [bin_folder / "gleaner", *arguments], cwd=tmp_path, env=variables, capture_output=True, check=True
        )
    for arguments in (["keys", "list", "--keys-file", "k"], ["doctor", "--redis-url", "redis://127.0.0.1:1"]):
        refused = subprocess.run(
            [bin_folder / "gleaner", *arguments],
            cwd=tmp_path, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert refused.returncode == 2, refused.stderr
        assert "gleaner-ner[gateway]" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_an_editable_installation_has_no_copies() -> None:
    """In a checkout the packages are imported from it, wherever Python starts."""
    for name in ("gateway", "gleaner", "jobs", "worker"):
        assert not Path(sysconfig.get_paths()["purelib"], name).exists()


def test_both_distributions_have_one_version() -> None:
    """The client's extras name the service in its own version."""
    client, service = (
        tomllib.loads((ROOT / path).read_text())["project"] for path in ("pyproject.toml", "service/pyproject.toml")
    )
    assert client["version"] == service["version"]
    requirements = [line for lines in client["optional-dependencies"].values() for line in lines]
    named = [line for line in requirements if line.startswith(service["name"])]
    assert named
    assert [line for line in named if not line.endswith(f"=={client['version']}")] == []


@pytest.mark.timeout(2 * DEMO_S)
def test_the_wheels_alone_run_the_service(environment: Path, tmp_path: Path) -> None:
    """`gleaner demo` in an empty folder starts the service from the two wheels, with the shipped model.

    It shows highlighted entities and a summary, and leaves with 0.
    """
    empty = tmp_path / "empty"
    empty.mkdir()
    variables = {"PATH": f"{environment}:/usr/bin:/bin", "HOME": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "200"}
    variables |= RUNTIME  # named, so that only one is exported and tried
    origin = subprocess.run(
        [environment / "python", "-c", "import gateway, gleaner, jobs, worker; print(vars(worker), jobs, gateway)"],
        cwd=empty, env=variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(ROOT) not in origin.stdout

    demo = subprocess.run(
        [environment / "gleaner", "demo"],
        cwd=empty, env=variables, capture_output=True, text=True, timeout=DEMO_S, check=False,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stderr
    shown = ("Maren Albers[person]", "documents  10 (0 failed)", "documents/s", '"made_by": "gleaner demo"')
    assert [
        words for words in (*shown, "webhook    job.succeeded, signature verified") if words not in demo.stdout
    ] == []
