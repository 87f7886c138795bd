"""The models this plugin brings: pure data, with the numbers that were recorded beside the weights."""

from __future__ import annotations

from pathlib import Path

from stzoo import Model
from stzoo.bundles import bundled

_WEIGHTS = Path(__file__).parent / "weights"

MODELS: tuple[Model, ...] = (
    bundled(
        _WEIGHTS / "unet-camvid",
        description="Tells eleven classes apart in pictures of streets: a small U-Net",
        license="cc-by-nc-4.0",
        trained_on="CamVid (its 367 training frames)",
        paper="https://arxiv.org/abs/1505.04597",
        card="""\
## Intended use

A small network to try the task with, to test with and to fine-tune from: street scenes as from a car's windscreen, at about 240x180
pixels; larger pictures are to be reduced to that first. Not for driving.

## Training data

CamVid's 367 training frames at 240x180 pixels, in the 11 classes of SegNet's authors. CamVid is given for research, hence the mark on
these weights. Cross-entropy and Dice; random scale, mirror images, colours. Hardware: {hardware}. Time: {minutes:g} minutes,
{steps:,} steps.

## Limitations

Poles and signs, a few pixels wide at this size, are mostly missed (IoU 0.07 and 0.14), pedestrians found in part: see the classes'
numbers. Frames of a few drives in one city: night, rain and other places were hardly seen. With other cameras it is of little
use: in the photographs of other streets and motorways that were tried, it took nearly all of the sky for buildings. The numbers are of
CamVid's 101 validation frames, which follow one another along few streets; training looked at them twice and chose nothing by it.
""",
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "unet-dsb2018",
        description="Finds cell nuclei in micrographs, fluorescent or stained: a small U-Net",
        license="apache-2.0",
        trained_on="dsb2018 (CC0), 80 % of its pictures",
        example="dsb2018",
        paper="https://arxiv.org/abs/1505.04597",
        card="""\
## Intended use

A small network to try the task with, to test with and to fine-tune from: nuclei against everything else, in micrographs of about
256x256 pixels with nuclei of 5 to 50 pixels. With the option `instances=watershed` it numbers them. Not for diagnosis.

## Training data

Pictures of the 2018 Data Science Bowl (BBBC038, CC0), 256x256 pixels: eight of each ten to train on, one to choose the best weights
with and one held out. Cross-entropy with U-Net's border weights, and Dice; random scale, turns, elastic deformation, colours.
Hardware: {hardware}. Time: {minutes:g} minutes, {steps:,} steps.

## Limitations

Most of the training pictures are fluorescent, light on dark. Purple stained tissue is found less well, and grey smears in transmitted
light, of which there were a handful, not at all. Nuclei that touch are one region in the mask, and watershed parts them by their
shape alone, long ones wrongly in two. The network has a quarter of the channels of the paper's, and was trained for minutes.
""",
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "unet3d-brain",
        description="Finds the brain in a T1-weighted MRI of a head (deepbrain's network)",
        license="mit",
        trained_on="CC359, NFBS, ADNI (by deepbrain's author)",
        example="colin27",
        card="""\
## Intended use

Extracting the brain from T1-weighted magnetic resonance images of heads ("skull stripping"), in any orientation and resolution:
the volume is resized to 128x128x128 voxels, and the probabilities back. Not for clinical use.

## Training data

Trained by the author of the package deepbrain 0.1 (https://github.com/iitzco/deepbrain, MIT), as its description says on subsets
of the data sets CC359, NFBS and ADNI, with rotations. Nothing was trained here: the package's frozen graph was converted, and
what it gives was compared with the graph itself, run by OpenVINO: probabilities differ by at most 1e-5.

## Limitations

Its description says that Dice was above 0.97 on a held-out part of these data sets, which is not repeated here. The head it was
measured on here is one, Colin27, whose reference mask was made by another program (BET) that cuts closer. With 128 voxels along
each axis, details of less than about 2 mm are lost. What is no whole head, such as a brain that was extracted before, is not
recognised: of the MNI152 template, which has no skull, it finds too little (Dice 0.48).
""",
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "video-diffusion-mmnist",
        description="Makes clips of two handwritten digits that fly about, 16 frames of 32x32 pixels",
        license="cc-by-sa-3.0",
        trained_on="moving-mnist (full MNIST)",
        paper="https://arxiv.org/abs/2204.03458",
        card="""\
## Intended use

A small network to try video diffusion with, to test with and to fine-tune from: the same seed gives the same clip. Give it a clip to
start from, and it noises and makes it again. It knows no labels, so that there is no guidance.

## Training data

Moving MNIST, generated on the fly from all 60,000 digits of MNIST's training set but the last twelfth (CC BY-SA 3.0, LeCun and
Cortes), reduced to 32x32 pixels. The noise is predicted, with a squared loss, at 1,000 times of the cosine schedule; blocks of 2x2
pixels are channels of the network. Hardware: {hardware}. Time: {minutes:g} minutes, {steps:,} steps.

## Limitations

It saw sixteen thousand clips, once, where networks of this kind are trained on millions. What it makes are connected, bright strokes
on black that fly about as digits do, but change their form on the way: hardly any is a digit that one can read. The error that was
measured is that of one pass which takes away the noise of clips of test digits, at the strength of the command, against a clip
that is everywhere as bright as the true one on the average: it says that the noise is told well, not that clips are good ones.
""",
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "stunet-davis",
        description="Finds the thing that a clip is about, frame by frame (background and foreground)",
        license="other",
        trained_on="davis (four sequences)",
        paper="https://arxiv.org/abs/2204.03458",
        card="""\
## Intended use

A small network to try the segmentation of clips with, to test with and to fine-tune from: research alone, as the data are.

## Training data

Four sequences of DAVIS 2016 at 120x214 pixels (bmx-trees, dance-twirl, goat, scooter-black; the last clips to choose the best weights
with), cut into clips of six frames, at random scales, turns and colours. Two sequences, car-shadow and libby, were held out.
Hardware: {hardware}. Time: {minutes:g} minutes, {steps:,} steps.

## Limitations

It does not find new things: on the two sequences held out it is far behind a baseline that keeps the true mask of the first frame,
see the numbers above. It knows four things in front of four backgrounds, and has no features of other pictures to build on; fine-tune it on
the scene it is to work in. It was made for frames of about 120x214 pixels; larger ones are better reduced first.
""",
        tags=("small",),
    ),
)
