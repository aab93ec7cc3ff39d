// An answer of /api/v1/series as what a chart draws.

import { t } from "../words.js";
import { sum_of, gaps_of } from "./figures.js";

const DIGITS = { flow_rate: 2, pressure: 2, temperature: 1, volume: 2 };
// A call for series takes so many nodes.
export const MOST_METERS = 20;
export const MEASUREMENTS = ["flow_rate", "pressure", "temperature", "volume"];

export function digits_of(measurement) {
  return DIGITS[measurement] ?? 2;
}

const of = (answer, node_id, measurement, kind) =>
  answer.series.find(
    (each) => each.kind === kind && each.node_id === node_id && each.measurement === measurement,
  );

const is_known = (values) => Boolean(values?.some((value) => value != null));

// What of a node's measurement is there (a window that has not ended by `now` is no gap): the series, and reasons why what could be there is not.
export function chart_of(answer, node_id, measurement, now) {
  const history = of(answer, node_id, measurement, "history");
  const forecast = of(answer, node_id, measurement, "forecast");
  const expected = of(answer, node_id, measurement, "expected");
  const series = [];
  if (expected && is_known(expected.values)) {
    series.push({ label: t("chart.expected_band"), kind: "band", colour: "expected", lower: expected.lower, upper: expected.upper });
    series.push({ label: t("chart.expected"), kind: "dashes", colour: "expected", values: expected.values });
  }
  if (forecast && is_known(forecast.values)) {
    series.push({ label: t("chart.forecast_band"), kind: "band", colour: "forecast", lower: forecast.lower, upper: forecast.upper });
    series.push({ label: t("chart.forecast"), kind: "dashes", colour: "forecast", values: forecast.values });
  }
  if (history && is_known(history.minimum) && answer.time_window !== "5min") {
    series.push({
      label: t("chart.range"), kind: "band", colour: "measured", lower: history.minimum, upper: history.maximum, hidden: true,
    });
  }
  const values = history?.values ?? answer.timestamps.map(() => null);
  series.push({
    label: measurement === "volume" ? t("chart.volume") : t("chart.measured"),
    kind: measurement === "volume" ? "steps" : "line",
    colour: "measured",
    values,
  });
  return {
    timestamps: answer.timestamps,
    series,
    unit: history?.unit ?? "",
    is_known: is_known(values),
    gaps: is_known(values) ? gaps_of(answer.timestamps, values, answer.window_seconds, now - answer.window_seconds) : [],
    expected_reason: expected?.reason ?? null,
    forecast,
  };
}

// What flows into a district, and what was forecast and expected of it: of several meters the sum, less what flows on.
// Bounds are added up: the band is as wide as if all meters erred alike, never too narrow.
export function inflow_of(answer, inlets, outlets, now) {
  const nodes = [...inlets, ...outlets];
  const signs = nodes.map((_, n) => (n < inlets.length ? 1 : -1));
  const lists = (kind, name) => nodes.map((node) => of(answer, node, "flow_rate", kind)?.[name]);
  const summed = (kind, name, other = name) => {
    const columns = lists(kind, name).map((list, n) => (signs[n] > 0 ? list : lists(kind, other)[n]));
    return columns.length && columns.every(Boolean) ? sum_of(columns, signs) : null;
  };
  const series = [];
  for (const kind of ["expected", "forecast"]) {
    const values = summed(kind, "values");
    if (!is_known(values)) continue;
    series.push({
      label: t(`chart.${kind}_band`), kind: "band", colour: kind,
      lower: summed(kind, "lower", "upper"), upper: summed(kind, "upper", "lower"),
    });
    series.push({ label: t(`chart.${kind}`), kind: "dashes", colour: kind, values });
  }
  const values = summed("history", "values") ?? answer.timestamps.map(() => null);
  series.push({ label: t("chart.measured"), kind: "line", colour: "measured", values });
  const reasons = nodes.map((node) => of(answer, node, "flow_rate", "expected")?.reason).filter(Boolean);
  return {
    timestamps: answer.timestamps,
    series,
    values,
    unit: "L/s",
    is_known: is_known(values),
    gaps: is_known(values) ? gaps_of(answer.timestamps, values, answer.window_seconds, now - answer.window_seconds) : [],
    expected_reason: reasons[0] ?? null,
  };
}

// The address of a span's series. Instants are epoch seconds.
export function series_path({ nodes, measurements, window, from, to, include = "history", points = 1500 }) {
  const query = new URLSearchParams();
  for (const node of nodes) query.append("node_id", node);
  for (const measurement of measurements) query.append("measurement", measurement);
  query.set("time_window", window);
  query.set("start_time", iso(from));
  query.set("end_time", iso(to));
  query.set("include", include);
  query.set("points", points);
  return `/api/v1/series?${query}`;
}

// An instant as the API takes it, of whole seconds.
export function iso(seconds) {
  return new Date(Math.round(seconds) * 1000).toISOString().replace(".000", "");
}

export function seconds(instant) {
  return instant == null ? null : Date.parse(instant) / 1000;
}
