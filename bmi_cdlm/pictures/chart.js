// Curves on a canvas, over numbers or over time: drag or wheel to zoom, double click to go back, values at the pointer.

class Chart {
  constructor(parent, spec) {
    this.parent = parent;
    this.canvas = make(parent, "canvas");
    this.names = make(parent, "div", "names");
    this.tip = make(parent, "div", "tip");
    this.drag = null;
    this.mark = null;
    if (spec) this.show(spec);
    new ResizeObserver(() => this.draw()).observe(parent);
    this.canvas.addEventListener("pointerdown", e => this.down(e));
    this.canvas.addEventListener("pointermove", e => this.move(e));
    this.canvas.addEventListener("pointerup", e => this.up(e));
    this.canvas.addEventListener("pointerleave", () => {
      this.tip.style.display = "none";
      this.at = null;
      this.draw();
    });
    this.canvas.addEventListener("dblclick", () => {
      [this.low, this.high] = this.whole;
      this.draw();
    });
    this.canvas.addEventListener("wheel", e => this.wheel(e), {passive: false});
  }

  show(spec) {
    this.spec = spec;
    const t = spec.times;
    this.n = t ? t.n : spec.x.length;
    this.xAt = t ? i => t.first + i * t.step : i => spec.x[i];
    const end = t ? t.first + t.n * t.step : Math.max(...spec.x),
      begin = t ? t.first : Math.min(...spec.x);
    this.whole = end > begin ? [begin, end] : [begin - 0.5, begin + 0.5];
    [this.low, this.high] = this.whole;
    this.names.replaceChildren();
    this.names.style.maxWidth = spec.title ? "" : "100%";
    for (const curve of spec.curves) {
      const label = make(this.names, "span", "", curve.name);
      label.style.setProperty("--colour", curve.colour);
      label.style.setProperty("--how", curve.dashed ? "dashed" : "solid");
    }
    this.draw();
  }

  // Places that lie in what is shown: from the first to before the last, for x goes upwards.
  seen() {
    const t = this.spec.times;
    if (t)
      return [
        Math.max(0, Math.floor((this.low - t.first) / t.step)),
        Math.min(t.n, Math.ceil((this.high - t.first) / t.step) + 1),
      ];
    return [0, this.n];
  }

  range(from, to) {
    let low = Infinity,
      high = -Infinity;
    const log = this.spec.log;
    const take = v => {
      if (v < low && (!log || v > 0)) low = v;
      if (v > high) high = v;
    };
    for (const curve of this.spec.curves) for (let i = from; i < to; i++) take(curve.y[i]);
    if (this.spec.band) for (const edge of this.spec.band) for (let i = from; i < to; i++) take(edge[i]);
    if (high === -Infinity) [low, high] = log ? [0.1, 1] : [0, 1];
    const [least, most] = this.spec.limits;
    const room = 0.05 * (high - low || 1);
    if (least !== null) low = least;
    else if (!log) low -= room;
    if (most !== null) high = most;
    else if (!log) high += room;
    if (log) {
      low = 10 ** Math.floor(Math.log10(low));
      high = 10 ** Math.ceil(Math.log10(high) + 1e-9);
      if (low >= high) high = low * 10;
    } else if (low >= high) high = low + 1;
    return [low, high];
  }

  draw() {
    if (!this.spec || !this.canvas.clientWidth) return;
    const [pen, w, h] = fitCanvas(this.canvas),
      spec = this.spec;
    const box = {
      left: 74,
      right: w - 14,
      top: 14 + Math.max(20, this.names.offsetHeight),
      bottom: h - (spec.xlabel ? 42 : 26),
    };
    this.box = box;
    const [from, to] = this.seen(),
      [low, high] = this.range(from, to);
    const X = x => box.left + ((x - this.low) / (this.high - this.low)) * (box.right - box.left);
    const scale = spec.log ? v => Math.log10(v) : v => v,
      a = scale(low),
      b = scale(high);
    const Y = v => box.bottom - ((scale(v) - a) / (b - a)) * (box.bottom - box.top);
    this.axes(pen, X, Y, low, high);
    pen.save();
    pen.beginPath();
    pen.rect(box.left, box.top - 2, box.right - box.left, box.bottom - box.top + 4);
    pen.clip();
    if (spec.band) this.shade(pen, X, Y, from, to, low);
    for (const curve of spec.curves) this.curve(pen, X, Y, curve, from, to);
    if (this.mark !== null) this.line(pen, X(this.mark), "#0b5cad");
    if (this.drag) {
      pen.fillStyle = "rgba(11,92,173,.15)";
      pen.fillRect(this.drag.from, box.top, this.drag.to - this.drag.from, box.bottom - box.top);
    }
    if (this.at != null)
      this.line(pen, X(this.xAt(this.at) + (spec.steps && spec.times ? spec.times.step / 2 : 0)), "#9aa3ad");
    pen.restore();
    pen.fillStyle = "#1c2430";
    pen.font = "600 14px system-ui, sans-serif";
    pen.textAlign = "left";
    const room = Math.max(60, w - box.left - this.names.offsetWidth - 30);
    pen.fillText(spec.title, box.left, 18, room);
    if (spec.told) {
      const after = box.left + Math.min(pen.measureText(spec.title).width, room) + 14;
      pen.fillStyle = "#5d6875";
      pen.font = "12.5px system-ui, sans-serif";
      pen.fillText(spec.told, after, 18, Math.max(1, w - after - this.names.offsetWidth - 24));
    }
  }

  line(pen, x, colour) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x, this.box.top);
    pen.lineTo(x, this.box.bottom);
    pen.stroke();
  }

  axes(pen, X, Y, low, high) {
    const {left, right, top, bottom} = this.box,
      spec = this.spec,
      wide = Math.max(2, Math.floor((right - left) / 90));
    const xs = spec.times
      ? timeTicks(this.low, this.high, wide, spec.times.calendar)
      : numberTicks(this.low, this.high, wide, spec.whole);
    const ys = spec.log ? powerTicks(low, high) : numberTicks(low, high, Math.max(2, Math.floor((bottom - top) / 45)));
    pen.font = "12px system-ui, sans-serif";
    pen.lineWidth = 1;
    pen.strokeStyle = "#e6e9ec";
    pen.fillStyle = "#5d6875";
    pen.textAlign = "right";
    for (const [v, label] of ys) {
      const y = Math.round(Y(v)) + 0.5;
      pen.beginPath();
      pen.moveTo(left, y);
      pen.lineTo(right, y);
      pen.stroke();
      pen.fillText(label, left - 6, y + 4);
    }
    pen.textAlign = "center";
    for (const [v, label] of xs) {
      const x = Math.round(X(v)) + 0.5;
      pen.beginPath();
      pen.moveTo(x, top);
      pen.lineTo(x, bottom);
      pen.stroke();
      const half = pen.measureText(label).width / 2;
      pen.fillText(label, Math.min(Math.max(x, half), this.canvas.clientWidth - half), bottom + 16);
    }
    pen.fillText(spec.xlabel, (left + right) / 2, bottom + 35);
    pen.save();
    pen.translate(14, (top + bottom) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(spec.ylabel, 0, 0, bottom - top + 20);
    pen.restore();
  }

  curve(pen, X, Y, curve, from, to) {
    const y = curve.y,
      pixels = this.box.right - this.box.left,
      steps = this.spec.steps && this.spec.times;
    pen.strokeStyle = curve.colour;
    pen.lineWidth = 1.4;
    pen.setLineDash(curve.dashed ? [5, 4] : []);
    pen.beginPath();
    const there = v => Number.isFinite(v) && (!this.spec.log || v > 0);
    if (to - from > 3 * pixels) {
      // more values than pixels: in each its least and its greatest
      let open = false,
        column = -1,
        least = 0,
        most = 0;
      const put = () => {
        const x = this.box.left + column;
        open ? pen.lineTo(x, Y(least)) : pen.moveTo(x, Y(least));
        pen.lineTo(x, Y(most));
        open = true;
      };
      for (let i = from; i < to; i++) {
        if (!there(y[i])) {
          if (column >= 0) put();
          column = -1;
          open = false;
          continue;
        }
        const c = Math.round(X(this.xAt(i)) - this.box.left);
        if (c !== column) {
          if (column >= 0) put();
          column = c;
          least = most = y[i];
        } else {
          if (y[i] < least) least = y[i];
          if (y[i] > most) most = y[i];
        }
      }
      if (column >= 0) put();
    } else {
      let open = false;
      for (let i = from; i < to; i++) {
        if (!there(y[i])) {
          open = false;
          continue;
        }
        const x = X(this.xAt(i)),
          v = Y(y[i]);
        open ? pen.lineTo(x, v) : pen.moveTo(x, v);
        if (steps) pen.lineTo(X(this.xAt(i) + this.spec.times.step), v);
        else if (alone(y, i, this.n, there)) {
          // a line has no length there
          pen.rect(x - 1.5, v - 1.5, 3, 3);
          pen.moveTo(x, v);
        }
        open = true;
      }
    }
    pen.stroke();
    pen.setLineDash([]);
  }

  shade(pen, X, Y, from, to, floor) {
    const [low, high] = this.spec.band,
      end = this.spec.steps && this.spec.times ? this.spec.times.step : 0;
    pen.fillStyle = this.spec.curves[this.spec.curves.length - 1].colour;
    pen.globalAlpha = 0.22;
    pen.beginPath();
    for (let i = from; i < to; i++)
      if (Number.isFinite(high[i]))
        for (const x of end ? [this.xAt(i), this.xAt(i) + end] : [this.xAt(i)]) pen.lineTo(X(x), Y(high[i]));
    for (let i = to - 1; i >= from; i--)
      if (Number.isFinite(low[i]))
        for (const x of end ? [this.xAt(i) + end, this.xAt(i)] : [this.xAt(i)])
          pen.lineTo(X(x), Y(Math.max(low[i], floor)));
    pen.fill();
    pen.globalAlpha = 1;
  }

  back(px) {
    return this.low + ((px - this.box.left) / (this.box.right - this.box.left)) * (this.high - this.low);
  }
  down(e) {
    if (!this.spec) return;
    this.drag = {from: e.offsetX, to: e.offsetX};
    this.canvas.setPointerCapture(e.pointerId);
  }
  up() {
    if (!this.drag) return;
    const [a, b] = [this.drag.from, this.drag.to].sort((p, q) => p - q).map(p => this.back(p));
    const wide = Math.abs(this.drag.to - this.drag.from) > 5,
      x = this.back(this.drag.to);
    this.drag = null;
    if (wide) [this.low, this.high] = [Math.max(a, this.whole[0]), Math.min(b, this.whole[1])];
    else if (this.onPick) this.onPick(x);
    this.draw();
  }

  move(e) {
    if (!this.spec || !this.box) return;
    if (this.drag) this.drag.to = e.offsetX;
    const x = this.back(e.offsetX),
      spec = this.spec;
    let i = spec.times ? Math.floor((x - spec.times.first) / spec.times.step) : this.nearest(x);
    i = Math.min(Math.max(i, 0), this.n - 1);
    this.at = i;
    const head = spec.times
      ? dateText(this.xAt(i), spec.times.calendar, spec.times.step)
      : `${spec.xlabel} ${shown(this.xAt(i))}`;
    const lines = [head, ...spec.curves.map(c => `${c.name}: ${shown(c.y[i])}`)];
    showTip(this.tip, this.canvas, e, lines.join("\n"));
    this.draw();
  }

  nearest(x) {
    let best = 0;
    for (let i = 1; i < this.n; i++) if (Math.abs(this.xAt(i) - x) < Math.abs(this.xAt(best) - x)) best = i;
    return best;
  }

  wheel(e) {
    if (!this.spec || !this.box) return;
    e.preventDefault();
    const x = this.back(e.offsetX),
      factor = Math.exp(e.deltaY * 0.0015);
    const low = Math.max(this.whole[0], x - (x - this.low) * factor),
      high = Math.min(this.whole[1], x + (this.high - x) * factor);
    const least = this.spec.times ? 2 * this.spec.times.step : (this.whole[1] - this.whole[0]) / 1e4;
    if (high - low >= least) [this.low, this.high] = [low, high];
    this.draw();
  }
}

// Whether a value has no neighbour that is there.
function alone(y, i, n, there) {
  return !(i > 0 && there(y[i - 1])) && !(i + 1 < n && there(y[i + 1]));
}
