// A district: its water balance and what that rests on, its nights, what flows in, its sensors, events, models, set-points.

import { hour_of } from "../charts/axis.js";
import { chart } from "../charts/chart.js";
import { gaps_of, nights_of } from "../charts/figures.js";
import { MOST_METERS, inflow_of, iso, seconds, series_path } from "../charts/history.js";
import { h, replace } from "../dom.js";
import { ago, date, now, number, quantity, share, time, zone } from "../format.js";
import { all, get, poll } from "../http.js";
import { badge, card, facts, link, notice, page_title, table, unknown } from "../parts.js";
import { t } from "../words.js";
import { amount, as_events, choice, english, event_table, failed, node_link, place_path, with_margin, word } from "./common.js";

const DAY = 86400;

export async function show(place, address) {
  const district_id = address.parts[1];
  const path = `/api/v1/districts/${encodeURIComponent(district_id)}`;
  replace(place, page_title(district_id), h("p", { role: "status" }, t("common.loading")));
  const [month, year] = await Promise.all([get(`${path}?time_window=30day`), get(`${path}?time_window=365day`)]);
  const query = `district_id=${encodeURIComponent(district_id)}`;

  const balance = h("div", {});
  const balance_days = h("div", {});
  const [flows, nights, sensors, events, models, advice] = Array.from({ length: 6 }, () => h("div", { class: "stack" }));
  let length = 30;
  const lengths = choice(t("district.balance_over"), [[30, t("window.30day")], [365, t("window.365day")]], length, (days) => {
    length = days;
    draw_balance();
  });
  replace(place,
    page_title(month.district_name || district_id),
    h("p", { class: "facts-line" }, h("code", {}, district_id), " · ", t("district.summary", { nodes: number(month.nodes, 0), open: number(month.open_anomalies, 0) })),
    card(t("district.balance"), h("div", { class: "toolbar" }, lengths.element), balance, balance_days),
    card(t("district.inflow"), flows),
    card(t("district.events"), events),
    card(t("district.nights"), nights),
    card(t("district.advice"), advice),
    card(t("district.sensors"), sensors),
    card(t("district.models"), models));

  const pictures = new Set();
  const picture = (where, options) => {
    const made = chart(where, options);
    pictures.add(made);
    return made;
  };
  let day_pictures = [];
  let is_left = false;

  async function draw_balance() {
    const days = length;
    const latest = (days === 30 ? month : year).balances[0];
    replace(balance, latest ? balance_of(latest) : h("p", {}, unknown(t("district.no_balance", { days }))));
    const until = now().getTime() / 1000;
    const span = `start_time=${iso(until - (days + 1) * DAY)}&end_time=${iso(until)}`;
    try {
      const rows = await get(`/api/v1/network/efficiency?time_window=1day&${query}&${span}&limit=1000`);
      if (is_left || days !== length) return;
      for (const old of day_pictures) {
        pictures.delete(old);
        old.destroy();
      }
      day_pictures = rows.length ? days_of(rows, district_id, days).map((options) => picture(balance_days, options)) : [];
    } catch (failure) {
      replace(balance_days, failed(failure));
    }
  }

  async function draw_flows() {
    const nodes = await all(`/api/v1/nodes?${query}&limit=1000`);
    if (is_left) return;
    replace(sensors, sensor_table(nodes));
    const active = nodes.filter((node) => node.is_active && !node.out_of_service_since);
    const of_role = (role) => active.filter((node) => node.role === role).map((node) => node.node_id);
    const [inlets, outlets] = [of_role("inlet"), of_role("outlet")];
    const meters = [...inlets, ...outlets];
    const reason = !inlets.length ? t("district.no_inlet") : meters.length > MOST_METERS ? t("district.many_inlets", { most: MOST_METERS }) : null;
    if (reason) {
      for (const where of [flows, nights]) replace(where, h("p", {}, unknown(reason)));
      return;
    }
    const until = now().getTime() / 1000;
    const found = await get(`/api/v1/anomalies?${query}&status=all&hours=720&limit=1000`);
    const marked = as_events(found.filter((event) => event.node_id && ["flow_rate", "loss", "inflow"].includes(event.measurement_type)), until);
    const ahead = { from: until - 7 * DAY, to: until + DAY };
    const request = { nodes: meters, measurements: ["flow_rate"], window: "1hour", points: 5000 };
    const near = await get(series_path({ ...request, ...ahead, include: "history,forecast,expected" }));
    const far = await get(series_path({ ...request, from: until - 31 * DAY, to: until }));
    if (is_left) return;
    const inflow = inflow_of(near, inlets, outlets, until);
    replace(flows, h("p", { class: "hint" }, t(meters.length > 1 ? "district.inflow_sum" : "district.inflow_one", { meters: meters.join(", ") })));
    if (inflow.expected_reason) flows.append(h("p", { class: "hint" }, `${t("node.no_expected")} `, english(inflow.expected_reason)));
    picture(flows, { title: t("district.inflow"), events: marked, ...inflow });
    const month_of = inflow_of(far, inlets, outlets, until);
    const found_nights = nights_of(far.timestamps, month_of.values, (instant) => hour_of(instant, zone()));
    replace(nights, h("p", { class: "hint" }, t("district.nights_hint")));
    picture(nights, {
      title: t("district.night_flow"), unit: "L/s", height: 200, events: marked,
      timestamps: found_nights.map((night) => night.timestamp),
      series: [{ label: t("district.night_flow"), kind: "line", colour: "measured", values: found_nights.map((night) => night.value) }],
    });
  }

  const failing = (where) => (failure) => !is_left && replace(where, failed(failure));
  draw_balance();
  draw_flows().catch((failure) => [flows, nights].forEach((where) => failing(where)(failure)));
  all("/api/v1/models?limit=200").then((rows) => replace(models, model_table(rows, district_id)), failing(models));
  const stops = [
    poll(events, `/api/v1/anomalies?${query}&status=all&hours=720&limit=1000`, (rows) =>
      replace(events, event_table(rows, t("district.no_events"), { with_node: true })), 60),
    poll(advice, `/api/v1/recommendations?${query}`, (rows) => replace(advice, rows.length ? rows.map(advice_of) : unknown(t("district.no_advice"))), 300),
  ];
  return () => {
    is_left = true;
    for (const stop of stops) stop();
    for (const each of pictures) each.destroy();
  };
}

function balance_of({ window_start, window_end, balance }) {
  const { reason } = balance;
  const indicator = (name, unit, digits) =>
    balance[name] == null ? unknown(t("district.needs_pipes")) : quantity(balance[name], unit, digits);
  const loss_share = balance.input_volume && balance.loss_volume != null ? share(balance.loss_volume / balance.input_volume, 1) : null;
  return [
    balance.is_complete ? "" : notice("warn", t("district.incomplete", { coverage: share(balance.coverage) })),
    reason ? notice("warn", `${t("common.reason")}: `, english(reason)) : "",
    h("div", { class: "amounts" },
      amount(t("district.input"), with_margin(balance.input_volume, balance.input_margin, "m³"), null, reason),
      amount(t("district.used"), with_margin(balance.output_volume, balance.output_margin, "m³"), null, reason),
      amount(t("district.loss"), with_margin(balance.loss_volume, balance.loss_margin, "m³"),
        balance.loss_margin != null && Math.abs(balance.loss_volume) <= balance.loss_margin
          ? t("district.within_margin") : loss_share && t("district.of_input", { share: loss_share }), reason)),
    h("p", { class: "hint" }, t("district.balance_window", { from: date(window_start), to: date(new Date(Date.parse(window_end) - 1)) })),
    h("details", { open: true }, h("summary", {}, t("district.rests_on")), facts([
      [t("district.method"), balance.method ? t(`method.${balance.method}`) : unknown(t("common.unknown"))],
      [t("district.coverage"), balance.coverage == null ? unknown(t("common.unknown")) : share(balance.coverage, 1)],
      [t("district.estimated"), balance.estimated_share == null ? unknown(t("common.unknown")) : share(balance.estimated_share, 1)],
      balance.known_days == null ? null : [t("district.known_days"), t("district.days", { days: number(balance.known_days, 0) })],
      [t("district.nrw"), indicator("non_revenue_water_percentage", "%", 1)],
      [t("district.real_losses"), indicator("real_loss_volume", "m³", 0)],
      [t("district.apparent"), balance.apparent_loss_share == null ? null : share(balance.apparent_loss_share)],
      [t("district.m1a"), indicator("m1a", t("district.m1a_unit"), 1)],
      balance.m1_class ? [t("district.m1_class"), t("district.m1_class_of", { name: balance.m1_class, year: balance.m1_class_year })] : null,
      [t("district.ili"), indicator("infrastructure_leakage_index", "", 2)],
      balance.largest_meters?.length ? [t("district.largest"), balance.largest_meters.map((node) => [node_link(node), " "])] : null,
    ])),
  ];
}

// The balance of each day: what was lost, with the band that meters' errors leave, and what came in and was used.
function days_of(rows, district_id, days) {
  const found = rows.map((row) => ({ at: seconds(row.window_start), ...row.zone_metrics[district_id] })).reverse();
  const timestamps = found.map((day) => day.at);
  const column = (value) => found.map((day) => value(day) ?? null);
  const bound = (sign) => column((day) => (day.loss_volume == null || day.loss_margin == null ? null : day.loss_volume + sign * day.loss_margin));
  const whole = { unit: "m³", digits: 0, timestamps, height: 200 };
  const loss = column((day) => day.loss_volume);
  return [
    {
      ...whole, title: t("district.loss_by_day", { days }),
      gaps: gaps_of(timestamps, loss, DAY),
      series: [
        { label: t("district.loss_band"), kind: "band", colour: "warn", lower: bound(-1), upper: bound(1) },
        { label: t("district.loss"), kind: "line", colour: "warn", values: loss },
      ],
    },
    {
      ...whole, title: t("district.input_by_day", { days }),
      series: [
        { label: t("district.input"), kind: "steps", colour: "measured", values: column((day) => day.input_volume) },
        { label: t("district.used"), kind: "steps", colour: "forecast", values: column((day) => day.output_volume) },
      ],
    },
  ];
}

function sensor_table(nodes) {
  return table({
    caption: t("district.sensors_caption", { count: number(nodes.length, 0) }),
    empty: t("district.no_sensors"),
    columns: [
      { key: "node_name", label: t("common.node"), render: (row) => node_link(row.node_id, row.node_name) },
      { key: "role", label: t("node.role"), render: (row) => (row.role ? t(`role.${row.role}`) : t("node.no_role")) },
      { key: "node_type", label: t("node.type"), render: (row) => row.node_type ?? t("common.unknown") },
      { key: "last_reading", label: t("node.last_reading"), render: (row) => (row.last_reading ? h("time", { datetime: row.last_reading, title: time(row.last_reading) }, ago(row.last_reading)) : t("node.never")) },
      {
        key: "state", label: t("common.state"), sort: false,
        render: (row) => !row.is_active ? badge("quiet", t("node.inactive"))
          : row.out_of_service_since ? badge("warn", t("node.out_of_service", { since: time(row.out_of_service_since), reason: word("out_of_service", row.out_of_service_reason) }))
          : badge("good", t("node.in_service")),
      },
    ],
    rows: nodes,
  });
}

// Models are trained for pools, which are named after the district: "net3", "inlet of net3".
function model_table(models, district_id) {
  const rows = models.filter(({ scope, status }) =>
    ["active", "shadow"].includes(status) && (scope === district_id || scope.endsWith(` of ${district_id}`) || scope.includes(` of ${district_id},`)));
  return table({
    caption: t("district.models_caption"),
    empty: t("district.no_models"),
    columns: [
      { key: "model_type", label: t("common.kind"), render: (row) => link(place_path("models", row.model_id), t(`model_type.${row.model_type}`)) },
      { key: "scope", label: t("district.scope") },
      { key: "status", label: t("common.state"), render: (row) => badge(row.is_active ? "good" : "quiet", t(`model_status.${row.status}`)) },
      { key: "version", label: t("district.version") },
      {
        key: "error", label: t("district.error"), sort: false,
        render: (row) => row.validation_metrics.mae == null ? "—"
          : t("district.error_of", { error: quantity(row.validation_metrics.mae, "L/s", 2), usual: quantity(row.validation_metrics.usual_mae, "L/s", 2) }),
      },
    ],
    rows,
  });
}

function advice_of(advice) {
  if (advice.outcome === "refused") {
    return [h("p", {}, badge("quiet", t("district.refused")), " ", english(advice.reason)), at(advice)];
  }
  const { saving_volume_lower: lower, saving_volume_upper: upper } = advice;
  return [
    h("div", { class: "amounts" },
      amount(t("district.saving"), quantity(advice.saving_volume, t("district.per_day")),
        lower == null || upper == null ? t("district.no_margin") : t("district.between", { lower: number(lower, 1), upper: quantity(upper, t("district.per_day")) })),
      amount(t("district.leakage"), advice.leakage_volume == null ? null : quantity(advice.leakage_volume, t("district.per_day")), t("district.of_today"))),
    table({
      caption: t("district.schedule"),
      empty: t("district.no_schedule"),
      columns: [
        { key: "from", label: t("district.period"), render: (row) => `${row.from} – ${row.to}` },
        { key: "present_set_point", label: t("district.present"), align: "right", render: (row) => quantity(row.present_set_point, "bar", 2) },
        { key: "set_point", label: t("district.proposed"), align: "right", render: (row) => quantity(row.set_point, "bar", 2) },
      ],
      rows: advice.schedule,
    }),
    facts([
      [t("district.set_at"), advice.inlet_node_id ? node_link(advice.inlet_node_id) : unknown(t("common.unknown"))],
      [t("district.critical"), advice.critical_node_id ? node_link(advice.critical_node_id) : unknown(t("common.unknown"))],
      [t("district.minimum"), advice.minimum_pressure == null ? unknown(t("common.unknown")) : quantity(advice.minimum_pressure, "bar", 2)],
      advice.model_id ? [t("district.model"), link(place_path("models", advice.model_id), t("node.to_model"))] : null,
    ]),
    h("p", {}, `${t("district.because")} `, english(advice.reason)),
    at(advice),
  ];
}

function at(advice) {
  return h("p", { class: "hint" }, t("district.computed", { at: time(advice.computed_at) }));
}
