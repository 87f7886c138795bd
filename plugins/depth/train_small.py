"""Train the small models that are bundled.

    python plugins/depth/train_small.py eigen-kitchen "rgbd-sequence?root=kitchen" --output runs/eigen-kitchen
    stzoo bundle runs/eigen-kitchen plugins/depth/src/stzoo_depth/weights/eigen-kitchen
    stzoo evaluate eigen-kitchen mean-kitchen --data "rgbd-sequence?root=kitchen" --split test --output results/kitchen
    stzoo record results/kitchen --into plugins/depth/src/stzoo_depth/weights

This is nothing but one `stzoo finetune`, which it prints. `kitchen` holds 200 RGB-D frames of 7-Scenes (every fifth of a recording,
120x160, `rgb/` and `depth_mm/`): rgbd-sequence trains on the first 135, keeps 15 to choose the best weights and the last 40 to
test on, with five between that belong to none. `slambook2-frames` is made by slambook_frames.py; of
eigen-small the weights of the last step are bundled (`stzoo bundle --weights last`).
"""

from __future__ import annotations

from stzoo.bundles import train_by_name

SMALL = (
    "--seed 0 --pictures 0 --channels-last true --lr 1e-3 --set model_config.frame=[120,160] model_config.size=[120,160] "
    "recipe.optimizer=adam recipe.layers=equal recipe.schedule=cosine"
)
SYSTEMS = {
    "eigen-kitchen": "eigen --steps 3500 --batch-size 16 --log-every 50 --evaluate-every 350 --evaluate-examples 20 "
    f"--checkpoint-every 700 {SMALL} model_config.widths=[48,128,192,192,128] model_config.hidden=512",
    "eigen-small": f"eigen --steps 400 --batch-size 8 --log-every 50 --evaluate-every 200 {SMALL} "
    "model_config.widths=[16,48,64,64,48] model_config.hidden=128 model_config.fine=24",
    "mean-kitchen": "mean-depth --pictures 0",
    "mean-slambook2": "mean-depth --pictures 0",
}
"""Name of the model -> what `stzoo finetune` starts from, and its options."""

if __name__ == "__main__":
    train_by_name(SYSTEMS, __doc__)
