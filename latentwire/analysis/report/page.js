"use strict";
// Draws the report from the JSON in #data. Names, prompts and answers are foreign text: they reach
// the page through text nodes and attributes of our own only, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const CONTROLS = data.controls; // name -> title
  const WHICH = [
    ["all", "all questions"],
    ["answers", "different letters"],
    ["outcomes", "only one of the two is right"],
    ["first", "only the first is right"],
    ["second", "only the second is right"],
    ["neither", "neither is right"],
    ["unparsed", "no letter in either answer"],
  ];
  const POINTS_PAGE = 50, QUESTIONS_PAGE = 25, RUNS_PAGE = 20, MOST_TIPS = 4;

  // ---- elements and numbers ----

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    for (const child of children) if (child !== null) node.append(child);
    return node;
  }
  const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  // Ties to even, as the tables' percents: 26.25 is 26.2 in both. A tie ends in .25 or .75, of which toFixed has the latter right.
  const percent = (share, signed) => {
    const exact = 100 * share, tie = Math.abs(exact % 1) === 0.25;
    const value = Number((tie ? exact - Math.sign(exact) * 0.05 : exact).toFixed(1)) + 0;
    return (signed && value > 0 ? "+" : "") + value.toFixed(1);
  };
  function humanBytes(value) {
    for (const unit of ["B", "kB", "MB"]) {
      if (Number(value.toPrecision(3)) < 1000) return `${Number(value.toPrecision(3))} ${unit}`;
      value /= 1000;
    }
    return `${Number(value.toPrecision(3))} GB`;
  }
  const whole = (value) => value.toLocaleString("en");
  const interval = (low, high, signed) => `[${percent(low, signed)}, ${percent(high, signed)}]`;
  const moment = (ms) => ms === null ? "" : new Date(ms).toISOString().slice(0, 16).replace("T", " ") + " UTC";

  // ---- conditions ----

  const group = (point) => data.groups[point.group];
  const onWire = (point) => data.systems[point.system] === "cache";
  const isShared = (point) => point.wire_bytes_per_question !== null && point.wire_bytes_per_question < point.wire_bytes_mean;
  const isAlone = (point) => !data.systems[point.system];
  const isWhole = (point) => point.keep_ratio === 1 && point.budget_bytes === null && point.budget_ratio === null;
  const fitted = (point) => (point.calibration ? `, calibration ${point.calibration.slice(0, 10)}` : "") +
    (group(point).source === "published" ? ", published" : "");
  // Whether what a mark of this kind shows is of all questions, and of how many it is.
  const inPlaceOfOwn = Object.keys(CONTROLS).filter((control) => control !== "matched");
  const unpaired = inPlaceOfOwn.filter((control) => control !== "deranged"); // no gain is made with them
  const askedOf = (point, kind) => kind === "gain" ? point.pairing_examples : inPlaceOfOwn.includes(kind) ? point[`${kind}_examples`] : point.examples;
  const isComplete = (point, kind) => (unpaired.includes(kind) || point.complete) &&
    (kind === "gain" ? point.deranged_examples : askedOf(point, kind)) >= point.examples_total;
  const PALE = .4;
  const DASHES = { front: null, back: "6 4" }; // of the lines through an order's points; others are dotted
  const sender = (point) => (onWire(point) ? point.codec : point.name) + fitted(point);
  const named = (point) => point.name + fitted(point);

  const sets = []; // of one pair and dataset: the groups of its sources
  data.groups.forEach((each, place) => {
    let found = sets.find((set) => set.pair === each.pair && set.dataset === each.dataset);
    if (!found) sets.push(found = { pair: each.pair, dataset: each.dataset, groups: [] });
    found.groups.push(place);
  });

  const state = {
    set: 0, more: [], off: Object.fromEntries(data.filters.map(({ axis }) => [axis, new Set(axis === "control" ? unpaired : [])])),
    content: false, sort: "wire_bytes_mean", down: true, first: null, second: null, open: new Set(), page: {},
  };
  const setPoints = () => data.points.filter((point) => sets[state.set].groups.includes(point.group));
  const metric = () => setPoints()[0]?.metric ?? "accuracy";
  const isShown = (point) => isAlone(point) || Object.entries(point.filters).every(([axis, value]) => !state.off[axis].has(value));
  const word = (codec) => data.words[codec] ?? codec;
  const style = (codec) => data.styles[codec] || ["#5A5A5A", "p"];

  // ---- pages of long tables ----

  function paged(id, count, size, draw) {
    const last = Math.max(0, Math.ceil(count / size) - 1);
    const page = state.page[id] = Math.min(state.page[id] || 0, last);
    const go = (to) => () => { state.page[id] = to; draw(); };
    const pager = byId(`${id}-pager`);
    pager.replaceChildren();
    if (last > 0) {
      pager.append(
        el("button", { type: "button", disabled: page === 0, on: { click: go(0) } }, "first"),
        el("button", { type: "button", disabled: page === 0, on: { click: go(page - 1) } }, "previous"),
        el("span", {}, `${whole(page * size + 1)} to ${whole(Math.min(count, (page + 1) * size))} of ${whole(count)}`),
        el("button", { type: "button", disabled: page === last, on: { click: go(page + 1) } }, "next"),
        el("button", { type: "button", disabled: page === last, on: { click: go(last) } }, "last"),
      );
    }
    return [page * size, Math.min(count, (page + 1) * size)];
  }

  // ---- marks of the chart ----

  function shape(marker, x, y, size, look) {
    const polygon = (corners) => svg("polygon", { points: corners.map(([a, b]) => `${x + a * size},${y + b * size}`).join(" "), ...look });
    const around = (count, turn) => Array.from({ length: count }, (_, k) => {
      const angle = turn + 2 * Math.PI * k / count;
      return [1.15 * Math.cos(angle), 1.15 * Math.sin(angle)];
    });
    switch (marker) {
      case "s": return polygon([[-.9, -.9], [.9, -.9], [.9, .9], [-.9, .9]]);
      case "^": return polygon(around(3, -Math.PI / 2));
      case "v": return polygon(around(3, Math.PI / 2));
      case "<": return polygon(around(3, Math.PI));
      case ">": return polygon(around(3, 0));
      case "D": return polygon(around(4, 0));
      case "p": return polygon(around(5, -Math.PI / 2));
      case "P": return polygon([[-.4, -1], [.4, -1], [.4, -.4], [1, -.4], [1, .4], [.4, .4], [.4, 1], [-.4, 1], [-.4, .4], [-1, .4], [-1, -.4], [-.4, -.4]]);
      case "X": return polygon([[-1, -.55], [-.55, -1], [0, -.45], [.55, -1], [1, -.55], [.45, 0], [1, .55], [.55, 1], [0, .45], [-.55, 1], [-1, .55], [-.45, 0]]);
      default: return svg("circle", { cx: x, cy: y, r: size, ...look });
    }
  }
  const icon = (codec) => svg("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" }, shape(style(codec)[1], 7, 7, 4.5, { fill: style(codec)[0] }));
  const cross = (x, y) => svg("path", { d: `M${x - 5},${y - 5}L${x + 5},${y + 5}M${x - 5},${y + 5}L${x + 5},${y - 5}`, stroke: "#000", "stroke-width": 1.2 });

  // Points that no other beats: rising bytes, rising height.
  function paretoFront(valued) {
    const front = [];
    for (const each of [...valued].sort((a, b) => a[0] - b[0] || b[1] - a[1])) {
      if (!front.length || each[1] > front[front.length - 1][1]) front.push(each);
    }
    return front;
  }

  function niceTicks(low, high, count) {
    const raw = (high - low) / count, unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 5, 10].find((k) => k * unit >= raw);
    const ticks = [];
    for (let k = Math.ceil(low / step); k * step <= high + 1e-9; k++) ticks.push(k * step);
    return ticks;
  }
  function byteTicks(low, high, most) {
    for (const steps of [[1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
      const ticks = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) for (const s of steps) ticks.push(s * 10 ** e);
      const inside = ticks.filter((tick) => low <= tick && tick <= high);
      if (inside.length <= most || steps.length === 1) return inside.filter((_, place) => place % Math.ceil(inside.length / most) === 0);
    }
  }

  let marks = []; // of the chart as drawn: x, y, point, text

  function drawChart() {
    const host = byId("chart"), width = Math.max(300, host.clientWidth || 900);
    const narrow = width < 600, left = narrow ? 40 : 56, right = narrow ? 12 : 96;
    const tall = narrow ? 250 : 330, short = narrow ? 150 : 180;
    const shown = setPoints().filter(isShown), sent = shown.filter((point) => !isAlone(point) && point.wire_bytes_mean > 0);
    const own = sets[state.set].groups.find((place) => data.groups[place].source === "local") ?? sets[state.set].groups[0];
    const isOwn = (point) => point.group === own;
    const controls = Object.keys(CONTROLS).filter((control) => !state.off.control.has(control));
    marks = [];
    host.replaceChildren();
    if (!sent.length || !controls.length) {
      host.append(el("p", { class: "note" }, "Nothing to draw: all conditions are filtered out."));
      byId("caption").textContent = "";
      byId("legend").replaceChildren();
      return;
    }
    const decades = sent.map((point) => Math.log10(point.wire_bytes_mean));
    let low = Math.min(...decades), high = Math.max(...decades);
    const room = Math.max(.06 * (high - low), (.5 - (high - low)) / 2);
    low -= room; high += room;
    const x = (bytes) => left + (Math.log10(bytes) - low) / (high - low) * (width - left - right);
    const gains = controls.includes("matched") ? sent.filter((point) => isOwn(point) && point.pairing_gain !== null) : [];
    const alone = shown.filter((point) => isAlone(point) && isOwn(point) && point.score !== null);
    const panels = [{
      top: 22, height: tall, title: `${metric()} (%)`, signed: false,
      values: sent.flatMap((point) => [
        ...(controls.includes("matched") ? [[point.score_low, point.score, point.score_high]] : []),
        ...controls.filter((c) => c !== "matched").map((c) => [point[`${c}_score`]]),
      ]).concat(alone.map((point) => [point.score])),
    }];
    if (gains.length) panels.push({
      top: 22 + tall + 44, height: short, title: "pairing gain (points)", signed: true,
      values: gains.map((point) => [0, point.pairing_gain_low, point.pairing_gain_high]),
    });
    const height = panels[panels.length - 1].top + panels[panels.length - 1].height + 44;
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Accuracy and pairing gain against bytes" });
    for (const panel of panels) {
      const values = panel.values.flat().filter((value) => value !== null).map((value) => 100 * value);
      let least = Math.min(...values), most = Math.max(...values);
      const pad = Math.max(.05 * (most - least), 1);
      least -= pad; most += pad;
      panel.y = (share) => panel.top + panel.height - (100 * share - least) / (most - least) * panel.height;
      for (const tick of niceTicks(least, most, panel.height / 45)) {
        const y = panel.y(tick / 100);
        root.append(
          svg("line", { x1: left, x2: width - right, y1: y, y2: y, stroke: panel.signed && tick === 0 ? "#444" : "#e8e8e8" }),
          svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, String(Number(tick.toPrecision(6)))),
        );
      }
      for (const tick of byteTicks(10 ** low, 10 ** high, Math.floor((width - left - right) / 62))) {
        root.append(svg("line", { x1: x(tick), x2: x(tick), y1: panel.top, y2: panel.top + panel.height, stroke: "#e8e8e8" }));
        if (panel === panels[panels.length - 1]) root.append(svg("text", { x: x(tick), y: panel.top + panel.height + 17, "text-anchor": "middle" }, humanBytes(tick)));
      }
      root.append(
        svg("path", { d: `M${left},${panel.top}V${panel.top + panel.height}H${width - right}`, fill: "none", stroke: "#333" }),
        svg("text", { x: left - (narrow ? 34 : 44), y: panel.top - 8, "font-weight": 600 }, panel.title),
      );
    }
    root.append(svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "bytes sent per question (mean, log scale)"));
    if (controls.includes("matched")) {
      drawFront(root, panels[0], sent.filter((point) => isOwn(point) && onWire(point) && isComplete(point, "matched")), "score", x, width - right);
      if (gains.length) drawFront(root, panels[1], gains.filter((point) => onWire(point) && isComplete(point, "gain")), "pairing_gain", x, width - right);
    }
    drawAlone(root, panels[0], alone, left, width - right, narrow);
    for (const point of sent.filter((each) => !isOwn(each))) {
      if (controls.includes("matched")) drawPoint(root, panels[0], point, x, "published");
    }
    const mine = sent.filter(isOwn);
    if (controls.includes("matched")) {
      drawSweeps(root, panels[0], mine, "score", x);
      if (gains.length) drawSweeps(root, panels[1], gains, "pairing_gain", x);
      for (const point of mine) drawPoint(root, panels[0], point, x, "matched");
      for (const point of gains) drawPoint(root, panels[1], point, x, "gain");
    }
    for (const control of controls.filter((each) => each !== "matched")) {
      for (const point of mine) if (point[`${control}_score`] !== null) drawPoint(root, panels[0], point, x, control);
    }
    root.addEventListener("pointermove", (event) => showNear(event, root));
    root.addEventListener("pointerleave", hideTip);
    host.append(root);
    writeCaption(own, shown, controls);
    byId("legend").replaceChildren(...[...new Set(sent.map((point) => point.filters.codec))].map((codec) => el("span", {}, icon(codec), word(codec))));
  }

  function drawFront(root, panel, points, column, x, right) {
    const front = paretoFront(points.filter((point) => !point.degenerate && point[column] !== null).map((point) => [point.wire_bytes_mean, point[column]]));
    if (!front.length) return;
    let path = "";
    front.forEach(([bytes, value], place) => { path += place ? `H${x(bytes)}V${panel.y(value)}` : `M${x(bytes)},${panel.y(value)}`; });
    root.append(svg("path", { class: "front", d: `${path}H${right}`, fill: "none", stroke: "#d9d9d9", "stroke-width": 6, "data-points": front.length }));
  }

  function drawAlone(root, panel, points, left, right, narrow) {
    const placed = [];
    for (const point of [...points].sort((a, b) => b.score - a.score)) {
      const y = panel.y(point.score);
      let label = y;
      for (const other of placed) if (label - other < 32 && !narrow) label = other + 32;
      placed.push(label);
      root.append(svg("line", { x1: left, x2: right, y1: y, y2: y, stroke: "#777", "stroke-dasharray": point.system === "receiver" ? "2 3" : "8 3 2 3", opacity: point.complete ? 1 : PALE }));
      const sign = point.degenerate ? " ×" : "";
      if (!narrow) root.append( // else the caption says it: there is no room beside the panel
        svg("text", { x: right + 8, y: label }, `${point.system}${sign}`),
        svg("text", { x: right + 8, y: label + 15 }, `${percent(point.score)} %${point.complete ? "" : `, n ${point.examples}`}`),
      );
    }
  }

  function drawSweeps(root, panel, points, column, x) {
    for (const codec of new Set(points.map((point) => point.codec))) {
      for (const order of new Set(points.map((point) => point.filters.order).filter(Boolean))) {
        const sweep = points
          .filter((point) => point.codec === codec && (isWhole(point) || point.order === order) && point[column] !== null)
          .sort((a, b) => a.wire_bytes_mean - b.wire_bytes_mean);
        if (!sweep.some((point) => !isWhole(point))) continue;
        const line = sweep.map((point) => `${x(point.wire_bytes_mean)},${panel.y(point[column])}`).join("L");
        root.append(svg("path", { d: `M${line}`, fill: "none", stroke: style(codec)[0], "stroke-width": 1.5, "stroke-dasharray": order in DASHES ? DASHES[order] : "2 3",
          opacity: sweep.every((point) => isComplete(point, column === "score" ? "matched" : "gain")) ? 1 : PALE }));
      }
    }
  }

  function drawPoint(root, panel, point, x, kind) {
    const [colour, marker] = style(point.filters.codec);
    const column = { matched: "score", published: "score", gain: "pairing_gain" }[kind] || `${kind}_score`;
    const value = point[column], low = point[`${column}_low`], high = point[`${column}_high`];
    const px = x(point.wire_bytes_mean), py = panel.y(value), signed = kind === "gain";
    const isFilled = kind === "matched" || kind === "gain";
    const measured = `${percent(value, signed)}${signed ? " points" : " %"}${low !== undefined && low !== null ? " " + interval(low, high, signed) : ""}`;
    const what = { matched: point.metric, published: `${point.metric}, published`, gain: "pairing gain" }[kind] || `${point.metric} with ${CONTROLS[kind]}`;
    const degenerate = inPlaceOfOwn.includes(kind) ? point[`${kind}_degenerate`] : point.degenerate;
    const text = `${named(point)}\n${what}: ${measured}\n${humanBytes(point.wire_bytes_mean)} a ${isShared(point) ? `message, ${humanBytes(point.wire_bytes_per_question)} a question` : "question"}, n = ${whole(askedOf(point, kind))}` +
      `${isComplete(point, kind) ? "" : ` of ${whole(point.examples_total)} *`}${degenerate ? "\n× one letter, mostly" : ""}`;
    const control = kind === "gain" || kind === "published" ? "matched" : kind;
    const pick = () => pickFirst(point, control);
    const mark = svg("g", {
      class: "mark", tabindex: 0, role: "button", "aria-label": text.replaceAll("\n", ", "), opacity: isComplete(point, kind) ? 1 : PALE,
      "data-kind": kind, on: {
        click: pick,
        keydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(); } },
        focus: () => tipAt(px, py, [text], root), blur: hideTip,
      },
    });
    if (isFilled && low !== null) {
      mark.append(svg("path", { d: `M${px},${panel.y(low)}V${panel.y(high)}M${px - 3},${panel.y(low)}h6M${px - 3},${panel.y(high)}h6`, stroke: colour, fill: "none" }));
    }
    mark.append(
      isFilled ? shape(marker, px, py, 5, { fill: colour, stroke: "#fff", "stroke-width": .8 })
        : kind === "published" ? shape(marker, px, py, 8, { fill: "none", stroke: "#8a8a8a", "stroke-width": 1.4 })
          : shape(marker, px, py, 6.6, { fill: "none", "pointer-events": "all", stroke: colour, "stroke-width": 1.3, "stroke-dasharray": unpaired.includes(kind) ? "2 1.5" : null }),
    );
    if (degenerate) mark.append(cross(px, py));
    marks.push({ x: px, y: py, text });
    root.append(mark);
  }

  function showNear(event, root) {
    const box = root.getBoundingClientRect(), scale = root.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    const away = (mark, a, b) => Math.hypot(mark.x - a, mark.y - b);
    const nearest = marks.reduce((best, mark) => !best || away(mark, x, y) < away(best, x, y) ? mark : best, null);
    if (!nearest || away(nearest, x, y) > 14) return hideTip();
    const there = marks.filter((mark) => away(mark, nearest.x, nearest.y) < 5).map((mark) => mark.text);
    tipAt(nearest.x, nearest.y, there, root);
  }
  function tipAt(x, y, texts, root) {
    const tip = byId("tip"), box = root.getBoundingClientRect(), scale = box.width / root.viewBox.baseVal.width;
    const more = texts.length > MOST_TIPS ? `\n\nand ${texts.length - MOST_TIPS} more` : "";
    tip.textContent = texts.slice(0, MOST_TIPS).join("\n\n") + more;
    tip.hidden = false;
    const wanted = box.left + window.scrollX + x * scale + 12;
    tip.style.left = `${Math.max(8, Math.min(wanted, document.documentElement.clientWidth - tip.offsetWidth - 12))}px`;
    tip.style.top = `${box.top + window.scrollY + y * scale + 14}px`;
  }
  function hideTip() { byId("tip").hidden = true; }

  function writeCaption(own, shown, controls) {
    const of = data.groups[own], asked = shown.filter((point) => point.group === own && point.examples > 0);
    const part = asked.filter((point) => !point.complete), full = asked.filter((point) => point.complete);
    const range = (points) => {
      const counts = points.map((point) => point.examples), least = Math.min(...counts), most = Math.max(...counts);
      return least === most ? whole(most) : `${whole(least)} to ${whole(most)}`;
    };
    const parts = [`${of.dataset}, ${of.pair}${of.note ? ` (${of.note})` : ""}${of.source === "published" ? ", published answers" : ""}.`];
    if (full.length) parts.push(`n = ${range(full)} questions a point.`);
    if (part.length) parts.push(`Incomplete, drawn pale: ${whole(part.length)} of ${whole(asked.length)} points (n = ${range(part)} of ${whole(part[0].examples_total)} questions).`);
    if (asked.length) parts.push("Bars: 95 % intervals.");
    for (const [system, line] of [["receiver", "dotted"], ["sharer", "dash-dotted"]]) {
      const alone = shown.find((point) => point.group === own && point.system === system && point.score !== null);
      if (alone) parts.push(`Level ${line} line: ${system} alone, ${percent(alone.score)} %${alone.degenerate ? " ×" : ""}.`);
    }
    const hollow = controls.filter((control) => inPlaceOfOwn.includes(control));
    if (hollow.length) parts.push(`Hollow marks: ${hollow.map((control) => unpaired.includes(control) ? `${CONTROLS[control]} (dashed)` : control).join(", ")}.`);
    if (sets[state.set].groups.length > 1) parts.push("Large grey hollow marks: published.");
    const caches = asked.filter(onWire);
    if (caches.length && caches.every((point) => point.no_gain)) parts.push(`No pairing gain: ${[...new Set(caches.map((point) => point.no_gain))].join("; ")}.`);
    const others = new Set(shown.map((point) => point.filters.order).filter((order) => order && !(order in DASHES)));
    parts.push(`Solid: front kept, dashed: back kept${others.size ? `, dotted: ${[...others].join(", ")}` : ""}. Grey step: best cache for its bytes. A click on a mark opens its questions.`);
    if (of.fuser_hash) parts.push(`Fuser ${of.fuser_hash.slice(0, 10)}.`);
    if (of.dataset_hash) parts.push(`Questions ${of.dataset_hash.slice(0, 10)}.`);
    byId("caption").textContent = parts.join(" ");
  }

  // ---- the table of conditions ----

  const measured = (point, column, signed, mark) => point[column] === null ? ["–"] : [
    percent(point[column], signed) + (mark ? " ×" : ""), " ",
    ...(point[`${column}_low`] === undefined || point[`${column}_low`] === null ? [] : [el("span", { class: "pale" }, interval(point[`${column}_low`], point[`${column}_high`], signed))]),
  ];
  const COLUMNS = [
    ["condition", "", (p) => p.kept ? [sender(p), el("span", { class: "narrow pale" }, ` ${p.kept}`)] : sender(p), (p) => named(p)],
    ["kept", "", (p) => p.kept, (p) => onWire(p) ? p.keep_ratio : null],
    ["n", "number", (p) => whole(p.examples) + (p.complete ? "" : `/${whole(p.examples_total)} *`), (p) => p.examples],
    ["bytes", "number", (p) => p.wire_bytes_mean === null ? "–" : humanBytes(p.wire_bytes_mean), (p) => p.wire_bytes_mean, "wire_bytes_mean"],
    ...(data.points.some(isShared) ? [["bytes a question", "number", (p) => p.wire_bytes_per_question === null ? "–" : humanBytes(p.wire_bytes_per_question), (p) => p.wire_bytes_per_question]] : []),
    ["bits a number", "number", (p) => p.bits_per_element === null ? "–" : p.bits_per_element.toFixed(2), (p) => p.bits_per_element],
    ["accuracy %", "number", (p) => measured(p, "score", false, p.degenerate), (p) => p.score],
    ["pairing gain", "number", (p) => measured(p, "pairing_gain", true), (p) => p.pairing_gain],
    ...inPlaceOfOwn.map((control) => [`${control} %`, "number",
      (p) => measured(p, `${control}_score`, false, p[`${control}_degenerate`]), (p) => p[`${control}_score`]]),
    ["in format %", "number", (p) => p.in_format_share === null ? "–" : percent(p.in_format_share), (p) => p.in_format_share],
    ["unanswered", "number", (p) => p.unanswered ? el("span", { title: p.unanswered_reason }, whole(p.unanswered)) : "–", (p) => p.unanswered || null],
    ["against 16 bits", "number", (p) => measured(p, "bf16_difference", true), (p) => p.bf16_difference],
    ["no loss", "", (p) => p.non_inferior ?? "–", (p) => p.non_inferior ?? null],
  ].map(([title, kind, show, value, id]) => ({ title, kind, show, value, id: id || title }));
  // What the content of the message did: shown in place of the columns behind "pairing gain".
  const tested = (p, column) => {
    const found = p[`${column}_p_holm`];
    return found === null ? [] : [" ", el("span", { class: "pale" }, found < 0.001 ? "p < 0.001" : `p ${found.toFixed(3)}`)];
  };
  const share = (title, column, signed) => [title, "number", (p) => [...measured(p, column, signed), ...tested(p, column)], (p) => p[column]];
  const ofDonors = (column) => (p) => p.donors ? whole(p[column]) : "–";
  const plain = (column, digits) => (p) => p[column] === null ? "–" : p[column].toFixed(digits);
  const number = (title, column, digits) => [title, "number", (p) => p[column] === null ? "–" : [plain(column, digits)(p), " ",
    el("span", { class: "pale" }, `[${p[`${column}_low`].toFixed(digits)}, ${p[`${column}_high`].toFixed(digits)}]`), ...tested(p, column)], (p) => p[column]];
  const CONTENT = [
    ["donors", "number", ofDonors("donors"), (p) => p.donors],
    ["other length", "number", ofDonors("deranged_other_length"), (p) => p.deranged_other_length],
    ["same key", "number", ofDonors("key_collisions"), (p) => p.key_collisions],
    ["rank p", "number", plain("own_rank_p_holm", 3), (p) => p.own_rank_p_holm],
    share("gain, keys differ", "pairing_gain_distinct_keys", true),
    share("over receiver", "gain_over_receiver", true),
    share("harm", "harm", true),
    share("influence %", "influence", false),
    share("follows donor", "follows_donor", true),
    number("bits", "bits_communicated", 3),
    ["bits a byte", "number", (p) => p.bits_per_byte === null ? "–" : p.bits_per_byte.toPrecision(2), (p) => p.bits_per_byte],
    number("log-prob. of key", "key_logprob_gain", 2),
    share("calibration error %", "calibration_error", false),
  ].map(([title, kind, show, value]) => ({ title, kind, show, value, id: title }));
  const behind = COLUMNS.findIndex((each) => each.id === "pairing gain") + 1;
  // Without those of which no condition of the set has anything.
  const columnsShown = () => (state.content ? [...COLUMNS.slice(0, behind), ...CONTENT] : COLUMNS)
    .filter((each, place) => place < behind || state.content || setPoints().some((point) => each.value(point) !== null));

  function drawPoints() {
    const columns = columnsShown(), rows = setPoints().filter(isShown);
    const column = columns.find((each) => each.id === state.sort) ?? columns.find((each) => each.id === "wire_bytes_mean");
    const key = new Map(rows.map((point) => [point, column.value(point)]));
    rows.sort((a, b) => {
      const [u, v] = [key.get(a), key.get(b)];
      if (u === null || v === null) return (u === null) - (v === null);
      const order = typeof u === "string" ? u.localeCompare(v) : u - v;
      return state.down ? -order : order;
    });
    const [start, stop] = paged("points", rows.length, POINTS_PAGE, drawPoints);
    const heads = columns.map((each) => {
      const sorted = each === column;
      const sort = () => { state.down = sorted ? !state.down : each.kind === "number"; state.sort = each.id; drawPoints(); writeAddress(); };
      return el("th", { class: each.kind, scope: "col", "aria-sort": sorted ? (state.down ? "descending" : "ascending") : "none" },
        el("button", { type: "button", on: { click: sort } }, each.title.replace("accuracy", metric()) + (sorted ? (state.down ? " ▾" : " ▴") : "")));
    });
    byId("points").replaceChildren(
      el("thead", {}, el("tr", {}, ...heads)),
      el("tbody", {}, ...rows.slice(start, stop).map((point) =>
        el("tr", {}, ...columns.map((each) => el("td", { class: each.kind }, ...[each.show(point)].flat()))))),
    );
  }

  // ---- question by question ----

  const RIGHT = 1, WRONG = 0, NOT_ASKED = -1;
  let lowered = null; // the set's prompts in lower case, made by the first search
  let searched = null; // and its outputs

  function conditions() {
    return setPoints().flatMap((point) => Object.keys(point.answers)
      .filter((control) => [...data.answers[point.answers[control]].right].some((each) => each !== " "))
      .map((control) => ({ point, control, answers: data.answers[point.answers[control]] })));
  }
  const conditionName = ({ point, control }) => named(point) + (!isAlone(point) && control !== "matched" ? `, ${control}` : "");

  function fillDrill() {
    const all = state.conditions = conditions();
    const places = (select, chosen) => {
      select.replaceChildren(...all.map((each, place) => el("option", { value: place }, conditionName(each))));
      select.value = String(chosen);
    };
    const sent = all.findIndex(({ point }) => onWire(point));
    state.first = Math.max(0, sent);
    const twin = all.findIndex(({ point, control }, place) => place !== state.first && all[state.first].point === point && control === "deranged");
    state.second = twin >= 0 ? twin : Math.min(state.first + 1, all.length - 1);
    places(byId("first"), state.first);
    places(byId("second"), state.second);
    state.more = [];
    byId("more").replaceChildren(el("option", { value: "" }, "add a condition"), ...all.map((each, place) => el("option", { value: place }, conditionName(each))));
    lowered = null;
  }

  function pickFirst(point, control) {
    const place = state.conditions.findIndex((each) => each.point === point && each.control === control);
    if (place < 0) return;
    state.first = place;
    const twin = state.conditions.findIndex((each) => each.point === point && each.control === "deranged");
    if (twin >= 0 && twin !== place) state.second = twin;
    byId("first").value = String(state.first);
    byId("second").value = String(state.second);
    drawQuestions(true);
    byId("h-questions").scrollIntoView({ block: "start" });
  }

  // The conditions that are shown beside the two, of those on the same questions.
  const beside = (table) => state.more.map((place) => state.conditions[place]).filter((each) => data.questions[group(each.point).questions] === table);
  function drawBeside() {
    byId("beside").replaceChildren(...state.more.map((place) => el("button", {
      type: "button", "aria-label": `take away ${conditionName(state.conditions[place])}`,
      on: { click: () => { state.more = state.more.filter((other) => other !== place); drawQuestions(); } },
    }, `${conditionName(state.conditions[place])} ×`)));
  }

  const outcome = (answers, row) => answers.right[row] === " " ? NOT_ASKED : answers.right[row] === "1" ? RIGHT : WRONG;

  function found(first, second, table) {
    const which = byId("which").value, text = byId("search").value.trim().toLowerCase();
    const counts = { both: 0, first: 0, second: 0, neither: 0, letters: 0 }, rows = [];
    if (text && table.prompts && (!lowered || lowered.table !== table)) {
      lowered = { table, prompts: table.prompts.map((prompt) => (prompt || "").toLowerCase()) };
    }
    if (text && !searched) searched = data.texts.map((each) => each.toLowerCase());
    const says = text && searched.map((each) => each.includes(text));
    for (let row = 0; row < table.keys.length; row++) {
      const a = first.letters[row], b = second.letters[row];
      const u = outcome(first, row), v = outcome(second, row);
      if (u === NOT_ASKED || v === NOT_ASKED) continue;
      counts[u ? (v ? "both" : "first") : (v ? "second" : "neither")]++;
      if (a !== b) counts.letters++;
      const fits = which === "all" || (which === "answers" && a !== b) || (which === "outcomes" && u !== v) ||
        (which === "first" && u > v) || (which === "second" && v > u) || (which === "neither" && !u && !v) ||
        (which === "unparsed" && (a === "-" || b === "-"));
      if (!fits) continue;
      if (text && !((lowered && lowered.prompts[row].includes(text)) || says[first.texts[row]] || says[second.texts[row]] || table.ids[row].toLowerCase().includes(text))) continue;
      rows.push(row);
    }
    return [rows, counts];
  }

  function drawQuestions(fresh) {
    if (fresh === true) { state.page.questions = 0; state.open.clear(); }
    const one = state.conditions[state.first], two = state.conditions[state.second];
    const host = byId("questions");
    drawBeside();
    writeAddress();
    if (!one || !two) { host.replaceChildren(); byId("counts").textContent = "No answers in the store."; return; }
    const table = data.questions[group(one.point).questions];
    if (table !== data.questions[group(two.point).questions]) {
      host.replaceChildren();
      byId("questions-pager").replaceChildren();
      byId("counts").textContent = "These two conditions answered different question sets.";
      return;
    }
    const [rows, counts] = found(one.answers, two.answers, table);
    const asked = counts.both + counts.first + counts.second + counts.neither;
    byId("counts").textContent = `${whole(asked)} questions answered by both: both right ${whole(counts.both)}, only the first ${whole(counts.first)},` +
      ` only the second ${whole(counts.second)}, neither ${whole(counts.neither)}; different letters ${whole(counts.letters)}. Shown: ${whole(rows.length)}.` +
      (table.prompts ? "" : " The prompts are not at hand.");
    const [start, stop] = paged("questions", rows.length, QUESTIONS_PAGE, drawQuestions);
    const body = el("tbody"), chosen = [one, two, ...beside(table)];
    for (const row of rows.slice(start, stop)) {
      body.append(questionRow(table, row, chosen));
      if (state.open.has(row)) body.append(details(table, row, chosen));
    }
    host.replaceChildren(
      el("thead", {}, el("tr", {}, ...["", "question", "key", "first", "second", ...chosen.slice(2).map(conditionName)].map((title) => el("th", { scope: "col" }, title)))), body);
  }

  const letterCell = (answers, row) => outcome(answers, row) === NOT_ASKED ? el("td", {}, "–") : el("td", { class: outcome(answers, row) === RIGHT ? "good" : "bad" },
    (answers.letters[row] === "-" ? "none" : answers.letters[row]) + (outcome(answers, row) === RIGHT ? " ✓" : " ✗"));

  function questionRow(table, row, chosen) {
    const isOpen = state.open.has(row);
    const toggle = () => { isOpen ? state.open.delete(row) : state.open.add(row); drawQuestions(); };
    const prompt = table.prompts && table.prompts[row] !== null ? table.prompts[row].trim().split("\n", 1)[0] : null;
    const short = prompt === null ? "" : prompt.length > 140 ? prompt.slice(0, 140) + "…" : prompt;
    return el("tr", { class: isOpen ? "picked" : null },
      el("td", {}, el("button", { type: "button", "aria-expanded": String(isOpen), "aria-label": `details of ${table.ids[row]}`, on: { click: toggle } }, isOpen ? "−" : "+")),
      el("td", { class: "words" }, el("span", { class: "pale" }, table.ids[row]), prompt === null ? null : ` ${short}`),
      el("td", {}, table.keys[row]), ...chosen.map((each) => letterCell(each.answers, row)));
  }

  function details(table, row, chosen) {
    const side = (title, each) => {
      const place = each.answers.texts[row], output = place < 0 ? "" : data.texts[place];
      const donor = each.answers.donors === null ? -1 : data.donors[each.answers.donors][row];
      return el("div", {},
        el("b", {}, `${title}: ${conditionName(each)}`),
        el("pre", {}, output || "(no text was kept)"),
        donor < 0 ? null : el("p", { class: "note" }, `The ${onWire(each.point) ? "cache" : "message"} was that of ${table.ids[donor]} (key ${table.keys[donor]})${table.prompts && table.prompts[donor] !== null ? ": " + table.prompts[donor].trim() : ""}`));
    };
    const prompt = table.prompts && table.prompts[row] !== null ? table.before + table.prompts[row] + table.after : "(not at hand)";
    return el("tr", { class: "details" }, el("td", { colspan: 3 + chosen.length },
      el("b", {}, "Prompt"), el("pre", {}, prompt),
      el("div", { class: "sides" }, ...chosen.map((each, place) => side(["First", "Second"][place] ?? "Beside", each)))));
  }

  // ---- runs, warnings, filters ----

  function drawRuns() {
    const titles = ["run", "pair", "started", "took", "answers", "ran on", "dtype", "code"];
    const [start, stop] = paged("runs", data.runs.length, RUNS_PAGE, drawRuns);
    const took = (run) => {
      if (run.ended_ms === null) return run.status.toLowerCase();
      const seconds = (run.ended_ms - run.started_ms) / 1000;
      return seconds < 90 ? `${seconds.toFixed(0)} s` : seconds < 5400 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
    };
    byId("runs").replaceChildren(
      el("thead", {}, el("tr", {}, ...titles.map((title) => el("th", { scope: "col", class: title === "answers" ? "number" : null }, title)))),
      el("tbody", {}, ...data.runs.slice(start, stop).map((run) => el("tr", {},
        el("td", {}, run.name, el("br"), el("a", { href: run.url, rel: "noopener noreferrer", title: run.run_id }, run.run_id.slice(0, 8))),
        el("td", {}, run.pair + (run.source === "published" ? ", published" : "")),
        el("td", {}, moment(run.started_ms)), el("td", {}, took(run)),
        el("td", { class: "number" }, whole(run.answers)),
        el("td", {}, [run.device, run.host].filter(Boolean).join(" on ")),
        el("td", {}, run.dtype), el("td", {}, run.commit.slice(0, 10))))));
    byId("origin").textContent = data.runs.length ? "The milestone runs that computed the answers above." : "The store does not say which runs computed the answers.";
  }

  // ---- M14's map of the chosen set ----

  function drawRegimes() {
    const { pair, dataset } = sets[state.set], here = data.regimes.find((each) => each.pair === pair && each.dataset === dataset);
    byId("where").hidden = !here;
    if (!here) return;
    byId("where-note").textContent = `${here.note} A cell names who has the receiver ready first, of those that score alike within this many bytes; in italics, where not all of them were timed, who of them sends the fewest.`;
    const cell = (found) => found === null ? el("td", {}, "") : el("td", { class: `wins-${found.kind}${found.ms === null ? " untimed" : ""}`, title: found.condition },
      found.kind, el("span", { class: "pale" }, ` ${percent(found.score)} %${found.ms === null ? "" : `, ${Number(found.ms.toPrecision(3))} ms`}`));
    byId("regimes").replaceChildren(
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "start, link"), ...here.budgets.map((most) => el("th", { scope: "col" }, humanBytes(most))))),
      el("tbody", {}, ...here.lines.map((line) => el("tr", {}, el("th", { scope: "row" }, line.link), ...line.cells.map(cell)))));
    byId("where-said").replaceChildren(...here.said.map((text) => el("li", {}, text)));
  }

  function drawCautions() {
    const notes = data.cautions.map((text) => el("p", { class: "caution" }, text));
    if (!notes.length) notes.push(el("p", { class: "caution fine" }, "No warnings: nothing degenerate, undecided or unfinished."));
    byId("cautions").append(...notes.slice(0, 3));
    if (notes.length > 3) byId("cautions").append(el("details", {}, el("summary", {}, `${notes.length - 3} more warnings`), ...notes.slice(3)));
  }

  function drawSaid() {
    byId("said").hidden = !data.said.length;
    const list = (texts) => el("ul", {}, ...texts.map((text) => el("li", {}, text))), first = data.groups.length; // a sentence each
    byId("said").append(list(data.said.slice(0, first)));
    if (data.said.length > first) byId("said").append(el("details", {}, el("summary", {}, "What competes with caches, and which way is first over which link"), list(data.said.slice(first))));
  }

  function choices(axis, title, options) {
    const host = byId(`${axis}s`) ?? el("fieldset", { id: `${axis}s` });
    byId("filters").append(host);
    host.replaceChildren(el("legend", {}, title));
    host.hidden = !options.length;
    const change = (value) => (event) => {
      event.target.checked ? state.off[axis].delete(value) : state.off[axis].add(value);
      redraw();
    };
    for (const [value, word, icon] of options) {
      host.append(el("label", {}, el("input", { type: "checkbox", value, checked: !state.off[axis].has(value), on: { change: change(value) } }), " ", icon || null, word));
    }
    if (options.length > 5) for (const [word, off] of [["all", []], ["none", options.map(([value]) => value)]]) {
      const set = () => { state.off[axis] = new Set(off); choices(axis, title, options); redraw(); };
      host.append(el("button", { type: "button", on: { click: set } }, word));
    }
  }

  function fillFilters() {
    const points = setPoints().filter((point) => !isAlone(point));
    const controls = Object.keys(CONTROLS).filter((control) => control === "matched" || points.some((point) => point[`${control}_score`] !== null));
    for (const { axis, title, values } of data.filters) {
      const there = [...new Set(points.map((point) => point.filters[axis]))].filter((value) => value !== undefined);
      there.sort((a, b) => values.indexOf(a) - values.indexOf(b));
      choices(axis, title, axis === "control" ? controls.map((control) => [control, CONTROLS[control]])
        : there.map((value) => [value, axis === "codec" ? word(value) : value, axis === "codec" ? icon(value) : null]));
    }
  }

  // ---- the view in the address, so that it can be sent ----

  let isRead = false; // until then the address is the visitor's
  function writeAddress() {
    if (!isRead) return;
    const view = new URLSearchParams(), name = (place) => conditionName(state.conditions[place]);
    view.set("set", sets[state.set].dataset + " " + sets[state.set].pair);
    for (const [axis, off] of Object.entries(state.off)) view.set(`without-${axis}`, [...off].join(",")); // a name may hold ", "
    if (state.content) view.set("content", "true");
    view.set("sort", `${state.sort} ${state.down ? "down" : "up"}`);
    if (state.conditions[state.first]) view.set("first", name(state.first));
    if (state.conditions[state.second]) view.set("second", name(state.second));
    state.more.forEach((place) => view.append("beside", name(place)));
    view.set("show", byId("which").value);
    if (byId("search").value) view.set("search", byId("search").value);
    history.replaceState(null, "", `#${view}`);
  }
  // Whatever an address says that is not here is passed over.
  function readAddress() {
    const view = new URLSearchParams(location.hash.slice(1)), place = (name) => state.conditions.findIndex((each) => conditionName(each) === name);
    const wanted = sets.findIndex((each) => `${each.dataset} ${each.pair}` === view.get("set"));
    if (wanted >= 0) { byId("set").value = String(wanted); changeSet(); }
    for (const axis of Object.keys(state.off)) {
      if (view.has(`without-${axis}`)) state.off[axis] = new Set(view.get(`without-${axis}`).split(/,(?! )/).filter(Boolean));
    }
    const [sort, way] = (view.get("sort") ?? "").split(/ (?=(?:down|up)$)/);
    state.content = byId("content").checked = view.get("content") === "true";
    if (columnsShown().some((each) => each.id === sort)) [state.sort, state.down] = [sort, way === "down"];
    for (const name of ["first", "second"]) if (place(view.get(name)) >= 0) byId(name).value = String(state[name] = place(view.get(name)));
    state.more = view.getAll("beside").map(place).filter((found) => found >= 0);
    if (WHICH.some(([value]) => value === view.get("show"))) byId("which").value = view.get("show");
    byId("search").value = view.get("search") ?? "";
    isRead = true;
    fillFilters();
    redraw();
    drawQuestions(true);
  }

  function redraw() {
    hideTip();
    drawChart();
    drawPoints();
    writeAddress();
  }
  function changeSet() {
    state.set = Number(byId("set").value);
    for (const { axis } of data.filters) if (axis !== "control") state.off[axis].clear();
    state.page = {};
    fillFilters();
    fillDrill();
    redraw();
    drawQuestions(true);
    drawRegimes();
    drawRuns();
  }

  byId("content").addEventListener("change", (event) => { state.content = event.target.checked; drawPoints(); writeAddress(); });
  const set = byId("set");
  set.append(...sets.map((each, place) => el("option", { value: place }, `${each.dataset} · ${each.pair}${each.groups.some((g) => data.groups[g].source === "local") ? "" : " · published"}`)));
  set.addEventListener("change", changeSet);
  byId("which").append(...WHICH.map(([value, title]) => el("option", { value }, title)));
  for (const name of ["first", "second"]) {
    byId(name).addEventListener("change", (event) => { state[name] = Number(event.target.value); drawQuestions(true); });
  }
  byId("which").addEventListener("change", () => drawQuestions(true));
  byId("more").addEventListener("change", (event) => {
    const place = Number(event.target.value);
    if (event.target.value !== "" && !state.more.includes(place)) state.more.push(place);
    event.target.value = "";
    drawQuestions();
  });
  byId("search").addEventListener("input", () => drawQuestions(true));
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  let wide = 0;
  window.addEventListener("resize", () => {
    if (byId("chart").clientWidth !== wide) { wide = byId("chart").clientWidth; hideTip(); drawChart(); }
  });

  const total = data.answers.reduce((sum, each) => sum + each.texts.reduce((count, place) => count + (place >= 0), 0), 0);
  byId("subject").textContent = `${whole(data.points.length)} points from ${whole(total)} answers, ${sets.length} question ${sets.length === 1 ? "set" : "sets"}. Made ${data.created}.` +
    [...new Set(data.groups.map((each) => each.note).filter(Boolean))].map((note) => ` ${note[0].toUpperCase()}${note.slice(1)}.`).join("");
  drawCautions();
  drawSaid();
  changeSet();
  readAddress();
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) readAddress(); });
  wide = byId("chart").clientWidth;
  document.body.setAttribute("data-ready", "true");
})();
