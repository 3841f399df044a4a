// Arrays of the page, and the few elements that charts and maps are made of.

const KINDS = {f4: Float32Array, f8: Float64Array, u1: Uint8Array, u2: Uint16Array, i4: Int32Array};

async function unpack(found) {
  const raw = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(found.bytes)
    : Uint8Array.from(atob(found.bytes), c => c.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  const values = new KINDS[found.array](await new Response(stream).arrayBuffer());
  if (found.changes) {
    const row = values.length / found.shape[0];
    for (let i = row; i < values.length; i++) values[i] += values[i - row];
  }
  return values;
}

async function unpackAll(node) {
  if (Array.isArray(node)) return Promise.all(node.map(unpackAll));
  if (node === null || typeof node !== "object") return node;
  if ("array" in node) return unpack(node);
  const keys = Object.keys(node),
    values = await Promise.all(keys.map(k => unpackAll(node[k])));
  return Object.fromEntries(keys.map((k, i) => [k, values[i]]));
}

function make(parent, tag, kind, text) {
  const found = document.createElement(tag);
  if (kind) found.className = kind;
  if (text !== undefined) found.textContent = text;
  parent.appendChild(found);
  return found;
}

function fitCanvas(canvas) {
  const ratio = window.devicePixelRatio || 1,
    w = canvas.clientWidth,
    h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, w, h);
  return [pen, w, h];
}
