// Incidents: what is open, the most urgent first; then what is over.

import { h, replace } from "../dom.js";
import { now, number, time } from "../format.js";
import { all, poll } from "../http.js";
import { badge, card, labelled, link, page_title, severity, table } from "../parts.js";
import { t } from "../words.js";
import { by_urgency, english, kind_of, lasted, place_path, weight_of } from "./common.js";

const SPANS = [[24, "incidents.day"], [168, "incidents.week"], [720, "incidents.month"], [8784, "incidents.year"]];

export async function show(place, address) {
  const { query } = address;
  const filters = {
    status: query.get("status") ?? "all",
    severity: query.get("severity") ?? "",
    district: query.get("district") ?? "",
    hours: query.get("hours") ?? "168",
  };
  const chosen = (name, label, options) => labelled({ name, label, kind: "select", value: filters[name], options });
  const districts = await all("/api/v1/districts?limit=1000");
  const fields = {
    status: chosen("status", t("common.state"), [["all", t("common.all")], ["open", t("incidents.open")], ["resolved", t("incidents.resolved")]]),
    severity: chosen("severity", t("incidents.severity"), [["", t("common.all")], ...["critical", "warning", "info"].map((name) => [name, t(`severity.${name}`)])]),
    district: chosen("district", t("common.district"), [["", t("common.all")], ...districts.map((row) => [row.district_id, row.district_name || row.district_id])]),
    hours: chosen("hours", t("incidents.span"), SPANS.map(([hours, key]) => [String(hours), t(key)])),
  };
  const list = h("div", { class: "stack" });
  let stop = () => {};

  function look() {
    stop();
    for (const name of Object.keys(filters)) filters[name] = fields[name].input.value;
    // Whoever has gone on meanwhile has another address.
    if (place.isConnected) history.replaceState(history.state, "", `${location.pathname}?${new URLSearchParams(filters)}`);
    const request = new URLSearchParams({ status: filters.status, hours: filters.hours, limit: 500 });
    if (filters.district) request.set("district_id", filters.district);
    const path = `/api/v1/incidents?${request}`;
    stop = poll(list, () => all(path), (rows) => draw(rows.filter((row) => !filters.severity || row.severity === filters.severity)));
  }

  function draw(rows) {
    const open = rows.filter((row) => !row.resolved_at).sort(by_urgency);
    const over = rows.filter((row) => row.resolved_at);
    replace(list,
      filters.status === "resolved" ? "" : card(t("incidents.open_count", { count: number(open.length, 0) }), incident_table(open, t("incidents.none_open"))),
      filters.status === "open" ? "" : card(t("incidents.over_count", { count: number(over.length, 0) }), incident_table(over, t("incidents.none_over"))));
  }

  for (const { input } of Object.values(fields)) input.addEventListener("change", look);
  replace(place, page_title(t("incidents.title")), h("div", { class: "filters" }, Object.values(fields).map(({ element }) => element)), list);
  look();
  return () => stop();
}

function incident_table(rows, empty) {
  return table({
    caption: t("incidents.caption"),
    empty,
    columns: [
      { key: "severity", label: t("incidents.severity"), value: weight_of, render: (row) => severity(row.severity) },
      {
        key: "anomaly_types", label: t("incidents.what"), value: (row) => row.anomaly_types.map(kind_of).join(", "),
        render: (row) => link(place_path("incidents", row.incident_id), row.anomaly_types.map(kind_of).join(", ")),
      },
      { key: "district_id", label: t("common.district"), value: (row) => row.district_name || row.district_id, render: (row) => (row.district_id ? link(place_path("districts", row.district_id), row.district_name || row.district_id) : t("node.no_district")) },
      { key: "timestamp", label: t("events.begin"), render: (row) => time(row.timestamp) },
      { key: "lasted", label: t("incidents.lasted"), value: (row) => Date.parse(row.end ?? now()) - Date.parse(row.timestamp), render: (row) => lasted(row.timestamp, row.end, now()) },
      {
        key: "state", label: t("common.state"), value: (row) => Number(Boolean(row.resolved_at)) * 2 + Number(row.is_acknowledged),
        render: (row) => row.resolved_at ? badge("quiet", t("incidents.is_over"))
          : row.is_acknowledged ? badge("info", t("incidents.acknowledged")) : badge("warn", t("incidents.nobody")),
      },
      { key: "explanation", label: t("events.why"), sort: false, render: (row) => english(row.explanation) },
      { key: "nodes", label: t("common.nodes"), align: "right", value: (row) => row.nodes.length, render: (row) => number(row.nodes.length, 0) },
    ],
    rows,
  });
}
