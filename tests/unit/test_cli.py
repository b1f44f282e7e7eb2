"""The commands, as a user sees them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fairopt as fo
from fairopt import cli
from fairopt.cli.app import COMMANDS, build
from fairopt.cli.show import word
from fairopt.experiments.studies import loanapp

RUNNER = CliRunner()


def test_backends_shows_every_backend_and_the_two_that_have_no_extra() -> None:
    shown = RUNNER.invoke(build(), ["backends"])
    assert shown.exit_code == 0, shown.output
    for name in fo.backends()["name"]:
        assert name in shown.output
    lines = [line.strip() for line in shown.output.splitlines() if "--no-deps" in line]
    assert any("qpth==0.0.18" in line for line in lines)
    assert any("theseus-ai==0.2.3" in line and "--no-build-isolation" in line for line in lines)


def test_help_names_every_command() -> None:
    shown = RUNNER.invoke(build(), ["--help"])
    assert shown.exit_code == 0, shown.output
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", shown.output), name


def test_the_stream_command_loads_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from fairopt.cli.app import build; "
        "shown = CliRunner().invoke(build(), ['stream', '--help']); print(shown.exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 False"


def test_the_lines_without_extras_name_the_pinned_versions() -> None:
    from fairopt.cli.backends import WITHOUT_DEPENDENCIES

    root = Path(__file__).parents[2]
    pins = {line for name in ("wheels", "sdists") for line in (root / "requirements" / f"{name}.txt").read_text().splitlines()}
    named = [spec for line in WITHOUT_DEPENDENCIES for spec in re.findall(r"[\w.-]+==[\w.]+", line)]
    assert len(named) == 5
    assert set(named) <= pins


def test_demo_prints_its_table_and_writes_its_picture(tmp_path: Path) -> None:
    picture = tmp_path / "seen.png"
    shown = RUNNER.invoke(build(), ["demo", "--quick", "--picture", str(picture)])
    assert shown.exit_code == 0, shown.output
    for make in loanapp.METHODS:
        assert make().name in shown.output
    for column in ("accuracy", "AUC", "gap of mean probability", "gap of decisions", "violation", "limits met"):
        assert column in shown.output
    assert f"picture: {picture}" in shown.output
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo", "--picture", "nowhere/x.png"], "--picture nowhere/x.png: expected a path that ends in .png"),
        (["demo", "--picture", "x.jpg"], "--picture x.jpg"),
        (["demo", "--tolerance", "-1"], "tolerance"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fairopt", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fairopt: ")
    assert said in line


def test_a_full_standard_output_is_one_line_and_exit_code_2() -> None:
    code = "from fairopt.cli import main; main()"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", code, "backends"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == ["fairopt: [Errno 28] No space left on device"]


def test_another_missing_module_is_not_blamed_on_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    genuine = builtins.__import__

    def broken(name: str, *args: object, **kwargs: object) -> object:
        if name == "fairopt.cli.app":
            raise ModuleNotFoundError("No module named 'other'", name="other")
        return genuine(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ModuleNotFoundError, match="other"):
        cli.main()


@pytest.mark.parametrize(
    ("value", "said"), [(None, "-"), ("", "-"), (True, "yes"), (False, "no"), (0.123456, "0.1235"), (3, "3"), ("a", "a")]
)
def test_words(value: object, said: str) -> None:
    assert word(value) == said
