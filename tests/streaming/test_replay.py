"""The replay: its figures are recomputed here, and the offline optimum is an optimum."""

from __future__ import annotations

import numpy as np
import pytest

import fairopt as fo
from fairopt.experiments.data.scored import scored
from fairopt.experiments.data.streams import stream
from fairopt.experiments.studies.replay import ENTRANTS, offline, pooled_gap, replay, worst_gap
from fairopt.streaming.durable.picture import stream_picture


@pytest.mark.parametrize("kind", ["stationary", "three"])
def test_the_offline_optimum_is_the_layer_on_the_whole_stream(kind):
    import torch

    z, groups = stream(kind, 0, 800)
    for gap in (0.0, 0.05, 0.2):
        y = fo.project(torch.from_numpy(z), fo.DemographicParity("g", tolerance=gap), sensitive_features={"g": groups}, bounds=(0, 1))
        assert offline(z, groups, gap) == pytest.approx(float(((y.numpy() - z) ** 2).mean()), abs=1e-12)


def test_gaps_by_hand():
    scores, groups = np.array([0.0, 1.0, 0.5, 0.5, 0.5]), np.array(["a", "b", "a", "b", "b"])
    assert pooled_gap(scores, groups) == pytest.approx(2.0 / 3 - 0.25)
    assert worst_gap(scores, groups) == 1.0


def test_a_replay_of_real_applications(tmp_path):
    data = scored("loanapp").ordered("drifted")
    assert data.scores.shape == (1989,)
    assert np.sort(data.scores) == pytest.approx(np.sort(scored("loanapp").scores))
    done = replay(data.scores, data.groups)
    rows = {row["controller"]: row for row in done.table}
    assert list(rows) == ["raw scores", *ENTRANTS]
    assert rows["raw scores"]["pooled gap"] > 0.15
    assert rows["PooledParity"]["pooled gap"] <= 0.06
    assert rows["Cumulative"]["worst gap"] <= 0.05 + 1e-9
    assert rows["PrimalDual (paper)"]["pooled gap"] == rows["raw scores"]["pooled gap"]  # single decisions: it does nothing (claim B4)
    for row in done.table:
        assert row["distortion"] >= row["offline optimum"] - 1e-12
        assert row["bound"] is None or row["pooled gap"] <= row["bound"] + 1e-12
    stream_picture(done.reports, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_bad_data(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for call, words in (
        (lambda: scored("nothing"), "data"),
        (lambda: scored("adult"), "path"),
        (lambda: scored("acs", tmp_path / "absent"), "no file"),
        (lambda: scored("acs", tmp_path / "x.csv"), "lacks"),
        (lambda: scored("loanapp").ordered("sideways"), "order"),
    ):
        with pytest.raises(fo.InputError, match=words):
            call()
