// Numbers, units and instants as people read them: in the page's language, and in the utility's zone.

import { language, t } from "./words.js";

let of_utility = "Europe/Rome";
// The API's clock: what it said, and when by this computer's.
let stated = null;
const formats = new Map();

/** The utility's zone, such as Europe/Rome. */
export function zone() {
  return of_utility;
}

export function use_zone(name) {
  of_utility = name;
  formats.clear();
}

/** Takes an instant for the present. */
export function set_clock(instant) {
  stated = { instant: Date.parse(instant), at: performance.now() };
}

/** The present by the API's clock, which may run in the past. */
export function now() {
  return stated === null ? new Date() : new Date(stated.instant + performance.now() - stated.at);
}

/** "1.234,5"; a dash where it is not known. */
export function number(value, digits = 1) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "—";
  const key = `number ${digits}`;
  return cached(key, () => new Intl.NumberFormat(locale(), { maximumFractionDigits: digits, useGrouping: "always", signDisplay: "negative" }))
    .format(value);
}

/** A number and its unit; unbreakable. */
export function quantity(value, unit, digits = 1) {
  const text = number(value, digits);
  return text === "—" || !unit ? text : `${text}\u00a0${unit}`;
}

/** A share of 1 as a percentage. */
export function share(value, digits = 0) {
  return value === null || value === undefined ? "—" : quantity(value * 100, "%", digits);
}

/** Day and time. */
export function time(instant) {
  return shown(instant, "time", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
}

/** The day. */
export function date(instant) {
  return shown(instant, "date", { weekday: "short", day: "numeric", month: "short", year: "numeric" });
}

/** The time of day. */
export function clock(instant) {
  return shown(instant, "clock", { hour: "2-digit", minute: "2-digit" });
}

/** "3 hours ago". */
export function ago(instant) {
  if (!instant) return "—";
  const seconds = (now() - new Date(instant)) / 1000;
  const [value, unit] = in_units(Math.abs(seconds));
  if (unit === null) return t("format.now");
  const relative = cached("ago", () => new Intl.RelativeTimeFormat(locale(), { numeric: "always" }));
  return relative.format(seconds < 0 ? value : -value, unit);
}

/** "2 days". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  if (seconds < 60) return quantity(seconds, "s", seconds < 10 ? 1 : 0);
  const [value, unit] = in_units(seconds);
  return cached(`duration ${unit}`, () => new Intl.NumberFormat(locale(), { style: "unit", unit, unitDisplay: "long" }))
    .format(value);
}

function in_units(seconds) {
  if (seconds < 60) return [0, null];
  if (seconds < 90 * 60) return [Math.round(seconds / 60), "minute"];
  if (seconds < 48 * 3600) return [Math.round(seconds / 3600), "hour"];
  return [Math.round(seconds / 86400), "day"];
}

function shown(instant, name, options) {
  if (instant === null || instant === undefined) return "—";
  const moment = new Date(instant);
  if (Number.isNaN(moment.getTime())) return "—";
  return cached(name, () => new Intl.DateTimeFormat(locale(), { ...options, timeZone: of_utility, hourCycle: "h23" }))
    .format(moment);
}

function cached(key, make) {
  const of_language = `${language()} ${key}`;
  if (!formats.has(of_language)) formats.set(of_language, make());
  return formats.get(of_language);
}

function locale() {
  return language() === "it" ? "it-IT" : "en-GB";
}

/** An instant as the value of a datetime-local field, in the utility's zone. */
export function wall_time(instant) {
  const parts = Object.fromEntries(wall_parts(instant).map(({ type, value }) => [type, value]));
  return `${parts.year}-${parts.month}-${parts.day}T${parts.hour}:${parts.minute}`;
}

/** The instant, ISO 8601 in UTC, that the value of a datetime-local field means in the utility's zone. */
export function instant_of(wall) {
  const as_if_utc = Date.parse(`${wall}Z`);
  // The offset depends on the instant looked for: a second step is right except within the hour a clock skips.
  let found = as_if_utc;
  for (let step = 0; step < 2; step += 1) found = as_if_utc - (Date.parse(`${wall_time(new Date(found))}Z`) - found);
  return new Date(found).toISOString();
}

function wall_parts(instant) {
  const options = { timeZone: of_utility, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat("en-GB", options).formatToParts(new Date(instant));
}
