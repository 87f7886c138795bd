"""Train the small models to bundle.

    python plugins/segmentation/train_small.py video-diffusion-mmnist "moving-mnist?digits=mnist&frames=16&size=16000" \\
        --output runs/video-diffusion-mmnist
    python plugins/segmentation/train_small.py stunet-davis \\
        "davis?root=sequences&held=car-shadow,libby&frames=6&stride=3" --output runs/stunet-davis
    stzoo bundle runs/video-diffusion-mmnist plugins/segmentation/src/stzoo_segmentation/weights/video-diffusion-mmnist
    stzoo evaluate MODEL --data DATA --output results/MODEL
    stzoo record results/* --into plugins/segmentation/src/stzoo_segmentation/weights

The script is nothing but one `stzoo finetune`, which it prints. Data: "dsb2018?root=nuclei" for unet-dsb2018,
"camvid?root=CamVid" for unet-camvid.
"""

from __future__ import annotations

from stzoo.bundles import train_by_name

_UNET = (
    "--batch-size 8 --lr 3e-3 --seed 0 --precision bf16 --channels-last true --log-every 50 --pictures 2 "
    "--set model_config.in_channels=3 model_config.width=16 model_config.padding=same model_config.norm=before "
    "model_config.join=pad recipe.loss=cross-entropy+dice recipe.scale=0.4 recipe.colour=0.3"
)
_STREETS = '["sky","building","pole","road","pavement","tree","sign","fence","car","pedestrian","bicyclist"]'
SYSTEMS = {
    "unet-dsb2018": f"unet --steps 1300 --evaluate-every 325 --evaluate-examples 56 --monitor dice_foreground {_UNET} "
    'model_config.out_channels=2 model_config.classes=["background","nucleus"] recipe.crop=[160,160] recipe.border=10 '
    "recipe.flips=turns recipe.elastic=5",
    "unet-camvid": f"unet --steps 2400 --evaluate-every 1200 --evaluate-examples 101 --monitor iou {_UNET} "
    f"model_config.out_channels=11 model_config.classes={_STREETS} recipe.crop=[160,208]",
    "stunet-davis": "stunet --steps 1200 --batch-size 3 --evaluate-every 300 --evaluate-examples 8 --pictures 2 --log-every 50 "
    '--seed 0 --precision bf16 --clip 1 --ema 0.99 --lr 2e-3 --set model_config.classes=["background","foreground"] '
    "recipe.loss=cross-entropy+dice recipe.crop=[96,160] recipe.scale=0.4 recipe.colour=0.4 recipe.rotate=15",
    "video-diffusion-mmnist": "video-diffusion --steps 2000 --batch-size 8 --evaluate-every 500 --evaluate-examples 32 "
    "--pictures 2 --log-every 50 --seed 0 --precision bf16 --clip 1 --ema 0.995 --lr 1.5e-3 --set model_config.patch=2 "
    "model_config.attn_heads=2 model_config.use_sparse_linear_attn=false model_config.init_kernel_size=3 recipe.loss=l2 "
    "recipe.schedule=cosine recipe.warmup=0.05 options.steps=1 options.strength=0.5",
}
"""Name of the model -> what `stzoo finetune` starts from, and its options."""

if __name__ == "__main__":
    train_by_name(SYSTEMS, __doc__)
