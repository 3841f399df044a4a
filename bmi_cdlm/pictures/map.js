// A map on a canvas: cells, reaches and gauges, coloured by a layer; drag to move, wheel to zoom, double click goes back.
// Reaches come with the largest first, so that those that matter are drawn where there is no room or no time for all.

const COLOURS = {
  viridis: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  cividis: ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"],
  flow: ["#b9d3e8", "#8fbcdc", "#66a2cf", "#4587bf", "#2f6ba9", "#25508f", "#243a78", "#27265f", "#230f42"],
  diverging: ["#b35806", "#f1a340", "#fee0b6", "#f2f2f2", "#d8daeb", "#998ec3", "#542788"],
};
const BINS = 64, WIDTHS = 6, MOST_STILL = 30000, MOST_MOVING = 6000;
const NOTHING = "#c9ced4";

function ramp(name) {
  const stops = COLOURS[name].map(c => [1, 3, 5].map(k => parseInt(c.slice(k, k + 2), 16))), found = [];
  for (let i = 0; i < BINS; i++) {
    const at = i / (BINS - 1) * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2), part = at - k;
    found.push(`rgb(${stops[k].map((v, j) => Math.round(v + part * (stops[k + 1][j] - v))).join(",")})`);
  }
  return found;
}
const RAMPS = Object.fromEntries(Object.keys(COLOURS).map(name => [name, ramp(name)]));

class Plan {
  constructor(parent, spec) {
    this.parent = parent;
    this.spec = spec;
    this.canvas = make(parent, "canvas");
    this.tools = make(parent, "div", "tools");
    this.legend = make(parent, "div", "legend");
    this.tip = make(parent, "div", "tip");
    this.frame = 0;
    this.chosen = null;
    this.moving = false;
    const [west, south, east, north] = spec.extent;
    this.squeeze = Math.max(Math.cos((south + north) / 2 * Math.PI / 180), 0.1);
    if (spec.layers.length > 1) {
      const select = make(this.tools, "select");
      select.setAttribute("aria-label", "Layer");
      spec.layers.forEach((layer, k) => { make(select, "option", "", layer.name).value = k; });
      select.addEventListener("change", () => { this.setLayer(Number(select.value)); });
      this.select = select;
    }
    this.setLayer(0);
    this.fit();
    let size = "";
    new ResizeObserver(() => {
      const now = `${this.canvas.clientWidth} ${this.canvas.clientHeight}`;
      if (now !== size) { size = now; this.touched ? this.draw() : this.fit(); }
    }).observe(parent);
    this.canvas.addEventListener("pointerdown", e => { this.from = [e.offsetX, e.offsetY]; this.last = this.from; this.canvas.setPointerCapture(e.pointerId); });
    this.canvas.addEventListener("pointermove", e => this.move(e));
    this.canvas.addEventListener("pointerup", e => this.up(e));
    this.canvas.addEventListener("pointerleave", () => { this.tip.style.display = "none"; });
    this.canvas.addEventListener("dblclick", () => this.fit());
    this.canvas.addEventListener("wheel", e => this.wheel(e), {passive: false});
  }

  fit() {
    const [west, south, east, north] = this.spec.extent, w = this.canvas.clientWidth || 800, h = this.canvas.clientHeight || 500;
    const wide = Math.max((east - west) * this.squeeze, 1e-6), high = Math.max(north - south, 1e-6);
    this.scale = Math.min((w - 40) / wide, (h - 40) / high);
    this.middle = [(west + east) / 2, (south + north) / 2];
    this.touched = false;
    this.draw();
  }

  X(lon) { return this.canvas.clientWidth / 2 + (lon - this.middle[0]) * this.squeeze * this.scale; }
  Y(lat) { return this.canvas.clientHeight / 2 - (lat - this.middle[1]) * this.scale; }

  setLayer(k) {
    this.layer = this.spec.layers[k] || {name: "", on: "none"};
    this.ramp = RAMPS[this.layer.colours || "viridis"];
    this.showLegend();
    this.draw();
    if (this.onLayer) this.onLayer(this.layer);
  }

  showLegend() {
    const layer = this.layer;
    this.legend.replaceChildren();
    this.legend.style.display = layer.on === "none" ? "none" : "block";
    if (layer.on === "none") return;
    make(this.legend, "div", "", layer.units ? `${layer.name} [${layer.units}]` : layer.name);
    const bar = make(this.legend, "div", "bar"), ends = make(this.legend, "div", "ends");
    bar.style.background = `linear-gradient(to right, ${COLOURS[layer.colours || "viridis"].join(",")})`;
    const middle = layer.log ? Math.sqrt(layer.low * layer.high) : (layer.low + layer.high) / 2;
    make(ends, "span", "", (layer.lower ? "≤ " : "") + shown(layer.low));
    make(ends, "span", "", shown(middle));
    make(ends, "span", "", (layer.higher ? "≥ " : "") + shown(layer.high));
  }

  // The value of a place of the layer that is shown; codes of frames stand for logarithms between two limits.
  value(i) {
    const layer = this.layer;
    if (!layer.frames) return layer.values[i];
    if (i >= layer.kept) return NaN;
    return flowOf(layer, layer.frames[this.frame * layer.kept + i]);
  }

  bin(i) {
    const layer = this.layer, v = this.value(i);
    if (Number.isNaN(v)) return -1;
    let part;
    if (layer.log) part = v <= 0 ? 0 : Math.log(v / layer.low) / Math.log(layer.high / layer.low);
    else part = layer.high > layer.low ? (v - layer.low) / (layer.high - layer.low) : 0.5;
    return Math.min(BINS - 1, Math.max(0, Math.floor(part * BINS)));
  }

  later() {
    this.moving = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.moving = false; this.draw(); }, 160);
    this.draw();
  }

  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.paint(); });
  }

  paint() {
    if (!this.canvas.clientWidth || !this.scale) return;
    const begun = performance.now(), [pen, w, h] = fitCanvas(this.canvas);
    if (this.spec.cells) this.paintCells(pen, w, h);
    if (this.spec.reaches) this.paintReaches(pen, w, h);
    if (this.spec.gauges) this.paintGauges(pen);
    this.paintScale(pen, w, h);
    this.took = performance.now() - begun;
  }

  paintCells(pen, w, h) {
    const corners = this.spec.cells.corners, n = corners.length / 8, on = this.layer.on === "cells";
    const groups = new Map();
    for (let i = 0; i < n; i++) {
      const x = this.X(corners[8 * i]), y = this.Y(corners[8 * i + 1]);
      const far = Math.abs(this.X(corners[8 * i + 4]) - x) + Math.abs(this.Y(corners[8 * i + 5]) - y) + 4;
      if (x < -far || x > w + far || y < -far || y > h + far) continue;
      const key = on ? this.bin(i) : -2;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(i);
    }
    for (const [key, own] of groups) {
      pen.fillStyle = pen.strokeStyle = key === -2 ? "#efece3" : key < 0 ? NOTHING : this.ramp[key];
      pen.lineWidth = 0.6;
      pen.beginPath();
      for (const i of own) {
        const x = this.X(corners[8 * i]), y = this.Y(corners[8 * i + 1]), r = 3.5;
        if (n < 3000 && Math.abs(this.X(corners[8 * i + 4]) - x) < 2 * r && Math.abs(this.Y(corners[8 * i + 5]) - y) < 2 * r) {
          pen.rect(x - r, y - r, 2 * r, 2 * r);  // few small cells, far apart, would not be seen
          continue;
        }
        for (let k = 0; k < 4; k++) {
          const x = this.X(corners[8 * i + 2 * k]), y = this.Y(corners[8 * i + 2 * k + 1]);
          k ? pen.lineTo(x, y) : pen.moveTo(x, y);
        }
        pen.closePath();
      }
      pen.fill();
      pen.stroke();
    }
  }

  paintReaches(pen, w, h) {
    const {lon, lat, below, width} = this.spec.reaches, on = this.layer.on === "reaches", n = lon.length;
    const most = this.moving ? MOST_MOVING : MOST_STILL, groups = new Map(), drawn = [];
    for (let i = 0; i < n && drawn.length < most; i++) {
      const b = below[i], x = this.X(lon[i]), y = this.Y(lat[i]);
      const x2 = b < 0 ? x : this.X(lon[b]), y2 = b < 0 ? y : this.Y(lat[b]);
      if (Math.max(x, x2) < 0 || Math.min(x, x2) > w || Math.max(y, y2) < 0 || Math.min(y, y2) > h) continue;
      drawn.push(i);
      const key = (on ? this.bin(i) + 1 : 0) * WIDTHS + Math.min(WIDTHS - 1, Math.floor(width[i] * WIDTHS));
      let own = groups.get(key);
      if (!own) groups.set(key, own = {paths: [], dots: []});
      b < 0 ? own.dots.push(x, y) : own.paths.push(x, y, x2, y2);
    }
    this.drawn = drawn;
    pen.lineCap = "round";
    for (const key of [...groups.keys()].sort((a, b) => a - b)) {
      const {paths, dots} = groups.get(key), thick = 0.7 + 3.2 * (key % WIDTHS) / (WIDTHS - 1), colour = Math.floor(key / WIDTHS) - 1;
      pen.strokeStyle = pen.fillStyle = !on ? (this.layer.on === "cells" ? "rgba(40,60,90,.45)" : "#9db4c9") : colour < 0 ? NOTHING : this.ramp[colour];
      pen.lineWidth = thick;
      pen.beginPath();
      for (let k = 0; k < paths.length; k += 4) { pen.moveTo(paths[k], paths[k + 1]); pen.lineTo(paths[k + 2], paths[k + 3]); }
      pen.stroke();
      const r = Math.max(1.6, thick * 0.8);
      for (let k = 0; k < dots.length; k += 2) pen.fillRect(dots[k] - r, dots[k + 1] - r, 2 * r, 2 * r);
    }
  }

  paintGauges(pen) {
    const {lon, lat} = this.spec.gauges, on = this.layer.on === "gauges";
    for (let i = 0; i < lon.length; i++) {
      const x = this.X(lon[i]), y = this.Y(lat[i]), bin = on ? this.bin(i) : -1, r = on ? 6 : 4.5;
      pen.beginPath();
      pen.arc(x, y, this.chosen && this.chosen.gauge === i ? r + 2.5 : r, 0, 2 * Math.PI);
      pen.fillStyle = on ? (bin < 0 ? NOTHING : this.ramp[bin]) : "#d55e00";
      pen.fill();
      pen.strokeStyle = this.chosen && this.chosen.gauge === i ? "#000" : on ? "#3a4450" : "#fff";
      pen.lineWidth = this.chosen && this.chosen.gauge === i ? 2.5 : 1;
      pen.stroke();
    }
    if (this.chosen && this.chosen.reach !== undefined) {
      const r = this.spec.reaches, i = this.chosen.reach, b = r.below[i];
      pen.strokeStyle = "#000";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(this.X(r.lon[i]), this.Y(r.lat[i]), 6, 0, 2 * Math.PI);
      if (b >= 0) { pen.moveTo(this.X(r.lon[i]), this.Y(r.lat[i])); pen.lineTo(this.X(r.lon[b]), this.Y(r.lat[b])); }
      pen.stroke();
    }
  }

  // A bar of a round length, true in the middle of the map.
  paintScale(pen, w, h) {
    const kilometre = this.scale / 111.195, least = 60 / kilometre, power = 10 ** Math.floor(Math.log10(least));
    const length = [1, 2, 5, 10].find(n => n * power >= least) * power, x = w - 20 - length * kilometre, y = h - 18;
    pen.strokeStyle = pen.fillStyle = "#1c2430";
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x, y - 5); pen.lineTo(x, y); pen.lineTo(w - 20, y); pen.lineTo(w - 20, y - 5);
    pen.stroke();
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.fillText(length >= 1 ? `${shown(length)} km` : `${shown(length * 1000)} m`, x + length * kilometre / 2, y - 7);
  }

  // What lies under a point: a gauge, else a reach that is drawn, else a cell.
  under(px, py, cells) {
    const g = this.spec.gauges;
    let best = 11 * 11, found = null;
    for (let i = 0; g && i < g.lon.length; i++) {
      const d = (this.X(g.lon[i]) - px) ** 2 + (this.Y(g.lat[i]) - py) ** 2;
      if (d < best) { best = d; found = {gauge: i}; }
    }
    if (found) return found;
    const r = this.spec.reaches;
    best = 8 * 8;
    for (const i of this.drawn || []) {
      const b = r.below[i], x = this.X(r.lon[i]), y = this.Y(r.lat[i]);
      const u = b < 0 ? 0 : this.X(r.lon[b]) - x, v = b < 0 ? 0 : this.Y(r.lat[b]) - y, l = u * u + v * v;
      const t = l ? Math.min(1, Math.max(0, ((px - x) * u + (py - y) * v) / l)) : 0;
      const d = (x + t * u - px) ** 2 + (y + t * v - py) ** 2;
      if (d < best) { best = d; found = {reach: i}; }
    }
    return found || (cells ? this.cellUnder(px, py) : null);
  }

  cellUnder(px, py) {
    const c = this.spec.cells && this.spec.cells.corners;
    for (let i = 0; c && i < c.length / 8; i++) {
      let inside = false;
      for (let k = 0, j = 3; k < 4; j = k++) {
        const [x, y, x2, y2] = [this.X(c[8 * i + 2 * k]), this.Y(c[8 * i + 2 * k + 1]), this.X(c[8 * i + 2 * j]), this.Y(c[8 * i + 2 * j + 1])];
        if ((y > py) !== (y2 > py) && px < (x2 - x) * (py - y) / (y2 - y) + x) inside = !inside;
      }
      if (inside) return {cell: i};
    }
    return null;
  }

  words(found) {
    const [what, i] = Object.entries(found)[0], on = `${what}${what === "reach" ? "es" : "s"}`, spec = this.spec[on];
    const lines = [`${what} ${spec.ids ? spec.ids[i] : i}`];
    if (what === "gauge" && spec.names && spec.names[i] !== spec.ids[i]) lines.push(spec.names[i]);
    if (what === "reach" && spec.area) lines.push(`upstream area: ${shown(spec.area[i])} km²`);
    if (this.layer.on === on) lines.push(`${this.layer.name}: ${shown(this.value(i))} ${this.layer.units || ""}`);
    return lines.join("\n");
  }

  move(e) {
    if (this.from) {
      if (Math.hypot(e.offsetX - this.from[0], e.offsetY - this.from[1]) > 4) this.dragged = true;
      if (this.dragged) {
        this.middle[0] -= (e.offsetX - this.last[0]) / (this.squeeze * this.scale);
        this.middle[1] += (e.offsetY - this.last[1]) / this.scale;
        this.touched = true;
        this.later();
      }
      this.last = [e.offsetX, e.offsetY];
      return;
    }
    const found = this.under(e.offsetX, e.offsetY, this.layer.on === "cells");
    this.tip.style.display = found ? "block" : "none";
    if (!found) return;
    this.tip.textContent = this.words(found);
    const left = e.offsetX + 14 + this.tip.offsetWidth > this.canvas.clientWidth ? e.offsetX - this.tip.offsetWidth - 10 : e.offsetX + 14;
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${Math.min(e.offsetY + 10, this.canvas.clientHeight - this.tip.offsetHeight)}px`;
  }

  up(e) {
    if (this.from && !this.dragged && this.onPick) {
      const found = this.under(e.offsetX, e.offsetY, false);
      if (found) { this.chosen = found; this.onPick(found); this.draw(); }
    }
    this.from = null;
    this.dragged = false;
  }

  wheel(e) {
    e.preventDefault();
    const factor = Math.exp(-e.deltaY * 0.0015), w = this.canvas.clientWidth, h = this.canvas.clientHeight;
    const lon = this.middle[0] + (e.offsetX - w / 2) / (this.squeeze * this.scale), lat = this.middle[1] - (e.offsetY - h / 2) / this.scale;
    this.scale = Math.min(this.scale * factor, 5e6);
    this.middle = [lon - (e.offsetX - w / 2) / (this.squeeze * this.scale), lat + (e.offsetY - h / 2) / this.scale];
    this.touched = true;
    this.later();
  }
}

// The flow that a code stands for: 0 is no flow, the last code is missing, those between lie evenly in the logarithm.
function flowOf(layer, code) {
  if (code === 65535) return NaN;
  return code === 0 ? 0 : layer.least * Math.exp((code - 1) / 65533 * Math.log(layer.most / layer.least));
}
