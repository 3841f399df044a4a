// A map on a canvas: cells, reaches and gauges, coloured by a layer; drag to move, wheel to zoom, double click goes back.
// Reaches come with the largest first; thin ones are put into the pixels where there are many, thick ones are drawn.

const COLOURS = {
  viridis: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  cividis: ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"],
  flow: ["#b9d3e8", "#8fbcdc", "#66a2cf", "#4587bf", "#2f6ba9", "#25508f", "#243a78", "#27265f", "#230f42"],
  diverging: ["#b35806", "#f1a340", "#fee0b6", "#f2f2f2", "#d8daeb", "#998ec3", "#542788"],
};
const BINS = 64, WIDTHS = 6, FEW = 4000;
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

// Many thin lines and many cells are put into the pixels themselves: a hundred thousand take some hundredths of a second.
class Pixels {
  constructor(pen, w, h) {
    this.pen = pen;
    [this.w, this.h] = [pen.canvas.width, pen.canvas.height];
    this.ratio = this.w / w;
    this.image = pen.createImageData(this.w, this.h);
    this.words = new Uint32Array(this.image.data.buffer);
  }

  static word(colour) {
    const [r, g, b] = colour[0] === "#" ? [1, 3, 5].map(k => parseInt(colour.slice(k, k + 2), 16)) : colour.match(/\d+/g).map(Number);
    return (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  }

  dot(x, y, word, part) {
    if (x < 0 || y < 0 || x >= this.w || y >= this.h) return;
    const at = y * this.w + x, old = this.words[at], has = old >>> 24;
    if (part >= 0.99) { this.words[at] = word; return; }
    if (!has) { this.words[at] = (word & 0xffffff | Math.round(255 * part) << 24) >>> 0; return; }
    const b = old >>> 16 & 255, g = old >>> 8 & 255, r = old & 255;
    const blue = b + ((word >>> 16 & 255) - b) * part, green = g + ((word >>> 8 & 255) - g) * part, red = r + ((word & 255) - r) * part;
    this.words[at] = (Math.max(has, 255 * part) << 24 | blue << 16 | green << 8 | red) >>> 0;
  }

  // A line of one pixel, shared between the two that it passes between.
  line(x0, y0, x1, y1, word) {
    const r = this.ratio;
    if (Math.abs(x1 - x0) * r < 1.5 && Math.abs(y1 - y0) * r < 1.5) return this.dot(Math.floor((x0 + x1) * r / 2), Math.floor((y0 + y1) * r / 2), word, 0.8);
    const steep = Math.abs(y1 - y0) > Math.abs(x1 - x0);
    let [a, b, c, d] = steep ? [y0 * r, x0 * r, y1 * r, x1 * r] : [x0 * r, y0 * r, x1 * r, y1 * r];
    if (a > c) [a, b, c, d] = [c, d, a, b];
    const slope = c > a ? (d - b) / (c - a) : 0, first = Math.max(0, Math.round(a)), last = Math.min(steep ? this.h : this.w, Math.round(c));
    for (let u = first; u <= last; u++) {
      const v = b + slope * (u - a), low = Math.floor(v), part = v - low;
      if (steep) { this.dot(low, u, word, 1 - part); this.dot(low + 1, u, word, part); }
      else { this.dot(u, low, word, 1 - part); this.dot(u, low + 1, word, part); }
    }
  }

  // A convex quadrilateral, row by row; x and y : its four corners.
  fill(x, y, word) {
    const r = this.ratio, top = Math.max(0, Math.floor(Math.min(...y) * r)), bottom = Math.min(this.h, Math.ceil(Math.max(...y) * r));
    for (let row = top; row < bottom; row++) {
      const at = (row + 0.5) / r;
      let low = Infinity, high = -Infinity;
      for (let k = 0, j = 3; k < 4; j = k++) {
        if (y[k] > at === y[j] > at) continue;
        const cut = x[j] + (x[k] - x[j]) * (at - y[j]) / (y[k] - y[j]);
        if (cut < low) low = cut;
        if (cut > high) high = cut;
      }
      if (high < low) continue;
      const from = Math.max(0, Math.floor(low * r)), to = Math.min(this.w, Math.ceil(high * r));
      if (to > from) this.words.fill(word, row * this.w + from, row * this.w + to);
    }
  }

  show() { this.pen.putImageData(this.image, 0, 0); }
}

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
    this.half = [0, 0];
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
    const wide = Math.max((east - west) * this.squeeze, 1e-3), high = Math.max(north - south, 1e-3);
    this.scale = Math.min((w - 40) / wide, (h - 40) / high);
    this.middle = [(west + east) / 2, (south + north) / 2];
    this.touched = false;
    this.draw();
  }

  // Asked for so often that the size of the canvas is kept, which a browser is slow to tell.
  X(lon) { return this.half[0] + (lon - this.middle[0]) * this.squeeze * this.scale; }
  Y(lat) { return this.half[1] - (lat - this.middle[1]) * this.scale; }

  setLayer(k) {
    this.layer = this.spec.layers[k] || {name: "", on: "none"};
    this.ramp = RAMPS[this.layer.colours || "viridis"];
    const frames = this.layer.frames;
    if (frames && !this.layer.bins) this.layer.bins = Int8Array.from({length: this.layer.codes + 1}, (_, code) => this.binOf(flowOf(this.layer, code)));
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
    const layer = this.layer;
    if (!layer.frames) return this.binOf(layer.values[i]);
    const code = i < layer.kept ? layer.frames[this.frame * layer.kept + i] : 65535;
    return code === 65535 ? -1 : layer.bins[code];
  }

  binOf(v) {
    const layer = this.layer;
    if (Number.isNaN(v)) return -1;
    let part;
    if (layer.log) part = v <= 0 ? 0 : Math.log(v / layer.low) / Math.log(layer.high / layer.low);
    else part = layer.high > layer.low ? (v - layer.low) / (layer.high - layer.low) : 0.5;
    return Math.min(BINS - 1, Math.max(0, Math.floor(part * BINS)));
  }

  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.paint(); });
  }

  paint() {
    if (!this.canvas.clientWidth || !this.scale) return;
    const begun = performance.now(), [pen, w, h] = fitCanvas(this.canvas);
    this.half = [w / 2, h / 2];
    const pixels = new Pixels(pen, w, h);
    if (this.spec.cells) this.paintCells(pixels, w, h);
    const rest = this.spec.reaches ? this.paintSmall(pixels, w, h) : [];
    pixels.show();
    this.paintReaches(pen, rest);
    if (this.spec.gauges) this.paintGauges(pen);
    this.paintScale(pen, w, h);
    this.took = performance.now() - begun;
  }

  paintCells(pixels, w, h) {
    const corners = this.spec.cells.corners, n = corners.length / 8, on = this.layer.on === "cells", few = n < 3000, r = 3.5;
    const words = this.ramp.map(Pixels.word), nothing = Pixels.word(NOTHING), plain = Pixels.word("#efece3"), x = [0, 0, 0, 0], y = [0, 0, 0, 0];
    for (let i = 0; i < n; i++) {
      let west = Infinity, east = -Infinity, north = Infinity, south = -Infinity;
      for (let k = 0; k < 4; k++) {
        const px = x[k] = this.X(corners[8 * i + 2 * k]), py = y[k] = this.Y(corners[8 * i + 2 * k + 1]);
        if (px < west) west = px;
        if (px > east) east = px;
        if (py < north) north = py;
        if (py > south) south = py;
      }
      if (east < 0 || west > w || south < 0 || north > h) continue;
      const bin = on ? this.bin(i) : -2, word = bin === -2 ? plain : bin < 0 ? nothing : words[bin];
      if (few && east - west < 2 * r && south - north < 2 * r) {  // few small cells, far apart, would not be seen
        const cx = (west + east) / 2, cy = (north + south) / 2;
        pixels.fill([cx - r, cx + r, cx + r, cx - r], [cy - r, cy - r, cy + r, cy + r], word);
      } else pixels.fill(x, y, word);
    }
  }

  // Reaches that are seen, the smallest first: thin ones go into the pixels where there are many; the others are returned.
  paintSmall(pixels, w, h) {
    const {lon, lat, below, width} = this.spec.reaches, n = lon.length, X = new Float32Array(n), Y = new Float32Array(n), seen = [];
    const wide = this.squeeze * this.scale, high = this.scale, [mx, my] = this.middle, [hx, hy] = this.half;
    for (let i = 0; i < n; i++) { X[i] = hx + (lon[i] - mx) * wide; Y[i] = hy - (lat[i] - my) * high; }
    for (let i = n - 1; i >= 0; i--) {
      const b = below[i] < 0 ? i : below[i];
      if ((X[i] < 0 && X[b] < 0) || (X[i] > w && X[b] > w) || (Y[i] < 0 && Y[b] < 0) || (Y[i] > h && Y[b] > h)) continue;
      seen.push(i);
    }
    this.seen = seen;
    [this.px, this.py] = [X, Y];
    if (seen.length <= FEW) return seen;
    const on = this.layer.on === "reaches", words = this.ramp.map(Pixels.word), nothing = Pixels.word(NOTHING), plain = Pixels.word(this.layer.on === "cells" ? "#5d6f86" : "#9db4c9"), rest = [];
    for (const i of seen) {
      const b = below[i];
      if (width[i] * WIDTHS >= 1) { rest.push(i); continue; }
      const bin = on ? this.bin(i) : -2, word = bin === -2 ? plain : bin < 0 ? nothing : words[bin];
      if (b >= 0) pixels.line(X[i], Y[i], X[b], Y[b], word);
      else if (on) pixels.dot(Math.round(X[i] * pixels.ratio), Math.round(Y[i] * pixels.ratio), word, 1);
    }
    return rest;
  }

  paintReaches(pen, own) {
    if (!this.spec.reaches) return;
    const {below, width} = this.spec.reaches, on = this.layer.on === "reaches", groups = new Map(), X = this.px, Y = this.py;
    for (const i of own) {
      const b = below[i], key = Math.min(WIDTHS - 1, Math.floor(width[i] * WIDTHS)) * 100 + (on ? this.bin(i) + 1 : 0);
      let group = groups.get(key);
      if (!group) groups.set(key, group = {lines: [], dots: []});
      b < 0 ? group.dots.push(X[i], Y[i]) : group.lines.push(X[i], Y[i], X[b], Y[b]);
    }
    pen.lineCap = "round";
    for (const key of [...groups.keys()].sort((a, b) => a - b)) {
      const {lines, dots} = groups.get(key), thick = 0.8 + 3.2 * Math.floor(key / 100) / (WIDTHS - 1), bin = key % 100 - 1;
      pen.strokeStyle = pen.fillStyle = !on ? (this.layer.on === "cells" ? "rgba(40,60,90,.6)" : "#9db4c9") : bin < 0 ? NOTHING : this.ramp[bin];
      pen.lineWidth = thick;
      pen.beginPath();
      for (let k = 0; k < lines.length; k += 4) { pen.moveTo(lines[k], lines[k + 1]); pen.lineTo(lines[k + 2], lines[k + 3]); }
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
    best = 8 * 8;  // of equals the last: the largest
    for (const i of this.seen || []) {
      const b = r.below[i], x = this.px[i], y = this.py[i];
      const u = b < 0 ? 0 : this.px[b] - x, v = b < 0 ? 0 : this.py[b] - y, l = u * u + v * v;
      const t = l ? Math.min(1, Math.max(0, ((px - x) * u + (py - y) * v) / l)) : 0;
      const d = (x + t * u - px) ** 2 + (y + t * v - py) ** 2;
      if (d <= best) { best = d; found = {reach: i}; }
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
        this.draw();
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
    this.draw();
  }
}

// The flow that a code stands for: 0 is no flow, the last code is missing, those between lie evenly in the logarithm.
function flowOf(layer, code) {
  if (code === 65535) return NaN;
  return code === 0 ? 0 : layer.least * Math.exp((code - 1) / (layer.codes - 1) * Math.log(layer.most / layer.least));
}
