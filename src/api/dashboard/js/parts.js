// What pages are made of.

import { h, replace } from "./dom.js";
import { Failure, failure } from "./http.js";
import { t } from "./words.js";

// Rows of a table that are drawn at once; the next ones when somebody comes near them.
const ROWS_AT_ONCE = 200;
let numbered = 0;

/** The page's heading; the window's title says the same. */
export function page_title(text, ...beside) {
  document.title = `${text} · ${t("frame.product")}`;
  return h("div", { class: "page-title" }, h("h1", { tabindex: "-1" }, text), beside);
}

/** A part of a page under a heading. */
export function card(title, ...children) {
  const id = next_id();
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), children);
}

/** A word in a coloured field; kind: good, warn, bad, info or quiet. */
export function badge(kind, text) {
  return h("span", { class: `badge ${kind}` }, text);
}

/** The badge of a severity. */
export function severity(name) {
  return badge({ critical: "bad", warning: "warn", info: "info" }[name] ?? "quiet", t(`severity.${name}`));
}

/** A sentence that somebody should read; kind: good, warn, bad or info. */
export function notice(kind, ...text) {
  return h("p", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, text);
}

/** A link within the dashboard: followed without loading the page anew. */
export function link(path, text, attributes) {
  return h("a", { href: path, ...attributes }, text);
}

/** Goes to another page of the dashboard. */
export function navigate(path) {
  history.pushState(null, "", path);
  dispatchEvent(new Event("navigated"));
}

/** In place of a value: that it is not known, and why. */
export function unknown(reason) {
  return h("span", { class: "unknown" }, "—", reason ? h("small", {}, " ", reason) : null);
}

/** Names and values, one below the other; pairs whose value is null are left out. */
export function facts(pairs) {
  const shown = pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined && pair[1] !== "");
  return h("dl", { class: "facts" }, shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A button; `run` may be asynchronous: until it is through, the button cannot be pressed again. It says what failed. */
export function button(text, run, attributes) {
  const element = h("button", { type: "button", ...attributes }, text);
  let trouble = null;
  element.addEventListener("click", async () => {
    trouble?.remove();
    element.disabled = true;
    try {
      await run(element);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      trouble = failure(error);
      element.after(trouble);
    } finally {
      element.disabled = false;
    }
  });
  return element;
}

/**
 * A table that can be sorted by its headings.
 * columns: [{key, label, align: "right"|null, render(row), value(row) to sort by, sort: false for none}]
 */
export function table({ columns, rows, caption, empty }) {
  if (!rows.length) return h("p", { class: "empty" }, empty ?? t("common.none"));
  let order = { column: null, descending: false };
  const body = h("tbody", {});
  const more = h("button", { type: "button", class: "quiet" });
  const headings = columns.map((column) => heading(column));
  const value_of = (column, row) => (column.value ? column.value(row) : row[column.key]);
  let sorted = rows;
  let drawn = 0;

  function heading(column) {
    const attributes = { scope: "col", class: column.align ?? null };
    if (column.sort === false) return h("th", attributes, column.label);
    return h("th", attributes, h("button", { type: "button", class: "sort", onclick: () => sort(column) }, column.label));
  }

  function sort(column) {
    order = { column, descending: order.column === column && !order.descending };
    const sign = order.descending ? -1 : 1;
    sorted = [...rows].sort((a, b) => compared(value_of(column, a), value_of(column, b), sign));
    columns.forEach((one, i) => {
      if (one === column) headings[i].setAttribute("aria-sort", order.descending ? "descending" : "ascending");
      else headings[i].removeAttribute("aria-sort");
    });
    body.replaceChildren();
    drawn = 0;
    draw();
  }

  function draw() {
    const next = sorted.slice(drawn, drawn + ROWS_AT_ONCE);
    drawn += next.length;
    body.append(...next.map((row) => h("tr", {}, columns.map((column) => cell(column, row)))));
    more.hidden = drawn >= sorted.length;
    replace(more, t("common.more_rows", { shown: drawn, all: sorted.length }));
  }

  function cell(column, row) {
    const content = column.render ? column.render(row) : row[column.key];
    return h("td", { class: column.align ?? null, "data-label": column.label }, h("div", {}, content ?? "—"));
  }

  more.addEventListener("click", draw);
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && draw()).observe(more);
  draw();
  const described = caption ? h("caption", {}, caption) : null;
  const whole = h("table", {}, described, h("thead", {}, h("tr", {}, headings)), body);
  return h("div", { class: "table" }, whole, more);
}

/**
 * Asks for something and does it: a dialog with fields, a button that does it, and one that does not.
 * fields: [{name, label, kind: "text"|"textarea"|"select"|"checkbox"|"datetime-local"|"password", value, options:
 *   [[value, label]], required, help, most: characters}]; a field may also be an element to be shown.
 * submit(values) may be asynchronous; where it fails, the dialog says so and stays.
 */
export function dialog(title, fields, submit, action = t("common.save")) {
  const id = next_id();
  const before = document.activeElement;
  const trouble = h("div", {});
  const send = h("button", { type: "submit", class: "primary" }, action);
  const inputs = new Map();
  const rows = fields.map((one) => (one instanceof Node ? one : field(one, inputs)));
  const cancel = h("button", { type: "button", onclick: () => element.close() }, t("common.cancel"));
  const form = h("form", { method: "dialog" }, h("h2", { id }, title), rows, trouble, h("div", { class: "buttons" }, send, cancel));
  const element = h("dialog", { "aria-labelledby": id }, form);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      await submit(Object.fromEntries([...inputs].map(([name, input]) => [name, input_value(input)])));
      element.close();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      replace(trouble, failure(error));
    } finally {
      send.disabled = false;
    }
  });
  element.addEventListener("close", () => {
    element.remove();
    before?.focus?.();
  });
  document.body.append(element);
  element.showModal();
  return element;
}

function field({ name, label, kind = "text", value, options, required, help, most }, inputs) {
  const id = next_id();
  const described = help ? `${id}-help` : null;
  const attributes = { id, name, required, maxlength: most, "aria-describedby": described };
  let input;
  if (kind === "textarea") input = h("textarea", { ...attributes, rows: 3, value: value ?? "" });
  else if (kind === "select") {
    input = h("select", attributes, options.map(([of, text]) => h("option", { value: of, selected: of === value }, text)));
  } else if (kind === "checkbox") input = h("input", { ...attributes, type: "checkbox", checked: Boolean(value) });
  else input = h("input", { ...attributes, type: kind, value: value ?? "" });
  inputs.set(name, input);
  return h("div", { class: `field ${kind}` }, h("label", { for: id }, label), input, help ? h("small", { id: described }, help) : null);
}

/** A labelled field outside of a dialog, as {element, input}. */
export function labelled(of_field) {
  const inputs = new Map();
  return { element: field(of_field, inputs), input: inputs.get(of_field.name) };
}

function input_value(input) {
  return input.type === "checkbox" ? input.checked : input.value.trim();
}

// What is not known comes last, whichever way is sorted.
function compared(a, b, sign) {
  const absent = (value) => value === null || value === undefined || value === "";
  if (absent(a) || absent(b)) return absent(a) - absent(b);
  const by_number = typeof a === "number" && typeof b === "number";
  return sign * (by_number ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
}

function next_id() {
  numbered += 1;
  return `part-${numbered}`;
}
