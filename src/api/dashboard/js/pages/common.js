// What the pages of nodes, districts and incidents share.

import { seconds } from "../charts/history.js";
import { h } from "../dom.js";
import { duration, number, quantity, time } from "../format.js";
import { link, navigate, severity, table, unknown } from "../parts.js";
import { has, t } from "../words.js";

const WEIGHT = { critical: 0, warning: 1, info: 2 };

export function weight_of({ severity: name }) {
  return WEIGHT[name];
}

// What the service says in words is in English, whichever language the page is in.
export function english(text) {
  return text ? h("span", { lang: "en" }, text) : "—";
}

export function place_path(kind, id) {
  return `/dashboard/${kind}/${encodeURIComponent(id)}`;
}

// An event without an incident is one by itself.
function incident_path(event) {
  return place_path("incidents", event.incident_id ?? event.anomaly_id);
}

// A district by its name, where somebody has named it.
export function district_title({ district_id, district_name }) {
  return `${t("common.district")} ${district_name || district_id}`;
}

export function node_link(node_id, name) {
  return node_id ? link(place_path("nodes", node_id), name || node_id) : unknown(t("common.unknown"));
}

// The word for a name of the API's; a name without one stands for itself.
export function word(group, name) {
  const key = `${group}.${name}`;
  return has(key) ? t(key) : String(name ?? t("common.unknown")).replaceAll("_", " ");
}

// Why readings were set aside, or what is wrong with them: of one measurement ("pressure_too_high"), of rows, or an event.
export function reason_of(name) {
  if (has(`kind.${name}`)) return kind_of(name);
  const [, measurement, rest] = /^(flow_rate|pressure|temperature|volume)_(?!against)(.+)$/.exec(name) ?? [];
  return measurement ? `${t(`measurement.${measurement}`)}: ${word("reason", rest)}` : word("reason", name);
}

export function kind_of(type) {
  return word("kind", type);
}

// The most severe first, of these the newest.
export function by_urgency(a, b) {
  return WEIGHT[a.severity] - WEIGHT[b.severity] || Date.parse(b.timestamp) - Date.parse(a.timestamp);
}

// Events as a chart marks them; what goes on reaches to now.
export function as_events(events, until) {
  return events.map((event) => ({
    event,
    from: seconds(event.timestamp),
    to: seconds(event.end) ?? until,
    severity: event.severity,
    label: `${kind_of(event.anomaly_type)} (${t(`severity.${event.severity}`)})`,
    open: () => navigate(incident_path(event)),
  }));
}

export function lasted(begin, end, until) {
  const to = end ? Date.parse(end) : until.getTime();
  return duration(Math.max((to - Date.parse(begin)) / 1000, 0));
}

export function event_table(events, empty, { with_node = false } = {}) {
  return table({
    caption: t("events.caption"),
    empty,
    columns: [
      { key: "timestamp", label: t("events.begin"), render: (row) => time(row.timestamp) },
      { key: "end", label: t("events.end"), render: (row) => (row.end ? time(row.end) : t("events.goes_on")) },
      { key: "severity", label: t("common.severity"), value: weight_of, render: (row) => severity(row.severity) },
      { key: "anomaly_type", label: t("events.kind"), render: (row) => link(incident_path(row), kind_of(row.anomaly_type)) },
      ...(with_node ? [{ key: "node_id", label: t("common.node"), render: (row) => node_link(row.node_id, row.node_name) }] : []),
      { key: "explanation", label: t("events.why"), sort: false, render: (row) => english(row.explanation ?? row.metadata?.explanation) },
    ],
    rows: [...events].sort((a, b) => Date.parse(b.timestamp) - Date.parse(a.timestamp)),
  });
}

// A figure in large, with its unit; where it is not known, why.
export function amount(label, value, hint, reason) {
  return h("div", { class: "amount" }, h("span", { class: "amount-label" }, label),
    h("span", { class: "amount-value" }, value == null ? unknown(reason || t("common.unknown")) : value),
    hint ? h("span", { class: "amount-hint" }, hint) : "");
}

// An amount with its margin: "120 ± 14 m³".
export function with_margin(value, margin, unit, digits = 0) {
  if (value == null) return null;
  if (margin == null) return quantity(value, unit, digits);
  return `${number(value, digits)} ± ${quantity(margin, unit, digits)}`;
}

// One of several, as a group of buttons. Returns {element, mark(value)}: what is chosen may change from elsewhere.
export function choice(label, options, chosen, choose) {
  const buttons = options.map(([value, text]) => [value, h("button", {
    type: "button", class: "chart-button",
    onclick: () => {
      mark(value);
      choose(value);
    },
  }, text)]);
  function mark(value) {
    for (const [of, button] of buttons) button.setAttribute("aria-pressed", String(of === value));
  }
  mark(chosen);
  return { element: h("div", { class: "choice", role: "group", "aria-label": label }, buttons.map(([, button]) => button)), mark };
}

// Why a part of the page is not there, while the rest is.
export function failed(failure) {
  return unknown(failure.detail ?? failure.message);
}
