"use strict";
// What the page adds where scripts run: what a dot is, one trial in all charts, ranges on parallel axes, and a table to
// sort, filter and copy from. Without it, all of the content is there all the same.
const facts = JSON.parse(document.getElementById("facts").textContent);
const tip = document.getElementById("tip");
const SVG = "http://www.w3.org/2000/svg";
document.documentElement.classList.add("scripted");

const show = (value) =>
  value === null || value === undefined ? ""
    : Array.isArray(value) ? value.map(show).join(" ")
    : typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4)))
    : String(value);

// A value as YAML, which JSON is a part of.
const yaml = (value) => JSON.stringify(value);

for (const article of document.querySelectorAll("article")) interact(article, facts.studies[Number(article.dataset.study)]);

function interact(article, study) {
  const trials = rows(study);
  const byNumber = new Map(trials.map((trial) => [trial.number, trial]));
  const table = article.querySelector("table.trials");
  const state = { ranges: new Map(), filter: "", sort: null, down: false, chosen: null };
  const columns = columnsOf(study, table);

  // --- one trial in all charts
  function choose(number) {
    state.chosen = number;
    for (const old of article.querySelectorAll(".hover")) old.remove();
    for (const dots of article.querySelectorAll(".dots[data-trials]")) {
      const at = points(dots).find((point) => point.trial === number);
      if (!at) continue;
      const ring = document.createElementNS(SVG, "circle");
      for (const [name, value] of Object.entries({ cx: at.x, cy: at.y, r: 7, class: "hover" })) ring.setAttribute(name, value);
      dots.after(ring);
    }
    for (const line of article.querySelectorAll(".parallel .line")) line.classList.toggle("chosen", Number(line.dataset.trial) === number);
    for (const row of table.tBodies[0].rows) row.classList.toggle("chosen", Number(row.cells[0].textContent) === number);
    article.querySelector(".copy").disabled = number === null;
  }

  for (const svg of article.querySelectorAll("svg")) {
    const dots = [...svg.querySelectorAll(".dots[data-trials]")].flatMap(points);
    if (!dots.length) continue;
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      const x = (event.clientX - box.left) / scale, y = (event.clientY - box.top) / scale;
      const near = dots.reduce((a, b) => (Math.hypot(a.x - x, a.y - y) <= Math.hypot(b.x - x, b.y - y) ? a : b));
      if (Math.hypot(near.x - x, near.y - y) > 14) return hide();
      choose(near.trial);
      tell(event, byNumber.get(near.trial));
    });
    svg.addEventListener("pointerleave", hide);
  }

  function tell(event, trial) {
    if (!trial) return hide();
    const values = Object.entries(trial.point).filter(([name]) => study.varies.has(name));
    tip.textContent = [`trial ${trial.number} (${trial.status})`, `${study.metric} ${show(trial.metrics[study.metric])}`,
      ...values.map(([name, value]) => `${name} ${show(value)}`)].join("\n");
    tip.hidden = false;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  }
  function hide() { tip.hidden = true; }

  // --- ranges on parallel axes
  for (const axis of article.querySelectorAll(".brush")) {
    const area = axis.querySelector("rect"), svg = axis.ownerSVGElement, name = axis.dataset.axis;
    const top = area.y.baseVal.value, height = area.height.baseVal.value;
    const lines = [...svg.querySelectorAll(".line")], x = area.x.baseVal.value + area.width.baseVal.value / 2;
    const scale = JSON.parse(axis.dataset.scale);
    let from = null;
    const at = (event) => {
      const box = svg.getBoundingClientRect();
      const y = (event.clientY - box.top) / (box.height / svg.viewBox.baseVal.height);
      return Math.min(Math.max(y, top), top + height);
    };
    area.addEventListener("pointerdown", (event) => { from = at(event); area.setPointerCapture(event.pointerId); });
    area.addEventListener("pointermove", (event) => { if (from !== null) draw(from, at(event)); });
    area.addEventListener("pointerup", (event) => {
      const to = at(event), wide = Math.abs(to - from) > 4;
      if (wide) draw(from, to); else axis.querySelector(".range")?.remove();
      const low = 1 - (Math.max(from, to) - top) / height, high = 1 - (Math.min(from, to) - top) / height;
      const inside = (trial) => { const at = share(scale, valueOf(trial, name, study)); return at >= low && at <= high; };
      if (wide) state.ranges.set(name, new Set(trials.filter(inside).map((trial) => trial.number)));
      else state.ranges.delete(name);
      from = null;
      for (const line of lines) line.classList.toggle("off", !within(Number(line.dataset.trial)));
      fill();
    });
    function draw(a, b) {
      const range = axis.querySelector(".range") ?? axis.appendChild(document.createElementNS(SVG, "rect"));
      const box = { class: "range", x: x - 8, width: 16, y: Math.min(a, b), height: Math.max(1, Math.abs(a - b)) };
      for (const [key, value] of Object.entries(box)) range.setAttribute(key, value);
    }
  }
  const within = (number) => [...state.ranges.values()].every((some) => some.has(number));

  // --- the table
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells], names = heads.map((head) => head.textContent);
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      state.down = state.sort === i ? !state.down : false;
      state.sort = i;
      heads.forEach((one, j) => (j === i ? one.setAttribute("aria-sort", state.down ? "descending" : "ascending") : one.removeAttribute("aria-sort")));
      fill();
    });
    head.replaceChildren(button);
  });
  const cell = (trial, i) => columns[i](trial);

  // `lr<0.01 adam`: each part is a comparison of a column, or text that some cell has.
  function matches(trial) {
    return state.filter.split(/[\s,]+/).filter(Boolean).every((part) => {
      const found = part.match(/^(.+?)(<=|>=|<|>|=)(.+)$/);
      const column = found ? names.indexOf(found[1]) : -1;
      if (column < 0) return names.some((_, i) => show(cell(trial, i)).toLowerCase().includes(part.toLowerCase()));
      const value = cell(trial, column), wanted = Number(found[3]);
      if (found[2] === "=") return show(value) === found[3] || value === wanted;
      if (typeof value !== "number") return false;
      return { "<": value < wanted, ">": value > wanted, "<=": value <= wanted, ">=": value >= wanted }[found[2]];
    });
  }

  function fill() {
    const some = trials.filter((trial) => within(trial.number) && matches(trial));
    if (state.sort !== null) some.sort((a, b) => order(cell(a, state.sort), cell(b, state.sort)) * (state.down ? -1 : 1));
    const shown = some.slice(0, 500).map((trial) => {
      const row = document.createElement("tr");
      names.forEach((_, i) => {
        const value = cell(trial, i), td = row.insertCell();
        if (i === 0) {
          const pick = td.appendChild(document.createElement("button"));
          pick.type = "button";
          pick.className = "pick";
          pick.textContent = value;
        } else td.textContent = show(value);
        if (typeof value === "number") td.className = "n";
      });
      return row;
    });
    table.tBodies[0].replaceChildren(...shown);
    article.querySelector(".count").textContent = `${some.length} of ${trials.length} trials`;
    choose(state.chosen);
  }
  table.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) choose(Number(row.cells[0].textContent));
  });
  article.querySelector(".filter").addEventListener("input", (event) => { state.filter = event.target.value.trim(); fill(); });
  article.querySelector(".copy").addEventListener("click", () => {
    const trial = byNumber.get(state.chosen);
    const text = Object.entries(trial.point).map(([name, value]) => `${name}: ${yaml(value)}`).join("\n");
    copy(text + "\n");
    article.querySelector(".count").textContent = `trial ${trial.number} is copied`;
  });
  fill();
}

// What each column of the table shows of a trial: its place says so, as a metric may have any name.
function columnsOf(study, table) {
  const metrics = Object.keys(study.trials.metrics), rest = [...table.tHead.rows[0].cells].slice(4 + metrics.length);
  return [(t) => t.number, (t) => t.status, ...metrics.map((name) => (t) => t.metrics[name]), (t) => t.epoch, (t) => t.seconds,
    ...rest.map((head) => head.textContent).map((name) => (t) => t.flat.get(name))];
}

// Where a value lies on an axis, 0 to 1; nowhere if there is none.
function share(scale, value) {
  if (scale.options) {
    const at = scale.options.findIndex((option) => JSON.stringify(option) === JSON.stringify(value));
    return at < 0 ? NaN : (at + 0.5) / scale.options.length;
  }
  if (typeof value !== "number") return NaN;
  const part = scale.log ? Math.log(value / scale.low) / Math.log(scale.high / scale.low) : (value - scale.low) / (scale.high - scale.low);
  return Math.min(Math.max(part, 0), 1);
}

function valueOf(trial, name, study) {
  return trial.flat.has(name) ? trial.flat.get(name) : name === study.metric ? trial.metrics[name] : undefined;
}

// The trials as objects: the page holds a list for each column.
function rows(study) {
  const { number, status, metrics, epoch, seconds, point, inactive } = study.trials;
  study.varies = new Set(Object.keys(point).filter((name) => new Set(point[name].map((value) => JSON.stringify(value))).size > 1));
  const without = new Map(Object.entries(inactive).map(([name, places]) => [name, new Set(places)]));
  return number.map((n, i) => {
    const there = Object.entries(point).filter(([name]) => !without.get(name)?.has(i));
    const mine = Object.fromEntries(there.map(([name, column]) => [name, column[i]]));
    const flat = new Map(Object.entries(mine).flatMap(([name, value]) =>
      Array.isArray(value) ? value.map((one, j) => [`${name}_${j}`, one]) : [[name, value]]));
    return { number: n, status: status[i], epoch: epoch[i], seconds: seconds[i], point: mine, flat,
      metrics: Object.fromEntries(Object.entries(metrics).map(([name, column]) => [name, column[i]])) };
  });
}

// The dots of a path, `M x y h0` for each, with their trials.
function points(path) {
  const numbers = path.dataset.trials.split(" ").map(Number);
  return [...path.getAttribute("d").matchAll(/M([\d.-]+) ([\d.-]+)/g)].map(([, x, y], i) => ({ x: Number(x), y: Number(y), trial: numbers[i] }));
}

// Numbers by size, text by the alphabet, what is missing last.
function order(a, b) {
  const none = (value) => value === null || value === undefined;
  if (none(a) || none(b)) return Number(none(a)) - Number(none(b));
  return typeof a === "number" && typeof b === "number" ? a - b : show(a).localeCompare(show(b));
}

// A sandboxed frame may have no clipboard: then the old way.
function copy(text) {
  const old = () => {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).catch(old); else old();
}
