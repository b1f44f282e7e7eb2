"""What the ranks of a pool do: each function runs on every rank of a group, with arguments of its own, and returns plain values."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fairopt as fo


def _facts(solution: Any, prepared: Any, scores: Tensor, gradient: Any) -> dict[str, Any]:
    certificate = solution.certificate
    return {
        "scores": solution.scores.detach().numpy().copy(),
        "gradient": None if gradient is None else gradient.numpy().copy(),
        "prices": solution.prices.numpy().copy(),
        "status": solution.status.name,
        "violation": certificate.violation.copy(),
        "distance": certificate.distance,
        "group_counts": certificate.group_counts,
        "labels": certificate.labels,
        "dropped": certificate.dropped,
        "limits": certificate.limits,
        "problem_hash": certificate.problem_hash,
        "gathered": prepared.gathered,
        "certificate": json.dumps(certificate.to_dict()),
        "message": solution.message,
        "messages": prepared.ranks.messages,
        "bytes": prepared.ranks.bytes,
        "iterations": solution.iterations,
    }


def project(
    group: Any, rank: int, size: int, *, notion: Any, scores: Any, features: Any, incoming: Any = None, dtype: str = "float64", **facts: Any
) -> dict[str, Any]:
    """One projection of this rank's share, with the gradient for ``incoming`` (n,)."""
    z = torch.tensor(np.asarray(scores), dtype=getattr(torch, dtype)).requires_grad_(incoming is not None)
    how = {name: facts.pop(name) for name in ("backend", "gradient", "certify", "solver_tol") if name in facts}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fo.FairoptWarning)
        prepared = fo.compile(notion, sensitive_features=features, process_group=group, **facts)
        solution = prepared.project(z, return_solution=True, **how)
    gradient = None
    if incoming is not None:
        solution.scores.backward(torch.tensor(np.asarray(incoming), dtype=z.dtype))
        gradient = z.grad
    return _facts(solution, prepared, z, gradient)


def in_the_world(group: Any, rank: int, size: int, **arguments: Any) -> dict[str, Any]:
    """``project`` over all ranks that there are."""
    return project("world", rank, size, **arguments)


def many(group: Any, rank: int, size: int, *, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``project`` for each of ``cases``."""
    return [project(group, rank, size, **case) for case in cases]


def layer_steps(group: Any, rank: int, size: int, *, batches: list[dict[str, Any]], options: dict[str, Any], evaluate: int = -1) -> Any:
    """A layer over several batches, the one numbered ``evaluate`` in eval mode: scores, groups known and bytes sent after each."""
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05), process_group=group, **options)
    agreement = layer._agreement()
    assert agreement is not None
    ranks: Any = agreement.ranks
    objects, calls, told = ranks.objects, [0], []

    def counted(thing: Any) -> Any:
        calls[0] += 1
        return objects(thing)

    ranks.objects = counted
    for k, batch in enumerate(batches):
        layer.train(k != evaluate)
        calls[0] = 0
        scores = layer(torch.tensor(batch["scores"], dtype=torch.float64), sensitive_features={"g": batch["g"]}).numpy().copy()
        told.append((scores, layer.groups, calls[0]))
    return told


def network(seed: int = 0) -> torch.nn.Module:
    """The same small network everywhere."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()


def parallel_step(
    group: Any,
    rank: int,
    size: int,
    *,
    x: Any,
    g: Any,
    targets: Any,
    total: int,
    learned: bool = False,
    micro: int = 0,
    sharded: bool = False,
) -> dict[str, Any]:
    """One step of SGD of a FairModel under DistributedDataParallel, or FSDP2 (``sharded``): the parameters after it. ``micro``: rows of a
    micro-batch, where gradients are accumulated."""
    from torch.nn.parallel import DistributedDataParallel

    tolerance = torch.nn.Parameter(torch.tensor(0.05, dtype=torch.float64)) if learned else 0.05
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=tolerance), bounds=(0, 1), process_group=group if size > 1 else None)
    net: Any = network()
    if micro:
        from fairopt.training import Accumulation

        net = Accumulation(net, micro)
    model: Any = fo.FairModel(net, layer)
    if size > 1 and sharded:
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model.network, mesh=DeviceMesh.from_group(group, "cpu"))
    elif size > 1:
        model = DistributedDataParallel(model, process_group=group)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    scores = model(torch.tensor(x), sensitive_features={"g": g}).reshape(-1)
    # DDP takes the mean of the ranks' gradients: each loss is a sum over its share, times ranks / samples of all
    loss = ((scores - torch.tensor(targets)) ** 2).sum() * size / total
    loss.backward()
    optimiser.step()
    whole = {name: getattr(p, "full_tensor", lambda p=p: p)() for name, p in model.named_parameters()}
    names = {name: name.removeprefix("module.").replace("network.network", "network") for name in whole}
    return {names[name]: p.detach().numpy().copy() for name, p in whole.items()}


def twice_differentiated(group: Any, rank: int, size: int, *, scores: Any, g: Any) -> Any:
    """The gradient of the squared norm of a gradient, of this rank's share."""
    z = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    notion = fo.DemographicParity("g", tolerance=0.05)
    y = fo.project(z, notion, sensitive_features={"g": g}, bounds=(0, 1), process_group=group if size > 1 else None)
    (first,) = torch.autograd.grad((y**3).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), z)
    return first.detach().numpy().copy(), second.numpy().copy()


def learned_tolerance(group: Any, rank: int, size: int, *, scores: Any, g: Any, incoming: Any) -> Any:
    """The gradients by a tolerance that is a parameter, and by the scores."""
    tolerance = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    z = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    notion = fo.DemographicParity("g", tolerance=tolerance)
    y = fo.project(z, notion, sensitive_features={"g": g}, process_group=group if size > 1 else None)
    y.backward(torch.tensor(incoming))
    assert tolerance.grad is not None
    assert z.grad is not None
    return float(tolerance.grad), z.grad.numpy().copy()


def decided_exactly(group: Any, rank: int, size: int, **arguments: Any) -> Any:
    """``project`` where no row counts as decided by floats."""
    from fairopt.solve import drive as driving
    from fairopt.solve.passes import stages

    run: Any = driving._Run
    stage = run.stage

    def unsure(self: Any, which: int, *arrays: Any) -> int:
        found = stage(self, which, *arrays)
        return 0 if which == stages.JUDGE else found

    run.stage = unsure
    try:
        return project(group, rank, size, **arguments)
    finally:
        run.stage = stage


def container(group: Any, rank: int, size: int, *, scores: Any, g: Any, kind: str) -> Any:
    """Scores in another container, shape or dtype come back as they were: (type or dtype, shape, numbers)."""
    notion = fo.DemographicParity("g", tolerance=0.05)
    given: Any = list(scores) if kind == "list" else np.asarray(scores)
    if kind in ("float32", "bfloat16", "float16"):
        given = torch.tensor(scores, dtype=getattr(torch, kind))
    if kind == "column":
        given = torch.tensor(scores, dtype=torch.float64).reshape(-1, 1)
    solution = fo.project(given, notion, sensitive_features={"g": g}, bounds=(0, 1), process_group=group, return_solution=True)
    back = fo.project(given, notion, sensitive_features={"g": g}, bounds=(0, 1), process_group=group)
    numbers = back.double().reshape(-1).tolist() if isinstance(back, Tensor) else list(back)
    return type(back).__name__, str(getattr(back, "dtype", "")), tuple(np.shape(back)), numbers, solution.status.name


def dies(group: Any, rank: int, size: int, *, scores: Any, g: Any, when: int) -> None:
    """The last rank ends its process before its message number ``when``; a call of the others."""
    import os

    from fairopt.basics.ranks import Ranks

    if rank == size - 1:
        count, reduced = [0], Ranks._reduced

        def counted(self: Any, x: Any, how: Any) -> Any:
            count[0] += 1
            if count[0] == when:
                os._exit(3)
            return reduced(self, x, how)

        Ranks._reduced = counted  # type: ignore[method-assign]
    z = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    y = fo.project(z, fo.DemographicParity("g", tolerance=0.05), sensitive_features={"g": g}, bounds=(0, 1), process_group=group)
    y.sum().backward()


def late(group: Any, rank: int, size: int, *, scores: Any, g: Any, seconds: float) -> None:
    """The last rank comes later than the group waits."""
    import time

    if rank == size - 1:
        time.sleep(seconds)
        return
    fo.project(torch.tensor(scores), fo.DemographicParity("g", tolerance=0.05), sensitive_features={"g": g}, process_group=group)


def out_of_step(group: Any, rank: int, size: int, *, scores: Any, g: Any) -> None:
    """Rank 0 projects once more while the others compile the next batch."""
    prepared = fo.compile(fo.DemographicParity("g", tolerance=0.05), sensitive_features={"g": g}, process_group=group)
    if rank == 0:
        prepared.project(torch.tensor(scores))
    else:
        fo.compile(fo.DemographicParity("g", tolerance=0.05), sensitive_features={"g": g}, process_group=group)


def other_version(group: Any, rank: int, size: int, *, scores: Any, g: Any) -> None:
    """Rank 1 has another fairopt."""
    from fairopt.layer import asked as module

    asked: Any = module
    version = asked._version
    asked._version = lambda: f"9.9.{rank}"
    try:
        fo.project(torch.tensor(scores), fo.DemographicParity("g", tolerance=0.05), sensitive_features={"g": g}, process_group=group)
    finally:
        asked._version = version


def pickled(group: Any, rank: int, size: int) -> None:
    """A layer on a group is copied, and not pickled."""
    import copy
    import pickle

    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05), process_group=group)
    twin = copy.deepcopy(layer)
    assert twin.process_group is group
    world = pickle.loads(pickle.dumps(fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05), process_group="world")))
    assert world.process_group == "world"
    fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05)).load_state_dict(layer.state_dict())
    pickle.dumps(layer)


def timed(group: Any, rank: int, size: int, *, n: int, rounds: int, delay: float, tolerance: float = 0.02) -> dict[str, Any]:
    """Seconds, messages and bytes of a call forward and backward on ``n`` scores of all ranks; ``delay``: seconds added to each message.

    first: messages and bytes of compiling and the first call, which tells the groups; tolerance 0 is gathered.
    """
    import statistics
    import time

    from fairopt.basics.ranks import Ranks

    guarded = Ranks._guarded

    def slow(self: Any, call: Any) -> None:
        time.sleep(delay)
        guarded(self, call)

    rng = np.random.default_rng(rank)
    own = n // size + (rank < n % size)
    features = {"g": rng.integers(0, 5, own), "h": rng.integers(0, 2, own)}
    z = torch.tensor(rng.normal(0.5, 0.4, own) + 0.1 * features["g"], dtype=torch.float32)
    notion = fo.DemographicParity("g", tolerance=tolerance) & fo.DemographicParity("h", tolerance=tolerance / 2)
    prepared: Any = fo.compile(notion, sensitive_features=features, bounds=(0, 1), process_group=group)
    ranks, taken, cpu = prepared.ranks, [], []
    first: tuple[int, int] | None = None
    Ranks._guarded = slow  # type: ignore[method-assign]
    try:
        for _ in range(rounds):
            before, start, processor = (ranks.messages, ranks.bytes), time.perf_counter(), time.process_time()
            x = z.clone().requires_grad_(True)
            solution = prepared.project(x, return_solution=True)
            solution.scores.backward(torch.ones_like(z))
            taken.append(time.perf_counter() - start)
            cpu.append(time.process_time() - processor)
            first = first or (ranks.messages, ranks.bytes)
    finally:
        Ranks._guarded = guarded  # type: ignore[method-assign]
    assert bool(prepared.gathered) == (tolerance == 0.0)
    return {
        "first": first,
        "seconds": statistics.median(taken),
        "processor": statistics.median(cpu),
        "messages": ranks.messages - before[0],
        "bytes": ranks.bytes - before[1],
        "steps": solution.iterations,
        "cells": 0 if prepared.gathered else int(prepared.problem.rows.masks.shape[1]),
    }


def lightning_run(group: Any, rank: int, size: int, *, x: Any, g: Any, shared: bool, steps: int) -> dict[str, Any]:
    """A Lightning run under ``strategy="ddp"``, full shares as batches: parameters and logs after it."""
    import os

    import lightning
    from lightning.fabric.plugins.environments import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy
    from torch.utils.data import DataLoader, TensorDataset

    from fairopt.training import ParityCallback

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), GROUP_RANK="0", LOCAL_WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29500", TORCHELASTIC_RUN_ID="0")
    notion = fo.DemographicParity("g", tolerance=0.02)
    layer = fo.FairnessLayer(notion, bounds=(0, 1), groups={"g": [0, 1]}, process_group="world" if shared else None)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = fo.FairModel(network(), layer)

        def training_step(self, batch: Any, _: int) -> Any:
            return ((self.model(batch[0], sensitive_features={"g": batch[1]}) - 0.5) ** 2).mean()

        def validation_step(self, batch: Any, _: int) -> Any:
            scores = self.model(batch[0], sensitive_features={"g": batch[1]})[:, 0]
            return {"scores": scores, "sensitive_features": {"g": batch[1]}}

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.2)

    one = size == 1
    trainer = lightning.Trainer(
        max_epochs=steps, accelerator="cpu", devices=size, use_distributed_sampler=False, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[ParityCallback()],
        strategy="auto" if one else DDPStrategy(process_group_backend="gloo", cluster_environment=TorchElasticEnvironment()),
    )  # fmt: skip
    module = Module()
    loader: Any = DataLoader(TensorDataset(torch.tensor(x), torch.tensor(g)), batch_size=len(g))
    trainer.fit(module, loader, loader)
    return {
        "parameters": [p.detach().numpy().copy() for p in module.parameters()],
        "logged": {name: float(value) for name, value in trainer.callback_metrics.items()},
    }
