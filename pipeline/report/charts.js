// What charts answer: values under the pointer, thresholds that can be dragged, lines that can be zoomed into.
// Each chart carries its numbers in the attribute data-chart, a threshold what it would keep in data-curve.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

// ---- numbers, as the program writes them ----

const count = (value) => Math.round(value).toLocaleString("en-US");
const significant = (value, digits) => {
  const exponent = value ? Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits))))) : 0;
  return value.toFixed(Math.max(0, digits - 1 - exponent));
};
const scaled = (value, steps, space) => {
  const [step, unit] = steps.find(([least]) => Math.abs(value) >= least * 0.9995) ?? [1, ""];
  return `${significant(value / step, 3)}${space}${unit}`;
};
const size = (value) =>
  value < 999.5 ? `${Math.round(value)} B` : scaled(value, [[1e15, "PB"], [1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]], " ");
const short = (value) =>
  value < 9999.5 ? count(value) : scaled(value, [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]], "");
const plain = (value) => String(Number(value.toPrecision(6)));
const signed = (value) => (value < 0 ? "−" : value > 0 ? "+" : "±") + count(Math.abs(value));

// ---- places on an axis: [start, end, low, high, logarithmic] ----

const along = ([, , low, high, log]) => (value) =>
  log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low || 1);
const placed = (axis) => (value) => axis[0] + (axis[1] - axis[0]) * along(axis)(value);
const valueAt = ([start, end, low, high, log]) => (place) => {
  const part = (place - start) / (end - start);
  return log ? low * (high / low) ** part : low + (high - low) * part;
};
const nearest = (values, wanted, distance = (a, b) => Math.abs(a - b)) =>
  values.reduce((best, value, index) => (distance(value, wanted) < distance(values[best], wanted) ? index : best), 0);

function pointerIn(svg, event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [point.x, point.y];
}

// ---- values under the pointer ----

const tip = make("div", { class: "tip", role: "status" });
tip.hidden = true;
document.body.append(tip);

function showTip(event, text) {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
}

const NAMES = { kept: "kept", dropped: "dropped for this signal", other: "dropped for another" };

function columnText(chart, x) {
  const value = valueAt(chart.x)(x);
  const column = chart.edges.findIndex((edge, index) => edge <= value && value < chart.edges[index + 1]);
  if (column < 0) return "";
  const counts = chart.layers.map(([name, heights]) => [NAMES[name], heights[column]]).filter(([, number]) => number);
  const range = `${plain(chart.edges[column])} to ${plain(chart.edges[column + 1])}`;
  return [range, ...counts.map(([name, number]) => `${count(number)} ${name}`)].join("\n");
}

function pointText(chart, x) {
  const value = valueAt(chart.x)(x);
  const lines = chart.series.map(({ name, points }) => {
    const inside = points.filter(([at]) => at >= chart.x[2] && at <= chart.x[3]);
    if (!inside.length) return "";
    const [at, y] = inside[nearest(inside.map(([place]) => place), value)];
    return `${name ? `${name}: ` : ""}${plain(y)} at ${plain(at)}`;
  });
  return lines.filter(Boolean).join("\n");
}

function addHover(svg, chart) {
  const text = chart.edges ? columnText : pointText;
  svg.addEventListener("pointermove", (event) => {
    const [x] = pointerIn(svg, event);
    showTip(event, event.buttons || x < chart.x[0] || x > chart.x[1] ? "" : text(chart, x));
  });
  svg.addEventListener("pointerleave", () => (tip.hidden = true));
}

// ---- thresholds that are dragged ----

function addThreshold(svg, chart, handle) {
  const curve = JSON.parse(handle.dataset.curve);
  const figure = svg.closest("figure");
  const at = placed(chart.x);
  const place = (index) => at(Math.min(Math.max(curve.at[index] + curve.shift, chart.edges[0]), chart.edges.at(-1)));
  const start = curve.at.indexOf(curve.value);
  const label = handle.querySelector("text");
  const written = label.textContent;
  const said = make("p", { class: "whatif", "aria-live": "polite" });
  said.hidden = true;
  figure.append(said);
  let index = start;

  function move(to) {
    index = Math.min(Math.max(to, 0), curve.at.length - 1);
    const value = curve.at[index];
    handle.setAttribute("transform", `translate(${(place(index) - place(start)).toFixed(1)} 0)`);
    handle.setAttribute("aria-valuenow", value);
    label.textContent = index === start ? written : written.replace(curve.label, plain(value));
    said.hidden = index === start;
    const [documents, bytes] = [curve.documents[index], curve.bytes[index]];
    const change = signed(documents - curve.documents[start]);
    const words = `${count(documents)} documents (${change}), ${size(bytes)}, about ${short(bytes / curve.bytes_per_token)} tokens`;
    handle.setAttribute("aria-valuetext", `${plain(value)}: ${words}`);
    said.replaceChildren(
      `${curve.rule} ${curve.drops === "below" ? "at least" : "at most"} `, make("strong", {}, plain(value)),
      `: ${curve.stage} keeps `, make("strong", { "data-documents": documents, "data-bytes": bytes }, words), ". ",
      make("code", {}, `mill whatif RECIPE --set '${curve.setting}=${value}'`),
    );
  }

  handle.setAttribute("role", "slider");
  handle.setAttribute("tabindex", "0");
  handle.setAttribute("aria-label", `Threshold of ${curve.rule}`);
  handle.setAttribute("aria-valuemin", curve.at[0]);
  handle.setAttribute("aria-valuemax", curve.at.at(-1));
  const line = handle.querySelector("line");
  const [x, top, bottom] = ["x1", "y1", "y2"].map((name) => Number(line.getAttribute(name)));
  handle.prepend(draw("rect", { class: "grip", x: x - 11, y: top, width: 22, height: bottom - top }));
  svg.insertBefore(draw("line", { class: "was", x1: x, x2: x, y1: top, y2: bottom }), handle);
  svg.setAttribute("role", "group"); // what is inside an image is not read out
  svg.setAttribute("aria-label", svg.querySelector("title").textContent);
  move(start);

  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    handle.focus();
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const wanted = pointerIn(svg, event)[0];
    move(nearest(curve.at.map((_, point) => place(point)), wanted));
  });
  handle.addEventListener("dblclick", () => move(start));
  handle.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
    const ends = { Home: 0, End: curve.at.length - 1, Escape: start };
    const to = event.key in steps ? index + steps[event.key] : ends[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(to);
  });
}

// ---- lines that are zoomed into ----

// About `wanted` round values in [low, high], as charts.nice_ticks makes them.
function ticks(low, high, wanted) {
  const span = high - low || Math.abs(high) || 1;
  const unit = 10 ** Math.floor(Math.log10(span / wanted));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((one) => span / one <= wanted) ?? 10 * unit;
  const [first, last] = [Math.ceil(low / step - 1e-9), Math.floor(high / step + 1e-9)];
  return first > last ? [low] : Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

function axes(chart) {
  const [x, y] = [placed(chart.x), placed(chart.y)];
  const [left, right] = chart.x;
  const bottom = chart.y[0];
  const drawn = [];
  for (const value of ticks(chart.y[2], chart.y[3], 5)) {
    drawn.push(draw("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }));
    drawn.push(draw("text", { class: "axis end", x: left - 6, y: y(value) + 4 }, plain(value)));
  }
  for (const value of ticks(chart.x[2], chart.x[3], 5)) {
    drawn.push(draw("line", { class: "tick", x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4 }));
    drawn.push(draw("text", { class: "axis middle", x: x(value), y: bottom + 17 }, plain(value)));
  }
  return drawn;
}

function addZoom(svg, chart) {
  const plot = svg.querySelector("g.plot");
  const whole = { x: [...chart.x], y: [...chart.y], drawn: [...plot.childNodes] };
  const band = draw("rect", { class: "band", y: chart.y[1], height: chart.y[0] - chart.y[1], width: 0 });
  const reset = make("button", { type: "button", class: "csv" }, "Zoom out");
  reset.hidden = true;
  svg.append(band);
  svg.after(reset);
  svg.classList.add("zooms");
  let from = null;

  function zoom(low, high) {
    const parts = chart.series.map((one) => ({ ...one, points: one.points.filter(([at]) => at >= low && at <= high) }));
    const values = parts.flatMap(({ points }) => points.map(([, value]) => value));
    if (parts.every(({ points }) => points.length < 2)) return;
    chart.x.splice(2, 2, low, high);
    chart.y.splice(2, 2, Math.min(...values), Math.max(...values));
    const [x, y] = [placed(chart.x), placed(chart.y)];
    const lines = parts.flatMap(({ name, kind, joined, points }) => {
      if (!points.length) return [];
      const places = points.map(([at, value]) => [x(at).toFixed(1), y(value).toFixed(1)]);
      const dots = joined ? places.slice(-1) : places;
      const path = `M${places.map((one) => one.join(" ")).join("L")}`;
      const [endX, endY] = places.at(-1).map(Number);
      return [
        ...(joined ? [draw("path", { class: `line ${kind}`, d: path })] : []),
        ...dots.map(([cx, cy]) => draw("circle", { class: `dot ${kind}`, cx, cy, r: 2.5 })),
        ...(name ? [draw("text", { class: `seriesname ${kind} start`, x: endX + 7, y: endY + 4 }, `${name} ${plain(points.at(-1)[1])}`)] : []),
      ];
    });
    plot.replaceChildren(...axes(chart), ...lines);
    reset.hidden = false;
  }

  svg.addEventListener("pointerdown", (event) => {
    from = Math.min(Math.max(pointerIn(svg, event)[0], chart.x[0]), chart.x[1]);
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = Math.min(Math.max(pointerIn(svg, event)[0], chart.x[0]), chart.x[1]);
    band.setAttribute("x", Math.min(from, to));
    band.setAttribute("width", Math.abs(to - from));
  });
  svg.addEventListener("pointerup", () => {
    const [start, width] = ["x", "width"].map((name) => Number(band.getAttribute(name)));
    band.setAttribute("width", 0);
    from = null;
    if (width > 4) zoom(valueAt(chart.x)(start), valueAt(chart.x)(start + width));
  });
  reset.addEventListener("click", () => {
    [chart.x, chart.y] = [[...whole.x], [...whole.y]];
    plot.replaceChildren(...whole.drawn);
    reset.hidden = true;
  });
}

for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const chart = JSON.parse(svg.dataset.chart);
  addHover(svg, chart);
  for (const handle of svg.querySelectorAll("[data-curve]")) addThreshold(svg, chart, handle);
  if (chart.series && !chart.x[4]) addZoom(svg, chart);
}
