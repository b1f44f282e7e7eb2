"""ONNX files of frozen rules: scores and groups in, fair scores out, what the rule is for as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from fairopt.basics.errors import UnsupportedError
from fairopt.basics.extras import missing


def exported(module: nn.Module, scores: Tensor) -> torch.export.ExportedProgram:
    """A ``torch.export`` program of (scores, groups) with a free batch size; ``scores``: a batch of 4 as an example."""
    n = torch.export.Dim("n", min=1)
    return torch.export.export(module, (scores, torch.zeros(4, dtype=torch.int64, device="cpu")), dynamic_shapes=({0: n}, {0: n}))


def write_onnx(program: torch.export.ExportedProgram, path: str | Path, facts: Mapping[str, str]) -> None:
    """Inputs ``scores`` and ``groups``, output ``fair``; ``facts`` become metadata. MissingExtraError without onnx and onnxscript."""
    try:
        import onnx

        import_module("onnxscript")  # torch.onnx needs it
    except ImportError as error:
        raise missing("ONNX needs onnx and onnxscript", "export") from error
    made = torch.onnx.export(program, input_names=["scores", "groups"], output_names=["fair"], dynamo=True, verbose=False)
    if made is None:
        raise UnsupportedError("torch.onnx.export gave no program")
    made.save(str(path))
    model = onnx.load(str(path))
    for name, text in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, text
    onnx.save(model, str(path))
