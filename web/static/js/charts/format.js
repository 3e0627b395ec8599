// Numbers, units, instants and colours as charts write them.
// As the user's profile says: the zone of instants, and what sets thousands apart and stands before decimals.
export const zone = document.documentElement.dataset.inZone ?? "";
const FORMS = { space_comma: ["\u202f", ","], comma_point: [",", "."], point_comma: [".", ","] };
const [THIN, POINT] = FORMS[document.documentElement.dataset.numbers] ?? ["\u202f", "."];
const SPACE = "\u00a0";
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];
const UNITS = { 1: "", ms: `${SPACE}ms`, "%": `${SPACE}%`, Cel: `${SPACE}°C`, "/s": "/s", d: `${SPACE}d`, s: `${SPACE}s` };

export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const decimals = Number.isInteger(value) ? 0 : size < 1e-3 ? 4 : Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(size))));
  const [whole, fraction] = size.toFixed(decimals).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, THIN);
  return (value < 0 ? "\u2212" : "") + (fraction ? `${grouped}${POINT}${fraction}` : grouped);
}

export function quantity(value, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (unit === "By" || unit === "By/s") {
    let power = 0;
    let size = value;
    while (Math.abs(size) >= 1024 && power < BYTES.length - 1) {
      size /= 1024;
      power += 1;
    }
    return `${number(power ? size : Math.round(size))}${SPACE}${BYTES[power]}${unit === "By/s" ? "/s" : ""}`;
  }
  if (unit === "ms" && value > 0 && value < 0.1) return `${number(Math.round(value * 10000) / 10)}${SPACE}µs`;
  return number(value) + (UNITS[unit] ?? `${SPACE}${unit}`);
}

const two = (value) => String(value).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

// A date whose local reading is what the clocks of the user's zone show.
export function wall(seconds) {
  const at = new Date(seconds * 1000);
  return zone ? uPlot.tzDate(at, zone) : at;
}

export function clock(seconds, { withSeconds = true, withDate = false } = {}) {
  const at = wall(seconds);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}${withSeconds ? `:${two(at.getSeconds())}` : ""}`;
  return withDate ? `${dateOf(at)} ${time}` : time;
}

// Charts reach back for years: without one it is this year's.
function dateOf(at) {
  const date = `${at.getDate()} ${MONTHS[at.getMonth()]}`;
  return at.getFullYear() === wall(Date.now() / 1000).getFullYear() ? date : `${date} ${at.getFullYear()}`;
}

export function timeTicks(splits, increment) {
  let day = null;
  return splits.map((split) => {
    const at = wall(split);
    if (increment >= 28 * 86400) return `${MONTHS[at.getMonth()]} ${at.getFullYear()}`;
    if (increment >= 86400) return dateOf(at);
    const text = clock(split, { withSeconds: increment < 60 });
    const today = at.toDateString();
    const turned = day !== null && day !== today;
    day = today;
    return turned ? dateOf(at) : text;
  });
}

// Canvas wants colours, custom properties hold `light-dark(…)`: an element resolves them for the theme in use.
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
export function faded(name, share) {
  probe.style.color = `color-mix(in srgb, var(--${name}) ${share}%, transparent)`;
  return getComputedStyle(probe).color;
}
