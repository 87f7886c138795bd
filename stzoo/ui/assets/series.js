// Curves of one or two series in one plot. props.value: see stzoo/ui/series.py.
const root = element.querySelector(".stzoo-series");
const plot = make("canvas", {className: "plot", tabIndex: 0, role: "img"});
const said = make("p", {className: "said", role: "status"});
const legend = make("div", {className: "legend", role: "group", "aria-label": "Curves"});
const about = make("p", {className: "about"});
const whole = make("button", {type: "button", onclick: () => { view = null; draw(); }}, "Whole range");
const tools = make("div", {className: "tools"}, whole);
const empty = make("p", {className: "empty"}, "Nothing yet");
root.append(empty, legend, plot, said, tools, about);
const LEFT = 58, RIGHT = 12, TOP = 10, BOTTOM = 26;
const group = `curve-${Math.random()}`;
let value = null, shown = [], view = null, cursor = null, drag = null;

const hue = index => props.hues[index % props.hues.length];
const named = () => value.places && value.places.length;  // places with names, not an axis
const ends = () => {
  const all = value.parts.filter(part => part.at.length).map(part => [part.at[0], part.at[part.at.length - 1]]), room = named() ? 0.5 : 0;
  return [Math.min(...all.map(pair => pair[0])) - room, Math.max(...all.map(pair => pair[1])) + room];
};
const number = item => item === null || item === undefined ? "missing" : String(+item.toPrecision(6));
function moment(at, span) {
  if (named()) return value.places[Math.round(at)] || "";
  if (!value.timed) return String(Math.round(at) + 1);
  const day = new Date(at).toISOString();
  return span > 3 * 864e5 && at % 864e5 === 0 ? day.slice(0, 10) : span < 18e4 ? day.slice(11, 19) : day.slice(0, 16).replace("T", " ");
}
// The index in a rising list that is nearest to a number.
function nearest(list, at) {
  let low = 0, high = list.length - 1;
  while (high - low > 1) { const middle = low + high >> 1; if (list[middle] <= at) low = middle; else high = middle; }
  return Math.abs(list[low] - at) <= Math.abs(list[high] - at) ? low : high;
}

function draw() {
  if (!value) return;
  const width = plot.clientWidth, height = plot.clientHeight, ratio = window.devicePixelRatio || 1;
  if (!width) return;
  plot.width = width * ratio; plot.height = height * ratio;
  const pen = plot.getContext("2d"), style = getComputedStyle(plot);
  pen.scale(ratio, ratio);
  pen.font = `12px ${style.fontFamily}`;
  const ink = style.getPropertyValue("--body-text-color-subdued") || "#64748b", rule = style.getPropertyValue("--border-color-primary") || "#cbd5e1";
  let [from, to] = view || ends();
  if (to <= from) to = from + 1;
  let low = Infinity, high = -Infinity;
  for (const part of value.parts) part.values.forEach((curve, index) => shown[index] && curve.forEach((item, step) => {
    if (item !== null && part.at[step] >= from && part.at[step] <= to) { low = Math.min(low, item); high = Math.max(high, item); }
  }));
  if (low > high) { low = 0; high = 1; }
  if (low === high) { low -= 0.5; high += 0.5; }
  const margin = 0.05 * (high - low); low -= margin; high += margin;
  const x = at => LEFT + (at - from) / (to - from) * (width - LEFT - RIGHT), y = item => height - BOTTOM - (item - low) / (high - low) * (height - TOP - BOTTOM);
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find(item => item * power >= rough) * power;
  pen.strokeStyle = rule; pen.fillStyle = ink; pen.lineWidth = 1; pen.textAlign = "right"; pen.textBaseline = "middle";
  for (let line = Math.ceil(low / step) * step; line <= high; line += step) {
    pen.beginPath(); pen.moveTo(LEFT, y(line)); pen.lineTo(width - RIGHT, y(line)); pen.stroke();
    pen.fillText(String(+line.toPrecision(4)), LEFT - 6, y(line));
  }
  pen.textBaseline = "top";
  const [first, final] = named() ? [Math.ceil(from), Math.floor(to)] : [from, to], most = width < 420 ? 2 : width < 640 ? 3 : 5;
  const marks = value.timed ? most : Math.max(1, Math.min(most, Math.floor(final - first) + 1));
  for (let index = 0; index < marks; index++) {
    pen.textAlign = named() ? "center" : index ? index === marks - 1 ? "right" : "center" : "left";
    const at = marks > 1 ? first + (final - first) * index / (marks - 1) : first;
    pen.fillText(moment(at, to - from), x(at), height - BOTTOM + 8);
  }
  pen.save();
  pen.beginPath(); pen.rect(LEFT, 0, width - LEFT - RIGHT, height - BOTTOM); pen.clip();
  value.parts.forEach((part, which) => {
    const only = value.parts.length === 1, last = which === value.parts.length - 1;
    if (!only && last && part.at.length) {
      pen.fillStyle = ink; pen.globalAlpha = 0.1;
      pen.fillRect(x(part.at[0]), TOP, x(part.at[part.at.length - 1]) - x(part.at[0]) + 1, height - TOP - BOTTOM);
      pen.globalAlpha = 1;
    }
    part.values.forEach((curve, index) => {
      if (!shown[index]) return;
      pen.strokeStyle = hue(index); pen.lineWidth = only || last ? 2 : 1.25; pen.globalAlpha = only || last ? 1 : 0.7;
      pen.setLineDash([]); pen.lineJoin = "round"; pen.beginPath();
      let on = false;
      const before = which && value.parts[which - 1];
      if (before && before.values[index] && before.at[before.at.length - 1] < part.at[0]) {
        const end = before.values[index][before.at.length - 1];
        if (end !== null) { pen.moveTo(x(before.at[before.at.length - 1]), y(end)); on = true; }
      }
      curve.forEach((item, position) => {
        if (item === null) { on = false; return; }
        if (named()) { pen.fillStyle = hue(index); pen.fillRect(x(part.at[position]) - 4, y(item) - 4, 8, 8); }
        else if (on) pen.lineTo(x(part.at[position]), y(item)); else pen.moveTo(x(part.at[position]), y(item));
        on = true;
      });
      pen.stroke();
      if (part.at.length === 1 && curve[0] !== null) { pen.beginPath(); pen.arc(x(part.at[0]), y(curve[0]), 3, 0, 7); pen.fillStyle = hue(index); pen.fill(); }
    });
    pen.globalAlpha = 1;
  });
  if (cursor !== null) {
    pen.strokeStyle = ink; pen.lineWidth = 1; pen.beginPath(); pen.moveTo(x(cursor), TOP); pen.lineTo(x(cursor), height - BOTTOM); pen.stroke();
  }
  if (drag && Math.abs(drag.from - drag.to) > 4) {
    pen.fillStyle = ink; pen.globalAlpha = 0.2; pen.fillRect(drag.from, TOP, drag.to - drag.from, height - TOP - BOTTOM);
  }
  pen.restore();
  whole.hidden = !view;
  tell();
}

// The part and the step under the cursor.
function under() {
  const part = [...value.parts].reverse().find(item => item.at.length && cursor >= item.at[0]) || value.parts[0];
  return {part, step: nearest(part.at, cursor)};
}
function tell() {
  if (cursor === null) { said.replaceChildren("Point at the plot, or use the arrow keys, to read values; drag to zoom"); return; }
  const {part, step} = under(), [from, to] = view || ends();
  const items = part.names.flatMap((name, index) => {
    if (!shown[index]) return [];
    const patch = make("i"); patch.style.background = hue(index);
    return [make("span", {}, patch, `${name}: ${number(part.values[index][step])}`)];
  });
  said.replaceChildren(make("span", {}, value.single ? `${part.label} ${moment(part.at[step], to - from)}` : `${moment(part.at[step], to - from)} (${part.label})`), ...items);
}
const time = event => {
  const box = plot.getBoundingClientRect(), [from, to] = view || ends();
  return from + Math.min(1, Math.max(0, (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT))) * (to - from);
};
const snapped = at => { cursor = at; const {part, step} = under(); return part.at[step]; };
plot.addEventListener("pointermove", event => {
  if (!value) return;
  cursor = snapped(time(event));
  if (drag) drag.to = event.clientX - plot.getBoundingClientRect().left;
  draw();
});
plot.addEventListener("pointerdown", event => {
  if (!value) return;
  cursor = snapped(time(event));
  if (event.pointerType === "mouse") { const left = event.clientX - plot.getBoundingClientRect().left; drag = {from: left, to: left, at: time(event)}; plot.setPointerCapture(event.pointerId); }
  draw();
});
plot.addEventListener("pointerup", event => {
  if (drag && Math.abs(drag.to - drag.from) > 4) { const end = time(event); view = [Math.min(drag.at, end), Math.max(drag.at, end)]; }
  drag = null;
  if (value) draw();
});
plot.addEventListener("dblclick", () => { view = null; draw(); });
plot.addEventListener("keydown", event => {
  const move = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!move || !value) return;
  event.preventDefault();
  if (cursor === null) { cursor = ends()[0]; }
  else {
    const all = value.parts.flatMap(part => part.at), next = nearest(all, cursor) + move * (event.shiftKey ? 10 : 1);
    cursor = all[Math.min(all.length - 1, Math.max(0, next))];
  }
  draw();
});
new ResizeObserver(() => draw()).observe(plot);

function update() {
  value = props.value && props.value.parts ? props.value : null;
  for (const part of [legend, plot, said, tools, about]) part.hidden = !value;
  empty.hidden = Boolean(value);
  view = cursor = drag = null;
  if (!value) return;
  const names = value.parts[value.parts.length - 1].names;
  shown = names.map((_, index) => index < (value.single ? 1 : props.hues.length));
  legend.replaceChildren(...names.map((name, index) => {
    const change = () => { if (value.single) shown.fill(false); shown[index] = box.checked; draw(); };
    const box = make("input", {type: value.single ? "radio" : "checkbox", name: group, checked: shown[index], onchange: change});
    const patch = make("i"); patch.style.background = hue(index);
    return make("label", {}, box, patch, make("span", {}, name));
  }));
  const notes = [];
  if (value.parts.length > 1) notes.push(`shaded: ${value.parts[value.parts.length - 1].label}; before it what was given`);
  if (value.hidden) notes.push(`${value.hidden} more variables are in the downloads`);
  if (value.thinned) notes.push("drawn with fewer points; downloads hold all of them");
  about.textContent = notes.join(" · ");
  about.hidden = !notes.length;
  plot.setAttribute("aria-label", `Curves of ${names.join(", ")}`);
  draw();
}
watch("value", update);
update();
