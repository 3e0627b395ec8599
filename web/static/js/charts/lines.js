// Turns what the server sent into lines: null where nothing was measured, so that no gap is ever bridged.

export function lineOf(series, metric) {
  const measured = series.metrics[metric];
  const line = { t: [], value: [], low: [], high: [] };
  const put = (t, value, low, high) => {
    line.t.push(t);
    line.value.push(value);
    line.low.push(low);
    line.high.push(high);
  };
  let next = 0;
  series.t.forEach((milliseconds, index) => {
    // The server knows what was due: between two points it has a gap, or they follow each other.
    const before = next;
    while (next < series.gaps.length && series.gaps[next].from < milliseconds) next += 1;
    if (index && next > before) put(series.gaps[next - 1].from / 1000, null, null, null);
    const value = measured?.mean?.[index] ?? null;
    put(milliseconds / 1000, value, measured?.low?.[index] ?? value, measured?.high?.[index] ?? value);
  });
  return line;
}

// Spans in which runs of every series were due and none came, in seconds, between `from` and `to`.
export function silences(seriesList, from, to) {
  let common = null;
  for (const series of seriesList) {
    const own = series.gaps
      .filter((gap) => gap.missing)
      .map((gap) => [Math.max(from, gap.from / 1000), Math.min(to, gap.to / 1000)])
      .filter(([begin, end]) => begin < end)
      .reduce(touching, []);
    common = common === null ? own : intersect(common, own);
  }
  return common ?? [];
}

// Spans as before, the new one joined to the last where it goes on from there.
function touching(spans, [begin, end]) {
  const last = spans.at(-1);
  if (!last || begin > last[1]) return [...spans, [begin, end]];
  last[1] = Math.max(last[1], end);
  return spans;
}

function intersect(one, other) {
  const result = [];
  for (const [a, b] of one) {
    for (const [c, d] of other) if (Math.max(a, c) < Math.min(b, d)) result.push([Math.max(a, c), Math.min(b, d)]);
  }
  return result;
}

// Merges new points into old ones: what the server sent again, from `since` on, replaces what was known of that time.
export function merge(known, fresh, from, since) {
  const byId = new Map(known.map((series) => [series.id, series]));
  return fresh.map((series) => {
    const old = byId.get(series.id);
    if (!old) return series;
    const first = series.t.length ? series.t[0] : Infinity;
    const keep = old.t.map((t, index) => index).filter((index) => old.t[index] >= from && old.t[index] < first);
    const join = (before, after) => keep.map((index) => before?.[index] ?? null).concat(after ?? []);
    const merged = { ...series, metrics: {} };
    merged.events = (old.events ?? []).filter(({ t }) => t >= from && t < first).concat(series.events ?? []);
    merged.gaps = old.gaps
      .filter((gap) => gap.to > from && gap.from < since)
      .map((gap) => ({ ...gap, to: Math.min(gap.to, since) }))
      .concat(series.gaps);
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
