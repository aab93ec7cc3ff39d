// A node: what it measured, what was forecast and expected of it, how far its figures can be trusted.

import { chart } from "../charts/chart.js";
import { MEASUREMENTS, chart_of, digits_of, iso, seconds, series_path } from "../charts/history.js";
import { h, replace } from "../dom.js";
import { ago, now, number, quantity, share, time } from "../format.js";
import { get, poll } from "../http.js";
import { badge, card, facts, link, notice, page_title, severity, table, unknown } from "../parts.js";
import { t } from "../words.js";
import { as_events, choice, district_title, english, event_table, failed, place_path, reason_of, weight_of, word } from "./common.js";

const DAY = 86400;
const STEPS = { "5min": 300, "1hour": 3600, "1day": DAY };
const WINDOWS = Object.keys(STEPS);
const SPANS = { day: DAY, week: 7 * DAY, month: 30 * DAY, year: 365 * DAY };
// Forecasts reach so far ahead; of the past, that is as far as anybody keeps hours.
const AHEAD = 7 * DAY;
const BACK = 3 * 366 * DAY;
// Shared among all lines of an answer: twice as many as a wide screen has are what screens can show of them.
const POINTS = 2500;
const LONGEST_FINE = 100 * DAY;
// What one sees first of it: a day of what is to come.
const COMING = DAY;

export async function show(place, address) {
  const node_id = address.parts[1];
  const path = `/api/v1/nodes/${encodeURIComponent(node_id)}`;
  replace(place, page_title(node_id), h("p", { role: "status" }, t("common.loading")));
  const [node, channels] = await Promise.all([get(path), get(`${path}/channels`)]);

  const head = h("div", { class: "page-head" });
  const notices = h("div", { role: "status" });
  const pictures = h("div", { class: "charts" });
  const events = h("div", {});
  const rejected = h("div", {});
  const quality = h("div", {});
  const state = {
    window: WINDOWS.includes(address.query.get("window")) ? address.query.get("window") : "1hour",
    view: view_of(address.query),
  };
  const windows = choice(t("node.window"), WINDOWS.map((window) => [window, t(`window.${window}`)]), state.window, (window) => {
    state.window = window;
    state.loaded = null;
    load();
  });
  const spans = h("div", { class: "choice", role: "group", "aria-label": t("node.span") },
    ...Object.keys(SPANS).map((name) =>
      h("button", { type: "button", class: "chart-button", onclick: () => go(latest(SPANS[name])) }, t(`node.span_${name}`))));

  replace(place, page_title(node.node_name || node_id), head,
    card(t("node.history"), h("div", { class: "toolbar" }, windows.element, spans), notices, pictures),
    card(t("node.events"), events),
    quality,
    card(t("node.channels"), channel_table(channels)),
    card(t("node.rejected"), rejected),
    card(t("node.metadata"), metadata_of(node)));

  // What it measures; while that is not learned, whatever there may be.
  const learned = MEASUREMENTS.filter((name) => channels.some(({ measurement }) => measurement === name));
  const measurements = learned.length ? learned : MEASUREMENTS;
  const drawn = new Map();
  let requests = 0;
  // Of which answer the events are listed: what somebody reads there stays while nothing has changed.
  let listed_of = null;
  let from_now = !address.query.has("from");
  let followed_at = now().getTime() / 1000;

  function latest(span) {
    const until = now().getTime() / 1000;
    const coming = state.window === "1hour" && span <= SPANS.month ? Math.min(COMING, span / 4) : 0;
    return { from: until - span, to: until + coming };
  }

  function view_of(query) {
    const [from, to] = [seconds(query.get("from")), seconds(query.get("to"))];
    if (from && to && to > from) return { from, to };
    const until = now().getTime() / 1000;
    return { from: until - SPANS.week, to: until + COMING };
  }

  function go(view) {
    from_now = true;
    followed_at = now().getTime() / 1000;
    state.view = view;
    state.loaded = null;
    load();
  }

  // What the reader sees now, by any of the charts.
  function zoomed(by, from, to) {
    from_now = false;
    state.view = { from, to };
    for (const [measurement, picture] of drawn) if (measurement !== by) picture.show(from, to);
    const { loaded } = state;
    const is_finer_there = loaded?.is_thinned && to - from < 0.6 * (loaded.to - loaded.from);
    if (!loaded || from < loaded.from || to > loaded.to || is_finer_there) load();
    else remember();
  }

  function remember() {
    // Whoever has gone on meanwhile has another address.
    if (!place.isConnected) return;
    const query = new URLSearchParams({ window: state.window });
    if (!from_now) {
      query.set("from", iso(state.view.from));
      query.set("to", iso(state.view.to));
    }
    history.replaceState(history.state, "", `${location.pathname}?${query}`);
  }

  // Loads what is seen and a little to both sides, so that small moves show at once.
  async function load() {
    const mine = ++requests;
    const { view } = state;
    // Five minutes of half a year are more than anybody can see, or the API puts on one axis.
    if (state.window === "5min" && view.to - view.from > LONGEST_FINE) {
      state.window = "1hour";
      windows.mark("1hour");
    }
    const { window } = state;
    const margin = 0.15 * (view.to - view.from);
    const end = Math.min(view.to + margin, now().getTime() / 1000 + AHEAD);
    const begin = Math.min(view.from - margin, end - 3600);
    // Of whole windows: until one has ended the same is asked for, and costs next to nothing.
    const step = STEPS[window];
    const span = { from: Math.floor(begin / step) * step, to: Math.ceil(end / step) * step };
    remember();
    pictures.setAttribute("aria-busy", "true");
    try {
      const answer = await get(series_path({
        nodes: [node_id], measurements, window, ...span, points: POINTS,
        include: window === "1hour" ? "history,forecast,expected" : "history",
      }));
      if (mine !== requests || !place.isConnected) return;
      state.loaded = { ...span, is_thinned: answer.thinning.method !== "none" };
      draw(answer);
    } catch (failure) {
      if (mine === requests) replace(notices, notice("bad", t("node.no_series", { reason: failure.detail ?? failure.message })));
    } finally {
      if (mine === requests) pictures.removeAttribute("aria-busy");
    }
    load_rejected(mine, span);
  }

  function draw(answer) {
    const until = now().getTime() / 1000;
    const found = measurements.map((measurement) => [measurement, chart_of(answer, node_id, measurement, until)]);
    const shown = found.filter(([measurement, { is_known }]) => is_known || drawn.has(measurement));
    const listed = as_events(answer.events, until);
    const bounds = { from: until - BACK, to: until + AHEAD };
    for (const [measurement, data] of shown) {
      const options = {
        title: t(`measurement.${measurement}`), digits: digits_of(measurement), bounds, view: state.view,
        home: latest(SPANS.week), ...data,
        marks: limits_of(node, measurement),
        events: listed.filter(({ event }) => !event.measurement_type || matches(event.measurement_type, measurement)),
        on_zoom: (from, to) => zoomed(measurement, from, to),
      };
      if (drawn.has(measurement)) drawn.get(measurement).update(options);
      else drawn.set(measurement, chart(pictures, options));
    }
    const flow = found.find(([measurement]) => measurement === "flow_rate")?.[1] ?? {};
    replace(notices,
      drawn.size ? "" : notice("warn", t("node.nothing_measured")),
      answer.thinning.method === "none" ? "" : h("p", { class: "hint" },
        t("node.thinned", { before: number(answer.thinning.windows, 0), after: number(answer.thinning.points, 0), method: answer.thinning.method.toUpperCase() })),
      state.window === "1hour" && drawn.has("flow_rate") && !flow.forecast ? h("p", { class: "hint" }, t("node.no_forecast")) : "",
      flow.expected_reason ? h("p", { class: "hint" }, `${t("node.no_expected")} `, english(flow.expected_reason)) : "",
      flow.forecast?.made_at ? h("p", { class: "hint" }, t("node.forecast_by", { model: flow.forecast.model_version, at: time(flow.forecast.made_at) }), " ",
        link(`/dashboard/models/${encodeURIComponent(flow.forecast.model_id)}`, t("node.to_model"))) : "");
    if (answer !== listed_of) replace(events, event_table(answer.events, t("node.no_events")));
    listed_of = answer;
  }

  async function load_rejected(mine, span) {
    try {
      const query = new URLSearchParams({ start_time: iso(span.from), end_time: iso(span.to), limit: 200 });
      const rows = await get(`${path}/rejected?${query}`);
      if (mine !== requests) return;
      replace(rejected, table({
        caption: t("node.rejected_caption", { from: time(iso(span.from)), to: time(iso(span.to)) }),
        empty: t("node.none_rejected"),
        columns: [
          { key: "quarter_start", label: t("node.quarter"), render: (row) => time(row.quarter_start) },
          { key: "reason", label: t("common.reason"), render: (row) => reason_of(row.reason) },
          { key: "readings", label: t("node.readings"), align: "right", render: (row) => number(row.readings, 0) },
          { key: "lowest", label: t("node.lowest"), align: "right", render: (row) => quantity(row.lowest, row.unit, 2) },
          { key: "highest", label: t("node.highest"), align: "right", render: (row) => quantity(row.highest, row.unit, 2) },
        ],
        rows,
      }), rows.length === 200 ? h("p", { class: "hint" }, t("node.newest_rejected")) : "");
    } catch (failure) {
      if (mine === requests) replace(rejected, unknown(failure.detail ?? failure.message));
    }
  }

  load();
  const stops = [
    poll(place, path, (node) => replace(head, ...head_of(node))),
    setInterval(() => document.visibilityState === "visible" && from_now && load_latest(), 60_000),
  ];
  load_quality(quality, node_id);

  // As time goes on, what is shown moves with it, unless the reader has chosen a span.
  function load_latest() {
    const by = now().getTime() / 1000 - followed_at;
    state.view = { from: state.view.from + by, to: state.view.to + by };
    followed_at += by;
    load();
  }

  return () => {
    requests += 1;
    stops[0]();
    clearInterval(stops[1]);
    for (const picture of drawn.values()) picture.destroy();
  };
}

function head_of(node) {
  const state = !node.is_active
    ? badge("quiet", t("node.inactive"))
    : node.out_of_service_since
      ? badge("warn", t("node.out_of_service", { since: time(node.out_of_service_since), reason: word("out_of_service", node.out_of_service_reason) }))
      : badge("good", t("node.in_service"));
  return [
    h("p", { class: "facts-line" }, state, " ", h("code", {}, node.node_id), " · ",
      node.role ? t(`role.${node.role}`) : t("node.no_role"), " · ",
      node.district_id ? link(place_path("districts", node.district_id), district_title(node)) : t("node.no_district"),
      node.location_name ? ` · ${node.location_name}` : ""),
    h("p", { class: "facts-line" }, t("node.last_reading"), " ",
      node.last_reading ? h("time", { datetime: node.last_reading }, `${time(node.last_reading)} (${ago(node.last_reading)})`) : t("node.never")),
  ];
}

async function load_quality(place, node_id) {
  try {
    const found = await get(`/api/v1/quality/${encodeURIComponent(node_id)}`);
    const score = (value) => (value == null ? unknown(t("node.not_scored")) : share(value));
    replace(place, card(t("node.quality"),
      facts([
        [t("node.overall"), score(found.overall_quality_score)],
        [t("node.completeness"), score(found.completeness_score)],
        [t("node.validity"), score(found.validity_score)],
        [t("node.consistency"), score(found.consistency_score)],
        [t("node.missing"), number(found.missing_data_points, 0)],
        [t("node.checked"), t("node.checked_at", { at: time(found.check_timestamp), window: word("quality_window", found.time_window) })],
      ]),
      table({
        caption: t("node.quality_issues"),
        empty: t("node.no_issues"),
        columns: [
          { key: "severity", label: t("common.severity"), value: weight_of, render: (row) => severity(row.severity) },
          { key: "type", label: t("common.reason"), render: (row) => reason_of(row.type) },
          { key: "count", label: t("node.count"), align: "right", render: (row) => number(row.count, 0) },
          { key: "first", label: t("node.first"), render: (row) => time(row.first) },
          { key: "last", label: t("node.last"), render: (row) => time(row.last) },
        ],
        rows: found.issues,
      })));
  } catch (failure) {
    replace(place, card(t("node.quality"), failed(failure)));
  }
}

function channel_table(channels) {
  const yes_no = (value) => (value == null ? t("common.unknown") : value ? t("common.yes") : t("common.no"));
  return table({
    caption: t("node.channels_caption"),
    empty: t("node.no_channels"),
    columns: [
      { key: "measurement", label: t("node.measurement"), render: (row) => t(`measurement.${row.measurement}`) },
      { key: "is_counted", label: t("node.counted"), render: (row) => yes_no(row.is_counted) },
      { key: "is_connected", label: t("node.connected"), render: (row) => yes_no(row.is_connected) },
      { key: "reporting", label: t("node.reporting"), render: (row) => (row.reporting ? word("reporting", row.reporting) : t("common.unknown")) },
      { key: "resolution", label: t("node.resolution"), align: "right", render: (row) => (row.resolution == null ? t("common.unknown") : quantity(row.resolution, unit_of(row), 3)) },
      { key: "likely_unit", label: t("node.unit"), render: (row) => (row.unit_questioned ? badge("warn", t("node.unit_doubtful", { unit: row.likely_unit ?? "?" })) : unit_of(row)) },
      { key: "hours", label: t("node.hours"), align: "right", render: (row) => quantity(row.hours, "h", 0) },
      { key: "evidence", label: t("node.evidence"), sort: false, render: (row) => (row.evidence.length ? h("ul", { lang: "en" }, row.evidence.map((line) => h("li", {}, line))) : "—") },
    ],
    rows: channels,
  });
}

function unit_of({ measurement }) {
  return t(`unit.${measurement}`);
}

// Limits that people have stated of the node, as levels of its chart.
function limits_of(node, measurement) {
  const stated = node.metadata?.limits?.[measurement] ?? {};
  return ["emergency_low", "low", "high", "emergency_high"]
    .filter((name) => Number.isFinite(stated[name]))
    .map((name) => ({ value: stated[name], label: t(`limit.${name}`), colour: name.startsWith("emergency") ? "bad" : "warn" }));
}

function matches(of_event, measurement) {
  return of_event === measurement || (["loss", "inflow"].includes(of_event) && measurement === "flow_rate");
}

function metadata_of(node) {
  const place = node.latitude == null || node.longitude == null
    ? unknown(t("node.no_place"))
    : `${number(node.latitude, 5)}, ${number(node.longitude, 5)}`;
  const stated = Object.entries(node.metadata ?? {});
  return facts([
    [t("node.type"), node.node_type ?? t("common.unknown")],
    [t("node.coordinates"), place],
    [t("node.installed"), node.installation_date ?? t("common.unknown")],
    ...stated.map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]),
  ]);
}

