// Many thin lines and many cells are put into the pixels themselves: of a hundred thousand a browser makes no path.
class Pixels {
  constructor(pen, w, h) {
    this.pen = pen;
    [this.w, this.h] = [pen.canvas.width, pen.canvas.height];
    this.ratio = this.w / w;
    this.image = pen.createImageData(this.w, this.h);
    this.words = new Uint32Array(this.image.data.buffer);
  }

  static word(colour) {
    const [r, g, b] =
      colour[0] === "#" ? [1, 3, 5].map(k => parseInt(colour.slice(k, k + 2), 16)) : colour.match(/\d+/g).map(Number);
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  }

  dot(x, y, word, part) {
    if (x < 0 || y < 0 || x >= this.w || y >= this.h) return;
    const at = y * this.w + x,
      old = this.words[at],
      has = old >>> 24;
    if (part >= 0.99) {
      this.words[at] = word;
      return;
    }
    if (!has) {
      this.words[at] = ((word & 0xffffff) | (Math.round(255 * part) << 24)) >>> 0;
      return;
    }
    const b = (old >>> 16) & 255,
      g = (old >>> 8) & 255,
      r = old & 255;
    const blue = b + (((word >>> 16) & 255) - b) * part,
      green = g + (((word >>> 8) & 255) - g) * part,
      red = r + ((word & 255) - r) * part;
    this.words[at] = ((Math.max(has, 255 * part) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  }

  // A line of one pixel, shared between the two that it passes between.
  line(x0, y0, x1, y1, word) {
    const r = this.ratio;
    if (Math.abs(x1 - x0) * r < 1.5 && Math.abs(y1 - y0) * r < 1.5)
      return this.dot(Math.floor(((x0 + x1) * r) / 2), Math.floor(((y0 + y1) * r) / 2), word, 0.8);
    const steep = Math.abs(y1 - y0) > Math.abs(x1 - x0);
    let [a, b, c, d] = steep ? [y0 * r, x0 * r, y1 * r, x1 * r] : [x0 * r, y0 * r, x1 * r, y1 * r];
    if (a > c) [a, b, c, d] = [c, d, a, b];
    const slope = c > a ? (d - b) / (c - a) : 0,
      first = Math.max(0, Math.round(a)),
      last = Math.min(steep ? this.h : this.w, Math.round(c));
    for (let u = first; u <= last; u++) {
      const v = b + slope * (u - a),
        low = Math.floor(v),
        part = v - low;
      if (steep) {
        this.dot(low, u, word, 1 - part);
        this.dot(low + 1, u, word, part);
      } else {
        this.dot(u, low, word, 1 - part);
        this.dot(u, low + 1, word, part);
      }
    }
  }

  // A convex quadrilateral, row by row; x and y : its four corners. Every pixel that it touches is filled, so that cells
  // which all but meet have no seam, and none is too small to be seen.
  fill(x, y, word) {
    const r = this.ratio,
      north = Math.min(...y),
      south = Math.max(...y),
      top = Math.max(0, Math.floor(north * r)),
      bottom = Math.min(this.h, Math.ceil(south * r));
    for (let row = top; row < bottom; row++) {
      const at = Math.min(Math.max((row + 0.5) / r, north), south - 1e-6 * (south - north));
      let low = Infinity,
        high = -Infinity;
      for (let k = 0, j = 3; k < 4; j = k++) {
        if (y[k] > at === y[j] > at) continue;
        const cut = x[j] + ((x[k] - x[j]) * (at - y[j])) / (y[k] - y[j]);
        if (cut < low) low = cut;
        if (cut > high) high = cut;
      }
      if (high < low) continue;
      const from = Math.max(0, Math.floor(low * r)),
        to = Math.min(this.w, Math.ceil(high * r));
      if (to > from) this.words.fill(word, row * this.w + from, row * this.w + to);
    }
  }

  show() {
    this.pen.putImageData(this.image, 0, 0);
  }
}
