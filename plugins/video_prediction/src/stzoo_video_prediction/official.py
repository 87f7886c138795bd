"""Official checkpoints: what the papers' authors and OpenSTL's benchmark publish, one row for each file.

``stzoo import NAME`` brings and converts one. Files, settings and numbers are those of OpenSTL's model zoo
(https://github.com/chengtan9907/OpenSTL, docs/en/model_zoos and configs, Apache-2.0; its release 0.3 made the weights), of
PhyDNet (https://github.com/vincent-leguen/PhyDNet, MIT) and of SwinLSTM (https://github.com/SongTang-x/SwinLSTM, MIT).
OpenSTL's numbers for weather are means over pixels, in units of their own, and left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from stzoo import Measurement, Model, Requirements, Source


class _Data(NamedTuple):
    """What a network was trained on."""

    title: str
    trained_on: str
    tag: str
    """Of OpenSTL's release that has the files."""
    in_shape: tuple[int, int, int, int]
    frames_out: int
    family: tuple[int, int, int, int, float]
    """hid_S, hid_T, N_S, N_T and drop_path of the SimVP family."""
    patch: int
    """Side of the recurrent networks' patches."""
    physics: int
    """PhyDNet's ``patch_size``."""


_DATA = {
    "mmnist": _Data("Moving MNIST", "moving-mnist", "mmnist", (10, 1, 64, 64), 10, (64, 512, 4, 8, 0.0), 4, 4),
    "mfmnist": _Data(
        "Moving Fashion-MNIST", "moving-fashion-mnist", "mfmnist", (10, 1, 64, 64), 10, (64, 512, 4, 8, 0.0), 4, 4
    ),
    "mmnist-cifar": _Data(
        "Moving MNIST before CIFAR-10",
        "moving-mnist-cifar",
        "mmnist-cifar",
        (10, 3, 64, 64),
        10,
        (64, 512, 4, 8, 0.0),
        4,
        4,
    ),
    "taxibj": _Data("TaxiBJ", "taxibj", "taxibj", (4, 2, 32, 32), 4, (32, 256, 2, 8, 0.1), 2, 2),
    "kth": _Data("KTH", "kth", "kth20", (10, 1, 128, 128), 20, (64, 256, 2, 6, 0.1), 2, 4),
    "human": _Data("Human3.6M", "human", "human", (4, 3, 256, 256), 4, (64, 512, 4, 8, 0.1), 4, 4),
    "kitticaltech": _Data("KITTI", "kitticaltech", "kitti", (10, 3, 128, 160), 1, (64, 256, 2, 6, 0.1), 2, 4),
} | {
    f"weather-{key}": _Data(
        f"WeatherBench's {what} (standardised)",
        "weather",
        "weather-5-625",
        (12, channels, 32, 64),
        12,
        (32, 256, 2, 8, 0.1),
        2,
        2,
    )
    for key, what, channels in (
        ("t2m", "temperature", 1),
        ("r", "humidity", 1),
        ("uv10", "wind", 2),
        ("tcc", "cloud cover", 1),
    )
}

_NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "tau": ("TAU", {}),
    "simvp": ("SimVP with the gSTA translator", {"model_type": "gsta"}),
    "simvp-incepu": ("SimVP with the IncepU translator", {"model_type": "incepu"}),
    "phydnet": ("PhyDNet", {}),
    "convlstm": ("ConvLSTM", {"num_hidden": (128,) * 4, "cell": "v0.3"}),
    "convlstm-l": ("ConvLSTM, large", {"num_hidden": (192,) * 4, "cell": "v0.3"}),
    "predrnn": ("PredRNN", {"num_hidden": (128,) * 4}),
    "swinlstm": (
        "SwinLSTM-D",
        {
            "patch_size": 2,
            "window_size": 4,
            "embed_dim": 128,
            "depths_down": (2, 6),
            "depths_up": (6, 2),
            "heads": (4, 8),
            "drop_path": 0.1,
        },
    ),
}
"""By the first part of a row: what it is, and its config beside that of the data."""

_OTHERWISE: dict[tuple[str, str], dict[str, Any]] = {
    ("simvp", "kth"): {"drop_path": 0.2},
    ("simvp", "kitticaltech"): {"drop_path": 0.2},
    ("simvp", "human"): {"hid_T": 256},
    ("simvp", "weather-uv10"): {"drop_path": 0.2},
    ("simvp-incepu", "kth"): {"N_T": 6},
    ("tau", "kitticaltech"): {"hid_T": 512, "N_S": 4, "N_T": 8},
    ("simvp-incepu", "kitticaltech"): {"N_T": 4},
    ("simvp-incepu", "human"): {"N_T": 6},
}
"""Where a network's setting is not that of its family. Of IncepU on KTH and TAU on KITTI it is what the parameters and
FLOPs in the model zoo tell; the config files, 8.6 M and 15.0 M parameters, are of other networks."""


def _config(network: str, key: str) -> dict[str, Any]:
    architecture, data = network.partition("-")[0], _DATA[key]
    config: dict[str, Any] = {"in_shape": data.in_shape}
    if architecture in ("tau", "simvp"):
        config |= dict(zip(("hid_S", "hid_T", "N_S", "N_T", "drop_path"), data.family, strict=True))
    else:
        patch = data.physics if architecture == "phydnet" else data.patch
        config |= {"frames_out": data.frames_out, "patch_size": patch}
    return config | _NETWORKS[network][1] | _OTHERWISE.get((network, key), {})


def _requirements(architecture: str, config: dict[str, Any]) -> Requirements:
    frames, channels, height, width = config["in_shape"]
    multiple = config["patch_size"] if "patch_size" in config else 2 ** (config["N_S"] // 2)
    if architecture == "swinlstm":
        multiple *= config["window_size"] << len(config["depths_down"])
    minimum = 4 if architecture == "phydnet" else multiple
    return Requirements(frames, config.get("frames_out", frames), channels, minimum, multiple, (height, width))


def _model(
    network: str,
    key: str,
    variant: str,
    parameters: int,
    url: str,
    published: tuple[float | None, ...],
    source: str = "openstl",
) -> Model:
    data, config, (title, _) = _DATA[key], _config(network, key), _NETWORKS[network]
    architecture, _, kind = network.partition("-")
    name = "-".join([f"{architecture}-{key}.{source}", *filter(None, (kind, variant))])
    file = url.rpartition("/")[2].removesuffix(".pth")
    epochs = file.rpartition("_")[2]
    whose = "OpenSTL's" if source == "openstl" else "its authors'"
    return Model(
        name=name,
        aliases=(f"{name}-{epochs}",) if epochs.startswith("ep") and not variant else (),
        architecture=architecture,
        config=config,
        source=Source(url),
        license="apache-2.0" if source == "openstl" else "mit",
        trained_on=data.trained_on,
        description=f"{title}, {data.title}: {data.in_shape[0]} frames in, {data.frames_out} out ({whose} weights)",
        metrics=tuple(
            Measurement(f"{data.trained_on} ({whose} test set)", metric, value, "published", f"{title}, {file}")
            for metric, value in zip(("mse", "mae", "ssim", "psnr"), published, strict=False)
            if value is not None
        ),
        requirements=_requirements(architecture, config),
        parameters=parameters,
        tags=("official",),
    )


# network, data, variant, parameters, file, and the MSE, MAE, SSIM and PSNR published with it
_OPENSTL: tuple[tuple[str, str, str, int, str, tuple[float, ...]], ...] = (
    ("tau", "mmnist", "", 44_656_001, "mmnist_tau_one_ep200", (24.6, 71.93, 0.9454, 23.19)),
    ("tau", "mmnist", "ep2000", 44_656_001, "mmnist_tau_one_ep2000", (15.69, 51.46, 0.9661, 25.71)),
    ("simvp", "mmnist", "", 46_769_665, "mmnist_simvp_s_gsta_one_ep200", (26.69, 77.19, 0.9402, 22.78)),
    ("simvp", "mmnist", "ep2000", 46_769_665, "mmnist_simvp_s_gsta_one_ep2000", (15.05, 49.8, 0.9675, 25.97)),
    ("simvp-incepu", "mmnist", "", 57_946_113, "mmnist_simvp_s_incepu_one_ep200", (32.15, 89.05, 0.9268, 21.84)),
    ("simvp-incepu", "mmnist", "ep2000", 57_946_113, "mmnist_simvp_s_incepu_one_ep2000", (21.15, 64.15, 0.9536, 23.99)),
    ("phydnet", "mmnist", "", 3_091_732, "mmnist_phydnet_one_ep200", (28.19, 78.64, 0.9374, 22.62)),
    ("phydnet", "mmnist", "ep2000", 3_091_732, "mmnist_phydnet_one_ep2000", (20.35, 61.47, 0.9559, 24.21)),
    ("convlstm", "mmnist", "", 11_675_648, "mmnist_convlstm_one_ep200", (29.8, 90.64, 0.9288, 22.1)),
    ("convlstm", "mmnist", "ep2000", 11_675_648, "mmnist_convlstm_one_ep2000", (22.41, 73.07, 0.948, 23.54)),
    ("convlstm-l", "mmnist", "", 26_115_072, "mmnist_convlstm_l_one_ep200", (27.78, 86.14, 0.9343, 22.44)),
    ("predrnn", "mmnist", "", 23_838_720, "mmnist_predrnn_one_ep200", (23.97, 72.82, 0.9462, 23.28)),
    ("predrnn", "mmnist", "ep2000", 23_838_720, "mmnist_predrnn_one_ep2000", (26.43, 77.52, 0.9411, 22.9)),
    ("tau", "mfmnist", "", 44_656_001, "fmnist_tau_one_ep200", (24.24, 96.72, 0.8995, 22.87)),
    ("simvp", "mfmnist", "", 46_769_665, "fmnist_simvp_gsta_one_ep200", (25.86, 101.22, 0.8933, 22.61)),
    ("simvp-incepu", "mfmnist", "", 57_946_113, "fmnist_simvp_incepu_one_ep200", (30.77, 113.94, 0.874, 21.81)),
    ("phydnet", "mfmnist", "", 3_091_732, "fmnist_phydnet_one_ep200", (34.75, 125.66, 0.8567, 22.03)),
    ("convlstm", "mfmnist", "", 11_675_648, "fmnist_convlstm_one_ep200", (28.87, 113.2, 0.8793, 22.07)),
    ("convlstm-l", "mfmnist", "", 26_115_072, "fmnist_convlstm_l_one_ep200", (25.51, 104.85, 0.8928, 22.67)),
    ("predrnn", "mfmnist", "", 23_838_720, "fmnist_predrnn_one_ep200", (22.01, 91.74, 0.9091, 23.42)),
    ("tau", "mmnist-cifar", "", 44_657_283, "mmnist_cifar_tau_one_ep200", (48.17, 177.35, 0.9539, 25.21)),
    ("simvp", "mmnist-cifar", "", 46_770_947, "mmnist_cifar_simvp_gsta_one_ep200", (51.13, 185.13, 0.9512, 24.93)),
    (
        "simvp-incepu",
        "mmnist-cifar",
        "",
        57_947_395,
        "mmnist_cifar_simvp_incepu_one_ep200",
        (59.83, 214.54, 0.9414, 24.15),
    ),
    ("phydnet", "mmnist-cifar", "", 3_092_886, "mmnist_cifar_phydnet_one_ep200", (142.54, 700.37, 0.8276, 19.92)),
    ("convlstm", "mmnist-cifar", "", 12_089_344, "mmnist_cifar_convlstm_one_ep200", (73.31, 338.56, 0.9204, 23.09)),
    ("convlstm-l", "mmnist-cifar", "", 26_735_616, "mmnist_cifar_convlstm_l_one_ep200", (62.86, 291.05, 0.9337, 23.83)),
    ("predrnn", "mmnist-cifar", "", 24_559_616, "mmnist_cifar_predrnn_one_ep200", (50.09, 225.04, 0.9499, 24.9)),
    ("tau", "taxibj", "", 9_545_442, "taxibj_tau_cos_ep50", (0.3108, 14.93, 0.9848, 39.74)),
    ("simvp", "taxibj", "", 9_961_058, "taxibj_simvp_gsta_cos_ep50", (0.3246, 15.03, 0.9844, 39.71)),
    ("simvp-incepu", "taxibj", "", 13_794_914, "taxibj_simvp_incepu_cos_ep50", (0.3282, 15.45, 0.9835, 39.45)),
    ("phydnet", "taxibj", "", 3_092_309, "taxibj_phydnet_cos_ep50", (0.3622, 15.53, 0.9828, 39.46)),
    ("convlstm", "taxibj", "", 11_572_224, "taxibj_convlstm_cos_ep50", (0.3358, 15.32, 0.9836, 39.45)),
    ("predrnn", "taxibj", "", 23_658_496, "taxibj_predrnn_cos_ep50", (0.3194, 15.31, 0.9838, 39.51)),
    ("tau", "kth", "", 14_955_201, "kth20_tau_one_ep100", (45.32, 421.7, 0.9086, 27.1)),
    ("simvp", "kth", "", 15_632_961, "kth20_simvp_gsta_one_ep100", (45.02, 417.8, 0.9049, 27.04)),
    ("simvp-incepu", "kth", "", 12_152_385, "kth20_simvp_incepu_one_ep100", (41.11, 397.1, 0.9065, 27.46)),
    ("phydnet", "kth", "", 3_091_732, "kth20_phydnet_one_ep100", (91.12, 765.6, 0.8322, 23.41)),
    ("convlstm", "kth", "", 11_520_512, "kth20_convlstm_one_ep100", (47.65, 445.5, 0.8977, 26.99)),
    ("predrnn", "kth", "", 23_568_384, "kth20_predrnn_one_ep100", (41.07, 380.6, 0.9097, 27.95)),
    ("tau", "human", "", 37_647_363, "human_tau_cos_ep50", (113.3, 1390.7, 0.9839, 34.03)),
    ("simvp", "human", "", 11_327_235, "human_simvp_gsta_cos_ep50", (108.4, 1441.0, 0.9834, 34.08)),
    ("simvp-incepu", "human", "", 41_156_355, "human_simvp_incepu_cos_ep50", (115.8, 1511.5, 0.9822, 33.73)),
    ("phydnet", "human", "", 3_092_886, "human_phydnet_cos_ep50", (125.7, 1614.7, 0.9804, 39.84)),
    ("convlstm", "human", "", 12_089_344, "human_convlstm_cos_ep50", (125.5, 1566.7, 0.9813, 33.4)),
    ("predrnn", "human", "", 24_559_616, "human_predrnn_cos_ep50", (113.2, 1458.3, 0.9831, 33.94)),
    ("tau", "kitticaltech", "", 44_657_283, "kitticaltech_tau_one_ep100", (131.1, 1507.8, 0.9456, 27.83)),
    ("simvp", "kitticaltech", "", 15_634_243, "kitticaltech_simvp_gsta_one_ep100", (129.7, 1507.7, 0.9454, 27.89)),
    (
        "simvp-incepu",
        "kitticaltech",
        "",
        8_601_923,
        "kitticaltech_simvp_incepu_one_ep100",
        (160.2, 1690.8, 0.9338, 26.81),
    ),
    ("phydnet", "kitticaltech", "", 3_092_886, "kitticaltech_phydnet_one_ep100", (312.2, 2754.8, 0.8615, 23.26)),
    ("convlstm", "kitticaltech", "", 11_623_936, "kitticaltech_convlstm_one_ep100", (139.6, 1583.3, 0.9345, 27.46)),
    ("predrnn", "kitticaltech", "", 23_748_608, "kitticaltech_predrnn_one_ep100", (130.4, 1525.5, 0.9374, 27.81)),
    ("tau", "weather-t2m", "", 12_219_553, "weather_t2m_tau_cos_ep50", ()),
    ("simvp", "weather-t2m", "", 12_758_305, "weather_t2m_simvp_gsta_cos_ep50", ()),
    ("simvp-incepu", "weather-t2m", "", 14_666_017, "weather_t2m_simvp_incepu_cos_ep50", ()),
    ("phydnet", "weather-t2m", "", 3_091_732, "weather_t2m_phydnet_cos_ep50", ()),
    ("convlstm", "weather-t2m", "", 11_520_512, "weather_t2m_convlstm_cos_ep50", ()),
    ("predrnn", "weather-t2m", "", 23_568_384, "weather_t2m_predrnn_cos_ep50", ()),
    ("tau", "weather-r", "", 12_219_553, "weather_r_tau_cos_ep50", ()),
    ("simvp", "weather-r", "", 12_758_305, "weather_r_simvp_gsta_cos_ep50", ()),
    ("simvp-incepu", "weather-r", "", 14_666_017, "weather_r_simvp_incepu_cos_ep50", ()),
    ("phydnet", "weather-r", "", 3_091_732, "weather_r_phydnet_cos_ep50", ()),
    ("convlstm", "weather-r", "", 11_520_512, "weather_r_convlstm_cos_ep50", ()),
    ("predrnn", "weather-r", "", 23_568_384, "weather_r_predrnn_cos_ep50", ()),
    ("tau", "weather-uv10", "", 12_219_874, "weather_uv10_tau_cos_ep50", ()),
    ("simvp", "weather-uv10", "", 12_758_626, "weather_uv10_simvp_gsta_cos_ep50", ()),
    ("simvp-incepu", "weather-uv10", "", 14_666_338, "weather_uv10_simvp_incepu_cos_ep50", ()),
    ("phydnet", "weather-uv10", "", 3_092_309, "weather_uv10_phydnet_cos_ep50", ()),
    ("convlstm", "weather-uv10", "", 11_572_224, "weather_uv10_convlstm_cos_ep50", ()),
    ("predrnn", "weather-uv10", "", 23_658_496, "weather_uv10_predrnn_cos_ep50", ()),
    ("tau", "weather-tcc", "", 12_219_553, "weather_tcc_tau_cos_ep50", ()),
    ("simvp", "weather-tcc", "", 12_758_305, "weather_tcc_simvp_gsta_cos_ep50", ()),
    ("simvp-incepu", "weather-tcc", "", 14_666_017, "weather_tcc_simvp_incepu_cos_ep50", ()),
    ("phydnet", "weather-tcc", "", 3_091_732, "weather_tcc_phydnet_cos_ep50", ()),
    ("convlstm", "weather-tcc", "", 11_520_512, "weather_tcc_convlstm_cos_ep50", ()),
    ("predrnn", "weather-tcc", "", 23_568_384, "weather_tcc_predrnn_cos_ep50", ()),
)

_RELEASES = "https://github.com/chengtan9907/OpenSTL/releases/download"
_PHYDNET = "https://github.com/vincent-leguen/PhyDNet/raw/23a992d771c9eb1d32f52b1873a3c5625f1a8413"
_SWINLSTM = "https://github.com/SongTang-x/SwinLSTM/raw/4425bcfefbebfac85c9fc6c6659361b8154d5ca3"

MODELS: tuple[Model, ...] = (
    *(
        _model(network, key, variant, parameters, f"{_RELEASES}/{_DATA[key].tag}-weights/{file}.pth", published)
        for network, key, variant, parameters, file, published in _OPENSTL
    ),
    # The number of the released file is its author's (issue 21 there); the paper's is 24.4.
    _model("phydnet", "mmnist", "", 3_091_732, f"{_PHYDNET}/save/encoder_phydnet.pth", (24.19,), "official"),
    # The numbers are the paper's.
    _model(
        "swinlstm",
        "mmnist",
        "",
        18_845_409,
        f"{_SWINLSTM}/Pretrained/trained_model_state_dict",
        (17.7, None, 0.962),
        "official",
    ),
)
