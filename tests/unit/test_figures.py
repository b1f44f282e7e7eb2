"""Names in pictures: as they are where a font has them, else as escapes; never formulas, never left out, no warning."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fairopt.basics.figures import LONGEST, drawing, legend, legible, logarithmic, png

NAMES = ("$x$", "$\\frac{", "$", "_hidden", "{z}", "\\$a", "日本", "😀", "a\nb", "\x1b[31m", "\ud800", "x" * 500, "%s", "\u202e")


def test_every_name_is_drawn_without_a_warning() -> None:
    with warnings.catch_warnings(), drawing("this test needs", "audit") as canvas:
        warnings.simplefilter("error")
        figure = canvas(figsize=(16, 8), layout="constrained")
        axes = figure.subplots()
        words = [legible(name) for name in NAMES]
        marks = [axes.plot([1.0, 2.0], [1.0, k])[0] for k in range(len(NAMES))]
        legend(axes, marks, words)
        axes.set_yticks(range(len(words)), words)
        axes.set_title(words[1])
        assert png(figure, dpi=40).startswith(b"\x89PNG")
        shown = axes.get_legend()
        assert shown is not None
        assert [text.get_text() for text in shown.get_texts()] == words


def test_a_legend_has_as_many_columns_as_fit() -> None:
    with drawing("this test needs", "audit") as canvas:
        widths = {}
        for length in (3, 20, 60):
            figure = canvas(figsize=(6.4, 6.0), layout="constrained")
            axes, was = figure.subplots(), figure.canvas
            marks = [axes.plot([1.0, 2.0], [1.0, k])[0] for k in range(12)]
            legend(figure, marks, ["x" * length] * 12, loc="outside lower center", ncols=3)
            assert figure.canvas is was
            png(figure, dpi=100)
            (shown,) = figure.legends
            widths[length] = len({round(text.get_window_extent().x0) for text in shown.get_texts()})
            assert shown.get_window_extent().x0 >= 0
        assert widths == {3: 3, 20: 2, 60: 1}


def test_legible_keeps_what_a_font_has_and_escapes_the_rest() -> None:
    for name in ("$x$", "_y", "{z}", "<b>", "é", "Ω"):
        assert legible(name) == name
    assert legible("a\nb") == "a\\nb"
    assert legible("\ud800") == "\\ud800"
    assert legible("日") in ("日", "\\u65e5")
    long = legible("a" + "x" * 500 + "z")
    assert len(long) == LONGEST
    assert long[0] == "a"
    assert long[-1] == "z"


def test_a_users_own_settings_change_nothing_and_come_back() -> None:
    import matplotlib

    def drawn() -> bytes:
        with drawing("this test needs", "audit") as canvas:
            figure = canvas()
            axes = figure.subplots()
            axes.plot([1e-6, 1.0], [1.0, 1e5])
            axes.set(xscale="log", yscale="log", title="$a_b$")
            logarithmic(axes.xaxis)
            logarithmic(axes.yaxis)
            figure.canvas.draw()
            assert not any("$" in label.get_text() for label in axes.get_xticklabels())
            return png(figure, dpi=40)

    plain = drawn()
    with matplotlib.rc_context({"text.usetex": True, "font.size": 30, "lines.linewidth": 9}):
        assert drawn() == plain
        assert matplotlib.rcParams["text.usetex"] is True


@pytest.mark.parametrize("folder", ["fairopt", "proofs_checks"])
def test_matplotlib_is_set_up_in_one_place(folder: str) -> None:
    root = Path(__file__).parents[2] / folder
    users = [
        p
        for p in root.rglob("*.py")
        if "matplotlib.figure import Figure as" in p.read_text(encoding="utf-8") or ".savefig(" in p.read_text(encoding="utf-8")
    ]
    assert {p.name for p in users} <= {"figures.py"}


def test_the_helper_imports_no_matplotlib_by_itself() -> None:
    code = "import sys; import fairopt.basics.figures; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
