"""What a run is divided among: devices, processes, and the portions of a step."""

import os

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from multibox.errors import InputError
from multibox.training.recipes import Recipe


def prepare_accelerator(recipe: Recipe) -> Accelerator:
    """The device of this process, and its place among those that train together.

    Raises: InputError when the processes do not fit the machine, or a step's pictures them.
    """
    # Without cpu=True a torchrun on a machine without accelerators starts unrelated runs.
    on_cpu = not torch.accelerator.is_available()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if torch.cuda.is_available() and here > torch.cuda.device_count():
        gpus = torch.cuda.device_count()
        raise InputError(
            f"{here} processes were started on a machine with {gpus} GPUs: "
            f"torchrun --nproc-per-node {gpus}"
        )
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    # Before the processes meet: one that leaves then takes the others' connections with it.
    portions = expected * recipe.accumulate
    if recipe.batch_size % portions:
        raise InputError(
            f"batch_size {recipe.batch_size} cannot be divided evenly among "
            f"{expected} processes x accumulate {recipe.accumulate}: take a multiple of {portions}"
        )
    # Gradients lie where they are sent from; BatchNorm's statistics are the first rank's.
    buckets = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
    accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[buckets])
    if accelerator.num_processes != expected:
        raise InputError(
            f"{expected} processes were started but {accelerator.num_processes} found each other: "
            "start the run with torchrun"
        )
    return accelerator


def check_portions(
    model: nn.Module, recipe: Recipe, pictures: int, accelerator: Accelerator
) -> None:
    """Raise InputError when a step would leave a rank, or a norm layer, with too few pictures."""
    portions = accelerator.num_processes * recipe.accumulate
    smallest = min(recipe.batch_size, pictures) // portions
    # The last feature map may be a single cell: one picture of it has no variance.
    least = 2 if is_normalised(model) else 1
    if smallest < least:
        raise InputError(
            f"{pictures} pictures and a batch_size of {recipe.batch_size} leave {smallest} for "
            f"each of the {portions} portions of a step, and this detector needs {least}: "
            "take a larger batch_size, fewer portions or more pictures"
        )


def is_normalised(model: nn.Module) -> bool:
    """Whether it has BatchNorm, whether that learns or not."""
    return any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
