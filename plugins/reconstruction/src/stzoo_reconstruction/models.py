"""The models this plugin brings: pure data, with the numbers that were recorded beside the weights."""

from __future__ import annotations

from pathlib import Path

from stzoo import Model
from stzoo.bundles import bundled
from stzoo_reconstruction.official import MODELS as OFFICIAL

_WEIGHTS = Path(__file__).parent / "weights"

_TIMES = (
    "In another run of the same settings, counted in seconds of processor time of one core without evaluations, the test views had "
    "{}. In this run they had, every {} steps, {} dB: it falls where Gaussians are split, and for as long as they settle."
)
_SPLAT_CARD = """\
## Intended use

A scene to try the task with: to look at from anywhere near to where its photographs were taken, to test with, and to train
further (`stzoo finetune {name} --data VIEWS`, more photographs of the same scene). It is one scene: for another, train
`gaussian-splatting` on its photographs, or use the model `splat`.

## Training data

{data} Gaussians started at random places, not at points of structure from motion; nothing was chosen by the views that the
metrics are of, and the weights are those of the last step. Hardware: {{hardware}}. Time: {{minutes:g}} minutes of a machine that
was busy with other things. {quality}

## Limitations

{limits}
"""

_NERF_CARD = """\
## Intended use

A NeRF to try the task with, to test with, and to compare with Gaussians of the same views (splat-hotdog), which are better and
faster on a CPU. It is one scene: for another, train `nerf` on its photographs.

## Training data

42 of 48 views of 64x64 pixels, which come with the plugin; every eighth is for testing. They were rendered from a NeRF (MIT) of a
scene of Blender (CC0), and are as good as that. The weights are those of the last step; noise,
learning rate and depth were tuned on the same six test views in about a dozen short runs, so their numbers flatter it a little.
Hardware: {hardware}. Time: {minutes:g} minutes of a machine that was busy with other things.

In seconds of processor time of one core, evaluations left out: 19.8 dB after 13, 22 after 31, 22.5 after 33. The whole command,
start, evaluations and pictures included, took 189 seconds, and reached 25.1 dB.

## Limitations

A network of 4 layers of 64 and 48 samples a ray: edges are soft. What 64x64 pixels do not show it does not know. There were no
views from below, and white on a white ground costs nothing: under the plate there is a white fog, which is in the depth and in the
mesh too.
"""

MODELS: tuple[Model, ...] = (
    Model(
        name="splat",
        architecture="scene-fit",
        config={"method": "gaussian-splatting"},
        description="Fits 3D Gaussians to posed photographs while you watch: seconds to minutes on a CPU",
        parameters=0,
        tags=("per-scene",),
    ),
    bundled(
        _WEIGHTS / "splat-cow",
        description="Gaussians of a toy cow, from 43 views of a textured mesh",
        license="cc0-1.0",
        trained_on="cow",
        card=_SPLAT_CARD.format(
            name="splat-cow",
            data="43 of 50 views of 128x128 pixels; every eighth is for testing. `plugins/reconstruction/cow_views.py` renders them from "
            "Keenan Crane's mesh of a cow, which is in the public domain.",
            quality=_TIMES.format(
                "20 dB after 2.8, 25 after 7.3, 28 after 8.4 and 30 after 11.1",
                100,
                "19.7, 21.8, 20.7, 22.2, 23.9, 27.0, 29.2, 30.6, 31.2, 33.3, 33.6, 33.8, 33.7, 33.8 and 33.8",
            ),
            limits="Its light is part of its colours. What 128x128 pixels do not show it does not know.",
        ),
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "splat-fox",
        description="Gaussians of a stuffed fox's head on a wall, from 43 photographs of a telephone (non-commercial)",
        license="cc-by-nc-4.0",
        trained_on="fox (non-commercial)",
        card=_SPLAT_CARD.format(
            name="splat-fox",
            data="43 of 50 photographs of 90x160 pixels with their cameras, every eighth is for testing: the fox of NVIDIA's instant-ngp, "
            "reduced, which may be used for non-commercial purposes alone. So may these weights.",
            quality=_TIMES.format(
                "20 dB after 9.2, 24 after 19.1, 25 after 25.2 and 27 after 36.6",
                250,
                "17.8, 17.0, 21.5, 20.8, 24.2, 25.3, 25.9, 26.2, 26.2 and 26.3",
            ),
            limits="Where few photographs look, as at the back of the head and the wall above it, there is a fog: of the seven test views "
            "the one from there has 18 dB, the others 25 to 31. Another random start of the same settings ended at 27.3 dB. Light and "
            "shadows are part of its colours.",
        ),
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "splat-hotdog",
        description="Gaussians of NeRF's synthetic hotdog, from 42 small views",
        license="cc0-1.0",
        trained_on="hotdog",
        card=_SPLAT_CARD.format(
            name="splat-hotdog",
            data="42 of 48 views of 64x64 pixels, which come with the plugin; every eighth is for testing. They were rendered from "
            "a NeRF (MIT) of a scene of Blender (CC0), and are as good as that: their colours drift a little with the direction.",
            quality=_TIMES.format(
                "20 dB after 0.9, 25 after 4.7, 27 after 7.1 and 28 after 8.0",
                100,
                "20.4, 23.2, 20.7, 22.0, 23.1, 24.8, 25.9, 26.5, 26.8, 28.1, 28.2, 28.3, 28.4, 28.4 and 28.5",
            ),
            limits="What 64x64 pixels do not show it does not know: from nearer by it is blurred. There were no views from below.",
        ),
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "nerf-hotdog",
        description="A small NeRF of NeRF's synthetic hotdog, from 42 small views",
        license="cc0-1.0",
        trained_on="hotdog",
        card=_NERF_CARD,
        tags=("small",),
    ),
    *OFFICIAL,
)
