"""The task: periods from frequencies and times, what is refused, metrics, trivial methods, data sets, and its whole life."""

from __future__ import annotations

import gzip
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stzoo
from stzoo.cli import main
from stzoo.data import open_data
from stzoo.errors import ConfigError, DatasetError, DependencyMissing, InputError
from stzoo.media.series import TimeSeries
from stzoo.registry import registry
from stzoo.spec import Task
from stzoo_representation.forecast_metrics import mae, mase, mean, mse, smape
from stzoo_representation.forecasting import Future, naive, seasonal_naive
from stzoo_representation.frequencies import seasonalities
from stzoo_representation.periods import frequency_of, period_of, stepped

GOLDENS = Path(__file__).parent / "goldens"
SMALL: dict[str, Any] = {"image_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}
SMALL |= {"decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
START = np.datetime64("2024-01-31T00:00:00", "us")


def hourly(steps: int, variables: int = 2, frequency: str = "h") -> TimeSeries:
    """A daily curve that drifts, with a little noise."""
    hour = np.arange(steps)[:, None]
    noise = np.random.default_rng(0).normal(size=(steps, variables))
    values = 5 + np.arange(variables) + np.sin(hour * np.pi / 12) + 0.001 * hour + 0.1 * noise
    return TimeSeries(values, tuple(f"load {index}" for index in range(variables)), stepped(START, frequency, steps))


def saved(series: TimeSeries, path: Path) -> Path:
    np.savez(path, values=series.values, names=np.array(series.names), times=series.times)
    return path


@pytest.fixture(scope="module")
def network() -> stzoo.Predictor:
    return stzoo.create("visionts", device="cpu", **SMALL)


# --- periods ----------------------------------------------------------------------------------------------------------


def test_frequencies_in_old_and_new_spellings() -> None:
    """As the reference where it knows the spelling; what it does not know is what its older spelling is."""
    reference = json.loads((GOLDENS / "visionts-freq_to_seasonality.json").read_text())
    known = {key: tuple(value) for key, value in reference.items() if isinstance(value, list) and value != [1]}
    assert len(known) == 6 and all(seasonalities(key) == value for key, value in known.items())
    for old, new, wanted in (
        ("S", "s", (3600, 1)),
        ("30S", "30s", (120, 1)),
        ("15T", "15min", (96, 672, 1)),
        ("H", "h", (24, 168, 1)),
        ("2H", "2h", (12, 84, 1)),
        ("M", "ME", (12, 6, 3, 1)),
        ("Q-DEC", "QE-DEC", (4, 2, 1)),
        ("A", "YE", (1,)),
        ("B", "B", (5, 1)),
        ("7H", "7h", (24, 1)),
    ):
        assert seasonalities(old) == seasonalities(new) == wanted
    for wrong in ("fortnight", "", "0h", "h2", "-h"):
        with pytest.raises(InputError, match="is not known"):
            seasonalities(wrong)


@pytest.mark.parametrize(
    "frequency", ["s", "30s", "15min", "h", "2h", "D", "10D", "W", "2W", "ME", "QE", "2ME", "YE", "B"]
)
def test_the_times_of_a_series_tell_its_frequency(frequency: str) -> None:
    pandas = pytest.importorskip("pandas")
    times = pandas.date_range("2024-01-31", periods=40, freq=frequency).to_numpy().astype("datetime64[us]")
    assert seasonalities(frequency_of(times, "series")) == seasonalities(frequency)
    assert np.array_equal(stepped(times[0], frequency, 40), times)
    if frequency != "B":
        series = TimeSeries(np.zeros((30, 1)), times=times[:30])
        assert np.array_equal(series.following(np.zeros((10, 1))).times, times[30:])


def test_which_period_is_taken() -> None:
    series = hourly(60)
    assert period_of(series) == 24 and period_of(series, 7) == 7 and period_of(series, "15min") == 1
    assert period_of(series[:30]) == 1, "two days are not known"
    daily = hourly(70, frequency="D")
    assert period_of(daily) == 7 and period_of(daily[:10]) == 1
    assert period_of(TimeSeries(series.values), "h") == 24
    for given, asked, message in (
        (TimeSeries(series.values), 0, "has no times that tell its period"),
        (series, 61, "60 steps, less than one period of 61"),
        (series[:1], 0, "1 step has no frequency"),
        (
            TimeSeries(series.values[:3], times=series.times[[0, 1, 3]]),
            0,
            r"evenly spaced: .*01:00 .*followed by .*03:00",
        ),
        (TimeSeries(series.values[:2], times=START + np.arange(2)), 0, "1e-06 seconds apart"),
    ):
        with pytest.raises(InputError, match=message):
            period_of(given, asked)


# --- prediction -------------------------------------------------------------------------------------------------------


def test_tables_frames_and_arrays_give_one_forecast(network: stzoo.Predictor, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    series = hourly(150)
    frame = pandas.DataFrame(series.values, columns=series.names, index=series.times)
    frame.index.name = "date"
    frame.to_csv(tmp_path / "loads.csv")
    frame.reset_index().to_parquet(tmp_path / "loads.parquet")
    wanted = network.predict(series, horizon=30)
    assert wanted.forecast.shape == (30, 2) and wanted.forecast.names == series.names
    assert wanted.forecast.times[0] == series.times[-1] + np.timedelta64(1, "h")  # type: ignore[index]
    for given in (tmp_path / "loads.csv", tmp_path / "loads.parquet", frame):
        assert network.predict(given, horizon=30).forecast == wanted.forecast
    plain = network.predict(series.values, horizon=30, period="h").forecast
    assert np.array_equal(plain.values, wanted.forecast.values) and plain.times is None
    large = network.predict(TimeSeries(series.values + 1e9, series.names, series.times), horizon=30).forecast.values
    np.testing.assert_allclose(large - 1e9, wanted.forecast.values, atol=1e-4, err_msg="too few digits are computed")
    single = network.predict(TimeSeries(series.values[:, 1:], ("one",), series.times), horizon=30).forecast.values
    np.testing.assert_allclose(single, wanted.forecast.values[:, 1:], atol=1e-5, err_msg="a variable sees another")
    mixed = [series, hourly(150, frequency="D"), series]
    for one, other in zip(network.predict_batch(mixed, horizon=20), mixed, strict=True):
        np.testing.assert_allclose(one.forecast.values, network.predict(other, horizon=20).forecast.values, atol=1e-5)
    flat = network.predict(np.full((48, 1), 7.0), horizon=6, period=12).forecast.values
    np.testing.assert_allclose(flat, 7, atol=0.1, err_msg="a constant series goes on")


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        ("a\n1\n\n", {}, "no times that tell its period"),
        ("a\n1\nx\n", {"period": 1}, "'x' in column 'a', row 2, is no number"),
        ("a\n1\n\nnan\n", {"period": 1}, "1 values are missing, the first in column 'a', row 2"),
        ("a\n1\ninf\n", {"period": 1}, "row 2, is infinite"),
        ("time,a\n2024-01-02,1\n2024-01-01,2\n", {}, "2024-01-01 .row 2. comes after a later one"),
        ("time,a\n2024-01-01,1\n2024-01-01,2\n", {}, "2024-01-01 .row 2. occurs twice"),
        ("time,a\n2024-01-01,1\n2024-01-02,2\n2024-01-04,2\n", {}, "not evenly spaced"),
        ("a\n1\n2\n", {"period": 3}, "2 steps, less than one period of 3"),
        ("a\n" + "1\n2\n" * 12, {"period": 24, "horizon": 200}, "24 steps are too few to predict 200: .* 72 can be"),
        ("a\n1\n2\n", {"horizon": 0}, "horizon=0 must be a whole number from 1"),
        ("a\n1\n2\n", {"period": -1}, "period=-1 must be a whole number of steps, a frequency"),
        ("a\n1\n2\n", {"period": "month"}, "period='month' must be"),
        ("a\n1\n2\n", {"period": 1.5}, "period=1.5 must be"),
        ("", {}, "is empty"),
    ],
)
def test_input_that_is_refused(
    network: stzoo.Predictor, tmp_path: Path, series: str, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "series.csv"
    path.write_text(series)
    with pytest.raises(stzoo.errors.StzooError, match=message):
        network.predict(path, **options)


# --- metrics and trivial methods --------------------------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    past = np.array([[1.0, 5], [2, 5], [3, 5], [5, 5]])
    target = Future(np.array([[4.0, 5], [6, 5]]), past=past, period=2)
    found = np.array([[5.0, 5], [4, 7]])
    np.testing.assert_allclose(mse(found, target), [0.5, 4])
    np.testing.assert_allclose(mae(found, target), [0.5, 2])
    assert smape(found, target) == pytest.approx(200 * (1 / 9 + 0 + 2 / 10 + 2 / 12) / 4)
    assert mase(found, target) == pytest.approx((1.5 / 2.5, 1)), "the constant variable has no scale"
    assert smape(np.zeros((2, 1)), np.zeros((2, 1))) == 0
    assert mase(found, np.asarray(target)) == (0, 0) and math.isnan(mean([(0, 0)]))
    assert mean([(3.0, 2), (0.0, 0), (1.0, 2)]) == 1
    with pytest.raises(InputError, match="the forecast has"):
        mse(found[:1], target)


def test_trivial_methods() -> None:
    series = TimeSeries([[1.0], [2], [3], [4], [5]], ("a",), stepped(START, "ME", 5))
    truth = {"forecast": Future(np.zeros((5, 1)), period=3)}
    last = naive({"series": series}, truth)["forecast"]
    assert last.values.ravel().tolist() == [5] * 5 and str(last.times[0]).startswith("2024-06-30")
    assert seasonal_naive({"series": series}, truth)["forecast"].values.ravel().tolist() == [3, 4, 5, 3, 4]


def test_statistical_methods_stand_in_the_same_table(
    network: stzoo.Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("statsmodels")
    saved(hourly(200), tmp_path / "loads.npz")
    options, data = {"horizon": 24}, str(tmp_path)
    found = stzoo.evaluate(network, data, options=options, baselines=["theta", "ets", "naive"])
    scores = {item.name: item.metrics["mase"].value for item in found.models}
    assert list(scores)[1:] == ["theta", "ets", "naive"] and scores["theta"] < 2 > scores["ets"]
    assert "--baselines theta ets naive" in found.command
    for module in ("stzoo_representation.statistical", "statsmodels.tsa.holtwinters"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "statsmodels.tsa.forecasting.theta", None)
    with pytest.raises(DependencyMissing, match=r"statsmodels.*stzoo-representation\[statistics\]"):
        stzoo.evaluate(network, data, options=options, baselines=["theta"])
    with pytest.raises(ConfigError, match="has no baseline 'arima'"):
        stzoo.evaluate(network, data, options=options, baselines=["arima"])


# --- data sets --------------------------------------------------------------------------------------------------------


def test_the_long_horizon_protocol(tmp_path: Path) -> None:
    task, table = registry().get(Task, "forecasting"), hourly(14_500)
    path = saved(table, tmp_path / "ETTh1.npz")
    about = f"ett?root={path}&context=336&horizon=96"
    counts = {split: len(open_data(about, task, split)) for split in ("train", "validation", "test")}
    assert counts == {"train": 8640 - 431, "validation": 2880 - 95, "test": 2880 - 95}
    known = table.values[:8640]
    first = open_data(about, task, "test")[0]
    wanted = (table.values[11520 - 336 : 11520 + 96] - known.mean(0)) / known.std(0)
    assert np.array_equal(np.concatenate([first["series"].values, first["forecast"].values]), wanted)
    raw = open_data(about + "&standardise=false&stride=24", task, "test")
    assert len(raw) == 117 and np.array_equal(raw[1]["forecast"].values, table.values[11520 + 24 : 11520 + 120])
    other = f"long-horizon?root={path}&context=100&horizon=50"
    counts = {split: len(open_data(other, task, split)) for split in ("train", "validation", "test")}
    assert counts == {"train": 10_150 - 149, "validation": 1450 - 49, "test": 2900 - 49}
    for wrong, message in (
        ("ett", "the table is not given"),
        ("ett?root=nowhere.csv", "there is no file nowhere.csv"),
        (about + "&horizon=9999", "too few for a window of 336"),
        (f"ett?root={path}&stride=0", "stride must be at least 1, got 0"),
        (f"ett?root={path}&context=9000", "8640 rows are too few for a window of 9000"),
        (f"ett?root={saved(table[:9000], tmp_path / 'short.npz')}", "has 9000 rows, 20 months have 14400"),
        (f"ett?root={saved(hourly(50, frequency='D'), tmp_path / 'days.npz')}", "not one of the ETT tables"),
        (f"{other}&test=0.9&validation=0.2", "together below 1"),
    ):
        with pytest.raises(DatasetError, match=message):
            open_data(wrong, task, "train")


def test_monash_and_gluonts_layouts(tmp_path: Path) -> None:
    task = registry().get(Task, "forecasting")
    text = "# a comment\n@relation M3\n@attribute series_name string\n@attribute start_timestamp date\n@frequency {}\n@data\n"
    tsf = tmp_path / "m3.tsf"
    tsf.write_text(text.format("monthly") + "T1:1990-01-31 00-00-00:1,2,?,4\nT2:1991-01-31 00-00-00:5,6\n")
    found = open_data(f"{tsf}?gaps=previous", task)
    assert len(found) == 2 and found[0]["series"].values.ravel().tolist() == [1, 2, 2, 4]
    assert [str(item)[:10] for item in found[0]["series"].times] == [
        "1990-01-31",
        "1990-02-28",
        "1990-03-31",
        "1990-04-30",
    ]
    with pytest.raises(DatasetError, match="1 values are missing"):
        open_data(str(tsf), task)[0]
    for wrong, message in (
        ("T1:1990-01-31 00-00-00:1,x\n", "line 7: could not convert"),
        ("T1:1\n", "line 7 has 1 attributes, 2 are declared"),
    ):
        tsf.write_text(text.format("10_minutes") + wrong)
        with pytest.raises(DatasetError, match=message):
            open_data(str(tsf), task)
    tsf.write_text(text.format("now_and_then"))
    with pytest.raises(DatasetError, match="the frequency 'now_and_then' is not known"):
        open_data(str(tsf), task)
    tsf.write_text("1,2\n")
    with pytest.raises(DatasetError, match="has no line @data"):
        open_data(str(tsf), task)
    for name in ("train", "test", "metadata"):
        (tmp_path / "gluonts" / name).mkdir(parents=True)
    (tmp_path / "gluonts" / "metadata" / "metadata.json").write_text('{"freq": "H"}')
    line = '{"start": "2024-01-01 00:00:00", "target": [[1, 2, 3], [4, 5, 6]]}\n'
    (tmp_path / "gluonts" / "train" / "data.json").write_text(line)
    with gzip.open(tmp_path / "gluonts" / "test" / "data.json.gz", "wt") as file:
        file.write(line * 3)
    found = open_data(tmp_path / "gluonts", task)
    assert found.split == "test" and len(found) == 3 and found[0]["series"].values.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert frequency_of(found[0]["series"].times, "series") == "H"
    lines = tmp_path / "series.jsonl"
    lines.write_text('{"target": [1, 2]}\n{"start": 3}\n')
    with pytest.raises(DatasetError, match="line 2 has no 'target'"):
        open_data(str(lines), task)


# --- the whole life ---------------------------------------------------------------------------------------------------


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Learn from a table, evaluate beside trivial methods, predict a table, all by commands; the run can be loaded again."""
    table, run = saved(hourly(900), tmp_path / "loads.npz"), str(tmp_path / "run")
    data = f"long-horizon?root={table}&context=96&horizon=24&stride=8"
    settings = [f"model_config.{key}={value}" for key, value in SMALL.items()]
    options = [
        "--steps",
        "6",
        "--batch-size",
        "4",
        "--pictures",
        "0",
        "--set",
        *settings,
        "recipe.parts=all",
        "options.horizon=24",
    ]
    assert main(["finetune", "visionts", "--data", data, "--output", run, *options]) == 0
    assert main(["evaluate", run, "--data", data, "--split", "test", "--horizon", "24"]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("seasonal-naive", "naive", "mase", "smape"))
    out = tmp_path / "forecast.csv"
    assert main(["predict", run, str(table), "--horizon", "24", "--output", str(out)]) == 0
    written = out.read_text().splitlines()
    assert written[0] == "time,load 0,load 1" and len(written) == 25 and written[1].startswith("2024-03-08 12:00,")
