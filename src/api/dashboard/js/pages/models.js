// The models: which are active, which are on trial, and what people have asked of them.

import { h, replace } from "../dom.js";
import { ago, quantity, share, time } from "../format.js";
import { all, get, poll, post } from "../http.js";
import { badge, button, card, dialog, link, page_title, table } from "../parts.js";
import { may } from "../session.js";
import { has, t } from "../words.js";

// The others are renewed by the service itself, with what they are learned from.
const TRAINED = "flow_prediction";
export const REQUESTS = "/api/v1/models/requests?limit=50";

export async function show(place) {
  const places = { active: h("div", {}), shadow: h("div", {}), requests: h("div", {}), others: h("div", {}) };
  const train = may("admin") ? button(t("models.train"), ask_for_training, { class: "primary" }) : null;
  let look_again = () => {};

  function ask_for_training() {
    dialog(t("models.train"), [
      h("p", {}, t("models.train_why")),
      { name: "scope", label: t("models.scope"), help: t("models.scope_help"), most: 300 },
    ], async ({ scope }) => {
      await post("/api/v1/models/train", { model_type: TRAINED, ...(scope ? { scope } : {}) });
      look_again();
    }, t("models.train_now"));
  }

  replace(place, page_title(t("models.title"), train),
    card(t("models.active"), places.active), card(t("models.shadow"), places.shadow),
    card(t("models.requests"), places.requests), card(t("models.others"), places.others));
  const stop_models = poll(places.active, () => all("/api/v1/models?limit=200"), (models) => {
    const of = (...statuses) => models.filter((model) => statuses.includes(model.status));
    replace(places.active, models_table(of("active"), t("models.none_active")));
    replace(places.shadow, models_table(of("shadow"), t("models.none_shadow")));
    replace(places.others, models_table(of("created", "training", "validating", "retired", "failed"), t("common.none")));
  }, 60);
  const watched = watch_requests(places.requests);
  look_again = watched.look_again;
  return () => {
    stop_models();
    watched.stop();
  };
}

/** Draws what was requested of the models, of one model where it is named; `look_again()` at once after a request. */
export function watch_requests(place, model_id = null) {
  let stop = null;
  function look_again() {
    stop?.();
    stop = poll(place, REQUESTS, (rows) => {
      const shown = model_id === null ? rows : rows.filter((row) => row.model_id === model_id);
      replace(place, requests_table(shown));
    });
  }
  look_again();
  return { look_again, stop: () => stop() };
}

/** What a model is, in words: its kind, and the pool of nodes that it is for. */
export function name_of({ model_type, scope }) {
  return `${t(`model_type.${model_type}`)} · ${has(`role.${scope}`) ? t(`role.${scope}`) : scope}`;
}

/** A model's error against that of the usual flow, as a sentence. */
export function against_usual(model) {
  const { mae, usual_mae: usual } = model.validation_metrics ?? {};
  if (mae === null || mae === undefined || !usual) return null;
  const better = 1 - mae / usual;
  return t(better >= 0 ? "models.better" : "models.worse", { mae: quantity(mae, "L/s", 2), usual: quantity(usual, "L/s", 2), share: share(Math.abs(better)) });
}

export function status_of(model) {
  const kinds = { active: "good", shadow: "info", failed: "bad" };
  return badge(kinds[model.status] ?? "quiet", t(`model_status.${model.status}`));
}

function models_table(rows, empty) {
  return table({
    rows, empty,
    columns: [
      { key: "model_name", label: t("models.model"), value: name_of, render: (row) => [link(`/dashboard/models/${row.model_id}`, name_of(row)), h("small", { class: "unknown" }, ` ${row.version}`)] },
      { key: "status", label: t("common.state"), render: status_of },
      { key: "error", label: t("models.error"), value: (row) => row.validation_metrics?.mae, render: (row) => against_usual(row) },
      { key: "drift", label: t("models.drift"), sort: false, render: drift_of },
      { key: "created_at", label: t("models.created"), render: (row) => h("span", { title: time(row.created_at) }, ago(row.created_at)) },
    ],
  });
}

function drift_of({ latest_performance: day }) {
  if (!day || day.drift_detected === null) return null;
  return day.drift_detected ? badge("warn", t("models.drifting")) : badge("good", t("models.steady"));
}

function requests_table(rows) {
  const kinds = { done: "good", refused: "warn", failed: "bad", running: "info" };
  return table({
    rows, empty: t("models.no_requests"),
    columns: [
      { key: "requested_at", label: t("common.when"), render: (row) => time(row.requested_at) },
      { key: "action", label: t("models.action"), render: (row) => t(`models.action_${row.action}`) },
      { key: "model_type", label: t("models.model"), render: (row) => (row.model_id ? link(`/dashboard/models/${row.model_id}`, row.model_type ? t(`model_type.${row.model_type}`) : row.model_id.slice(0, 8)) : row.model_type && t(`model_type.${row.model_type}`)) },
      { key: "requested_by", label: t("models.by") },
      { key: "note", label: t("common.note") },
      { key: "status", label: t("common.state"), render: (row) => badge(kinds[row.status] ?? "quiet", t(`models.request_${row.status}`)) },
      { key: "outcome", label: t("models.outcome") },
    ],
  });
}

/** The model that a type and pool has active, other than this one; null where there is none. */
export async function active_beside(model) {
  const rows = await get(`/api/v1/models?status=active&model_type=${model.model_type}&limit=1000`);
  return rows.find((row) => row.scope === model.scope && row.model_id !== model.model_id) ?? null;
}
