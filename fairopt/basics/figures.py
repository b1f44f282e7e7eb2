"""The one way to matplotlib: pictures of text that users chose, without a window and whatever their own matplotlib settings say.

Names are text: ``$`` starts no formula, ``_`` hides no legend entry, and a character that no installed font has is written as ``\\u65e5``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

FIRST = "DejaVu Sans"  # comes with matplotlib
# Fonts with Chinese, Japanese, Korean, symbols or emoji as outlines, those of free systems first. The installed ones are used in turn.
WIDER = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK TC", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR",
    "Source Han Sans SC", "Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAexGothic", "IPAGothic",
    "TakaoPGothic", "NanumGothic", "Unifont", "PingFang SC", "Hiragino Sans", "Heiti TC", "Apple SD Gothic Neo", "Arial Unicode MS",
    "Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari",
    "Noto Sans Thai", "Noto Emoji", "Symbola", "Segoe UI Emoji", "Segoe UI Symbol",
)  # fmt: skip
LONGEST = 60  # characters of a name in a picture; the middle of a longer one is left out


@contextmanager
def drawing(what: str, extra: str) -> Iterator[type[Figure]]:
    """The class of figures. A figure is made, filled and saved (``png``) under this, with settings that a user's own do not change.

    ``what`` needs matplotlib ("the pictures need matplotlib") of the extra ``extra``: MissingExtraError without it.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise missing(f"{what} matplotlib", extra) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"text.parse_math": False, "text.usetex": False, "font.family": list(_families())})
        yield Canvas


@contextmanager
def drawing_on(axes: Axes | None, what: str, extra: str) -> Iterator[Axes]:
    """The axes that came, or those of a new figure of ``pyplot``, under settings by which names that are drawn are text. The look of a
    user's figures stays theirs."""
    try:
        import matplotlib
        from matplotlib import pyplot
        from matplotlib.axes import Axes as Kind
    except ImportError as error:
        raise missing(f"{what} matplotlib", extra) from error
    if axes is not None and not isinstance(axes, Kind):
        raise InputError(f"axes: got {type(axes).__name__}, expected a matplotlib Axes or None")
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False, "font.family": list(_families())}):
        yield pyplot.subplots(layout="constrained")[1] if axes is None else axes


def png(figure: Figure, *, dpi: int, software: str | None = None) -> bytes:
    """The figure as a PNG file. ``software`` stands in it; by default nothing that differs between two machines."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi, metadata={"Software": software})
    return data.getvalue()


def legible(name: str, *, longest: int = LONGEST) -> str:
    """A name as it is drawn: on one line, of bounded length, in characters that a font has; others come as ``\\n`` or ``\\u65e5``."""
    known = _characters()
    text = "".join(c if ord(c) in known and c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
    return text if len(text) <= longest else f"{text[: longest // 2]} ... {text[5 - longest // 2 :]}"


def legend(owner: Axes | Figure, handles: Sequence[Any], names: Sequence[str], **options: Any) -> None:
    """A legend with every name; matplotlib's own leaves out those that begin with an underscore. At most ``ncols`` columns: fewer where the
    figure is too narrow for them, for what is outside is cut off."""
    for columns in range(options.pop("ncols", 1), 0, -1):
        shown = owner.legend(handles, [str(k) for k in range(len(names))], ncols=columns, **options)
        for text, name in zip(shown.get_texts(), names, strict=True):
            text.set_text(name)
        if columns == 1 or _fits(shown):
            return
        shown.remove()


def _fits(shown: Legend) -> bool:
    """Whether a legend is no wider than its figure. The figure keeps the canvas that it has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure: Any = shown.figure
    canvas = figure.canvas
    try:
        drawn: Any = FigureCanvasAgg(figure)
        return bool(shown.get_window_extent(drawn.get_renderer()).width <= figure.bbox.width)
    finally:
        figure.set_canvas(canvas)


def logarithmic(axis: Any) -> None:
    """Labels of a logarithmic axis as plain numbers (100, 1e-06): matplotlib's usual ones are formulas."""
    from matplotlib.ticker import LogFormatter

    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter())


@lru_cache(maxsize=1)
def _families() -> tuple[str, ...]:
    """The fonts that are looked through for a character, in turn."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return (FIRST, *(name for name in WIDER if name in installed))


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    """The code points that one of ``_families`` has."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    known: set[int] = set()
    for family in _families():
        known.update(FT2Font(fontManager.findfont(family)).get_charmap())
    return frozenset(known)
