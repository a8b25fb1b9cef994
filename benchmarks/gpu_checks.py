"""Whether a GPU finds and learns what the processor does, and what makes it wait."""

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np
import torch

from gpu_plan import Plan, Report
from multibox.benchmarking.train_contenders import made_up_batch, our_step
from multibox.card import ModelCard
from multibox.data.synthetic import scene
from multibox.engines import RawDetections
from multibox.engines.torch import TorchEngine
from multibox.engines.torch_resize import resize_on_device
from multibox.imaging import Image, to_network_input
from multibox.ssd.model import build_ssd
from multibox.training.recipes import modern
from multibox.training.step import Objective
from peer_models import Twins

PICTURES = 5
"""Not one of the sizes that are recorded."""
CLOSE, HALF = 0.015, 0.1
"""How far scores of one rank may be apart: in 32 bits, where a detection more or less at the
threshold of .01 is allowed, and in 16."""


def check(name: str, twins: Twins, plan: Plan, report: Report) -> None:
    """A line for each check in the report's "checks"; what does not hold has failed."""
    card = twins.checkpoint.card
    rng = np.random.default_rng(1)
    pictures = np.stack(
        [to_network_input(scene(rng).image, card.preprocessing) for _ in range(PICTURES)]
    )
    engines: dict[str, TorchEngine] = {}
    with full_precision():
        engines["fp32"] = TorchEngine.from_checkpoint(twins.checkpoint, plan.device)
        expected = TorchEngine.from_checkpoint(twins.checkpoint, "cpu")(pictures)
        found = engines["fp32"](pictures)
    engines["bf16"] = TorchEngine.from_checkpoint(twins.checkpoint, plan.device, precision="bf16")
    half = engines["bf16"](pictures)
    plain = TorchEngine.from_module(engines["bf16"].module, card)

    def say(what: str, figure: float, limit: float) -> None:
        well = figure <= limit
        line = f"{name}: {what}: {figure:.3g} (at most {limit:g})"
        print(f"{'ok' if well else 'FAILED':<8}{line}", flush=True)
        report.section("checks")[f"{name}: {what}"] = figure
        if not well:
            report.figures["failed"].append(line)
        report.save()

    say("fp32 scores, from the processor's", apart(found, expected), CLOSE)
    say("bf16 scores, from fp32 on the processor", apart(half, expected), HALF)
    say("bf16 scores, recorded from not recorded", apart(half, plain(pictures)), HALF)
    say("the same call once more", apart(half, engines["bf16"](pictures)), 0)
    engines["bf16"](np.concatenate([pictures[::-1], pictures]))
    say("and after another batch size", apart(half, engines["bf16"](pictures)), 0)
    say("resized there, levels from OpenCV's", resizing(card, plan), 1)

    there = torch.from_numpy(pictures).to(plan.device)
    waits = synchronisations(lambda: engines["bf16"].detect_on_device(there), plan)
    say(f"times waited for in a batch {sorted(set(waits))}", len(waits), 0)

    batch = made_up_batch(card, 2)
    step = our_step(card, batch, modern(), torch.device(plan.device), bf16=True)
    waits = synchronisations(lambda: step(lambda _: None), plan)
    say(f"times waited for in a training step {sorted(set(waits))}", len(waits), 1)
    with full_precision():
        here, gpu = (learning(card, device) for device in ("cpu", plan.device))
    say("losses and gradient, relative", max(abs(a / b - 1) for a, b in zip(gpu, here)), 1e-3)  # noqa: B905


def apart(a: RawDetections, b: RawDetections) -> float:
    """The largest difference of two scores of the same rank."""
    return float(np.abs(a.scores - b.scores).max())


def resizing(card: ModelCard, plan: Plan) -> float:
    """The largest difference from OpenCV's, in levels."""
    large: Image = scene(np.random.default_rng(2), (640, 480)).image
    there = resize_on_device(torch.from_numpy(large[None]).to(plan.device), card.preprocessing)
    here = to_network_input(large, card.preprocessing)
    return float(np.abs(there[0].cpu().numpy().astype(int) - here).max())


def learning(card: ModelCard, device: str) -> list[float]:
    """Confidence loss, localisation loss and gradient norm in 32 bits, of the same weights."""
    torch.manual_seed(0)
    detector = build_ssd(card).to(device).train()
    objective = Objective(detector, modern(), bf16=False)
    batch = made_up_batch(card, 2)
    target = objective.targets(batch)
    (weight,) = objective.picture_weights([target], lambda matches: matches.float())
    # Dropout, and so the gradient, would differ.
    detector.eval()
    losses = objective.losses(objective.outputs(detector, batch), target, weight)
    losses.sum().backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in detector.parameters()])
    return [*losses.tolist(), norm.item()]


def synchronisations(call: Callable[[], object], plan: Plan) -> list[str]:
    """Where Python waits for the GPU, after some calls to warm up; PyTorch says so."""
    for _ in range(plan.warm_up):
        call()
    if plan.device == "cpu":
        return []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{each.filename}:{each.lineno}" for each in said if "synchroniz" in str(each.message)]


@contextmanager
def full_precision() -> Generator[None]:
    """Convolutions and products of float32 in all its bits, not in TF32's nineteen."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
