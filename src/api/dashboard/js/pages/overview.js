// The overview: what somebody must know now, most urgent first; then the network's figures, its districts, its plan.

import { h, replace } from "../dom.js";
import { ago, date, duration, number, quantity, share, time } from "../format.js";
import { poll } from "../http.js";
import { badge, card, facts, link, notice, page_title, severity, table, unknown } from "../parts.js";
import { plan } from "../plan.js";
import { has, t } from "../words.js";

const OVERVIEW = "/api/v1/dashboard/overview";
const RANK = { critical: 0, warning: 1, info: 2 };

export async function show(place) {
  const parts = Object.fromEntries(["now", "plan", "figures", "losses", "districts"].map((name) => [name, h("div", { class: name })]));
  const title = h("div", {}, page_title(t("overview.title")));
  const body = h("div", { class: "page" }, h("p", { class: "empty" }, t("common.loading")));
  replace(place, title, body);
  const drawn = { chart: null, plan: null };

  function draw(overview) {
    if (is_empty(overview)) {
      replace(body, first_steps());
      return;
    }
    replace(parts.now, needs(overview));
    replace(parts.figures, figures(overview));
    replace(parts.districts, tiles(overview));
    if (!parts.now.isConnected) replace(body, h("div", { class: "overview" }, Object.values(parts)));
    draw_losses(parts.losses, overview, drawn);
    drawn.plan ??= plan(parts.plan);
    drawn.plan.update(overview);
  }

  const stop = poll(body, OVERVIEW, draw);
  return () => {
    stop();
    drawn.chart?.destroy();
    drawn.plan?.destroy();
  };
}

function is_empty({ freshness, plan: { node_id: placed }, districts }) {
  return freshness.nodes_active === 0 && placed.length === 0 && districts.length === 0;
}

function first_steps() {
  const steps = [1, 2, 3].map((step) => h("li", {}, t(`overview.first_step_${step}`)));
  return card(t("overview.no_nodes"), h("p", {}, t("overview.no_nodes_why")), h("ol", {}, steps),
    h("p", {}, link("/dashboard/jobs", t("overview.see_jobs")), " · ", link("/dashboard/survey", t("overview.see_survey"))));
}

// --- what needs somebody

/** The list of what needs somebody: each with what, since when, where, how much water, what to do. */
function needs(overview) {
  const items = [
    ...of_data(overview), ...of_incidents(overview), ...of_pressure(overview), ...of_silence(overview), ...of_alerts(overview),
  ].sort((a, b) => a.rank - b.rank);
  const { critical, warning, info } = overview.open_by_severity;
  const counts = [["critical", critical], ["warning", warning], ["info", info]].filter(([, count]) => count > 0);
  const summary = counts.map(([name, count]) => [severity(name), ` ${number(count, 0)} `]);
  const more = overview.open_incidents > overview.incidents.length;
  return card(
    t("overview.now"),
    items.some((item) => item.rank < 20) ? null : notice("good", t("overview.nothing", { time: time(overview.timestamp) })),
    overview.open_incidents ? h("p", {}, t("overview.open_incidents", { count: number(overview.open_incidents, 0) }), " ", summary) : null,
    h("ol", { class: "needs" }, items.map(need)),
    more ? h("p", {}, link("/dashboard/incidents", t("overview.all_incidents", { count: number(overview.open_incidents, 0) }))) : null,
  );
}

function need({ level, what, path, facts: details, why, todo }) {
  return h("li", { class: `need ${level}` },
    h("div", { class: "need-head" }, severity(level), " ", path ? link(path, what, { class: "need-what" }) : h("strong", { class: "need-what" }, what)),
    details.some(Boolean) && h("p", { class: "need-facts" }, details.filter(Boolean).flatMap((detail, i) => (i ? [" · ", detail] : [detail]))),
    why ? h("p", { class: "need-why", lang: is_ours(why) ? null : "en" }, why) : null,
    todo ? h("p", { class: "need-todo" }, h("strong", {}, t("overview.todo")), " ", todo) : null);
}

/** Whether a text was put together here; sentences of the service are English. */
function is_ours(text) {
  return typeof text !== "string";
}

function of_data({ status, reasons, freshness }) {
  if (status === "healthy") return [];
  const is_stale = status === "stale";
  const late = freshness.lag_seconds === null ? t("overview.no_readings") : t("overview.lag", { lag: duration(freshness.lag_seconds) });
  return [{
    rank: is_stale ? 0 : 11, level: is_stale ? "critical" : "warning", path: "/dashboard/jobs",
    what: t(is_stale ? "overview.stale" : "overview.degraded"),
    facts: [late, freshness.latest_data && t("overview.latest", { time: time(freshness.latest_data) })],
    why: reasons.join("; "), todo: t(is_stale ? "overview.todo_stale" : "overview.todo_degraded"),
  }];
}

function of_incidents({ incidents, districts }) {
  const names = new Map(districts.map((district) => [district.district_id, district.district_name]));
  return incidents.map((incident) => {
    const [first] = incident.anomaly_types;
    const district = incident.district_id;
    // What somebody takes care of already waits behind what nobody has seen.
    const rank = { critical: 1, warning: 10, info: 20 }[incident.severity] + (incident.is_acknowledged ? 5 : 0);
    return {
      rank, level: incident.severity, path: `/dashboard/incidents/${incident.incident_id}`,
      what: incident.anomaly_types.map((type) => t(`kind.${type}`)).join(" + "),
      facts: [
        t("overview.since", { time: time(incident.timestamp), ago: ago(incident.timestamp) }),
        district && h("span", {}, t("common.district"), " ", link(`/dashboard/districts/${encodeURIComponent(district)}`, names.get(district) ?? district)),
        incident.place ?? incident.nodes.slice(0, 3).join(", "),
        incident.water_lost_m3 !== null && h("strong", {}, t("overview.lost", { volume: quantity(incident.water_lost_m3, "m³", 0) })),
        incident.is_acknowledged && badge("quiet", t("overview.acknowledged")),
      ],
      why: incident.explanation,
      todo: incident.is_acknowledged || incident.severity === "info" ? null : t(has(`todo.${first}`) ? `todo.${first}` : "todo.other"),
    };
  });
}

function of_pressure({ pressure_below: below, pressure_below_count: count }) {
  if (!count) return [];
  const nodes = below.slice(0, 5).map((node, i) => [
    i ? ", " : "", link(`/dashboard/nodes/${encodeURIComponent(node.node_id)}`, node.node_name),
    ` ${quantity(node.pressure, "bar", 2)} (${t("overview.minimum", { value: quantity(node.minimum, "bar", 1) })})`,
  ]);
  return [{
    rank: 8, level: "warning", what: t("overview.pressure_below", { count: number(count, 0) }),
    facts: [t("overview.last_hour", { time: time(below[0].window_end) })], why: nodes, todo: t("overview.todo_pressure"),
  }];
}

function of_silence({ freshness: { nodes_silent: silent, nodes_active: active }, status }) {
  // With stale data all are silent: said above.
  if (!silent || status === "stale") return [];
  return [{
    rank: 15, level: "warning", path: "/dashboard/nodes?state=silent", why: null, todo: t("overview.todo_silent"),
    what: t("overview.silent", { count: number(silent, 0), all: number(active, 0) }), facts: [],
  }];
}

function of_alerts({ alerts_firing: count }) {
  if (!count) return [];
  return [{ rank: 16, level: "warning", path: "/dashboard/alerts", what: t("overview.alerts", { count: number(count, 0) }), facts: [], todo: null }];
}

// --- figures

function figures({ input, loss, forecast, freshness }) {
  return h("div", { class: "cards" },
    figure(t("overview.input"), input.total_volume, 0, input.reason, [
      [t("overview.day"), input.window_start && date(input.window_start)],
      [t("overview.coverage"), input.coverage === null ? null : share(input.coverage)],
    ]),
    figure(t("overview.loss"), loss?.total_loss_volume ?? null, 0, reason_of_loss(loss), loss ? [
      [t("overview.margin"), loss.loss_margin === null ? null : `± ${quantity(loss.loss_margin, "m³", 0)} (95 %)`],
      [t("overview.efficiency"), loss.efficiency_percentage === null ? null : quantity(loss.efficiency_percentage, "%", 1)],
      [t("overview.method"), loss.method && t(`method.${loss.method}`)],
      [t("overview.coverage"), loss.coverage === null ? null : share(loss.coverage)],
    ] : []),
    figure(t("overview.forecast"), forecast.today_volume, 0, forecast.reason, [
      [t("overview.between"), forecast.lower === null ? null : `${number(forecast.lower, 0)} – ${quantity(forecast.upper, "m³", 0)}`],
      [t("overview.forecast_nodes"), forecast.nodes ? number(forecast.nodes, 0) : null],
      [t("overview.made_at"), forecast.made_at && time(forecast.made_at)],
    ]),
    card(t("overview.freshness"),
      h("p", { class: "figure" }, freshness.latest_data ? ago(freshness.latest_data) : unknown(t("overview.no_readings"))),
      facts([
        [t("overview.latest_reading"), freshness.latest_data && time(freshness.latest_data)],
        [t("overview.reporting"), t("overview.of", { count: number(freshness.nodes_reporting, 0), all: number(freshness.nodes_active, 0) })],
      ])));
}

function reason_of_loss(loss) {
  if (loss === null) return t("overview.no_balance");
  const is_certain = loss.total_loss_volume === null || loss.loss_margin === null || Math.abs(loss.total_loss_volume) > loss.loss_margin;
  return loss.reason ?? (is_certain ? null : t("overview.within_margin"));
}

function figure(title, volume, digits, reason, pairs) {
  const value = volume === null ? unknown(reason ?? t("common.unknown")) : quantity(volume, "m³", digits);
  return card(title, h("p", { class: volume === null ? null : "figure" }, value),
    volume !== null && reason ? h("p", { class: "need-why" }, reason) : null, facts(pairs));
}

// --- losses day by day

async function draw_losses(place, { loss_days: days }, drawn) {
  if (!days.length) {
    replace(place, card(t("overview.loss_days"), unknown(t("overview.no_balance"))));
    return;
  }
  const bound = (sign) => days.map((day) => (day.total_loss_volume === null || day.loss_margin === null ? null : day.total_loss_volume + sign * day.loss_margin));
  const options = {
    title: t("overview.loss_days"), unit: "m³", digits: 0, height: 220,
    timestamps: days.map((day) => Date.parse(day.window_start) / 1000),
    series: [
      { label: t("overview.margin"), kind: "band", colour: "measured", lower: bound(-1), upper: bound(1) },
      { label: t("overview.loss_of_day"), kind: "line", colour: "measured", values: days.map((day) => day.total_loss_volume) },
      { label: t("overview.input_of_day"), kind: "line", colour: "muted", values: days.map((day) => day.total_input_volume), hidden: true },
    ],
  };
  if (drawn.chart) {
    drawn.chart.update(options);
    return;
  }
  const section = card(t("overview.loss_days"));
  replace(place, section);
  // The API may be away by now: the banner says so.
  const loaded = await import("../charts/chart.js").catch(() => null);
  if (loaded === null) section.append(unknown(t("http.unreachable")));
  else if (section.isConnected) drawn.chart = loaded.chart(section, { ...options, title: t("overview.loss_of_day") });
}

// --- districts

function tiles({ districts }) {
  if (!districts.length) return card(t("overview.districts"), h("p", { class: "empty" }, t("overview.no_districts")));
  const urgent = [...districts].sort((a, b) =>
    (RANK[a.severity] ?? 3) - (RANK[b.severity] ?? 3) || b.open_anomalies - a.open_anomalies
    || (b.loss_share ?? -1) - (a.loss_share ?? -1) || a.district_id.localeCompare(b.district_id));
  const pressing = urgent.slice(0, 60);
  return card(t("overview.districts"),
    h("ul", { class: "tiles" }, pressing.map(tile)),
    urgent.length > pressing.length ? h("details", {}, h("summary", {}, t("overview.all_districts", { count: number(urgent.length, 0) })), districts_table(urgent)) : null);
}

function tile(district) {
  const name = district.district_name ?? district.district_id;
  return h("li", { class: `tile ${district.severity ?? "calm"}` },
    h("h3", {}, link(`/dashboard/districts/${encodeURIComponent(district.district_id)}`, name)),
    h("p", {}, district.severity ? [severity(district.severity), " ", t("overview.open_events", { count: number(district.open_anomalies, 0) })] : badge("good", t("overview.calm"))),
    facts([
      [t("overview.flow"), quantity(district.flow, "L/s", 1)],
      [t("overview.loss_share"), district.loss_share === null ? unknown(district.reason) : share(district.loss_share)],
      [t("overview.least_pressure"), district.pressure_min === null ? null : quantity(district.pressure_min, "bar", 2)],
      [t("overview.quality"), district.quality === null ? null : share(district.quality)],
      [t("common.nodes"), number(district.nodes, 0)],
    ]));
}

function districts_table(districts) {
  return table({
    rows: districts, caption: t("overview.districts"),
    columns: [
      { key: "district_name", label: t("common.district"), render: (row) => link(`/dashboard/districts/${encodeURIComponent(row.district_id)}`, row.district_name ?? row.district_id) },
      { key: "severity", label: t("common.state"), value: (row) => RANK[row.severity] ?? 3, render: (row) => (row.severity ? severity(row.severity) : badge("good", t("overview.calm"))) },
      { key: "flow", label: t("overview.flow"), align: "right", render: (row) => quantity(row.flow, "L/s", 1) },
      { key: "loss_share", label: t("overview.loss_share"), align: "right", render: (row) => share(row.loss_share) },
      { key: "pressure_min", label: t("overview.least_pressure"), align: "right", render: (row) => quantity(row.pressure_min, "bar", 2) },
    ],
  });
}
