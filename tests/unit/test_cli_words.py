"""What the commands say and take: help without torch, one line for each error, names as text on terminals, pages and pipes."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import fairopt as fo
from fairopt import cli
from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.cli.app import COMMANDS, build
from fairopt.cli.show import console, rich_table, say

NAMES = ("$x$", "$\\frac{", "_y", "{z}", "<b>bold</b>", "[red]r[/red]", "日本", "😀", ":smile:", "a\x1b[31m", "=1+1")
GROUP = "$g_{1}[red]日"
FAIROPT = (sys.executable, "-m", "fairopt")


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files that are and are not tables."""
    rng = np.random.default_rng(0)
    rows = [f"{rng.random():.3f},{NAMES[i % len(NAMES)]},{i % 2},{['no', 'yes'][i % 2]},{2 * (i % 2) - 1}" for i in range(220)]
    (tmp_path / "names.csv").write_text("\n".join([f"score,{GROUP},y,word,sign", *rows]) + "\n", encoding="utf-8")
    (tmp_path / "good.csv").write_text("score,sex,y\n" + "".join(f"{i / 40},{'ab'[i % 2]},{i % 3 % 2}\n" for i in range(40)))
    (tmp_path / "empty.csv").touch()
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "binary.parquet").write_bytes(b"PAR1" + bytes(range(256)))
    (tmp_path / "damaged.csv.gz").write_bytes(b"\x1f\x8b" + bytes(40))
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*FAIROPT, *words], capture_output=True, env={**os.environ, **environment}, timeout=300, check=False)


# Help and version ---------------------------------------------------------------------------------------------------------


def test_help_imports_no_command_and_is_there_at_once() -> None:
    code = (
        "import sys; sys.argv = ['fairopt', '--help']\nfrom fairopt.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n"
        "    print('code', end.code, {'torch', 'numpy', 'pandas'} & set(sys.modules))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1.0  # seconds of work, whatever else the machine does
    assert done.stdout.splitlines()[-1] == "code 0 set()"
    assert all(name in done.stdout for name in COMMANDS)


def test_the_list_says_what_the_commands_say() -> None:
    for name, place in COMMANDS.items():
        told = " ".join((getattr(import_module(f"fairopt.cli.{place.module}"), place.function).__doc__ or "").split())
        assert told.startswith(place.help.removesuffix(".")), name


def test_the_module_and_the_version() -> None:
    assert call("--version").stdout.decode().split() == ["fairopt", fo.__version__]
    assert b"audit" in call("--help").stdout
    unknown = call("nothing")
    assert unknown.returncode == 2
    assert b"No such command" in unknown.stderr


def test_backends_as_json(tmp_path: Path) -> None:
    for words in (["--json"], ["--json", "-"]):
        shown = CliRunner().invoke(build(), ["backends", *words])
        assert shown.exit_code == 0, shown.output
        assert [row["name"] for row in json.loads(shown.stdout)] == list(fo.backends()["name"])
    shown = CliRunner().invoke(build(), ["backends", "--json", str(tmp_path / "list.json")])
    assert len(json.loads((tmp_path / "list.json").read_text())) == len(fo.backends())
    assert "dual_newton" in shown.output  # and the table


# Bad input ----------------------------------------------------------------------------------------------------------------

AUDIT = ("audit", "good.csv", "--score", "score", "--sensitive", "sex")
STREAM = ("stream", "--input", "good.csv", "--sensitive", "sex", "--state", "state.db")
UNREADABLE = ("nothing.csv", "folder", "empty.csv", "binary.csv", "binary.parquet", "damaged.csv.gz", "good.csv/inside", "a\0b")
ONE_LINE: tuple[tuple[str, ...], ...] = (
    *(("audit", file, "--score", "score", "--sensitive", "sex") for file in UNREADABLE),
    *(("stream", "--input", file, "--sensitive", "sex", "--state", "state.db") for file in UNREADABLE),
    *(("replay", "--data", data, "--path", file) for data in ("adult", "acs") for file in UNREADABLE[:-1]),
    *((*AUDIT, option, value) for option, value in (
        ("--tolerance", "nan"), ("--tolerance", "-1"), ("--tolerance", "inf"), ("--confidence", "nan"), ("--draws", "-1"), ("--seed", "-1"),
        ("--threshold", "nan"), ("--missing-group", "x"), ("--bounds", "1,0"), ("--bounds", "nan,1"), ("--bounds", "0"), ("--notion", "x"),
        ("--notion", "math:pi"), ("--notion", ":"), ("--notion", ""), ("--given", "x"), ("--target", "x"), ("--sensitive", ""),
        ("--encoding", "x"), ("--separator", ""), ("--decimal", "xy"), ("--json", "folder"), ("--json", "nowhere/x"), ("--csv", "good.csv"),
        ("--html", "folder"), ("--local-law", "sex"), ("--unknown", "x"), ("--pos-label", "1"), ("--score", "sex"),
    )),
    (*AUDIT, "--target", "y", "--pos-label", "nobody"),
    (*AUDIT, "--json", "-", "--csv", "-"),
    *((*STREAM, option, value) for option, value in (
        ("--tolerance", "nan"), ("--tolerance", "-1"), ("--kappa", "nan"), ("--kappa", "-1"), ("--bounds", "nan,nan"), ("--window", "x"),
        ("--window", "sliding:0"), ("--window", "forget:nan"), ("--window", "forget:-1"), ("--controller", "x"), ("--durable", "x"),
        ("--keep-keys", "0"), ("--notion", "x"), ("--missing-group", "x"), ("--output", "folder"), ("--picture", "nowhere/x.png"),
        ("--json", "folder"), ("--state", "folder"), ("--state", "binary.csv"), ("--state", "nowhere/x.db"),
    )),
    *(("compare", option, value) for option, value in (
        ("--backend", "nobody"), ("--backend", "qpsolvers:nobody"), ("--notion", "x"), ("--n", "-1"), ("--n", "1"), ("--groups", "0"),
        ("--dtype", "x"), ("--box", "x"), ("--gradient", "x"), ("--preset", "x"), ("--form", "x"), ("--output", "good.csv"),
        ("--time-limit", "nan"), ("--time-limit", "-1"), ("--memory-limit", "nan"), ("--memory-limit", "inf"), ("--memory-limit", "-1"),
    )),
    ("compare", "--preset", "quick", "--n", "64"),
    ("reproduce", "nobody"),
    ("reproduce", "loanapp", "--page", "page.txt"),
    ("reproduce", "loanapp", "--page", "nowhere/page.md"),
    ("reproduce", "loanapp", "--output", "good.csv"),
    ("reproduce", "law", "--data", "nowhere"),
    ("reproduce", "law", "--data", "binary.csv"),
    ("demo", "--tolerance", "nan"),
    ("demo", "--picture", "x.jpg"),
    ("demo", "--picture", "nowhere/x.png"),
    ("replay", "--data", "nobody"),
    ("replay", "--order", "nobody"),
    ("replay", "--tolerance", "nan"),
    ("replay", "--picture", "x.jpg"),
    ("replay", "--data", "adult"),
    ("verify", "--notion", "nobody"),
    ("verify", "--backend", "nobody"),
    ("verify", "--backend", "qpsolvers:nobody"),
    ("verify", "--claims", "L99"),
    ("verify", "--json", "nowhere/x.json"),
    ("backends", "--json", "nowhere/x.json"),
)  # fmt: skip


@pytest.mark.parametrize("words", ONE_LINE, ids=lambda words: " ".join(words).replace("\0", "NUL"))
def test_bad_input_is_one_line_and_exit_code_2(
    words: tuple[str, ...], odd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(p.name for p in odd.iterdir())
    monkeypatch.setattr("sys.argv", ["fairopt", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    told = capsys.readouterr()
    assert stopped.value.code == 2
    (line,) = told.err.splitlines()
    assert line.startswith("fairopt: ")
    assert not told.out
    left = sorted(p.name for p in odd.iterdir() if p.name != "fairopt-reproduce")  # its file of finished cells begins with what is asked
    assert left == before


@pytest.mark.parametrize(
    "words",
    [
        ("audit",), (*AUDIT, "--nothing"), (*AUDIT, "--tolerance", "x"), (*AUDIT, "--draws", "1.5"), ("verify", "--instances", "0"),
        ("verify", "--seed", "-1"), ("compare", "--repeats", "0"), ("demo", "--seeds", "0"), (*STREAM, "--batch", "0"), ("nothing",),
    ],
)  # fmt: skip
def test_wrong_usage_has_exit_code_2(words: tuple[str, ...], odd: Path) -> None:
    assert CliRunner().invoke(build(), list(words)).exit_code == 2


@pytest.mark.parametrize("absent", ["pandas", "pyarrow", "matplotlib", "jinja2"])
def test_a_race_names_an_absent_extra_before_it_starts(
    absent: str, odd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.setattr("sys.argv", ["fairopt", "compare", "--backend", "closed_form", "--n", "16"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert re.search(rf"{absent}.*pip install", said, re.IGNORECASE)
    assert not (odd / "fairopt-race").exists()


def test_a_read_only_folder_is_named(odd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.access", lambda path, mode, **_: not mode & os.W_OK)
    monkeypatch.setattr("sys.argv", ["fairopt", "compare", "--output", "folder"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "fairopt: --output: folder cannot be written: the folder is read-only\n"


# Remedies that the command takes --------------------------------------------------------------------------------------------


def said(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr("sys.argv", ["fairopt", *words])
    with pytest.raises(SystemExit):
        cli.main()
    return capsys.readouterr().err


def test_the_remedies_of_an_audit_are_options(odd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("audit", "names.csv", "--score", "score", "--sensitive", GROUP, "--notion", "EqualOpportunity", "--draws", "100")
    assert "--pos-label" in said((*names, "--target", "sign"), monkeypatch, capsys)
    assert CliRunner().invoke(build(), [*names, "--target", "sign", "--pos-label", "1"]).exit_code == 0
    assert CliRunner().invoke(build(), [*names, "--target", "word", "--pos-label", "yes"]).exit_code == 0
    (odd / "gaps.csv").write_text("score,sex\n" + "0.1,a\n0.3,\n0.2,b\n" * 5)
    gaps = ("audit", "gaps.csv", "--score", "score", "--sensitive", "sex", "--draws", "100")
    assert "--missing-group own" in said(gaps, monkeypatch, capsys)
    assert CliRunner().invoke(build(), [*gaps, "--missing-group", "own"]).exit_code == 0


def test_json_before_a_file_is_a_flag_and_the_file_is_left_as_it_is(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (odd / "good.csv").read_bytes()
    shown = CliRunner().invoke(build(), ["audit", "--json", "good.csv", "--score", "score", "--sensitive", "sex"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["n"] > 0
    again = CliRunner().invoke(build(), ["audit", "good.csv", "--score", "score", "--sensitive", "sex", "--json"])
    assert again.stdout == shown.stdout
    shown = CliRunner().invoke(build(), ["backends", "--json", "good.csv"])
    assert shown.exit_code == 2  # it takes no file
    assert (odd / "good.csv").read_bytes() == before
    for place in (["--json", "new"], ["--json=other.csv"], ["--json", "list.json"], ["--json", "list.json"]):
        assert CliRunner().invoke(build(), ["backends", *place]).exit_code == 0
        assert json.loads((odd / place[-1].removeprefix("--json=")).read_text())


def test_text_targets_without_pos_label_name_it(odd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("audit", "names.csv", "--score", "score", "--sensitive", GROUP, "--target", "word", "--notion", "EqualOpportunity")
    assert "where targets are words, pass --pos-label, the one that counts as 1" in said(names, monkeypatch, capsys)


def test_a_stream_takes_the_targets_that_an_audit_takes(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for target, more in (("y", []), ("word", ["--pos-label", "yes"]), ("sign", ["--pos-label", "1"])):
        files = ["--input", "names.csv", "--output", f"{target}.csv", "--state", f"{target}.db", "--json", f"{target}.json"]
        words = ["stream", *files, "--sensitive", GROUP, "--notion", "equal_opportunity", "--target", target, *more]
        shown = CliRunner().invoke(build(), words)
        assert shown.exit_code == 0, shown.output
        found.append(json.loads((odd / f"{target}.json").read_text())["pooled_gaps"])
    assert found[0] == found[1] == found[2]
    assert set(found[0].values()) != {None}
    again = CliRunner().invoke(build(), [*words[:-1], "-1"])
    assert "--pos-label was '1', now '-1'" in str(again.exception)


def test_a_label_that_no_target_has_is_a_problem_of_the_stream(odd: Path) -> None:
    words = ["stream", "--input", "names.csv", "--state", "s.db", "--sensitive", GROUP, "--notion", "equal_opportunity", "--target", "word"]
    shown = CliRunner().invoke(build(), [*words, "--pos-label", "Yes"])
    assert shown.exit_code == 2
    assert "problem: no target is 'Yes', which was to count as 1; the first ones found are 'no', 'yes'" in shown.stderr
    shown = CliRunner().invoke(build(), [*words[:3], "--output", "n.csv", "--state", "n.db", *words[5:]])
    assert shown.exit_code == 2
    assert "pass --pos-label, the one that counts as 1" in shown.stderr
    assert isinstance(CliRunner().invoke(build(), [*words[:-2], "--pos-label", "yes"]).exception, InputError)


def test_pos_label_gives_the_figures_of_0_and_1(odd: Path) -> None:
    found = []
    for target, more in (("y", []), ("word", ["--pos-label", "yes"]), ("sign", ["--pos-label", "1"])):
        words = ["audit", "names.csv", "--score", "score", "--sensitive", GROUP, "--notion", "equalized_odds", "--draws", "100"]
        shown = CliRunner().invoke(build(), [*words, "--target", target, *more, "--json", "-"])
        assert shown.exit_code == 0, shown.output
        found.append(json.loads(shown.stdout)["tables"]["gaps"])
    assert found[0] == found[1] == found[2]


# Names are text -------------------------------------------------------------------------------------------------------------


def test_a_table_and_a_line_show_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    screen = console()
    screen.print(rich_table(Table(NAMES, (NAMES,), "[b]title :cat:")))
    for name in NAMES:
        say(screen, name)
    out = capsys.readouterr().out
    for name in NAMES:
        assert out.count(name.replace("\x1b", "\\x1b")) == 3, name
    assert "[b]title :cat:" in out
    assert "\x1b" not in out


def test_an_audit_of_odd_names(odd: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = CliRunner().invoke(
            build(),
            ["audit", "names.csv", "--score", "score", "--sensitive", GROUP, "--html", "a.html", "--json", "a.json", "--csv", "a.csv"],
        )
    assert shown.exit_code == 0, shown.output
    for name in NAMES:
        assert name.replace("\x1b", "\\x1b") in shown.output
    page = (odd / "a.html").read_text(encoding="utf-8")
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    groups = {row["group"] for row in json.loads((odd / "a.json").read_text(encoding="utf-8"))["tables"]["groups"]}
    assert set(NAMES) <= groups
    assert "日本" in (odd / "a.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=str,
)  # fmt: skip
def test_a_narrow_encoding_loses_no_file_and_no_line(environment: dict[str, str], odd: Path) -> None:
    done = call(
        "audit", "names.csv", "--score", "score", "--sensitive", GROUP, "--draws", "100", "--csv", "a.csv", "--strict", **environment
    )
    assert done.returncode == 1, done.stderr
    assert not done.stderr
    assert "日本" in (odd / "a.csv").read_text(encoding="utf-8")
    if environment != {"LC_ALL": "C"}:  # Python takes that for UTF-8
        assert b"\\u65e5\\u672c" in done.stdout


def test_a_closed_pipe_ends_in_silence_with_the_true_exit_code(odd: Path) -> None:
    for more in ([], ["--json", "-"]):
        words = ["audit", "names.csv", "--score", "score", "--sensitive", GROUP, "--draws", "100", "--strict", *more]
        with subprocess.Popen([*FAIROPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            running.stdout.close()
            told = running.stderr.read()
            assert running.wait(timeout=300) == 1
        assert b"rror" not in told
