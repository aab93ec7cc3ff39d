// Why an event was raised: the figures that it rests on, drawn and in words.

import { chart } from "../charts/chart.js";
import { gaps_of, shown, usual_range } from "../charts/figures.js";
import { MOST_METERS, chart_of, digits_of, inflow_of, iso, seconds, series_path } from "../charts/history.js";
import { h, replace } from "../dom.js";
import { duration, now, number, quantity, share, time } from "../format.js";
import { all, get } from "../http.js";
import { facts, table, unknown } from "../parts.js";
import { has, t } from "../words.js";
import { as_events, english, kind_of, node_link } from "./common.js";

const DAY = 86400;
const HOUR = 3600;
// What was usual shows best in the same days of the week before.
const BEFORE = 7 * DAY;
const SHORT = ["spikes", "jump", "transient"];
const FLOWS = ["flow_rate", "loss", "inflow"];

// Draws the event's subject around it: its values, what was expected, the threshold or step. A promise of the chart.
export async function picture_of(place, event) {
  const until = now().getTime() / 1000;
  const begin = seconds(event.timestamp);
  const end = seconds(event.end) ?? until;
  // Swings of minutes do not show in hours; of a long event, as much before it as shows what was usual.
  const is_short = SHORT.includes(event.anomaly_type) && end - begin < DAY;
  const before = is_short ? DAY : Math.max(BEFORE, 0.2 * (end - begin));
  const after = is_short ? DAY / 2 : DAY;
  const span = { from: begin - before, to: Math.min(Math.max(end + after, begin + 2 * after), until + HOUR), window: is_short ? "5min" : "1hour" };
  try {
    const data = event.measurement_type === "loss" ? await losses(event, span, until) : await readings(event, span, until);
    if (!place.isConnected) return null;
    if (!data.is_known) {
      replace(place, h("p", {}, unknown(t("incident.nothing_drawn"))));
      return null;
    }
    const [main] = data.series.filter(({ kind }) => kind === "line");
    const range = main && usual_range(main.values, shown(data.timestamps, { from: begin, to: end }));
    replace(place,
      data.expected_reason ? h("p", { class: "hint" }, `${t("node.no_expected")} `, english(data.expected_reason)) : "",
      range ? h("p", { class: "hint" }, t("incident.beyond_drawing")) : "");
    return chart(place, {
      events: as_events([event], until).map((marked) => ({ ...marked, open: null })),
      marks: levels_of(event, data.unit, begin, end), range, view: { from: span.from, to: Math.max(span.to, end) }, ...data,
    });
  } catch (failure) {
    if (place.isConnected) replace(place, h("p", {}, unknown(failure.detail ?? failure.message)));
    return null;
  }
}

async function readings(event, span, until) {
  // Of signals that move together, the one that contributes most.
  const most = event.metadata.contributions?.[0];
  const node_id = most?.node_id ?? event.node_id;
  const subject = most?.measurement ?? event.measurement_type;
  const include = span.window === "1hour" ? "history,expected" : "history";
  if (subject === "inflow" && event.district_id) {
    const nodes = await all(`/api/v1/nodes?district_id=${encodeURIComponent(event.district_id)}&active=true&limit=1000`);
    const [inlets, outlets] = ["inlet", "outlet"].map((role) => nodes.filter((node) => node.role === role).map((node) => node.node_id));
    if (inlets.length && inlets.length + outlets.length <= MOST_METERS) {
      const answer = await get(series_path({ nodes: [...inlets, ...outlets], measurements: ["flow_rate"], ...span, include, points: 3000 }));
      return { title: `${t("measurement.inflow")} · ${event.district_name || event.district_id}`, ...inflow_of(answer, inlets, outlets, until) };
    }
  }
  const measurements = !subject ? ["flow_rate", "pressure", "temperature"] : [FLOWS.includes(subject) ? "flow_rate" : subject];
  const answer = await get(series_path({ nodes: [node_id], measurements, ...span, include, points: 3000 }));
  const name = most ? node_id : event.node_name || node_id;
  const found = measurements.map((measurement) => ({
    title: `${t(`measurement.${measurement}`)} · ${name}`, digits: digits_of(measurement),
    ...chart_of(answer, node_id, measurement, until),
  }));
  return found.find(({ is_known }) => is_known) ?? found[0];
}

// What the district's meters did not account for, hour by hour, as flow.
async function losses(event, span, until) {
  const query = new URLSearchParams({
    time_window: "1hour", district_id: event.district_id ?? "-", start_time: iso(span.from), end_time: iso(span.to), limit: 10000,
  });
  const rows = [...(await get(`/api/v1/network/efficiency?${query}`))].reverse();
  const timestamps = rows.map((row) => seconds(row.window_start));
  const zones = rows.map((row) => row.zone_metrics[event.district_id ?? "-"]);
  const flow = (volume) => (volume == null ? null : volume / 3.6);
  const values = zones.map((zone) => flow(zone?.loss_volume));
  const bound = (sign) => zones.map((zone) => (zone?.loss_margin == null ? null : flow(zone.loss_volume + sign * zone.loss_margin)));
  return {
    title: t("incident.loss_of", { district: event.district_name || (event.district_id ?? "") }), unit: "L/s", timestamps,
    series: [
      { label: t("district.loss_band"), kind: "band", colour: "muted", lower: bound(-1), upper: bound(1), hidden: true },
      { label: t("district.loss"), kind: "line", colour: "measured", values },
    ],
    gaps: gaps_of(timestamps, values, HOUR, until - HOUR),
    is_known: values.some((value) => value !== null),
  };
}

// Thresholds over the whole span; what was expected and what was there only while the event lasted.
function levels_of({ metadata, expected_value, actual_value, measurement_type }, unit, from, to) {
  const levels = [];
  const add = (name, value, colour, more) =>
    Number.isFinite(value) && levels.push({ value, label: `${t(name)} ${quantity(value, unit, 2)}`, colour, ...more });
  if (measurement_type) {
    add("evidence.expected", expected_value, "expected", { from, to, is_below: actual_value > expected_value });
    if (metadata.size != null || expected_value == null) add("evidence.actual", actual_value, "bad", { from, to });
  }
  for (const [name, value] of Object.entries(metadata.limits ?? {})) {
    // Limits beyond what was reached by far would press the figures flat.
    const is_near = actual_value == null || Math.abs(value - actual_value) < 2 * Math.max(Math.abs(actual_value), 1);
    if (is_near) add(`limit.${name}`, value, name.startsWith("emergency") ? "bad" : "warn");
  }
  add("evidence.usual_low", metadata.usual?.low, "good");
  add("evidence.usual_high", metadata.usual?.high, "good");
  return levels;
}

// Everything that the event rests on, with units and words.
export function evidence_of(event) {
  const { metadata } = event;
  const unit = has(`unit.${event.measurement_type}`) ? t(`unit.${event.measurement_type}`) : FLOWS.includes(event.measurement_type) ? "L/s" : "";
  const of = (name, show) => (metadata[name] == null ? null : [t(`evidence.${name}`), show(metadata[name])]);
  const flow = (value) => quantity(value, "L/s", 2);
  const with_unit = (value) => quantity(value, unit, 3);
  const hours = (value) => quantity(value, "h", 0);
  const plain = (value) => number(value, 1);
  const spreads = (value) => t("evidence.in_spreads", { count: number(value, 1) });
  return [
    facts([
      event.actual_value == null ? null : [t("evidence.actual"), with_unit(event.actual_value)],
      event.expected_value == null ? null : [t("evidence.expected"), with_unit(event.expected_value)],
      // Of next to nothing expected, a percentage says nothing.
      event.deviation_percentage == null || Math.abs(event.deviation_percentage) > 1000 ? null : [t("evidence.deviation"), quantity(event.deviation_percentage, "%", 1)],
      [t("evidence.method"), t(`method.${event.detection_method}`)],
      [t("evidence.detected"), time(event.detected_at)],
      of("hours", (value) => duration(value * HOUR)),
      of("size", flow), of("size_now", flow), of("level_before", flow),
      of("share_percent", (value) => quantity(value, "%", 1)),
      metadata.lost_m3_so_far == null ? null : [t("evidence.lost_m3_so_far"), `${quantity(metadata.lost_m3_so_far, "m³", 0)}${metadata.lost_m3_margin == null ? "" : ` ± ${quantity(metadata.lost_m3_margin, "m³", 0)}`}`],
      of("night_flow_before", flow), of("night_flow", flow), of("night_flow_after", flow),
      of("given_up_by", (value) => node_link(value)),
      of("confirmed_by_pressure", (value) => [node_link(value.node_id), ` ${spreads(-value.spreads_below_expected)}`]),
      of("came_back_after", time), of("settled", time), of("judged_until", time), of("worst_hour", time),
      of("hours_beyond", hours), of("spreads", spreads), of("usual_spreads", spreads),
      of("history_days", (value) => duration(value * DAY)),
      of("distance", plain),
      of("looks_like", (value) => t(`leak.${value}`)),
      of("found_later", kind_of),
      of("do_not_fit", (value) => value.map((name) => t(`limit.${name}`)).join(", ")),
      of("tolerated_hours", hours), of("longest_usual_hours", hours), of("largest_step", with_unit), of("largest_usual_step", with_unit),
      of("readings_set_aside", (value) => number(value, 0)),
      metadata.times > 1 ? of("times", (value) => number(value, 0)) : null,
      of("closed_because", english),
      ...Object.entries(metadata.limits ?? {}).filter(([, value]) => value != null).map(([name, value]) => [t(`limit.${name}`), with_unit(value)]),
    ]),
    kinds_of(metadata.kinds),
    sensors_of(metadata.sensors),
    contributions_of(metadata.contributions),
    episodes_of(metadata.episodes),
    metadata.nodes?.length ? h("p", {}, `${t("evidence.nodes")}: `, metadata.nodes.map((node) => [node_link(node), " "])) : "",
  ];
}

function kinds_of(kinds) {
  if (!kinds) return "";
  const rows = Object.entries(kinds).map(([kind, probability]) => ({ kind, probability })).sort((a, b) => b.probability - a.probability);
  return table({
    caption: t("evidence.kinds"),
    columns: [
      { key: "kind", label: t("events.kind"), render: (row) => t(`leak.${row.kind}`) },
      { key: "probability", label: t("evidence.probability"), align: "right", render: (row) => share(row.probability) },
    ],
    rows,
  });
}

function sensors_of(sensors) {
  if (!sensors) return "";
  return table({
    caption: t("evidence.sensors"),
    empty: t("evidence.no_sensors"),
    columns: [
      { key: "rank", label: t("evidence.rank"), align: "right" },
      { key: "node_id", label: t("common.node"), render: (row) => node_link(row.node_id) },
      { key: "measurement", label: t("evidence.measurement"), render: (row) => t(`measurement.${row.measurement}`) },
      { key: "spreads", label: t("evidence.moved"), align: "right", render: (row) => t("evidence.in_spreads", { count: number(row.spreads, 1) }) },
      { key: "distance_m", label: t("evidence.distance_m"), align: "right", render: (row) => (row.distance_m == null ? unknown(t("node.no_place")) : quantity(row.distance_m, "m", 0)) },
    ],
    rows: sensors.map((sensor, n) => ({ rank: n + 1, ...sensor })),
  });
}

function contributions_of(contributions) {
  if (!contributions) return "";
  return table({
    caption: t("evidence.contributions"),
    columns: [
      { key: "node_id", label: t("common.node"), render: (row) => node_link(row.node_id) },
      { key: "measurement", label: t("evidence.measurement"), render: (row) => t(`measurement.${row.measurement}`) },
      { key: "share", label: t("evidence.share"), align: "right", render: (row) => share(row.share) },
      { key: "spreads", label: t("evidence.moved"), align: "right", render: (row) => t("evidence.in_spreads", { count: number(row.spreads, 1) }) },
    ],
    rows: contributions,
  });
}

function episodes_of(episodes) {
  if (!episodes || episodes.length < 2) return "";
  return table({
    caption: t("evidence.episodes"),
    columns: [
      { key: "from", label: t("events.begin"), render: (row) => time(row.from) },
      { key: "to", label: t("events.end"), render: (row) => (row.to ? time(row.to) : t("events.goes_on")) },
    ],
    rows: episodes.map(([from, to]) => ({ from, to })),
  });
}
