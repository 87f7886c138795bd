"""Train the scenes that are bundled.

    python plugins/reconstruction/train_small.py splat-hotdog hotdog --output runs/splat-hotdog
    stzoo bundle runs/splat-hotdog plugins/reconstruction/src/stzoo_reconstruction/weights/splat-hotdog --weights last
    stzoo evaluate splat-hotdog --data hotdog --split test --metrics psnr ssim lpips --output results/splat-hotdog
    stzoo record results/splat-hotdog --into plugins/reconstruction/src/stzoo_reconstruction/weights

This is nothing but one `stzoo finetune`, which it prints. `hotdog` comes with the plugin; `cow` is made by cow_views.py; `fox` is
a folder with `images/` and `cameras.npz`. Nothing is chosen by the test views: the weights are those of the last step.
"""

from __future__ import annotations

from stzoo.bundles import train_by_name

SPLAT = "gaussian-splatting --batch-size 1 --seed 0 --log-every 50"
SYSTEMS = {
    "nerf-hotdog": "nerf --batch-size 1 --seed 0 --log-every 50 --evaluate-every 250 --steps 2500 --set model_config.skips=[]",
    "splat-cow": f"{SPLAT} --steps 1500 --evaluate-every 100",
    "splat-fox": f"{SPLAT} --steps 2500 --evaluate-every 250",
    "splat-hotdog": f"{SPLAT} --steps 1500 --evaluate-every 100",
}
"""Name of the model -> what `stzoo finetune` starts from, and its options."""

if __name__ == "__main__":
    train_by_name(SYSTEMS, __doc__)
