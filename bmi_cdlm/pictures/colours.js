// Colours of layers, which all kinds of colour vision tell apart, and the flow that a code stands for.

const COLOURS = {
  viridis: [
    "#440154",
    "#482878",
    "#3e4989",
    "#31688e",
    "#26828e",
    "#1f9e89",
    "#35b779",
    "#6ece58",
    "#b5de2b",
    "#fde725",
  ],
  cividis: [
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
  ],
  flow: ["#b9d3e8", "#8fbcdc", "#66a2cf", "#4587bf", "#2f6ba9", "#25508f", "#243a78", "#27265f", "#230f42"],
  diverging: ["#b35806", "#f1a340", "#fee0b6", "#f2f2f2", "#d8daeb", "#998ec3", "#542788"],
};
const BINS = 64,
  WIDTHS = 6,
  FEW = 4000;
const NOTHING = "#c9ced4";

function ramp(name) {
  const stops = COLOURS[name].map(c => [1, 3, 5].map(k => parseInt(c.slice(k, k + 2), 16))),
    found = [];
  for (let i = 0; i < BINS; i++) {
    const at = (i / (BINS - 1)) * (stops.length - 1),
      k = Math.min(Math.floor(at), stops.length - 2),
      part = at - k;
    found.push(`rgb(${stops[k].map((v, j) => Math.round(v + part * (stops[k + 1][j] - v))).join(",")})`);
  }
  return found;
}
const RAMPS = Object.fromEntries(Object.keys(COLOURS).map(name => [name, ramp(name)]));

// The flow that a code stands for: 0 is no flow, the last code is missing, those between lie evenly in the logarithm.
function flowOf(layer, code) {
  if (code === 65535) return NaN;
  return code === 0 ? 0 : layer.least * Math.exp(((code - 1) / (layer.codes - 1)) * Math.log(layer.most / layer.least));
}
