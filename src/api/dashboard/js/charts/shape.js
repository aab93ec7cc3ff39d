// How what a chart is asked for becomes what is drawn: one axis, columns, ranges, lines.

import { aligned, columns_of } from "./figures.js";

// Everything that a chart needs to know, with what was left out filled in.
export function prepared(options) {
  const { timestamps, series } = aligned(options.timestamps, options.series);
  const step = timestamps.length > 1 ? Math.max((timestamps.at(-1) - timestamps[0]) / (timestamps.length - 1), 1) : 3600;
  return {
    digits: 2, height: 260, gaps: [], events: [], marks: [], unit: "",
    ...options,
    timestamps, series, step,
    columns: columns_of(series),
    hidden: new Set(series.flatMap((each, n) => (each.hidden ? [n] : []))),
  };
}

// From the first window to the end of the last.
export function extent({ timestamps, step }) {
  if (!timestamps.length) return { from: 0, to: 1 };
  return { from: timestamps[0], to: timestamps.at(-1) + (timestamps.length > 1 ? 0 : step) };
}

export const same = (a, b) => Math.abs(a.from - b.from) < 1 && Math.abs(a.to - b.to) < 1;
export const signature = ({ series, height }) => JSON.stringify([height, series.map(({ label, kind, colour }) => [label, kind, colour])]);

// As many decimals as tell neighbouring ticks apart.
export function decimals(splits) {
  const step = splits.length > 1 ? Math.abs(splits[1] - splits[0]) : 1;
  return Math.min(Math.max(-Math.floor(Math.log10(step) + 1e-9), 0), 4);
}

// The range of values that is drawn: what is seen, and the levels that are marked.
export function y_range(low, high, { marks, series, range }) {
  if (range) [low, high] = [range.low, range.high];
  const levels = marks.map((mark) => mark.value);
  if (series.some((each) => each.kind === "bars")) levels.push(0);
  const known = [low, high, ...levels].filter((value) => Number.isFinite(value));
  if (!known.length) return [0, 1];
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const margin = 0.08 * (most - least) || Math.max(Math.abs(most) * 0.1, 0.5);
  // What is never negative does not look so.
  return [least >= 0 ? Math.max(least - margin, 0) : least - margin, most + margin];
}

// A column as uPlot draws it.
export function drawn({ label, kind, colour: name }, is_hidden, colour) {
  const shape = {
    label, show: !is_hidden, stroke: () => colour(name), width: 1.75, points: { show: false }, spanGaps: false,
  };
  if (kind === "band") return { ...shape, paths: () => null };
  if (kind === "dashes") return { ...shape, dash: [6, 4], width: 1.5 };
  if (kind === "steps") return { ...shape, paths: uPlot.paths.stepped({ align: 1 }) };
  if (kind === "bars") return { ...shape, width: 0, fill: () => colour(name), paths: uPlot.paths.bars({ size: [0.75, 60] }) };
  if (kind === "points") return { ...shape, paths: () => null, points: { show: true, size: 7, fill: () => colour(name) } };
  return shape;
}
