"""Which kernels the time of a batch and of a training step goes to: what limits them."""

from collections.abc import Callable
from functools import partial

import torch
from torch.profiler import ProfilerActivity

from gpu_inference import network_input
from gpu_plan import Plan, Report
from multibox.benchmarking.train_contenders import made_up_batch, our_step
from multibox.engines.torch import TorchEngine
from multibox.training.recipes import modern
from peer_models import Twins

KERNELS, CALLS = 25, 5


def profile(name: str, twins: Twins, plan: Plan, report: Report) -> None:
    """Add the kernels of ``name`` that take the longest to the report's "profile"."""
    engine = TorchEngine.from_checkpoint(twins.checkpoint, plan.device, precision="bf16")
    one = network_input(twins, plan)
    for size in dict.fromkeys((1, plan.profiled_size)):
        images = one.expand(size, *one.shape).contiguous()
        _kernels(f"{name}, batch {size}", partial(engine.detect_on_device, images), plan, report)
    size = plan.training_batches[name]
    card = twins.checkpoint.card
    device = torch.device(plan.device)
    step = our_step(card, made_up_batch(card, size), modern(), device, bf16=True)
    _kernels(f"{name}, training, batch {size}", lambda: step(lambda _: None), plan, report)


def _kernels(what: str, call: Callable[[], object], plan: Plan, report: Report) -> None:
    clock = plan.clock()
    for _ in range(clock.warm_up):
        call()
    clock.wait()
    on_gpu = plan.device == "cuda"
    kind = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    calls = CALLS if on_gpu else 1
    with torch.profiler.profile(activities=[kind]) as recorded:
        for _ in range(calls):
            call()
        clock.wait()
    rows = [
        {
            "kernel": event.key,
            "launches": event.count / calls,
            "milliseconds": (event.self_device_time_total if on_gpu else event.self_cpu_time_total)
            / 1000
            / calls,
        }
        for event in recorded.key_averages()
    ]
    rows.sort(key=lambda row: -row["milliseconds"])
    total = sum(row["milliseconds"] for row in rows)
    launches = sum(row["launches"] for row in rows)
    report.section("profile")[what] = {
        "milliseconds": total,
        "launches": launches,
        "kernels": rows[:KERNELS],
    }
    report.save()
    print(f"{what}: {total:.3f} ms in {launches:.0f} kernels")
    for row in rows[:8]:
        print(f"{row['milliseconds']:>10.3f} ms {row['launches']:>6.0f} x  {row['kernel'][:90]}")
