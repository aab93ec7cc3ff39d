// How instants stand on a chart's axis, in the utility's zone and the reader's language.

const DAY = 86400;
const formatters = new Map();

function formatter(language, zone, parts) {
  const key = JSON.stringify([language, zone, parts]);
  if (!formatters.has(key)) {
    formatters.set(key, new Intl.DateTimeFormat(language, { timeZone: zone, hourCycle: "h23", ...parts }));
  }
  return formatters.get(key);
}

// The local hour of an instant (epoch seconds), 0..23.
export function hour_of(instant, zone) {
  return Number(formatter("en-GB", zone, { hour: "2-digit" }).format(instant * 1000));
}

// Labels of an axis' ticks, `step` seconds apart: the day stands where it changes, the year where that does.
export function tick_labels(instants, step, language, zone) {
  const shape = (parts, instant) => formatter(language, zone, parts).format(instant * 1000);
  const day = { day: "numeric", month: "short" };
  let [day_before, year_before] = [null, null];
  return instants.map((instant) => {
    const year = shape({ year: "numeric" }, instant);
    const of_day = shape(day, instant);
    const is_new_year = year !== year_before && (year_before !== null || step >= DAY);
    const is_new_day = of_day !== day_before;
    [day_before, year_before] = [of_day, year];
    if (step >= 28 * DAY) return shape({ month: "short" }, instant) + (is_new_year ? `\n${year}` : "");
    if (step >= DAY) return of_day + (is_new_year ? `\n${year}` : "");
    return shape({ hour: "2-digit", minute: "2-digit" }, instant) + (is_new_day ? `\n${of_day}` : "");
  });
}
