"""Forecasts: what they are made from, that they never look ahead, how wide their intervals are."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.domain.forecasting import boosting
from src.domain.forecasting.features import FEATURES, LOOK_BACK_DAYS, TARGETS, View, joined
from src.domain.forecasting.intervals import intervals_of, spread_of
from src.domain.forecasting.model import USUAL, Forecaster, NotEnoughHistory, seasonal, train
from src.domain.forecasting.sampling import chosen
from src.domain.forecasting.series import HOURS, SUNDAY, History, history_of, public_holidays

ROME = ZoneInfo("Europe/Rome")


def town(
    nodes: int = 2, days: int = 70, start: str = "2022-02-01", noise: float = 0.05, seed: int = 1, slow: float = 0.3
) -> pd.DataFrame:
    """Hourly flow of nodes of different size with a daily and a weekly pattern of the local clock."""
    random = np.random.default_rng(seed)
    hours = pd.date_range(pd.Timestamp(start, tz=ROME).tz_convert("UTC"), periods=days * HOURS, freq="h")
    local = hours.tz_convert(ROME)
    pattern = 1 + 0.5 * np.sin((local.hour - 7) / 24 * 2 * np.pi) + 0.2 * (local.dayofweek >= 5) * (local.hour > 9)
    # A node that uses more than usual does so for some days.
    flow = {}
    for node in range(nodes):
        drifting = np.repeat(np.convolve(random.normal(0, slow, days + 2), np.ones(3) / 3, "valid"), HOURS)
        flow[f"n{node}"] = (
            10.0 * (node + 1) * np.maximum(pattern + drifting, 0.1) * np.exp(random.normal(0, noise, len(hours)))
        )
    return pd.DataFrame(flow, index=hours)


def history(flow: pd.DataFrame, weather: pd.DataFrame | None = None) -> History:
    first, last = flow.index[0].date(), flow.index[-1].date() + timedelta(days=10)
    return history_of(flow, weather, public_holidays("IT", first, last), ROME)


def values(view: View, day: int, name: str) -> np.ndarray:
    return view.examples(day).values[:, FEATURES.index(name)]


def test_the_same_hour_a_week_ago_is_that_of_the_local_clock_when_clocks_change():
    flow = town(1, noise=0)
    flow["n0"] = flow.index.tz_convert(ROME).hour.astype(float) + 1
    known = history(flow)
    day = (date(2022, 3, 29) - known.first_day).days
    examples = View(known, 0).examples(day)
    np.testing.assert_array_equal(examples.usual.reshape(7, HOURS), np.tile(np.arange(1.0, 25.0), (7, 1)))


def test_an_hour_that_the_clock_skips_is_unknown_and_one_that_it_repeats_is_a_mean():
    hours = pd.date_range("2022-10-29 22:00", periods=25, freq="h", tz="UTC")
    known = history(pd.DataFrame({"n0": np.arange(25.0)}, index=hours))
    assert known.flow[0, 0, 2] == 2.5
    hours = pd.date_range("2022-03-26 23:00", periods=23, freq="h", tz="UTC")
    known = history(pd.DataFrame({"n0": np.arange(23.0)}, index=hours))
    assert np.isnan(known.flow[0, 0, 2])
    assert known.flow[0, 0, 3] == 2


@settings(max_examples=15)
@given(hour=st.integers(0, 23), after=st.integers(0, 200))
def test_nothing_at_or_after_its_origin_changes_an_example(hour: int, after: int):
    flow = town(2, days=LOOK_BACK_DAYS + 12)
    changed = flow.copy()
    known = history(flow)
    day = LOOK_BACK_DAYS + 1
    begin = pd.Timestamp(known.first_day, tz=ROME) + pd.DateOffset(days=day, hours=hour)
    changed.iloc[changed.index.get_indexer([begin + pd.Timedelta(hours=after)], method="nearest")[0]] = 1e6
    before, later = (View(history(series), hour).examples(day) for series in (flow, changed))
    np.testing.assert_array_equal(before.values, later.values)
    np.testing.assert_array_equal(before.usual, later.usual)
    assert (before.target == later.target).mean() < 1 or after >= TARGETS


def test_a_view_from_any_hour_says_of_a_target_what_is_true_there():
    known = history(town(2))
    for hour in (0, 6, 13):
        examples = View(known, hour).examples(LOOK_BACK_DAYS)
        flat = known.flow.reshape(2, -1)
        for node in range(2):
            place = LOOK_BACK_DAYS * HOURS + hour
            np.testing.assert_array_equal(examples.target[examples.node == node], flat[node, place : place + TARGETS])
        np.testing.assert_array_equal(
            examples.values[:TARGETS, FEATURES.index("hour")], (np.arange(TARGETS) + hour) % HOURS
        )


def test_a_holiday_is_forecast_like_a_sunday():
    known = history(town(1, days=90))
    liberation = (date(2022, 4, 25) - known.first_day).days
    assert known.kind[liberation] == SUNDAY
    examples = View(known, 0).examples(liberation)
    sundays = [day for day in range(liberation) if known.kind[day] == SUNDAY][-4:]
    expected = np.median(known.flow[0, sundays], axis=0)
    np.testing.assert_allclose(examples.usual[:HOURS], expected)


def test_sampling_keeps_all_recent_half_of_older_and_a_tenth_of_old_examples_whatever_the_order():
    known = history(town(1, days=600))
    view = View(known, 0)
    until = 600 * HOURS
    for age, share in ((100, 1.0), (300, 0.5), (500, 0.1)):
        shares = []
        for day in range(600 - age, 600 - age + 10):
            examples = view.examples(day)
            mask = chosen(examples, known.nodes, 0, until, 1.0)
            assert (mask == chosen(examples, known.nodes, 0, until, 1.0)).all()
            shares.append(mask.mean())
        assert np.mean(shares) == pytest.approx(share, abs=0.04)


def test_intervals_cover_what_they_say_on_errors_like_those_they_learned_from():
    known = history(town(3, days=120))
    random = np.random.default_rng(3)
    for node in range(3):
        known.flow[node] *= node + 1
    view = View(known, 0)
    seen = joined([view.examples(LOOK_BACK_DAYS + days) for days in range(7)])
    unseen = joined([view.examples(LOOK_BACK_DAYS + days) for days in range(7, 14)])
    # Every node's errors are as large as its spread, but those of the last, which are twice as large.
    wrong = [random.normal(0, 1 + (e.node == 2)) * spread_of(e) for e in (seen, unseen)]
    lower, upper = intervals_of(seen, wrong[0], 3).around(unseen, np.full(len(unseen.node), 1000.0))
    inside = (wrong[1] >= lower - 1000) & (wrong[1] <= upper - 1000)
    assert inside.mean() == pytest.approx(0.9, abs=0.04)
    assert inside[unseen.node == 2].mean() == pytest.approx(0.9, abs=0.06)


def test_without_errors_to_learn_from_nothing_is_known_of_how_far_forecasts_may_be_off():
    view = View(history(town(1, days=80)), 0)
    examples = view.examples(LOOK_BACK_DAYS)
    lower, upper = intervals_of(examples, np.full(TARGETS, np.nan), 1).around(examples, examples.usual)
    assert np.isnan([lower, upper]).all()


@pytest.fixture(scope="module")
def learned() -> tuple[pd.DataFrame, Forecaster]:
    flow = town(3, days=140)
    with pytest.MonkeyPatch.context() as patch:
        # Real boosters, but few rounds.
        patch.setattr(boosting, "MEMBERS", ({"rounds": 60, "learning_rate": 0.1, "max_depth": 4, "seed": 1},))
        return flow, train(history(flow.iloc[: -7 * HOURS])).forecaster


def test_forecasts_beat_usual_flow_and_mostly_lie_within_their_interval(learned: tuple[pd.DataFrame, Forecaster]):
    flow, forecaster = learned
    known = history(flow.iloc[: -7 * HOURS])
    forecast = forecaster.forecast(known, *known.place(flow.index[-7 * HOURS].to_pydatetime()))
    measured = flow.iloc[-7 * HOURS :].to_numpy().T.reshape(-1)
    assert len(forecast) == 3 * TARGETS
    usual = View(known, 0).examples(known.place(flow.index[-7 * HOURS].to_pydatetime())[0]).usual
    assert np.abs(forecast["flow"] - measured).mean() < np.abs(usual - measured).mean()
    assert ((measured >= forecast["lower"]) & (measured <= forecast["upper"])).mean() > 0.75
    assert (forecast["lower"] <= forecast["flow"]).all()


def test_a_forecaster_comes_back_from_its_bytes_as_it_was(learned: tuple[pd.DataFrame, Forecaster]):
    flow, forecaster = learned
    known = history(flow)
    place = known.place(datetime(2022, 6, 20, 13, tzinfo=UTC))
    again = Forecaster.from_bytes(forecaster.to_bytes())
    pd.testing.assert_frame_equal(again.forecast(known, *place), forecaster.forecast(known, *place))
    assert again.to_bytes() == forecaster.to_bytes()
    with pytest.raises(ValueError, match="no forecaster"):
        Forecaster.from_bytes(b"cos\nsystem\n(S'true'\ntR.")


def test_from_recent_weeks_a_model_forecasts_what_it_does_from_its_whole_history(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(boosting, "MEMBERS", ({"rounds": 20, "learning_rate": 0.1, "max_depth": 4, "seed": 1},))
    # Trained in the middle of a day, like every Sunday.
    flow = town(1, days=480).iloc[:-21]
    forecaster = train(history(flow)).forecaster
    origin = (flow.index[-1] + timedelta(hours=1)).to_pydatetime()
    long, recent = history(flow), history(flow.iloc[-(LOOK_BACK_DAYS + 3) * HOURS + 21 :])
    forecasts = [forecaster.forecast(known, *known.place(origin)) for known in (long, recent)]
    assert np.isfinite(View(long, 3).examples(long.place(origin)[0]).values[:, FEATURES.index("last_year")]).all()
    pd.testing.assert_frame_equal(forecasts[0], forecasts[1], rtol=1e-5)
    assert forecaster.drift(recent).predictions == pytest.approx(forecaster.drift(long).predictions, rel=1e-3)


def test_days_like_those_learned_from_are_no_drift_and_others_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(boosting, "MEMBERS", ({"rounds": 20, "learning_rate": 0.1, "max_depth": 3, "seed": 1},))
    flow = town(3, days=140, slow=0.02)
    shares: list[float] = []
    forecaster = train(history(flow.iloc[: -7 * HOURS]), shares.append).forecaster
    assert len(shares) > 20
    assert shares == sorted(shares)
    # Progress has reported all that takes long once it is done.
    assert shares[-1] == pytest.approx(1.0)
    assert not forecaster.drift(history(flow)).detected
    last = np.asarray(flow.index >= flow.index[-4 * HOURS])[:, None]
    for unlike in (1.4 * flow, 0.6 * flow):
        changed = pd.DataFrame(np.where(last, unlike, flow), flow.index, flow.columns)
        drift = forecaster.drift(history(changed))
        assert drift.detected
        assert "has a stability index of" in drift.reason


def test_of_nothing_known_no_drift_is_reported(learned: tuple[pd.DataFrame, Forecaster]):
    flow, forecaster = learned
    drift = forecaster.drift(history(flow * np.nan))
    assert np.isnan(drift.features)
    assert not drift.detected


def test_a_node_the_model_never_saw_is_forecast_by_its_usual_flow_and_the_answer_says_so(
    learned: tuple[pd.DataFrame, Forecaster],
):
    flow, forecaster = learned
    known = history(flow.rename(columns={"n2": "new"}))
    forecast = forecaster.forecast(known, *known.place(datetime(2022, 6, 20, tzinfo=UTC)))
    assert set(forecast.loc[forecast["node_id"] == "new", "method"]) == {USUAL}
    assert USUAL not in set(forecast.loc[forecast["node_id"] != "new", "method"])


def test_too_little_history_is_an_error_that_says_how_little():
    with pytest.raises(NotEnoughHistory, match="forecasts can be learned from in 20 days of 1 nodes, 5000 are needed"):
        train(history(town(1, days=20)))
    with pytest.raises(NotEnoughHistory, match="no node has 3 weeks of flow in 12 days"):
        seasonal(history(town(1, days=12)))


def test_a_new_utility_is_forecast_by_its_usual_flow_after_three_weeks():
    flow = town(2, days=31)
    trained = seasonal(history(flow.iloc[: -7 * HOURS]))
    known = history(flow.iloc[: -7 * HOURS]).reaching_back(LOOK_BACK_DAYS)
    forecast = trained.forecaster.forecast(known, *known.place(flow.index[-7 * HOURS].to_pydatetime()))
    assert set(forecast["method"]) == {USUAL}
    assert len(forecast) == 2 * TARGETS
    measured = flow.iloc[-7 * HOURS :].to_numpy().T.reshape(-1)
    assert ((measured >= forecast["lower"]) & (measured <= forecast["upper"])).mean() > 0.6
