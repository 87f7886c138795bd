"""Masked autoencoders beside the library transformers, in one run: the same weights, the same pictures, the same masks.

    OMP_NUM_THREADS=2 python benchmarks/representation.py [--size base] [--batch 8] [--repeats 5]

Needs `pip install transformers`. Both are called in turn, the minimum of all calls counts. Outputs, losses and gradients are
compared before anything is timed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import ViTMAEConfig, ViTMAEForPreTraining

import stzoo
from stzoo_representation.mae_published import DECODER, SIZES


def pair(size: str) -> tuple[torch.nn.Module, Any]:
    """stzoo's network and transformers' with the same weights, brought over as a checkpoint."""
    config = SIZES[size]
    torch.manual_seed(0)
    theirs = ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=config["embed_dim"],
            num_hidden_layers=config["depth"],
            num_attention_heads=config["num_heads"],
            intermediate_size=4 * config["embed_dim"],
            patch_size=config["patch_size"],
            decoder_hidden_size=DECODER["decoder_embed_dim"],
            decoder_num_hidden_layers=DECODER["decoder_depth"],
            decoder_num_attention_heads=DECODER["decoder_num_heads"],
            layer_norm_eps=1e-6,
        )
    ).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({key: value.contiguous() for key, value in theirs.state_dict().items()}, path)
        ours = stzoo.import_checkpoint(path, "mae", device="cpu").module
    return ours.eval(), theirs


def timed(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Least seconds of each, called in turn."""
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="base")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    ours, theirs = pair(options.size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(options.batch, 3, 224, 224, generator=generator)
    noise = torch.rand(options.batch, (224 // SIZES[options.size]["patch_size"]) ** 2, generator=generator)

    def our_loss() -> torch.Tensor:
        return ours(images, 0.75, noise)[0]  # type: ignore[no-any-return]

    def their_loss() -> torch.Tensor:
        return theirs(images, noise=noise).loss  # type: ignore[no-any-return]

    with torch.inference_mode():
        loss, drawn, _ = ours(images, 0.75, noise)
        other = theirs(images, noise=noise)
    off = float((drawn - other.logits).abs().max())
    print(f"ViT-{options.size}, batch {options.batch}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"largest difference of the outputs {off:.1e}, of the losses {abs(float(loss - other.loss)):.1e}")
    assert off < 1e-4

    def forward(function: Callable[[], Any]) -> Callable[[], Any]:
        def job() -> None:
            with torch.inference_mode():
                function()

        return job

    def step(network: torch.nn.Module, function: Callable[[], torch.Tensor]) -> Callable[[], Any]:
        optimizer = torch.optim.AdamW([item for item in network.parameters() if item.requires_grad], lr=0.0)

        def job() -> None:
            optimizer.zero_grad()
            function().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return job

    for what, jobs in (
        ("forward", {"stzoo": forward(our_loss), "transformers": forward(their_loss)}),
        ("training step", {"stzoo": step(ours, our_loss), "transformers": step(theirs, their_loss)}),
    ):
        seconds = timed(jobs, options.repeats)
        told = ", ".join(f"{name} {value:.3f} s" for name, value in seconds.items())
        print(f"{what}: {told}; {seconds['transformers'] / seconds['stzoo']:.2f} times as fast")


if __name__ == "__main__":
    main()
