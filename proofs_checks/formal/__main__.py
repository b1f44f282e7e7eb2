"""``python -m proofs_checks.formal``: compile the Coq files, check them with ``coqchk``, print their axioms, and compare with the code.

Coq is Debian's ``coq``; where it is absent and we are root it is installed. Exit 0: all checked, or with ``--where-possible`` Coq could not
be had (said so); 1: something is wrong; 2: no Coq.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from proofs_checks.formal import source, table, tie

# Classical reals of Coq's standard library: these, and nothing of ours.
STANDARD = {
    "Coq.Reals.ClassicalDedekindReals.sig_not_dec",
    "Coq.Reals.ClassicalDedekindReals.sig_forall_dec",
    "Coq.Logic.FunctionalExtensionality.functional_extensionality_dep",
    "Coq.Logic.Classical_Prop.classic",
}
PATIENCE = 240  # seconds for a command of apt
SHORT = {name.rsplit(".", 1)[1] for name in STANDARD}


class Wrong(Exception):
    """A check that failed; the words are printed."""


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proofs_checks.formal", description="Check the Coq proofs.")
    parser.add_argument("--build", type=Path, default=Path("build/formal"), help="where the compiled files go")
    parser.add_argument("--where-possible", action="store_true", help="exit 0 where Coq cannot be had, and say so")
    options = parser.parse_args(words)
    start = time.perf_counter()
    reason = absent()
    if reason:
        print(f"SKIPPED formal proofs: {reason}" if options.where_possible else f"formal proofs: {reason}")
        return 0 if options.where_possible else 2
    try:
        found = check(options.build)
    except Wrong as wrong:
        print(f"formal proofs: {wrong}", file=sys.stderr)
        return 1
    claims = sorted({f.claim for f in table.FORMAL})
    print(f"axioms: {', '.join(sorted(found)) or 'none'}")
    print(f"{len(claims)} claims proved by Coq: {' '.join(claims)}; {time.perf_counter() - start:.0f} s")
    return 0


def absent() -> str:
    """Why there is no Coq here, "" where there is; tries to install it as root."""
    if shutil.which("coqc") and shutil.which("coqchk"):
        return ""
    if shutil.which("apt-get") is None:
        return "no coqc, and no apt-get to install Debian's coq with"
    if os.geteuid() != 0:
        return "no coqc; as root `apt-get install coq` would install it"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "coq"]):
        try:
            done = subprocess.run(  # type: ignore[call-overload]
                command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, timeout=PATIENCE, **quiet
            )
        except subprocess.TimeoutExpired:
            return f"no coqc, and `{' '.join(command)}` took more than {PATIENCE} s"
        if done.returncode:
            return f"no coqc, and `{' '.join(command)}` failed: {done.stderr.strip().splitlines()[-1:]}"
    return "" if shutil.which("coqc") and shutil.which("coqchk") else "Debian's coq is installed, and there is no coqc on the path"


def check(build: Path) -> set[str]:
    """Compile and check everything below ``build``; the axioms in use."""
    differences = table.troubles()
    if differences:
        raise Wrong("; ".join(differences))
    if build.exists():
        shutil.rmtree(build)
    build.mkdir(parents=True)
    names = source.order()
    for name in names:
        source.theorems(name)  # refuses what is left unproved
        shutil.copy(source.FOLDER / f"{name}.v", build)
        run(["coqc", "-q", "-Q", ".", "Fairopt", f"{name}.v"], build)
    print(f"coqc: {len(names)} files")
    axioms = assumptions(build)
    checked = run(["coqchk", "-silent", "-o", "-Q", ".", "Fairopt", *(f"Fairopt.{name}" for name in names)], build)
    axioms |= summary(checked)
    if not axioms <= STANDARD | SHORT:
        raise Wrong(f"axioms beyond the standard reals and classical logic: {sorted(axioms - STANDARD - SHORT)}")
    print("coqchk: accepted")
    rows = list(tie.rows())
    (build / "Tie.v").write_text(tie.as_coq(rows), encoding="utf-8")
    run(["coqc", "-q", "-Q", ".", "Fairopt", "Tie.v"], build)
    print(f"evaluated by Coq: {len(rows)} answers of the shipped rule on {tie.STREAMS} streams, all within {float(tie.ACCURACY):.0e}")
    return {a for a in axioms if a in STANDARD}


def assumptions(build: Path) -> set[str]:
    """Print Assumptions of every theorem of the table."""
    files = sorted({f.file for f in table.FORMAL})
    lines = [f"Require Fairopt.{file}." for file in files]
    lines += [f"Print Assumptions Fairopt.{f.file}.{name}." for f in table.FORMAL for name in f.names]
    (build / "Assumptions.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
    told = run(["coqc", "-q", "-Q", ".", "Fairopt", "Assumptions.v"], build)
    blocks = re.split(r"^(?:Axioms:|Closed under the global context)$", told, flags=re.MULTILINE)[1:]
    asked = sum(len(f.names) for f in table.FORMAL)
    if len(blocks) != asked:
        raise Wrong(f"Print Assumptions answered {len(blocks)} times for {asked} theorems")
    return {line.split(":")[0].strip().rsplit(".", 1)[-1] for b in blocks for line in b.splitlines() if re.match(r"\S+\s*(:|$)", line)}


def summary(told: str) -> set[str]:
    """The axioms that coqchk lists; Wrong where it says that anything else was taken on trust."""
    parts = dict(re.findall(r"^\* (.+?):\s*(.*?)(?=^\* |\Z)", told, flags=re.MULTILINE | re.DOTALL))
    if "Axioms" not in parts:
        raise Wrong(f"coqchk told no axioms: {told[-300:]}")
    trusted = {k: v.strip() for k, v in parts.items() if k not in ("Theory", "Axioms") and v.strip() != "<none>"}
    if trusted:
        raise Wrong(f"coqchk: {trusted}")
    return set(parts["Axioms"].split()) - {"<none>"}


def run(command: list[str], where: Path) -> str:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(f"`{' '.join(command[:6])}` failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
