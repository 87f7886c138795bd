"""Train the small models that are bundled.

    python plugins/representation/kodak_squares.py kodak24 kodak-squares
    python plugins/representation/train_small.py mae-tiny kodak-squares --output runs/mae-tiny
    stzoo bundle runs/mae-tiny plugins/representation/src/stzoo_representation/weights/mae-tiny
    stzoo evaluate mae-tiny --data kodak-squares --split test --output results/mae-tiny
    stzoo record results/mae-tiny --into plugins/representation/src/stzoo_representation/weights
    python plugins/representation/train_small.py siamese-orl "orl-faces?root=orl_faces_30.npz" --output runs/siamese-orl
    stzoo bundle runs/siamese-orl plugins/representation/src/stzoo_representation/weights/siamese-orl
    stzoo evaluate siamese-orl --data "orl-faces?root=orl_faces_30.npz&different=6" --split test --output results/orl
    stzoo record results/orl --into plugins/representation/src/stzoo_representation/weights

    python plugins/representation/visionts_start.py mae-tiny visionts-start
    python plugins/representation/train_small.py visionts-mae-tiny "ett?root=ETTh1.csv&context=336&horizon=96" --output runs/visionts-mae-tiny
    stzoo evaluate visionts-mae-tiny --data "ett?root=ETTh1.csv&context=336&horizon=96" --split test --batch-size 32 --output results/visionts-96

This is nothing but one `stzoo finetune`, which it prints.
"""

from __future__ import annotations

from stzoo.bundles import train_by_name

SYSTEMS = {
    "visionts-mae-tiny": "visionts-start --steps 400 --batch-size 8 --lr 1e-2 --seed 0 --log-every 20 --evaluate-every 200 "
    "--evaluate-examples 30 --pictures 0 --set recipe.schedule=cosine",
    "mae-tiny": "mae --steps 700 --batch-size 48 --lr 5e-3 --seed 0 --precision bf16 --clip 1 --log-every 50 --evaluate-every 350 "
    "--pictures 2",
    "siamese-orl": "siamese --steps 600 --batch-size 32 --seed 0 --log-every 100 --evaluate-every 200 --evaluate-examples 360 --pictures 0 "
    "--set model_config.size=[28,24] model_config.mean=[0.45] model_config.std=[0.2] model_config.widths=[32,64] model_config.kernel=3 "
    "model_config.hidden=[] model_config.dimensions=128 model_config.l2=true recipe.margin=0.5 recipe.turn=10 recipe.zoom=0.15 recipe.shift=0.08 "
    "recipe.light=0.3",
}
"""Name of the model -> what `stzoo finetune` starts from, and its options."""

if __name__ == "__main__":
    train_by_name(SYSTEMS, __doc__)
