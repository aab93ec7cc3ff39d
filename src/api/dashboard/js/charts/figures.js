// What charts are made of, as pure functions: axes put together, gaps, views, tables and files. Instants are epoch seconds.

// One ascending axis for series that have their own instants; what a series does not know of an instant is null.
export function aligned(timestamps, series) {
  const axes = series.map((each) => each.timestamps ?? timestamps);
  if (axes.every((axis) => axis === timestamps)) return { timestamps, series };
  const union = [...new Set([...timestamps, ...axes.flat()])].sort((a, b) => a - b);
  const placed = series.map((each, n) => {
    const places = new Map(axes[n].map((instant, place) => [instant, place]));
    const moved = (values) => values && union.map((instant) => (places.has(instant) ? values[places.get(instant)] : null));
    return { ...each, timestamps: union, values: moved(each.values), lower: moved(each.lower), upper: moved(each.upper) };
  });
  return { timestamps: union, series: placed };
}

// The columns that a series draws: a band its bounds, everything else its values.
export function columns_of(series) {
  return series.flatMap((each, of) =>
    each.kind === "band"
      ? [{ of, part: "lower", values: each.lower }, { of, part: "upper", values: each.upper }]
      : [{ of, part: "value", values: each.values }],
  );
}

// Spans in which nothing is known, each from the first window without a value to the next one with a value. `until` ends
// the search: what lies in the future is not missing.
export function gaps_of(timestamps, values, window_seconds, until = Infinity) {
  const gaps = [];
  let from = null;
  for (let n = 0; n < timestamps.length && timestamps[n] < until; n++) {
    if (values[n] == null) from ??= timestamps[n];
    else if (from !== null) {
      gaps.push({ from, to: timestamps[n] });
      from = null;
    }
  }
  if (from !== null) {
    const last = timestamps.findLast((instant) => instant < until);
    gaps.push({ from, to: Math.min(last + window_seconds, until) });
  }
  return gaps;
}

// Values whose neighbours are both unknown: a line through them cannot be seen.
export function lonely(values) {
  const found = [];
  for (let n = 0; n < values.length; n++) {
    if (values[n] != null && values[n - 1] == null && values[n + 1] == null) found.push(n);
  }
  return found;
}

// Runs of neighbours at which both bounds are known, as [first, last].
export function known_runs(lower, upper) {
  const runs = [];
  let first = null;
  for (let n = 0; n <= lower.length; n++) {
    const is_known = n < lower.length && lower[n] != null && upper[n] != null;
    if (is_known) first ??= n;
    else if (first !== null) {
      runs.push([first, n - 1]);
      first = null;
    }
  }
  return runs;
}

// A view zoomed by a factor (below 1: nearer) about an instant, no narrower than `least` and within the bounds.
export function zoomed(view, factor, about, bounds, least) {
  const most = bounds.to - bounds.from;
  const span = Math.min(Math.max((view.to - view.from) * factor, least), most);
  const share = (about - view.from) / (view.to - view.from);
  return within({ from: about - share * span, to: about + (1 - share) * span }, bounds);
}

// A view moved by a share of its span, within the bounds.
export function panned(view, share, bounds) {
  const by = share * (view.to - view.from);
  return within({ from: view.from + by, to: view.to + by }, bounds);
}

// The view, moved (not cut, unless it is longer) to lie within the bounds.
export function within(view, bounds) {
  const span = Math.min(view.to - view.from, bounds.to - bounds.from);
  const from = Math.min(Math.max(view.from, bounds.from), bounds.to - span);
  return { from, to: from + span };
}

// The places [first, last) of the instants that lie within a view.
export function shown(timestamps, view) {
  const first = timestamps.findIndex((instant) => instant >= view.from);
  if (first < 0) return [0, 0];
  const beyond = timestamps.findIndex((instant) => instant > view.to);
  return [first, beyond < 0 ? timestamps.length : beyond];
}

// What of a series lies in a view, in short; null where nothing is known.
export function figures_of(timestamps, values, view) {
  const [first, last] = shown(timestamps, view);
  let [count, lowest, highest, latest, latest_at] = [0, Infinity, -Infinity, null, null];
  for (let n = first; n < last; n++) {
    const value = values[n];
    if (value == null) continue;
    count += 1;
    if (value < lowest) lowest = value;
    if (value > highest) highest = value;
    [latest, latest_at] = [value, timestamps[n]];
  }
  return count ? { count, lowest, highest, latest, latest_at } : null;
}

// A cell of a CSV file. What a spreadsheet would take for a formula is made text.
export function cell(value) {
  if (value == null) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// A CSV file (RFC 4180) of a header and rows.
export function csv(header, rows) {
  return [header, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

// A file's name of a title: letters, figures and hyphens.
export function file_name(title, ending) {
  const plain = title.normalize("NFKD").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").toLowerCase();
  return `${plain.slice(0, 80) || "chart"}.${ending}`;
}

// The sum of several series, window by window; null where any of them is unknown.
export function sum_of(lists, signs = lists.map(() => 1)) {
  if (!lists.length) return [];
  return lists[0].map((_, n) => {
    let sum = 0;
    for (let of = 0; of < lists.length; of++) {
      const value = lists[of][n];
      if (value == null) return null;
      sum += signs[of] * value;
    }
    return sum;
  });
}

// The mean of each night's hours, of hourly values: [{timestamp of the night's first hour, value}]. `hour_of` gives the
// local hour of an instant. A night of which an hour is unknown is null: a mean of fewer hours is another figure.
export function nights_of(timestamps, values, hour_of, hours = [2, 3]) {
  const nights = [];
  let night = null;
  timestamps.forEach((instant, n) => {
    if (!hours.includes(hour_of(instant))) {
      night = null;
      return;
    }
    if (night === null) nights.push((night = { timestamp: instant, values: [] }));
    night.values.push(values[n]);
  });
  return nights.map(({ timestamp, values: of_night }) => ({
    timestamp,
    value:
      of_night.length < hours.length || of_night.some((value) => value == null)
        ? null
        : of_night.reduce((sum, value) => sum + value, 0) / of_night.length,
  }));
}

// The range in which nearly all values lie, where a few lie so far outside of it that they would press the others flat;
// else null. Values of `kept`, [first, last) places, count whatever they are.
export function usual_range(values, kept = [0, 0]) {
  const known = values.filter((value) => value != null).sort((a, b) => a - b);
  if (known.length < 20) return null;
  const at = (share) => known[Math.round(share * (known.length - 1))];
  let [low, high] = [at(0.01), at(0.99)];
  for (const value of values.slice(...kept)) {
    if (value == null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const reach = 2 * (high - low);
  if (reach === 0 || (known[0] >= low - reach && known.at(-1) <= high + reach)) return null;
  return { low, high };
}
