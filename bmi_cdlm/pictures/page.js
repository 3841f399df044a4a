// What goes where: charts and maps of a page by the keys of their data, the list of contents, and the view of a run.

class View {
  constructor(parent, data) {
    this.data = data;
    const map = make(parent, "div", "map"),
      days = make(parent, "div", "days"),
      below = make(parent, "div", "below");
    this.map = new Plan(map, data.map);
    this.moving = data.map.layers.find(layer => layer.frames);
    const notes = make(map, "div", "notes"),
      button = make(this.map.tools, "button", "", "About this page");
    for (const note of data.notes) make(notes, "p", "", note);
    button.addEventListener("click", () => {
      notes.style.display = notes.style.display === "block" ? "none" : "block";
    });
    this.play = make(days, "button", "", "▶");
    this.play.setAttribute("aria-label", "Play");
    this.when = make(days, "span");
    this.slider = make(days, "input");
    this.about = make(days, "span", "about", data.title);
    Object.assign(this.slider, {type: "range", min: 0, max: data.times.n - 1, value: 0});
    this.slider.setAttribute("aria-label", "Step");
    this.slider.addEventListener("input", () => this.setStep(Number(this.slider.value)));
    this.play.addEventListener("click", () => this.toggle());
    this.chart = new Chart(make(below, "div", "chart"));
    this.chart.onPick = x => this.setStep(Math.floor((x - data.times.first) / data.times.step));
    this.map.onPick = found => this.open(found);
    this.setStep(0);
    if (data.map.gauges && data.map.gauges.lon.length) this.pick({gauge: data.first});
    else if (this.moving) this.pick({reach: 0});
  }

  pick(found) {
    this.map.chosen = found;
    this.open(found);
    this.map.draw();
  }

  setStep(step) {
    const times = this.data.times;
    this.step = Math.min(Math.max(step, 0), times.n - 1);
    this.slider.value = this.step;
    this.map.frame = this.step;
    const seconds = times.first + this.step * times.step;
    this.when.textContent = dateText(seconds, times.calendar, times.step);
    this.chart.mark = seconds + times.step / 2;
    if (this.map.layer.frames) this.map.draw();
    this.chart.draw();
  }

  toggle() {
    if (this.timer) {
      clearInterval(this.timer);
      this.timer = null;
      this.play.textContent = "▶";
      return;
    }
    this.play.textContent = "⏸";
    this.timer = setInterval(() => this.setStep(this.step + 1 < this.data.times.n ? this.step + 1 : 0), 80);
  }

  open(found) {
    const {times, gauges, map} = this.data,
      curves = [];
    let title = "",
      told = "";
    if (found.gauge !== undefined) {
      const i = found.gauge,
        of = values => values.subarray(i * times.n, (i + 1) * times.n),
        ids = map.gauges.ids;
      title = map.gauges.names[i] === ids[i] ? `Gauge ${ids[i]}` : `${map.gauges.names[i]} (${ids[i]})`;
      told = gauges.told[i];
      if (gauges.observed) curves.push({name: "observed", y: of(gauges.observed), colour: "#1a1a1a"});
      curves.push({name: "simulated", y: of(gauges.simulated), colour: "#d55e00"});
    } else {
      const i = found.reach,
        layer = this.moving;
      title = `Reach ${map.reaches.ids[i]}`;
      told = `${shown(map.reaches.area[i])} km²`;
      if (!layer || i >= layer.kept)
        told += layer
          ? " · no series: it is among the smaller reaches, see About this page"
          : " · the output has no discharge at reaches, see About this page";
      else
        curves.push({
          name: "simulated",
          y: Float32Array.from({length: times.n}, (_, t) => flowOf(layer, layer.frames[t * layer.kept + i])),
          colour: "#d55e00",
        });
    }
    const kept = this.chart.spec ? [this.chart.low, this.chart.high] : null;
    this.chart.show({
      title,
      told,
      xlabel: "",
      ylabel: "Discharge [m³ s⁻¹]",
      limits: [0, null],
      log: false,
      steps: true,
      curves,
      times,
    });
    if (kept) [this.chart.low, this.chart.high] = kept;
    this.chart.draw();
  }
}

async function begin() {
  const data = await unpackAll(JSON.parse(document.getElementById("data").textContent)),
    nav = document.querySelector("nav");
  document.querySelectorAll("section > h2").forEach((heading, k) => {
    heading.id = `part${k}`;
    const link = nav && make(nav, "a", "", heading.textContent);
    if (link) link.href = `#part${k}`;
  });
  window.drawn = [];
  for (const [kind, Drawing] of [
    ["chart", Chart],
    ["map", Plan],
    ["view", View],
  ])
    document
      .querySelectorAll(`.${kind}[data-key]`)
      .forEach(place => window.drawn.push(new Drawing(place, data[place.dataset.key])));
  document.body.dataset.ready = "yes";
}
begin().catch(error => {
  const told = document.createElement("p");
  told.textContent = `This page cannot be drawn: ${error}. It needs a browser of 2023 or later.`;
  document.body.prepend(told);
  document.body.dataset.ready = "failed";
});
