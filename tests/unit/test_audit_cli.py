"""``fairopt audit`` as a user sees it, the files it reads and the files it writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import fairopt as fo
from fairopt.auditing import read_json
from fairopt.auditing.pictures import ROWS, draw_pictures, widest
from fairopt.auditing.report import LONGEST
from fairopt.basics.errors import InputError
from fairopt.cli.app import build

RUNNER = CliRunner()
OWN = fo.DemographicParity("sex", tolerance=0.01) & fo.EqualOpportunity("race", tolerance=0.3)
NOT_A_NOTION = 3


def frame(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "p": np.clip(rng.beta(2, 2, n), 0, 1),
            "sex": rng.choice(["f", "m"], n),
            "race": rng.choice(["a", "NA", "None"], n),
            "y": rng.integers(0, 2, n),
            "chosen": rng.integers(0, 2, n),
            "age": rng.normal(40, 9, n),
        }
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    frame().to_csv(path, index=False)
    return path


def call(*words: str | Path) -> Any:
    return RUNNER.invoke(build(), ["audit", *map(str, words)])


def error(*words: str | Path) -> str:
    done = call(*words)
    assert isinstance(done.exception, InputError), done.output
    return str(done.exception)


def test_the_terminal_shows_every_table(file: Path) -> None:
    done = call(file, "--score", "p", "--sensitive", "sex", "--sensitive", "sex,race", "--target", "y", "--local-law", "sex,race")
    assert done.exit_code == 0, done.output
    titles = ("Summary", "Gaps", "Groups", "Between groups", "four-fifths format", "Local Law 144 format: scoring rate, intersectional")
    for title in titles:
        assert title in done.output
    for word in ("true_positive_rate", "Clopper-Pearson", "bootstrap-t", "sex & race", "f & None", "data sha256"):
        assert word in done.output
    assert "nan" not in done.output


def test_its_figures_are_those_of_the_function(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    words = ["--notion", "equalized-odds", "--notion", "impact_ratio", "--ratio", "0.9", "--tolerance", "0.1", "--threshold", "0.6"]
    done = call(
        file,
        "--score",
        "p",
        "--sensitive",
        "sex",
        "--target",
        "y",
        *words,
        "--given",
        "race",
        "--draws",
        "200",
        "--seed",
        "3",
        "--json",
        out,
    )
    assert done.exit_code == 0, done.output
    data = frame()
    expected = fo.audit(
        data["p"],
        [fo.EqualizedOdds("sex", tolerance=0.1, given="race"), fo.ImpactRatio("sex", ratio=0.9, given="race")],
        sensitive_features=data[["sex", "race"]], targets=data["y"], threshold=0.6, attributes=["sex"], draws=200, seed=3,
    )  # fmt: skip
    read = read_json(out)
    assert read["data_hash"] == expected.data_hash
    assert [list(r) for r in read["tables"]["gaps"].rows] == [list(r) for r in expected.gaps.rows]
    assert read["tables"]["groups"] == expected.groups
    assert list(dict.fromkeys(expected.groups["attribute"])) == ["", "sex"]


def test_parquet_gives_the_same_audit(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "scores.parquet"
    frame().to_parquet(other, index=False)
    for path in (file, other):
        assert call(path, "--score", "p", "--sensitive", "sex", "--json", tmp_path / f"{path.suffix[1:]}.json").exit_code == 0
    first, second = ((tmp_path / f"{kind}.json").read_text() for kind in ("csv", "parquet"))
    assert first == second


@pytest.mark.parametrize(
    ("notion", "options", "name"),
    [
        ("demographic_parity", [], "DemographicParity"),
        ("equal_opportunity", [], "EqualOpportunity"),
        ("predictive_equality", [], "PredictiveEquality"),
        ("equalized_odds", [], "EqualizedOdds"),
        ("mean_residual", [], "MeanResidual"),
        ("residual_parity", [], "ResidualParity"),
        ("impact_ratio", [], "ImpactRatio"),
        ("group_mean_bound", ["--lower", "0.4", "--upper", "0.6"], "GroupMeanBound"),
    ],
)
def test_every_notion_has_a_word(file: Path, notion: str, options: list[str], name: str) -> None:
    done = call(file, "--score", "p", "--sensitive", "race", "--target", "y", "--notion", notion, "--draws", "100", *options)
    assert done.exit_code == 0, done.output
    assert name in done.output


def test_a_covariance_takes_a_continuous_column(file: Path) -> None:
    done = call(file, "--score", "p", "--sensitive", "age", "--notion", "score_covariance", "--tolerance", "0.5")
    assert done.exit_code == 0, done.output
    assert "ScoreCovariance('age', tolerance=0.5): every constraint holds exactly" in done.output


def test_a_notion_of_ones_own_brings_its_columns(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "my_notions", __import__("types").SimpleNamespace(own=OWN, other=NOT_A_NOTION))
    done = call(file, "--score", "p", "--sensitive", "sex", "--target", "y", "--notion", "my_notions:own")
    assert done.exit_code == 0, done.output
    assert "EqualOpportunity" in done.output
    assert "is a int, expected a notion" in error(file, "--score", "p", "--sensitive", "sex", "--notion", "my_notions:other")
    assert "cannot import 'my_notions:none'" in error(file, "--score", "p", "--sensitive", "sex", "--notion", "my_notions:none")
    assert "cannot import 'no_such:own'" in error(file, "--score", "p", "--sensitive", "sex", "--notion", "no_such:own")


def test_only_an_empty_cell_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("p,sex\n0.1,NA\n0.2,\n0.3,null\n0.4,NA\n")
    assert "missing value at position 1" in error(path, "--score", "p", "--sensitive", "sex")
    done = call(path, "--score", "p", "--sensitive", "sex", "--missing-group", "own", "--local-law", "sex,sex2")
    assert isinstance(done.exception, InputError)
    done = call(path, "--score", "p", "--sensitive", "sex", "--missing-group", "own")
    assert re.search(r"missing +\d", done.output)
    assert "sex: groups too small" in done.output


def test_decisions_of_a_column(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    assert call(file, "--score", "p", "--sensitive", "sex", "--decision", "chosen", "--json", out).exit_code == 0
    selected = {r["group"]: r["selected"] for r in read_json(out)["tables"]["ratios"]}
    data = frame()
    assert selected == {g: int(data["chosen"][data["sex"] == g].sum()) for g in "fm"}


@pytest.mark.parametrize(("tolerance", "code"), [("0.0001", 1), ("0.5", 0)])
def test_strict_says_it_by_the_exit_code(file: Path, tolerance: str, code: int) -> None:
    assert call(file, "--score", "p", "--sensitive", "race", "--tolerance", tolerance, "--strict").exit_code == code
    assert call(file, "--score", "p", "--sensitive", "race", "--tolerance", tolerance).exit_code == 0


def test_strict_does_not_pass_what_was_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("p,g\n.1,a\n.9,a\n")
    assert call(path, "--score", "p", "--sensitive", "g", "--strict").exit_code == 1
    assert call(path, "--score", "p", "--sensitive", "g").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--score", "q"], "--score: scores.csv has no column 'q'; it has 'p', 'sex', 'race', 'y', 'chosen', 'age'"),
        (["--sensitive", "gender"], "--sensitive: scores.csv has no column 'gender'"),
        (["--target", "z"], "--target: scores.csv has no column 'z'"),
        (["--decision", "z"], "--decision: scores.csv has no column 'z'"),
        (["--score", "sex"], r"column 'sex' has 'f' in row 1 \(line 2\), expected a number \(120 such rows of 120\)"),
        (["--decision", "age"], "decisions: got"),
        (["--notion", "parity"], "--notion: got 'parity', expected one of demographic_parity"),
        (["--notion", "group_mean_bound"], "GroupMeanBound needs lower, upper or both"),
        (["--notion", "equalized_odds"], "targets: got None"),
        (["--local-law", "sex"], "--local-law: got 'sex', expected two columns"),
        (["--unknown", "x"], "--unknown: expected --local-law"),
        (["--given", ","], "--given: got ','"),
        (["--missing-group", "skip"], "missing_group: got 'skip'"),
        (["--tolerance", "-1"], "tolerance of DemographicParity"),
        (["--sensitive", "age"], "a continuous attribute has no groups"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_bad_words_are_one_clear_line(file: Path, words: list[str], said: str) -> None:
    usual = [] if "--score" in words else ["--score", "p"]
    found = error(file, *usual, "--sensitive", "race", *words)
    assert re.search(said, found), found


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.csv", None, "there is no such file"),
        ("empty.csv", "", "no header line: the file is empty"),
        ("header.csv", "p,sex\n", "got no rows"),
        ("hole.csv", "p,sex\n0.1,a\n,b\n,b\n", r"column 'p' has an empty cell in row 2 \(line 3\), expected a number \(2 such rows of 3\)"),
        ("word.csv", "p,sex\n0.1,a\nhigh,b\n", "column 'p' has 'high' in row 2"),
        ("inf.csv", "p,sex\n0.1,a\ninf,b\n", "column 'p' has 'inf' in row 2"),
        ("broken.parquet", "not parquet", "cannot be read as Parquet"),
        ("ragged.csv", "p,sex\n0.1,a\n0.1,a,b,c\n", "line 3: 4 fields, the header has 2"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    found = error(path, "--score", "p", "--sensitive", "sex")
    assert re.search(said, found), found


# files ----------------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page asks for, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [str(v) for k, v in attrs if k in ("src", "href", "action", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_whole_and_loads_nothing(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.html"
    done = call(
        file, "--score", "p", "--sensitive", "sex", "--sensitive", "race", "--target", "y", "--local-law", "sex,race", "--html", out
    )
    assert done.exit_code == 0, done.output
    text = out.read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.asked) == 3
    assert all(src.startswith("data:image/png;base64,") for src in page.asked)
    assert not re.search(r"https?://|@import|url\(", text)
    words = " ".join(page.words)
    for said in ("Summary", "Exact check", "four-fifths", "Local Law 144", "data hash (sha256)", "torch", "confidence", "f & NA"):
        assert said in words
    assert re.search(r"none of\s+them is a legal verdict", words)
    assert str(tmp_path) not in text


def test_words_of_the_data_are_escaped(tmp_path: Path) -> None:
    audit = fo.audit([0.1, 0.2, 0.3, 0.4], OWN.leaves()[0].notion, sensitive_features={"sex": ["<b>x", "<b>x", "&y", "&y"]}, draws=100)
    text = audit.to_html(tmp_path / "a.html").read_text()
    assert "<b>x" not in text
    assert "&lt;b&gt;x" in text


def audited(k: int, n: int) -> fo.Audit:
    rng = np.random.default_rng(0)
    return fo.audit(rng.random(n), fo.DemographicParity("g", tolerance=0.01), sensitive_features={"g": np.arange(n) % k}, draws=100)


def test_long_tables_are_cut_on_the_page_and_it_says_so(tmp_path: Path) -> None:
    audit = audited(30, 300)
    assert len(audit.gaps) == 870
    text = audit.to_html(tmp_path / "a.html").read_text()
    assert f"{870 - LONGEST} more rows are in the JSON" in text
    assert len(audit.to_dict()["tables"]["gaps"]) == 870
    lines = widest(audit)
    assert len(lines) == ROWS
    beyond = [max(r["gap"] - r["limit"] for r in rows.values()) for _, rows in lines]
    assert beyond == sorted(beyond, reverse=True)
    assert beyond[0] == max(r["gap"] - r["limit"] for r in audit.gaps)


@pytest.mark.parametrize("features", [{"g": [0] * 8}, {"x": list(np.linspace(0, 1, 8))}], ids=["one group", "no groups"])
def test_a_picture_without_a_mark_is_not_drawn(features: dict[str, Any]) -> None:
    notion = fo.DemographicParity("g", tolerance=0.1) if "g" in features else fo.ScoreCovariance("x", tolerance=0.1)
    drawn = draw_pictures(fo.audit([0.5] * 8, notion, sensitive_features=features, draws=100))
    assert set(drawn) == ({"groups", "scores"} if "g" in features else {"gaps"})
    assert all(data.startswith(b"\x89PNG") and len(data) > 3000 for data in drawn.values())


def test_json_comes_back_and_a_newer_format_is_refused(tmp_path: Path) -> None:
    audit = audited(3, 60)
    path = tmp_path / "a.json"
    text = audit.to_json(path)
    assert json.loads(text)["format"] == 1
    for read in (read_json(path), read_json(text)):
        assert read["tables"]["gaps"] == audit.gaps
        assert read["notes"] == list(audit.notes)
        assert read["checks"][0]["holds"] is False
    for version in (2, "1", None):
        with pytest.raises(InputError, match="audit: got format"):
            read_json(json.dumps({**json.loads(text), "format": version}))


def test_an_open_limit_is_null_in_json() -> None:
    audit = fo.audit([0.1, 0.9], fo.GroupMeanBound("g", lower=0.0, upper=float("1e308")), sensitive_features={"g": [0, 1]}, draws=100)
    assert "Infinity" not in audit.to_json()


def test_tables_become_frames_and_csv(tmp_path: Path) -> None:
    audit = audited(3, 60)
    frames = audit.to_pandas()
    assert list(frames) == ["summary", "gaps", "groups", "spread", "ratios", "distribution"]
    assert list(frames["gaps"]["gap"]) == list(audit.gaps["gap"])
    back = pd.read_csv(audit.to_csv(tmp_path / "g.csv"))
    assert np.allclose(back["gap"], audit.gaps["gap"], rtol=0, atol=0)
    assert len(pd.read_csv(audit.to_csv(tmp_path / "r.csv", "ratios"))) == 3
    with pytest.raises(InputError, match="table: got 'ratio', expected one of summary, gaps"):
        audit.to_csv(tmp_path / "x.csv", "ratio")


def test_the_distribution_sums_to_one_in_every_group() -> None:
    audit = audited(3, 61)
    sums: dict[str, float] = {}
    for row in audit.distribution:
        sums[row["group"]] = sums.get(row["group"], 0.0) + row["share"]
    assert sums == pytest.approx({"0": 1.0, "1": 1.0, "2": 1.0})


# files of text ---------------------------------------------------------------------------------------------------------------


def audit_of(tmp_path: Path, data: bytes | str, *words: str) -> dict[str, Any]:
    path = tmp_path / "in.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    done = call(path, "--score", "p", "--sensitive", "g", "--draws", "100", "--json", tmp_path / "a.json", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    return read_json(tmp_path / "a.json")


def groups_of(read: dict[str, Any]) -> dict[str, float]:
    return {r["group"]: r["value"] for r in read["tables"]["groups"] if r["attribute"] and r["measure"] == "mean_score"}


def test_groups_are_text_as_written(tmp_path: Path) -> None:
    cells = ["01", "1", "02134", "2134", "1e3", "1000", "9007199254740993", "9007199254740992", "True", "NA", " 1", "1.0"]
    found = groups_of(audit_of(tmp_path, "p,g\n" + "".join(f"0.{i:02d},{g}\n" for i, g in enumerate(cells))))
    assert found == {g: float(f"0.{i:02d}") for i, g in enumerate(cells)}


def test_a_gap_between_01_and_1_is_found(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("p,g\n" + "0.9,01\n0.1,1\n" * 20)
    assert call(path, "--score", "p", "--sensitive", "g", "--strict").exit_code == 1


def test_a_group_called_missing_is_not_the_empty_cells(tmp_path: Path) -> None:
    found = groups_of(audit_of(tmp_path, 'p,g\n0.25,missing\n0.5,\n0.75,""\n', "--missing-group", "own"))
    assert found == {'"missing"': 0.25, "missing": 0.625}


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_dialects(tmp_path: Path, decimal: str, encoding: str, end: str) -> None:
    text = end.join(["p;g;last, first", f"0{decimal}1;\u00e9;x", "", f'3e-1;"a{end}b;";', f"0{decimal}7;\u00e9;", ""])
    words = ["--decimal", decimal, *(["--encoding", "latin-1"] if encoding == "latin-1" else [])]
    assert groups_of(audit_of(tmp_path, text.encode(encoding), *words)) == {"\u00e9": pytest.approx(0.4), f"a{end}b;": 0.3}


def test_scores_are_read_to_the_nearest_double(tmp_path: Path) -> None:
    written = ["0.1234567890123456789", "8.5e-324", "0.30000000000000004", "1.7976931348623157e150", ".5", "5.", "+1e-5", "-0.0"]
    rows = "".join(f"{z},{k}\n" for k, z in enumerate(written))
    found = groups_of(audit_of(tmp_path, f"p,g\n{rows}"))
    assert [found[str(k)] for k in range(len(written))] == [float(z) for z in written]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"p,g\n0.1,a,\n", "line 2: 3 fields, the header has 2"),
        (b"p,p,g\n1,2,3\n", "line 1: the header names a column twice: 'p' is column 1 and 2"),
        (b"p,g,\n0.1,a,\n", "line 1: column 3 of the header has no name"),
        (b"p,g\n0.1,a\n\n0.2,\xe9\n", "line 4: not UTF-8 at byte 15 (--encoding names another)"),
        (b"p,g\n1_0,a\n", "'1_0' in row 1 (line 2), expected a number"),
        (b'p;g\n"0,5";a\n', "--decimal , reads it"),
        (b"p,g\n0.1,\x00\n", "line 2: a NUL byte"),
        (b'p,g\n0.1,"a\n', "line 2: a quoted cell is never closed"),
    ],
)
def test_malformed_tables_say_where(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    assert said in error(path, "--score", "p", "--sensitive", "g")


def test_standard_input_and_output(file: Path, tmp_path: Path) -> None:
    words = ["audit", "-", "--score", "p", "--sensitive", "sex", "--draws", "100"]
    code = "from fairopt.cli import main; main()"
    run = [sys.executable, "-c", code, *words]
    done = subprocess.run([*run, "--json", "-"], input=file.read_bytes(), capture_output=True, check=True)
    assert json.loads(done.stdout)["n"] == 120
    assert b"Summary" in done.stderr
    other = [*run, "--csv", "-", "--json", str(tmp_path / "a.json")]
    table = subprocess.run(other, input=file.read_bytes(), capture_output=True, check=True)
    assert table.stdout.startswith(b"quantity,notion,")
    assert read_json(tmp_path / "a.json")["data_hash"] == json.loads(done.stdout)["data_hash"]
    assert subprocess.run([*run, "--json", "-", "--csv", "-"], input=b"", capture_output=True, check=False).returncode == 2


def test_outputs_are_files_of_their_own(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    (tmp_path / "link").symlink_to(file)
    usual = (file, "--score", "p", "--sensitive", "sex")
    for option in ("--html", "--json", "--csv"):
        assert "is the same file as file" in error(*usual, option, tmp_path / "link")
        assert "its folder is not there" in error(*usual, option, tmp_path / "no" / "x")
        assert "is a folder" in error(*usual, option, tmp_path)
    assert "is the same file as json" in error(*usual, "--json", tmp_path / "x", "--csv", tmp_path / "x")
    assert file.read_bytes() == before


def test_bounds_and_words_of_notions(file: Path) -> None:
    usual = (file, "--score", "p", "--sensitive", "sex", "--draws", "100")
    assert call(*usual, "--bounds", "0,1", "--notion", "DemographicParity").exit_code == 0
    assert re.search(r"--bounds: got 0\.\d+ in row \d+, outside 0, 0\.5 \(\d+ such rows of 120\)", error(*usual, "--bounds", "0,0.5"))


def test_nothing_of_the_data_runs_or_steers(tmp_path: Path) -> None:
    audit = fo.audit([0.1, 0.2, 0.3], OWN.leaves()[0].notion, sensitive_features={"sex": ["=1+1", "\x1b[2Jx", "-3"]}, draws=100)
    text = audit.to_csv(tmp_path / "g.csv", "ratios").read_text()
    assert [row.split(",")[1] for row in text.splitlines()[1:]] == ["-3", "'=1+1", "\x1b[2Jx"] or "'=1+1" in text
    assert "\x1b" not in str(audit)
    path = tmp_path / "in.csv"
    path.write_text("p,g\n0.1,\x1b[31mred\n0.2,b\u202e\n")
    done = call(path, "--score", "p", "--sensitive", "g")
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output
    assert "\\x1b[31mred" in done.output
