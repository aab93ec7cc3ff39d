"""The water balance of districts and of the whole network: what came in, what customers used, what was lost.

After the IWA standard water balance (Lambert and Hirner, 2000): system input, authorised consumption, water losses.
Where consumption is not metered, losses are estimated otherwise (see `losses`). Volumes are m³.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.vocabulary import BalanceMethod

# Below this share of its meters' time a figure is marked as incomplete.
SUFFICIENT_COVERAGE = 0.8
METERED: BalanceMethod = "metered"
NIGHT_FLOW: BalanceMethod = "minimum_night_flow"
# Why a district has no balance, whatever its meters measure.
NO_INLET, NO_CONSUMPTION = "no node here is an inlet", "no node here meters consumption"
_SIGN = {"inlet": 1.0, "outlet": -1.0}


BALANCE = [
    "input_volume", "output_volume", "loss_volume", "efficiency_percentage", "coverage", "method", "reason",
    "input_margin", "output_margin", "loss_margin", "estimated_share", "metered_volume",
]  # fmt: skip
# The parts of the margins that meters' errors make, which are the same day by day.
METER_MARGINS = ["input_meter_margin", "output_meter_margin", "loss_meter_margin"]
# What of a meter's window is not vouched for is estimated where it is less than this share of the window; else it is
# unknown. A meter that loses 30 % of its readings at random lacks up to 46 % on single days.
ESTIMATED_BELOW = 0.5
# Where that is not known either, a meter is taken to go on as it did, up to this share of the window.
MOST_EXTENDED = 0.2
# Half the width of a 95 % interval in standard deviations.
MARGIN = 1.96


def water_balance(meters: pd.DataFrame) -> pd.DataFrame:
    """The balance of each district in each window, from its meters.

    Input is what inlets bring, less what leaves by outlets and to districts that are fed from this one, less what
    storage took up. Of a meter that is not vouched for all the time, the rest is estimated (`ESTIMATED_BELOW`,
    `MOST_EXTENDED`); where that is too much, the figures that need it are unknown, and the reason names it.

    Margins are half of 95 % intervals: meters err each by itself, and so do estimates (AWWA M36, 4th edition, on how
    errors of a water audit add up). The meters' part of it stands in columns of its own (`METER_MARGINS`).

    Args:
        meters: a row per window and meter, also of those that reported nothing: window_start, district_id, node_id,
            role (inlet, outlet, consumption, storage), feeding_district_id (of an inlet fed by another district, else
            null), volume (m³ in the time vouched for; NaN where nothing was measured), coverage (0..1, the share of the
            window that is vouched for), rest (m³ that the meter is estimated to have measured otherwise; NaN unknown),
            rest_deviation (its standard deviation, m³, and that of samples which hold for others), estimated_volume (m³
            of volume that were estimated), error (of the meter at 95 %, as a share), storage_change (m³ taken up; NaN
            where unknown, or no storage), storage_error (of that at 95 %, m³).

    Returns:
        A row per window_start and district_id with input_volume, output_volume, loss_volume (m³),
        efficiency_percentage, coverage (of the inlets and outlets or of consumption, whichever is less), method
        (`metered`, or null where consumption has no meters), reason (why a figure is null or impossible, else null),
        the margins of the volumes and what meters make of them (m³), metered_volume (m³ that all its meters measured or
        are estimated to have, in and out), and estimated_share (of that).
    """
    keys = ["window_start", "district_id"]
    flows = _completed(meters[meters["role"].isin(["inlet", "outlet", "consumption", "storage"])])
    is_flow, is_consumption = flows["role"].isin(list(_SIGN)), flows["role"] == "consumption"
    is_storage = flows["role"] == "storage"
    passed_on = flows[(flows["role"] == "inlet") & flows["feeding_district_id"].notna()]
    passed_on = passed_on.assign(district_id=passed_on["feeding_district_id"], signed=-passed_on["signed"])
    sources = pd.concat([flows[is_flow], passed_on], ignore_index=True)
    balance = pd.DataFrame(index=flows.set_index(keys).index.unique().sort_values())
    balance["input_volume"] = _sum_if_all_known(sources, keys, "signed").sub(
        _sum_if_all_known(flows[is_storage], keys, "taken_up").reindex(balance.index, fill_value=0.0)
    )
    # A district without an inlet of its own has no input to speak of.
    has_inlet = flows[flows["role"] == "inlet"].groupby(keys).size().reindex(balance.index, fill_value=0) > 0
    balance.loc[~has_inlet, "input_volume"] = np.nan
    consumption = flows[is_consumption]
    balance["output_volume"] = _sum_if_all_known(consumption, keys, "whole")
    balance["loss_volume"] = balance["input_volume"] - balance["output_volume"]
    positive = balance["input_volume"].where(balance["input_volume"] > 0)
    balance["efficiency_percentage"] = 100 * balance["output_volume"] / positive
    metered = consumption.groupby(keys).size().reindex(balance.index, fill_value=0) > 0
    balance["coverage"] = np.fmin(
        flows[is_flow].groupby(keys)["covered"].mean().reindex(balance.index),
        consumption.groupby(keys)["covered"].mean().reindex(balance.index),
    )
    balance["method"] = metered.map({True: METERED, False: None}).astype(object)
    variances = ["variance", "meter_variance"]
    moved = pd.concat([sources, flows[is_storage]], ignore_index=True)
    of_input = moved.groupby(keys)[variances].sum().reindex(balance.index)
    of_output = consumption.groupby(keys)[variances].sum().reindex(balance.index)
    for name, spread in (("input", of_input), ("output", of_output), ("loss", of_input + of_output)):
        margins = (MARGIN * spread**0.5).where(balance[f"{name}_volume"].notna())
        balance[[f"{name}_margin", f"{name}_meter_margin"]] = margins[variances]
    metered_water = pd.concat([sources, consumption], ignore_index=True)
    amounts = metered_water.assign(size=metered_water["whole"].abs(), guessed=metered_water["estimated"].abs())
    sums = amounts.groupby(keys)[["guessed", "size"]].sum().reindex(balance.index)
    balance["metered_volume"] = sums["size"]
    balance["estimated_share"] = sums["guessed"] / sums["size"].where(sums["size"] > 0)
    unknown = pd.concat(
        [
            sources[sources["signed"].isna()],
            consumption[consumption["whole"].isna()],
            flows[is_storage & flows["taken_up"].isna()],
        ]
    )
    balance["reason"] = _reasons(unknown, keys).reindex(balance.index)
    balance.loc[~metered & balance["reason"].isna(), "reason"] = NO_CONSUMPTION
    balance.loc[~has_inlet, "reason"] = NO_INLET
    is_impossible = balance["loss_volume"] < -balance["loss_margin"].fillna(0.0)
    if is_impossible.any():
        largest = largest_meters(metered_water).set_index(keys)["largest_meters"].reindex(balance.index)
        balance.loc[is_impossible, "reason"] = largest[is_impossible].map(impossible)
    return balance[BALANCE + METER_MARGINS].astype({"reason": object}).reset_index()


def _completed(meters: pd.DataFrame) -> pd.DataFrame:
    """Meters with `whole` (m³ of the whole window; NaN unknown), `estimated` (m³ of it that nobody measured),
    `variance` and what of it is the meter's (m⁶), `covered`, and `signed` and `taken_up` where they mean something."""
    covered = meters["coverage"].fillna(0.0).clip(0, 1).where(meters["volume"].notna(), 0.0)
    missing = 1 - covered
    extended = (meters["volume"] * missing / covered.where(covered > 0)).where(missing <= MOST_EXTENDED)
    filled = meters["rest"].fillna(extended).where(missing > 0, 0.0)
    whole = (meters["volume"].fillna(0.0) + filled).where(missing < ESTIMATED_BELOW)
    # Of what is extended, nobody knows the spread: as much as the part itself.
    spread = meters["rest_deviation"].fillna(filled.abs())
    is_storage = meters["role"] == "storage"
    of_meter = ((meters["error"] * whole / MARGIN) ** 2).mask(is_storage, 0.0)
    # A level's error at the end of a day is that at the beginning of the next: over days it does not add up.
    of_level = (meters["storage_error"] / MARGIN) ** 2
    return meters.assign(
        whole=whole,
        estimated=(filled.abs() + meters["estimated_volume"].fillna(0.0)).where(whole.notna()),
        variance=(of_meter + spread**2).mask(is_storage, of_level),
        meter_variance=of_meter,
        covered=covered,
        signed=whole * meters["role"].map(_SIGN),
        taken_up=meters["storage_change"].where(is_storage),
    )


def largest_meters(meters: pd.DataFrame) -> pd.DataFrame:
    """The meters that move most water into or out of each district, and within it: where a balance that cannot be is to
    be looked into first.

    Args:
        meters: as `water_balance` takes them.

    Returns:
        A row per window_start and district_id with largest_meters, a list of node_ids.
    """
    measured = meters[meters["role"].isin(["inlet", "outlet", "consumption"]) & meters["volume"].notna()]
    measured = measured.assign(is_consumption=measured["role"] == "consumption", size=measured["volume"].abs())
    keys = ["window_start", "district_id"]
    largest = measured.sort_values("size", kind="stable").drop_duplicates([*keys, "is_consumption"], keep="last")
    return (
        largest.sort_values("is_consumption").groupby(keys)["node_id"].agg(list).rename("largest_meters").reset_index()
    )


def impossible(largest: Sequence[str]) -> str:
    """A sentence about more water used than came in, with the meters that move most of it."""
    look = f": look at {' and '.join(largest)}" if largest else ""
    return f"more was used than came in, beyond what meters may err{look}"


def with_loss(balances: pd.DataFrame, loss: pd.Series) -> pd.DataFrame:
    """Balances of an unmetered district with a loss (m³) that was estimated from its nights, aligned by index."""
    input_volume = balances["input_volume"]
    # More than came in cannot have been lost.
    loss = loss.where(loss < input_volume, input_volume).where(loss.notna())
    output = input_volume - loss
    return balances.assign(
        output_volume=output,
        loss_volume=loss,
        efficiency_percentage=100 * output / input_volume.where(input_volume > 0),
        method=NIGHT_FLOW,
        reason=balances["reason"].where(loss.isna(), None),
    )


def storage_change(levels: pd.DataFrame, boundaries: pd.DatetimeIndex, area: float) -> pd.Series:
    """What a tank took up between boundaries that follow each other.

    Args:
        levels: index instants (aware), column level (m above the floor), not necessarily at the boundaries.
        boundaries: instants in order.
        area: m² of the water's surface.

    Returns:
        m³, indexed by all boundaries but the last; NaN where the level was not known within half an hour of either end.
    """
    near = pd.Timedelta(minutes=30)
    known = levels["level"].dropna()
    at = known.reindex(known.index.union(boundaries)).interpolate("time", limit_area="inside").reindex(boundaries)
    if known.empty:
        return pd.Series(np.nan, index=boundaries[:-1])
    nearest = known.index[known.index.get_indexer(boundaries, method="nearest")]
    at = at.where(at.notna(), known.loc[nearest].to_numpy())
    at[np.abs(nearest - boundaries) > near] = np.nan
    return ((at.shift(-1) - at) * area).iloc[:-1]


def network_balance(districts: pd.DataFrame) -> pd.DataFrame:
    """The whole network in each window: districts added up, what one passes to another cancelling out.

    Args:
        districts: as `water_balance` returns it.

    Returns:
        A row per window_start with the same figures; a sum is null where a district's part is unknown, and `method` is
        `mixed` where districts differ.
    """
    grouped = districts.groupby("window_start")
    volumes = ["input_volume", "output_volume", "loss_volume"]
    network = pd.DataFrame({name: _sum_if_all_known(districts, ["window_start"], name) for name in volumes})
    positive = network["input_volume"].where(network["input_volume"] > 0)
    network["efficiency_percentage"] = 100 * network["output_volume"] / positive
    network["coverage"] = grouped["coverage"].mean()
    for name in ("input_margin", "output_margin", "loss_margin"):
        # Districts err each by itself.
        squared = districts.assign(squared=districts[name] ** 2)
        network[name] = np.sqrt(_sum_if_all_known(squared, ["window_start"], "squared"))
    network["metered_volume"] = grouped["metered_volume"].sum()
    shares = districts.assign(guessed=districts["estimated_share"] * districts["metered_volume"])
    guessed = shares.groupby("window_start")["guessed"].sum()
    network["estimated_share"] = guessed / network["metered_volume"].where(network["metered_volume"] > 0)
    network["method"] = pd.Series({window: _common(methods) for window, methods in grouped["method"]}, dtype=object)
    reasons = {window: "; ".join(sorted(set(texts.dropna()))) or None for window, texts in grouped["reason"]}
    network["reason"] = pd.Series(reasons, dtype=object)
    is_impossible = network["loss_volume"] < -network["loss_margin"].fillna(0.0)
    network["reason"] = network["reason"].where(~is_impossible | network["reason"].notna(), impossible(()))
    return network.reset_index()


def _common(methods: pd.Series) -> str | None:
    found = set(methods)
    if any(pd.isna(method) for method in found):
        return None
    return str(found.pop()) if len(found) == 1 else "mixed"


def _sum_if_all_known(rows: pd.DataFrame, keys: list[str], column: str) -> pd.Series:
    """Sums by group; NaN where any part is unknown."""
    grouped = rows.groupby(keys)[column]
    return grouped.sum().where(grouped.count() == grouped.size())


def _reasons(silent: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Who is missing, in a sentence, by group."""
    if silent.empty:
        return pd.Series(dtype=object)

    def sentence(rows: pd.DataFrame) -> str:
        partly = rows["covered"] > 0
        parts = [
            f"{what} {_listed(rows.loc[which, 'node_id'])}"
            for what, which in (("nothing is known of", ~partly), ("too little is known of", partly))
            if which.any()
        ]
        return "; ".join(parts)

    return pd.Series({key: sentence(rows) for key, rows in silent.groupby(keys)}, dtype=object)


def _listed(names: pd.Series) -> str:
    every = sorted(set(names))
    more = f" and {len(every) - 3} more" if len(every) > 3 else ""
    return ", ".join(every[:3]) + more
