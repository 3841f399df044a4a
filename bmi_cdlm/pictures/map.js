// A map on a canvas: cells, reaches and gauges by a layer; drag to move, wheel to zoom, double click to go back.
// Reaches come with the largest first; thin ones are put into the pixels where there are many, thick ones are drawn.

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
    this.alone = !spec.reaches || spec.reaches.below.every(b => b < 0); // basins of a reach each: no lines, only places
    const [west, south, east, north] = spec.extent;
    this.squeeze = Math.max(Math.cos((((south + north) / 2) * Math.PI) / 180), 0.1);
    if (spec.layers.length > 1) {
      const select = make(this.tools, "select");
      select.setAttribute("aria-label", "Layer");
      spec.layers.forEach((layer, k) => {
        make(select, "option", "", layer.name).value = k;
      });
      select.addEventListener("change", () => {
        this.setLayer(Number(select.value));
      });
      this.select = select;
    }
    this.setLayer(0);
    this.fit();
    let size = "";
    new ResizeObserver(() => {
      const now = `${this.canvas.clientWidth} ${this.canvas.clientHeight}`;
      if (now !== size) {
        size = now;
        this.touched ? this.draw() : this.fit();
      }
    }).observe(parent);
    this.canvas.addEventListener("pointerdown", e => {
      this.from = [e.offsetX, e.offsetY];
      this.last = this.from;
      this.canvas.setPointerCapture(e.pointerId);
    });
    this.canvas.addEventListener("pointermove", e => this.move(e));
    this.canvas.addEventListener("pointerup", e => this.up(e));
    this.canvas.addEventListener("pointerleave", () => {
      this.tip.style.display = "none";
    });
    this.canvas.addEventListener("dblclick", () => this.fit());
    this.canvas.addEventListener("wheel", e => this.wheel(e), {passive: false});
  }

  fit() {
    const [west, south, east, north] = this.spec.extent,
      w = this.canvas.clientWidth || 800,
      h = this.canvas.clientHeight || 500;
    const wide = Math.max((east - west) * this.squeeze, 1e-3),
      high = Math.max(north - south, 1e-3);
    const top = 50, // below what stands there
      scale = bottom => Math.min((w - 40) / wide, Math.max(h - top - bottom, 50) / high);
    let bottom = 20;
    if ((w - wide * scale(bottom)) / 2 < this.legend.offsetWidth + 20)
      bottom = Math.max(bottom, this.legend.offsetHeight + 16); // above the legend, where it would lie over the map
    this.scale = scale(bottom);
    this.middle = [(west + east) / 2, (south + north) / 2 + (top - bottom) / 2 / this.scale];
    this.touched = false;
    this.draw();
  }

  // Asked for so often that the size of the canvas is kept, which a browser is slow to tell.
  X(lon) {
    return this.half[0] + (lon - this.middle[0]) * this.squeeze * this.scale;
  }
  Y(lat) {
    return this.half[1] - (lat - this.middle[1]) * this.scale;
  }

  setLayer(k) {
    this.layer = this.spec.layers[k] || {name: "", on: "none"};
    this.ramp = RAMPS[this.layer.colours || "viridis"];
    const frames = this.layer.frames;
    if (frames && !this.layer.bins)
      this.layer.bins = Int8Array.from({length: this.layer.codes + 1}, (_, code) =>
        this.binOf(flowOf(this.layer, code)),
      );
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
    const bar = make(this.legend, "div", "bar"),
      ends = make(this.legend, "div", "ends");
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
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  paint() {
    if (!this.canvas.clientWidth || !this.scale) return;
    const begun = performance.now(),
      [pen, w, h] = fitCanvas(this.canvas);
    this.half = [w / 2, h / 2];
    const pixels = new Pixels(pen, w, h);
    if (this.spec.cells) this.paintCells(pixels, w, h);
    const rest = this.spec.reaches ? this.paintSmall(pixels, w, h) : [];
    pixels.show();
    if (!this.alone || this.layer.on === "reaches") this.paintReaches(pen, rest);
    if (this.spec.gauges) this.paintGauges(pen);
    this.paintScale(pen, w, h);
    this.took = performance.now() - begun;
  }

  paintCells(pixels, w, h) {
    const corners = this.spec.cells.corners,
      n = corners.length / 8,
      on = this.layer.on === "cells",
      few = n < 3000,
      r = 5;
    const words = this.ramp.map(Pixels.word),
      nothing = Pixels.word(NOTHING),
      plain = Pixels.word("#efece3"),
      x = [0, 0, 0, 0],
      y = [0, 0, 0, 0];
    for (let i = 0; i < n; i++) {
      let west = Infinity,
        east = -Infinity,
        north = Infinity,
        south = -Infinity;
      for (let k = 0; k < 4; k++) {
        const px = (x[k] = this.X(corners[8 * i + 2 * k])),
          py = (y[k] = this.Y(corners[8 * i + 2 * k + 1]));
        if (px < west) west = px;
        if (px > east) east = px;
        if (py < north) north = py;
        if (py > south) south = py;
      }
      if (east < 0 || west > w || south < 0 || north > h) continue;
      const bin = on ? this.bin(i) : -2,
        word = bin === -2 ? plain : bin < 0 ? nothing : words[bin];
      if (few && east - west < 2 * r && south - north < 2 * r) {
        // few small cells, far apart, would not be seen
        const cx = (west + east) / 2,
          cy = (north + south) / 2;
        pixels.fill([cx - r, cx + r, cx + r, cx - r], [cy - r, cy - r, cy + r, cy + r], word);
      } else pixels.fill(x, y, word);
    }
  }

  // Reaches that are seen, the smallest first: of many the thin ones go into the pixels, the others are returned.
  paintSmall(pixels, w, h) {
    const {lon, lat, below, width} = this.spec.reaches,
      n = lon.length,
      X = new Float32Array(n),
      Y = new Float32Array(n),
      seen = [];
    const wide = this.squeeze * this.scale,
      high = this.scale,
      [mx, my] = this.middle,
      [hx, hy] = this.half;
    for (let i = 0; i < n; i++) {
      X[i] = hx + (lon[i] - mx) * wide;
      Y[i] = hy - (lat[i] - my) * high;
    }
    for (let i = n - 1; i >= 0; i--) {
      const b = below[i] < 0 ? i : below[i];
      if ((X[i] < 0 && X[b] < 0) || (X[i] > w && X[b] > w) || (Y[i] < 0 && Y[b] < 0) || (Y[i] > h && Y[b] > h))
        continue;
      seen.push(i);
    }
    this.seen = seen;
    [this.px, this.py] = [X, Y];
    if (seen.length <= FEW) return seen;
    const on = this.layer.on === "reaches",
      words = this.ramp.map(Pixels.word),
      nothing = Pixels.word(NOTHING),
      plain = Pixels.word(this.layer.on === "cells" ? "#5d6f86" : "#9db4c9"),
      rest = [];
    for (const i of seen) {
      const b = below[i];
      if (width[i] * WIDTHS >= 1) {
        rest.push(i);
        continue;
      }
      const bin = on ? this.bin(i) : -2,
        word = bin === -2 ? plain : bin < 0 ? nothing : words[bin];
      if (b >= 0) pixels.line(X[i], Y[i], X[b], Y[b], word);
      else if (on) pixels.dot(Math.round(X[i] * pixels.ratio), Math.round(Y[i] * pixels.ratio), word, 1);
    }
    return rest;
  }

  paintReaches(pen, own) {
    if (!this.spec.reaches) return;
    const {below, width} = this.spec.reaches,
      on = this.layer.on === "reaches",
      groups = new Map(),
      X = this.px,
      Y = this.py;
    for (const i of own) {
      const b = below[i],
        key = Math.min(WIDTHS - 1, Math.floor(width[i] * WIDTHS)) * 100 + (on ? this.bin(i) + 1 : 0);
      let group = groups.get(key);
      if (!group) groups.set(key, (group = {lines: [], dots: []}));
      b < 0 ? group.dots.push(X[i], Y[i]) : group.lines.push(X[i], Y[i], X[b], Y[b]);
    }
    pen.lineCap = "round";
    for (const key of [...groups.keys()].sort((a, b) => a - b)) {
      const {lines, dots} = groups.get(key),
        thick = 0.8 + (3.2 * Math.floor(key / 100)) / (WIDTHS - 1),
        bin = (key % 100) - 1;
      pen.strokeStyle = pen.fillStyle = !on
        ? this.layer.on === "cells"
          ? "rgba(40,60,90,.6)"
          : "#9db4c9"
        : bin < 0
          ? NOTHING
          : this.ramp[bin];
      pen.lineWidth = thick;
      pen.beginPath();
      for (let k = 0; k < lines.length; k += 4) {
        pen.moveTo(lines[k], lines[k + 1]);
        pen.lineTo(lines[k + 2], lines[k + 3]);
      }
      pen.stroke();
      const r = this.alone ? 5 : Math.max(1.6, thick * 0.8);
      for (let k = 0; k < dots.length; k += 2) pen.fillRect(dots[k] - r, dots[k + 1] - r, 2 * r, 2 * r);
    }
  }

  paintGauges(pen) {
    const {lon, lat} = this.spec.gauges,
      on = this.layer.on === "gauges";
    for (let i = 0; i < lon.length; i++) {
      if (this.alone && !on && this.layer.on !== "none" && !(this.chosen && this.chosen.gauge === i)) continue;
      const x = this.X(lon[i]),
        y = this.Y(lat[i]),
        bin = on ? this.bin(i) : -1,
        r = on ? 6 : 4.5;
      pen.beginPath();
      pen.arc(x, y, this.chosen && this.chosen.gauge === i ? r + 2.5 : r, 0, 2 * Math.PI);
      if (on) {
        pen.fillStyle = bin < 0 ? NOTHING : this.ramp[bin];
        pen.fill();
      } else {
        // a ring, in which the layer stays to be seen
        pen.strokeStyle = "rgba(255,255,255,.8)";
        pen.lineWidth = 4;
        pen.stroke();
      }
      pen.strokeStyle = this.chosen && this.chosen.gauge === i ? "#000" : on ? "#3a4450" : "#d55e00";
      pen.lineWidth = this.chosen && this.chosen.gauge === i ? 2.5 : on ? 1 : 2;
      pen.stroke();
    }
    if (this.chosen && this.chosen.reach !== undefined) {
      const r = this.spec.reaches,
        i = this.chosen.reach,
        b = r.below[i];
      pen.strokeStyle = "#000";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(this.X(r.lon[i]), this.Y(r.lat[i]), 6, 0, 2 * Math.PI);
      if (b >= 0) {
        pen.moveTo(this.X(r.lon[i]), this.Y(r.lat[i]));
        pen.lineTo(this.X(r.lon[b]), this.Y(r.lat[b]));
      }
      pen.stroke();
    }
  }

  // A bar of a round length, true in the middle of the map.
  paintScale(pen, w, h) {
    const kilometre = this.scale / 111.195,
      least = 60 / kilometre,
      power = 10 ** Math.floor(Math.log10(least));
    const length = [1, 2, 5, 10].find(n => n * power >= least) * power,
      x = w - 20 - length * kilometre,
      y = h - 18;
    pen.strokeStyle = pen.fillStyle = "#1c2430";
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x, y - 5);
    pen.lineTo(x, y);
    pen.lineTo(w - 20, y);
    pen.lineTo(w - 20, y - 5);
    pen.stroke();
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.fillText(
      length >= 1 ? `${shown(length)} km` : `${shown(length * 1000)} m`,
      x + (length * kilometre) / 2,
      y - 7,
    );
  }

  // What lies under a point: a gauge, else a reach that is drawn, else a cell.
  under(px, py, cells) {
    const g = this.spec.gauges;
    let best = 11 * 11,
      found = null;
    for (let i = 0; g && i < g.lon.length; i++) {
      const d = (this.X(g.lon[i]) - px) ** 2 + (this.Y(g.lat[i]) - py) ** 2;
      if (d < best) {
        best = d;
        found = {gauge: i};
      }
    }
    if (found) return found;
    const r = this.spec.reaches;
    best = 8 * 8; // of equals the last: the largest
    for (const i of this.seen || []) {
      const b = r.below[i],
        x = this.px[i],
        y = this.py[i];
      const u = b < 0 ? 0 : this.px[b] - x,
        v = b < 0 ? 0 : this.py[b] - y,
        l = u * u + v * v;
      const t = l ? Math.min(1, Math.max(0, ((px - x) * u + (py - y) * v) / l)) : 0;
      const d = (x + t * u - px) ** 2 + (y + t * v - py) ** 2;
      if (d <= best) {
        best = d;
        found = {reach: i};
      }
    }
    return found || (cells ? this.cellUnder(px, py) : null);
  }

  cellUnder(px, py) {
    const c = this.spec.cells && this.spec.cells.corners;
    for (let i = 0; c && i < c.length / 8; i++) {
      let inside = false;
      for (let k = 0, j = 3; k < 4; j = k++) {
        const [x, y, x2, y2] = [
          this.X(c[8 * i + 2 * k]),
          this.Y(c[8 * i + 2 * k + 1]),
          this.X(c[8 * i + 2 * j]),
          this.Y(c[8 * i + 2 * j + 1]),
        ];
        if (y > py !== y2 > py && px < ((x2 - x) * (py - y)) / (y2 - y) + x) inside = !inside;
      }
      if (inside) return {cell: i};
    }
    return null;
  }

  words(found) {
    const [what, i] = Object.entries(found)[0],
      on = `${what}${what === "reach" ? "es" : "s"}`,
      spec = this.spec[on];
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
    if (found) showTip(this.tip, this.canvas, e, this.words(found));
    else this.tip.style.display = "none";
  }

  up(e) {
    if (this.from && !this.dragged && this.onPick) {
      const found = this.under(e.offsetX, e.offsetY, false);
      if (found) {
        this.chosen = found;
        this.onPick(found);
        this.draw();
      }
    }
    this.from = null;
    this.dragged = false;
  }

  wheel(e) {
    e.preventDefault();
    const factor = Math.exp(-e.deltaY * 0.0015),
      w = this.canvas.clientWidth,
      h = this.canvas.clientHeight;
    const lon = this.middle[0] + (e.offsetX - w / 2) / (this.squeeze * this.scale),
      lat = this.middle[1] - (e.offsetY - h / 2) / this.scale;
    this.scale = Math.min(this.scale * factor, 5e6);
    this.middle = [lon - (e.offsetX - w / 2) / (this.squeeze * this.scale), lat + (e.offsetY - h / 2) / this.scale];
    this.touched = true;
    this.draw();
  }
}
