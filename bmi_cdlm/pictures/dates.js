"use strict";
// Dates of any calendar, from seconds since 1970 of it, and ticks and words for numbers.

const YEARS = {noleap: [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], "360_day": Array(12).fill(30)};
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY = 86400;

function dateOf(seconds, calendar) {
  const day = Math.floor(seconds / DAY),
    rest = seconds - day * DAY,
    months = YEARS[calendar];
  if (!months) {
    const date = new Date(day * DAY * 1000);
    return {y: date.getUTCFullYear(), m: date.getUTCMonth(), d: date.getUTCDate(), rest};
  }
  const length = months.reduce((a, b) => a + b),
    y = 1970 + Math.floor(day / length);
  let d = day - (y - 1970) * length,
    m = 0;
  while (d >= months[m]) d -= months[m++];
  return {y, m, d: d + 1, rest};
}

function secondsOf(y, m, d, calendar) {
  y += Math.floor(m / 12);
  m = ((m % 12) + 12) % 12;
  const months = YEARS[calendar];
  if (!months) return Date.UTC(y, m, d) / 1000;
  const length = months.reduce((a, b) => a + b);
  return ((y - 1970) * length + months.slice(0, m).reduce((a, b) => a + b, 0) + d - 1) * DAY;
}

const two = n => String(n).padStart(2, "0");
function dateText(seconds, calendar, step) {
  const t = dateOf(seconds, calendar),
    day = `${t.y}-${two(t.m + 1)}-${two(t.d)}`;
  return step % DAY === 0 && t.rest === 0
    ? day
    : `${day} ${two(Math.floor(t.rest / 3600))}:${two(Math.floor(t.rest / 60) % 60)}`;
}

function timeTicks(low, high, most, calendar) {
  const least = (high - low) / most,
    ticks = [];
  const span = [
    [3600, 1],
    [10800, 3],
    [21600, 6],
    [43200, 12],
  ].find(([s]) => s >= least);
  if (span) {
    for (let t = Math.ceil(low / span[0]) * span[0]; t <= high; t += span[0]) {
      const at = dateOf(t, calendar);
      ticks.push([t, at.rest ? `${two(at.rest / 3600)}:00` : `${at.d} ${MONTHS[at.m]}`]);
    }
    return ticks;
  }
  const days = [1, 2, 5, 10].find(n => n * DAY >= least),
    months = [1, 2, 3, 6].find(n => n * 30.5 * DAY >= least);
  const years = [1, 2, 5, 10, 20, 50, 100].find(n => n * 365.25 * DAY >= least) || 200,
    first = dateOf(low, calendar);
  for (let k = 0; k < 4000; k++) {
    let t, label;
    if (days) {
      t = (Math.floor(low / DAY) + k) * DAY;
      const at = dateOf(t, calendar);
      if (days > 1 && ((at.d - 1) % days || (at.d > 28 && at.d - 1 + days > 31))) {
        if (t > high) break;
        continue;
      }
      label = `${at.d} ${MONTHS[at.m]}` + (at.d === 1 && at.m === 0 ? ` ${at.y}` : "");
    } else if (months) {
      t = secondsOf(first.y, k * months, 1, calendar);
      const at = dateOf(t, calendar);
      label = at.m === 0 ? String(at.y) : MONTHS[at.m];
    } else {
      const y = Math.floor(first.y / years) * years + k * years;
      t = secondsOf(y, 0, 1, calendar);
      label = String(y);
    }
    if (t > high) break;
    if (t >= low) ticks.push([t, label]);
  }
  return ticks;
}

// ---- numbers ----

function shown(v) {
  if (!Number.isFinite(v)) return "–";
  const a = Math.abs(v);
  if (a !== 0 && (a < 1e-3 || a >= 1e6)) return v.toExponential(2).replaceAll("-", "−");
  return String(Number(v.toPrecision(4))).replace("-", "−");
}

function numberTicks(low, high, most, whole) {
  const least = Math.max((high - low) / Math.max(most, 1), whole ? 1 : 0),
    power = 10 ** Math.floor(Math.log10(least));
  let at = [1, 2, 5, 10].find(n => n * power >= least),
    ticks = ticksOf(low, high, at * power);
  while (ticks.length < 3 && !whole && high > low) {
    // one or two tell no scale
    at *= at === 5 || at === 0.5 ? 0.4 : 0.5;
    ticks = ticksOf(low, high, at * power);
  }
  return ticks;
}

function ticksOf(low, high, step) {
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++)
    ticks.push([k * step, shown(k * step)]);
  return ticks;
}

function powerTicks(low, high) {
  const ticks = [],
    span = Math.log10(high / low),
    every = Math.max(1, Math.ceil(span / 7));
  for (let p = Math.ceil(Math.log10(low) - 1e-9); p <= Math.log10(high) + 1e-9; p += every)
    ticks.push([10 ** p, shown(10 ** p)]);
  return ticks.length > 1
    ? ticks
    : [
        [low, shown(low)],
        [high, shown(high)],
      ];
}
