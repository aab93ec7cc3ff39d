// Alerts: what somebody was to be notified of.

import { h, replace } from "../dom.js";
import { ago, number, time } from "../format.js";
import { all, poll } from "../http.js";
import { badge, card, labelled, page_title, severity, table } from "../parts.js";
import { t } from "../words.js";

const STATES = ["firing", "resolved", "all"];

export async function show(place) {
  const list = h("div", {});
  const state = labelled({ name: "state", label: t("common.state"), kind: "select", options: STATES.map((one) => [one, t(`alerts.${one}`)]) });
  let stop = null;

  function look() {
    stop?.();
    const path = `/api/v1/alerts?state=${state.input.value}&hours=720&limit=200`;
    stop = poll(list, () => all(path), (rows) => replace(list, alerts_table(rows)));
  }

  state.input.addEventListener("change", look);
  replace(place, page_title(t("alerts.title")), card(t("alerts.list"), h("p", {}, t("alerts.why")), h("div", { class: "filters" }, state.element), list));
  look();
  return () => stop();
}

function alerts_table(rows) {
  return table({
    rows, empty: t("alerts.none"),
    columns: [
      { key: "severity", label: t("alerts.severity"), value: (row) => ["critical", "warning", "info"].indexOf(row.severity), render: (row) => severity(row.severity) },
      { key: "summary", label: t("alerts.what"), render: (row) => [h("strong", {}, row.summary), h("br", {}), h("small", { class: "unknown" }, `${row.rule} · ${row.subject}`)] },
      { key: "since", label: t("alerts.since"), render: (row) => [time(row.since), h("br", {}), h("small", {}, ago(row.since))] },
      { key: "state", label: t("common.state"), render: (row) => (row.state === "firing" ? badge("bad", t("alerts.firing")) : badge("good", t("alerts.resolved"))) },
      { key: "resolved_at", label: t("alerts.over"), render: (row) => row.resolved_at && time(row.resolved_at) },
      { key: "notified_at", label: t("alerts.notified"), render: (row) => [row.notified_at ? time(row.notified_at) : "—", row.undelivered ? [" ", badge("warn", t("alerts.undelivered", { count: number(row.undelivered, 0) }))] : null] },
    ],
  });
}
