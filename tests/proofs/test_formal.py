"""The Coq files without Coq: their hypotheses are those of the table, pages show them, and their rule is the shipped one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from proofs_checks.formal import __main__ as command
from proofs_checks.formal import source, table, tie
from proofs_checks.registry import all_claims, claim_named
from proofs_checks.report import page


def test_the_table_and_the_files_agree() -> None:
    assert table.troubles() == []
    assert len({f.claim for f in table.FORMAL}) >= 12
    assert {f.claim for f in table.FORMAL} <= {c.name for c in all_claims()}


@pytest.mark.parametrize("entry", table.FORMAL, ids=lambda f: f"{f.claim}-{f.names[0]}")
def test_a_hypothesis_in_one_list_alone_is_told(entry: table.Formal) -> None:
    wider = replace(entry, hypotheses={**entry.hypotheses, "invented": "a hypothesis that Coq does not have"})
    assert any("invented" in t for t in table.troubles((wider,)))
    if entry.hypotheses:
        first, *rest = entry.hypotheses
        fewer = replace(entry, hypotheses={k: entry.hypotheses[k] for k in rest})
        assert any(f"the hypothesis {first} of Coq" in t for t in table.troubles((fewer,)))
    assert any("no theorem" in t for t in table.troubles((replace(entry, names=("nothing",)),)))


def test_pages_state_the_theorem_beside_the_words() -> None:
    for claim in {f.claim for f in table.FORMAL}:
        text = page(claim_named(claim), None)
        for entry in table.of(claim):
            for theorem in entry.stated():
                assert theorem.statement in text
            for name, words in entry.hypotheses.items():
                assert f"| {words} | `{name} :" in text
    assert "Coq" not in page(claim_named("L1"), None)


@pytest.mark.parametrize("word", ["Admitted.", "Axiom easy : False.", "Parameter x : nat."])
def test_nothing_may_be_left_unproved(word: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "New.v").write_text(f"Theorem t : 1 = 1.\nProof. reflexivity. Qed.\n{word}\n")
    monkeypatch.setattr(source, "FOLDER", tmp_path)
    source.theorems.cache_clear()
    with pytest.raises(RuntimeError, match="nothing may be left unproved"):
        source.theorems("New")
    source.theorems.cache_clear()


def test_the_rule_in_coq_is_the_shipped_one() -> None:
    """1,000 random streams: every answer within 1e-12 of the closed form that Step.v proves optimal, in rational arithmetic."""
    rows = list(tie.rows())
    assert len(rows) >= 1000
    assert tie.farthest(rows) <= tie.ACCURACY
    for change in ({"gamma": Fraction(101, 100)}, {"count": Fraction(101, 100)}, {"base": Fraction(101, 100)}):  # each would be seen
        ((name, factor),) = change.items()
        assert tie.farthest([replace(r, **{name: getattr(r, name) * factor}) for r in rows]) > 1e6 * tie.ACCURACY


def test_axioms_are_read_from_what_coqchk_says() -> None:
    said = (
        "\nCONTEXT SUMMARY\n===============\n\n* Theory: Set is predicative\n  \n* Axioms:\n    Coq.Logic.Classical_Prop.classic\n"
        "    Fairopt.Sums.cheat\n  \n* Constants/Inductives relying on type-in-type: <none>\n  \n"
        "* Inductives whose positivity is assumed: <none>\n"
    )
    assert command.summary(said) == {"Coq.Logic.Classical_Prop.classic", "Fairopt.Sums.cheat"}
    assert not command.summary(said) <= command.STANDARD
    with pytest.raises(command.Wrong):
        command.summary(said.replace("type-in-type: <none>", "type-in-type:\n    Fairopt.Sums.sum"))
    with pytest.raises(command.Wrong):
        command.summary("nothing")


def test_where_there_is_no_coq_it_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert command.main([]) == 2
    assert command.main(["--where-possible"]) == 0
    assert "SKIPPED formal proofs: no coqc" in capsys.readouterr().out
