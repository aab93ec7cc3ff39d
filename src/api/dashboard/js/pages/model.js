// One model: how it did day by day, whether what it sees has changed, what was decided of it and why.

import { h, replace } from "../dom.js";
import { date, number, quantity, share, time } from "../format.js";
import { poll, post } from "../http.js";
import { badge, button, card, dialog, facts, link, notice, page_title, table, unknown } from "../parts.js";
import { may } from "../session.js";
import { t } from "../words.js";
import { active_beside, against_usual, name_of, status_of, watch_requests } from "./models.js";

export async function show(place, { parts: [, model_id] }) {
  const path = `/api/v1/models/${encodeURIComponent(model_id)}`;
  const head = h("div", {});
  const places = Object.fromEntries(["about", "days", "chart", "decisions", "requests"].map((name) => [name, h("div", {})]));
  replace(place, head, card(t("model.about"), places.about), places.chart, card(t("model.days"), places.days),
    card(t("model.decisions"), places.decisions), card(t("models.requests"), places.requests));
  const watched = watch_requests(places.requests, model_id);
  const drawn = { chart: null };

  function draw(model) {
    replace(head, page_title(`${name_of(model)} · ${model.version}`, status_of(model), actions(model, watched.look_again)));
    replace(places.about, about(model));
    replace(places.days, days_table(model));
    replace(places.decisions, decisions_table(model));
    draw_chart(places.chart, model, drawn);
  }

  const stop = poll(places.about, path, draw, 60);
  return () => {
    stop();
    watched.stop();
    drawn.chart?.destroy();
  };
}

function actions(model, look_again) {
  if (!may("admin")) return null;
  const can_promote = model.status === "shadow" || model.status === "retired";
  const can_roll_back = model.status === "active" && model.fallback_id !== null;
  const ask = (action, why) => dialog(t(`models.action_${action}`), [
    h("p", {}, why),
    { name: "note", label: t("common.note"), kind: "textarea", help: t("model.note_help"), most: 2000 },
  ], async ({ note }) => {
    await post(`/api/v1/models/${model.model_id}/${action}`, note ? { note } : {});
    look_again();
  }, t(`models.action_${action}`));
  return h("div", { class: "buttons" },
    can_promote ? button(t("models.action_promote"), async () => ask("promote", await what_promotion_does(model)), { class: "primary" }) : null,
    can_roll_back ? button(t("models.action_roll_back"), () => ask("roll_back", t("model.roll_back_why"))) : null);
}

async function what_promotion_does(model) {
  const replaced = await active_beside(model);
  return replaced ? t("model.promote_why", { name: `${name_of(replaced)} · ${replaced.version}` }) : t("model.promote_first");
}

function about(model) {
  const { validation_metrics: found } = model;
  const of = (value, unit, digits) => (value === null || value === undefined ? null : quantity(value, unit, digits));
  const drift = model.latest_performance;
  return [
    drift?.drift_detected ? notice("warn", h("strong", {}, t("models.drifting")), ` ${drift.drift_reason ?? ""}`) : null,
    against_usual(model) ? h("p", {}, t("models.error_against", { error: against_usual(model) })) : null,
    facts([
      [t("common.kind"), t(`model_type.${model.model_type}`)],
      [t("models.scope"), model.scope],
      [t("model.coverage"), found.coverage === null || found.coverage === undefined ? null : share(found.coverage, 1)],
      [t("model.hours"), of(found.hours, "", 0)],
      [t("model.limit"), of(found.limit, "", 2)],
      [t("model.exponent"), found.exponent === null || found.exponent === undefined ? null : `${number(found.exponent, 2)} (${number(found.lower, 2)} – ${number(found.upper, 2)})`],
      [t("model.nights"), of(found.nights, "", 0)],
      [t("model.trained_on"), model.training_data_start && `${date(model.training_data_start)} – ${date(model.training_data_end)}`],
      [t("model.samples"), of(model.training_samples, "", 0)],
      [t("models.created"), time(model.created_at)],
      [t("model.shadow_since"), model.shadow_since && time(model.shadow_since)],
      [t("model.activated"), model.activated_at && time(model.activated_at)],
      [t("model.retired"), model.retired_at && time(model.retired_at)],
      [t("model.fallback"), model.fallback_id && link(`/dashboard/models/${model.fallback_id}`, model.fallback_id.slice(0, 8))],
    ]),
  ];
}

function days_table({ performance }) {
  return table({
    rows: performance, empty: t("model.no_days"),
    columns: [
      { key: "evaluation_timestamp", label: t("overview.day"), render: (row) => date(row.evaluation_timestamp) },
      { key: "mae", label: t("model.mae"), align: "right", render: (row) => quantity(row.mae, "L/s", 2) },
      { key: "rmse", label: t("model.rmse"), align: "right", render: (row) => quantity(row.rmse, "L/s", 2) },
      { key: "mape", label: t("model.mape"), align: "right", render: (row) => quantity(row.mape, "%", 1) },
      { key: "predictions_count", label: t("model.hours"), align: "right", render: (row) => number(row.predictions_count, 0) },
      { key: "feature_drift_score", label: t("model.feature_drift"), align: "right", render: (row) => number(row.feature_drift_score, 2) },
      { key: "prediction_drift_score", label: t("model.prediction_drift"), align: "right", render: (row) => number(row.prediction_drift_score, 2) },
      { key: "drift_detected", label: t("models.drift"), render: (row) => (row.drift_detected ? [badge("warn", t("models.drifting")), " ", row.drift_reason] : row.drift_detected === false ? t("models.steady") : null) },
    ],
  });
}

function decisions_table({ decisions }) {
  return table({
    rows: [...decisions].reverse(), empty: t("model.no_decisions"),
    columns: [
      { key: "decided_at", label: t("common.when"), render: (row) => time(row.decided_at) },
      { key: "decision", label: t("model.decision"), render: (row) => t(`decision.${row.decision}`) },
      { key: "decided_by", label: t("models.by") },
      { key: "reason", label: t("common.reason") },
    ],
  });
}

/** The mean error of each day, beside that of the usual flow when the model was validated. */
async function draw_chart(place, model, drawn) {
  const days = [...model.performance].reverse();
  if (model.model_type !== "flow_prediction" || !days.length) {
    replace(place);
    return;
  }
  const usual = model.validation_metrics.usual_mae ?? null;
  const options = {
    title: t("model.mae"), unit: "L/s", digits: 2, height: 220,
    timestamps: days.map((day) => Date.parse(day.evaluation_timestamp) / 1000),
    series: [
      { label: t("model.mae"), kind: "line", colour: "measured", values: days.map((day) => day.mae) },
      ...(usual === null ? [] : [{ label: t("model.usual"), kind: "dashes", colour: "muted", values: days.map(() => usual) }]),
    ],
  };
  if (drawn.chart) {
    drawn.chart.update(options);
    return;
  }
  const section = card(t("model.errors"), usual === null ? null : h("p", {}, t("model.usual_why", { usual: quantity(usual, "L/s", 2) })));
  replace(place, section);
  // The API may be away by now: the banner says so.
  const loaded = await import("../charts/chart.js").catch(() => null);
  if (loaded === null) section.append(unknown(t("http.unreachable")));
  else if (section.isConnected) drawn.chart = loaded.chart(section, options);
}
