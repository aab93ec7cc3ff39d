// Words in two languages.

import * as frame from "./words_frame.js";
import * as overview from "./words_overview.js";
import * as pages from "./words_pages.js";
import * as screens from "./words_screens.js";
import * as vocabulary from "./words_vocabulary.js";

const parts = [vocabulary, frame, overview, screens, pages];
const words = {
  it: Object.assign({}, ...parts.map((part) => part.it)),
  en: Object.assign({}, ...parts.map((part) => part.en)),
};
let present = null;

/** "it" or "en". */
export function language() {
  present ??= localStorage.getItem("language") ?? browsers();
  return present;
}

export function use_language(name) {
  present = name;
  localStorage.setItem("language", name);
}

/** What to speak where the browser asks for neither. */
export function use_default(name) {
  present = localStorage.getItem("language") ?? browsers(name);
}

/** The words of a key, `{name}` in them replaced by values; of an unknown key its last part. */
export function t(key, values) {
  const text = words[language()][key] ?? key.slice(key.indexOf(".") + 1).replaceAll("_", " ");
  return values ? text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all) : text;
}

/** Whether there are words of a key. */
export function has(key) {
  return key in words.en;
}

function browsers(otherwise = "it") {
  const preferred = navigator.languages.map((name) => name.slice(0, 2));
  return preferred.find((name) => name in words) ?? otherwise;
}
