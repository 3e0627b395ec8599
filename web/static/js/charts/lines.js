// Turns what the server sent into lines: null where nothing was measured, so that no gap is ever bridged.

// A gap is where the next run is later than this many intervals.
const GAP = 1.6;

export function lineOf(series, metric, step) {
  const measured = series.metrics[metric];
  const spacing = Math.max(series.interval_ms, step) / 1000;
  const line = { t: [], value: [], low: [], high: [] };
  const put = (t, value, low, high) => {
    line.t.push(t);
    line.value.push(value);
    line.low.push(low);
    line.high.push(high);
  };
  let last = null;
  series.t.forEach((milliseconds, index) => {
    const t = milliseconds / 1000;
    if (last !== null && spacing > 0 && t - last > spacing * GAP) put(last + spacing, null, null, null);
    const value = measured?.mean?.[index] ?? null;
    put(t, value, measured?.low?.[index] ?? value, measured?.high?.[index] ?? value);
    last = t;
  });
  return line;
}

// Spans in which none of the series has a run, in seconds, between `from` and `to`.
export function silences(seriesList, step, from, to) {
  let common = null;
  for (const series of seriesList) {
    const spacing = Math.max(series.interval_ms, step) / 1000;
    if (spacing <= 0) return [];
    const own = [];
    let last = from;
    for (const milliseconds of series.t) {
      const t = milliseconds / 1000;
      if (t < from) continue;
      if (t - last > spacing * 3) own.push([last === from ? from : last + spacing, t]);
      last = t;
    }
    if (to - last > Math.max(spacing * 3, 5)) own.push([last === from ? from : last + spacing, to]);
    common = common === null ? own : intersect(common, own);
  }
  return common ?? [];
}

function intersect(one, other) {
  const result = [];
  for (const [a, b] of one) {
    for (const [c, d] of other) if (Math.max(a, c) < Math.min(b, d)) result.push([Math.max(a, c), Math.min(b, d)]);
  }
  return result;
}

// Merges new points into old ones: what the server sent again replaces what was known of that time.
export function merge(known, fresh, from) {
  const byId = new Map(known.map((series) => [series.id, series]));
  return fresh.map((series) => {
    const old = byId.get(series.id);
    if (!old) return series;
    const first = series.t.length ? series.t[0] : Infinity;
    const keep = old.t.map((t, index) => index).filter((index) => old.t[index] >= from && old.t[index] < first);
    const join = (before, after) => keep.map((index) => before?.[index] ?? null).concat(after ?? []);
    const merged = { ...series, metrics: {} };
    merged.events = (old.events ?? []).filter(({ t }) => t >= from && t < first).concat(series.events ?? []);
    for (const name of ["t", "failed", "error", "missed"]) merged[name] = join(old[name], series[name]);
    for (const [metric, parts] of Object.entries(series.metrics)) {
      merged.metrics[metric] = {};
      for (const [part, values] of Object.entries(parts)) {
        merged.metrics[metric][part] = join(old.metrics[metric]?.[part], values);
      }
    }
    return merged;
  });
}
