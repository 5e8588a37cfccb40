"use strict";
/* The script of the evaluation report. It needs no network and no library, and stores nothing: the
   fragment of the address holds the selection, so that a link leads to the same images. Without it, the
   page still has all its tables and pictures. Functions down to readSelection know no page. */

const PARTS = 10000;
const PAGE = 60;
const NOTHING = { true: null, predicted: null, outcome: "", from: 0, to: 1, sort: "loss", slices: {} };

/* Pairs of a true and a predicted class, as the confusion matrix counts them. A missed label is paired
   with each wrong one; `none` stands for no label. With one class per image there is one pair. */
function pairsOf(truth, predicted, none) {
  const pairs = truth.filter((label) => predicted.includes(label)).map((label) => [label, label]);
  const missed = truth.filter((label) => !predicted.includes(label));
  const wrong = predicted.filter((label) => !truth.includes(label));
  if (missed.length || wrong.length || !pairs.length) {
    for (const label of missed.length ? missed : [none]) {
      for (const other of wrong.length ? wrong : [none]) pairs.push([label, other]);
    }
  }
  return pairs;
}

function imagesOf(data) {
  const asList = (labels) => (Array.isArray(labels) ? labels : [labels]);
  const none = data.names.length - 1;
  return data.paths.map((path, row) => {
    const [truth, predicted] = [asList(data.true[row]), asList(data.predicted[row])];
    const parts = Object.entries(data.slices).map(([name, { values, rows }]) => [name, values[rows[row]]]);
    const slices = Object.fromEntries(parts);
    const pairs = pairsOf(truth, predicted, none);
    const isRight = pairs.every(([label, other]) => label === other);
    const [confidence, loss] = [data.confidence[row] / PARTS, data.loss[row] / PARTS];
    const unfamiliarity = data.unfamiliarity[row] / 100;
    return { row, path, truth, predicted, pairs, isRight, confidence, loss, unfamiliarity, slices };
  });
}

/* Whether an image belongs to a selection: one of its pairs fits, and all that fit are right, or not. */
function isSelected(image, wanted) {
  const fitting = image.pairs.filter(
    ([truth, predicted]) =>
      (wanted.true === null || truth === wanted.true) &&
      (wanted.predicted === null || predicted === wanted.predicted),
  );
  if (!fitting.length || image.confidence < wanted.from || image.confidence > wanted.to) return false;
  const isRight = fitting.every(([truth, predicted]) => truth === predicted);
  if (wanted.outcome && isRight !== (wanted.outcome === "right")) return false;
  return Object.entries(wanted.slices).every(([name, part]) => image.slices[name] === part);
}

/* The selected images in the wanted order; images are given with the highest loss first. */
function select(images, wanted) {
  const selected = images.filter((image) => isSelected(image, wanted));
  if (wanted.sort === "easiest") selected.reverse();
  if (wanted.sort === "confident") selected.sort((a, b) => b.confidence - a.confidence);
  if (wanted.sort === "unsure") selected.sort((a, b) => a.confidence - b.confidence);
  if (wanted.sort === "unfamiliar") selected.sort((a, b) => b.unfamiliarity - a.unfamiliarity);
  if (wanted.sort === "path") selected.sort((a, b) => (a.path < b.path ? -1 : 1));
  return selected;
}

/* Scores of one class at each threshold, from the counts of probabilities between thresholds. */
function scoresOf(positives, negatives) {
  const counts = [positives, negatives].map((text) => text.split(",").map(Number));
  const total = counts[0].reduce((sum, count) => sum + count, 0);
  const divided = (part, whole) => (whole ? part / whole : 0);
  let [hits, wrong] = [0, 0];
  const scores = [];
  for (let step = counts[0].length - 1; step >= 0; step -= 1) {
    hits += counts[0][step];
    wrong += counts[1][step];
    scores.unshift({
      hits,
      wrong,
      missed: total - hits,
      precision: divided(hits, hits + wrong),
      recall: divided(hits, total),
      f1: divided(2 * hits, hits + wrong + total),
    });
  }
  return scores;
}

/* A selection from the fragment of an address, such as #true=cat&outcome=wrong, and back. */
function readSelection(fragment, data) {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const nameOf = (key) => (data.names.includes(given.get(key)) ? data.names.indexOf(given.get(key)) : null);
  const number = (key, otherwise) => {
    const value = given.has(key) ? Number(given.get(key)) : otherwise;
    return value >= 0 && value <= 1 ? value : otherwise;
  };
  const slices = {};
  for (const name of Object.keys(data.slices)) {
    if (given.has(`slice.${name}`)) slices[name] = given.get(`slice.${name}`);
  }
  return {
    true: nameOf("true"),
    predicted: nameOf("predicted"),
    outcome: ["right", "wrong"].includes(given.get("outcome")) ? given.get("outcome") : "",
    from: number("from", 0),
    to: number("to", 1),
    sort: given.get("sort") || "loss",
    slices,
    class: nameOf("class"),
    threshold: given.has("threshold") ? number("threshold", 0.5) : null,
    image: given.get("image"),
  };
}

function writeSelection(wanted, data) {
  const given = new URLSearchParams();
  for (const key of ["true", "predicted", "class"]) {
    if (wanted[key] !== null && wanted[key] !== undefined) given.set(key, data.names[wanted[key]]);
  }
  if (wanted.outcome) given.set("outcome", wanted.outcome);
  if (wanted.from > 0) given.set("from", wanted.from);
  if (wanted.to < 1) given.set("to", wanted.to);
  if (wanted.sort !== "loss") given.set("sort", wanted.sort);
  for (const [name, part] of Object.entries(wanted.slices)) given.set(`slice.${name}`, part);
  for (const key of ["threshold", "image"]) {
    if (wanted[key] !== null && wanted[key] !== undefined) given.set(key, wanted[key]);
  }
  return given.toString();
}

/* The page */

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const images = imagesOf(data);
  const get = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en");
  const namesOf = (labels) => labels.map((label) => data.names[label]).join(" | ") || "no label";
  let wanted = { ...NOTHING };
  let selected = [];
  let numShown = 0;
  let opened = null;

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const options = (select, names, first) => {
    const entries = names.map((name, index) => element("option", { value: index, textContent: name }));
    select.replaceChildren(...(first ? [element("option", { value: "", textContent: first })] : []), ...entries);
  };

  /* what is selected, shown and remembered in the address */

  const remember = () => {
    const fragment = writeSelection({ ...wanted, image: opened === null ? null : images[opened].path }, data);
    try {
      history.replaceState(null, "", `#${fragment}`);
    } catch {
      /* a page in a frame, as in MLflow, may have no address of its own */
    }
  };
  const picture = (image) => {
    const encoded = data.pictures[image.row];
    if (!encoded) return element("span", { className: "missing", textContent: "no picture in this file" });
    return element("img", { alt: "", src: `data:image/webp;base64,${encoded}`, onload: sharpen });
  };
  const tile = (image) => {
    const text = `predicted: ${namesOf(image.predicted)}`;
    const mistake = image.isRight ? [] : [element("mark", { dir: "auto", textContent: text })];
    const button = element(
      "button",
      { type: "button", onclick: () => open(image.row) },
      picture(image),
      element("b", { dir: "auto", textContent: namesOf(image.truth) }),
      ...mistake,
      element("span", { textContent: `confidence ${image.confidence.toFixed(2)}` }),
    );
    button.setAttribute("aria-haspopup", "dialog");
    button.setAttribute(
      "aria-label",
      `${image.path}: ${namesOf(image.truth)}, ${text}, ` +
        `confidence ${image.confidence.toFixed(2)}`,
    );
    return element("li", {}, button);
  };
  const showMore = () => {
    const more = selected.slice(numShown, numShown + PAGE);
    get("tiles").append(...more.map(tile));
    numShown += more.length;
    get("more").hidden = numShown >= selected.length;
    get("count").textContent = `${number(selected.length)} of ${number(images.length)} {{ inputs.several }}, ${number(numShown)} shown`;
  };
  const update = () => {
    selected = select(images, wanted);
    numShown = 0;
    get("tiles").replaceChildren();
    showMore();
    for (const key of ["true", "predicted"]) get(key).value = wanted[key] ?? "";
    for (const key of ["outcome", "from", "to", "sort"]) get(key).value = wanted[key];
    for (const field of document.querySelectorAll("[data-slice]")) field.value = wanted.slices[field.dataset.slice] ?? "";
    remember();
  };
  const change = (changes) => {
    wanted = { ...wanted, ...changes };
    update();
  };

  /* the form */

  const first = data.names.slice(0, data.positives.length);
  options(get("true"), data.names, "any");
  options(get("predicted"), data.names, "any");
  const indexOf = (value) => (value === "" ? null : Number(value));
  for (const key of ["true", "predicted"]) get(key).onchange = ({ target }) => change({ [key]: indexOf(target.value) });
  for (const key of ["outcome", "sort"]) get(key).onchange = ({ target }) => change({ [key]: target.value });
  for (const [key, otherwise] of [["from", 0], ["to", 1]]) {
    get(key).onchange = ({ target }) =>
      change({ [key]: target.value !== "" && target.validity.valid ? Number(target.value) : otherwise });
  }
  for (const name of Object.keys(data.slices)) {
    const field = element("select");
    field.dataset.slice = name;
    const parts = [...new Set(data.slices[name].values)].sort();
    field.append(element("option", { value: "", textContent: "any" }));
    field.append(...parts.map((part) => element("option", { value: part, textContent: part })));
    field.onchange = () => {
      const { [name]: _, ...others } = wanted.slices;
      change({ slices: field.value ? { ...others, [name]: field.value } : others });
    };
    get("slices").append(element("label", {}, name, field));
  }
  get("form").onsubmit = (event) => event.preventDefault();
  get("reset").onclick = () => change(NOTHING);
  get("more").onclick = () => {
    const next = numShown;
    showMore();
    get("tiles").children[next].firstChild.focus();
  };

  /* cells of tables: data-show is "true,predicted,outcome" */

  for (const cell of document.querySelectorAll("[data-show]")) {
    const [truth, predicted, outcome] = cell.dataset.show.split(",");
    const pair = [truth && `true: ${data.names[truth]}`, predicted && `predicted: ${data.names[predicted]}`, outcome];
    const label = `${cell.textContent} {{ inputs.several }}, ${pair.filter(Boolean).join(", ")}`;
    const button = element("button", { type: "button", textContent: cell.textContent, title: label });
    button.setAttribute("aria-label", label);
    button.onclick = () => {
      change({ ...NOTHING, true: indexOf(truth), predicted: indexOf(predicted), outcome: outcome || "" });
      get("explorer").scrollIntoView();
      get("heading").focus();
    };
    cell.replaceChildren(button);
  }

  /* arrow keys go to the closest button in their direction */

  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const walk = (event) => {
    const direction = arrows[event.key];
    if (!direction || event.target.tagName !== "BUTTON") return;
    event.preventDefault();
    const centre = (button) => {
      const box = button.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    };
    const [x, y] = centre(event.target);
    let [closest, least] = [null, Infinity];
    for (const button of event.currentTarget.querySelectorAll("button")) {
      const [dx, dy] = [centre(button)[0] - x, centre(button)[1] - y];
      const ahead = dx * direction[0] + dy * direction[1];
      const aside = Math.abs(dx * direction[1]) + Math.abs(dy * direction[0]);
      if (ahead > 1 && ahead + 8 * aside < least) [closest, least] = [button, ahead + 8 * aside];
    }
    if (closest) closest.focus();
  };
  for (const grid of document.querySelectorAll(".matrix, #tiles")) grid.addEventListener("keydown", walk);

  /* one image */

  const dialog = get("image");
  const open = (row) => {
    const image = images[row];
    opened = row;
    const tileOfHardest = document.querySelector(`[data-row="${row}"]`);
    const own = tileOfHardest ? tileOfHardest.querySelector("img").src : null;
    const heat = tileOfHardest ? tileOfHardest.querySelector("img.heat") : null;
    const shown = own ? element("img", { src: own, alt: "", onload: sharpen }) : picture(image);
    get("picture").replaceChildren(shown);
    if (heat) get("picture").append(element("img", { src: heat.src, alt: "", className: "over" }));
    get("heated").hidden = !heat;
    get("heated").lastElementChild.textContent = heat ? heat.alt : "";
    get("path").textContent = image.path;
    get("truth").textContent = namesOf(image.truth);
    get("prediction").textContent = namesOf(image.predicted);
    get("verdict").textContent = image.isRight ? "right" : "wrong";
    get("loss").textContent = image.loss.toFixed(3);
    if (get("unfamiliarity")) get("unfamiliarity").textContent = image.unfamiliarity.toFixed(2);
    const rows = [];
    for (let at = 0; at < data.top[row].length; at += 2) {
      const [label, part] = data.top[row].slice(at, at + 2);
      const cell = element("td", { className: "bar", textContent: (part / PARTS).toFixed(3) });
      cell.style.setProperty("--filled", `${(100 * part) / PARTS}%`);
      rows.push(element("tr", {}, element("td", { dir: "auto", textContent: data.names[label] }), cell));
    }
    get("top").replaceChildren(...rows);
    const place = selected.indexOf(image);
    get("place").textContent = place < 0 ? "" : `${number(place + 1)} of ${number(selected.length)}`;
    get("previous").disabled = place <= 0;
    get("next").disabled = place < 0 || place + 1 >= selected.length;
    if (!dialog.open) dialog.showModal();
    remember();
  };
  const step = (by) => {
    const image = selected[selected.indexOf(images[opened]) + by];
    if (image) open(image.row);
  };
  get("previous").onclick = () => step(-1);
  get("next").onclick = () => step(1);
  get("opacity").oninput = ({ target }) => dialog.style.setProperty("--over", target.value);
  dialog.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT") return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => {
    opened = null;
    remember();
  });
  get("close").onclick = () => dialog.close();
  for (const figure of document.querySelectorAll("[data-row]")) {
    const button = element("button", { type: "button", className: "plain", textContent: "details" });
    button.setAttribute("aria-label", `details of ${images[figure.dataset.row].path}`);
    button.onclick = () => open(Number(figure.dataset.row));
    figure.lastElementChild.append(button);
  }

  /* one class at any threshold */

  options(get("class"), first, null);
  get("step").max = data.thresholds.length - 1;
  let scores = [];
  const draw = () => {
    const place = (index, value) => `${(300 * index) / (scores.length - 1)},${100 - 100 * value}`;
    for (const name of ["precision", "recall", "f1"]) {
      get(`curve-${name}`).setAttribute("points", scores.map((score, index) => place(index, score[name])).join(" "));
    }
  };
  const showScores = () => {
    const index = Number(get("step").value);
    const score = scores[index];
    const threshold = data.thresholds[index];
    get("step").setAttribute("aria-valuetext", `${threshold}`);
    get("at").textContent = threshold;
    if (data.own) get("own").textContent = `The threshold of the model is ${data.own[Number(get("class").value)]}.`;
    for (const name of ["precision", "recall", "f1"]) get(`score-${name}`).textContent = score[name].toFixed(3);
    for (const name of ["hits", "wrong", "missed"]) get(`count-${name}`).textContent = number(score[name]);
    const x = (300 * index) / (scores.length - 1);
    for (const end of ["x1", "x2"]) get("needle").setAttribute(end, x);
  };
  const showClass = (index) => {
    get("class").value = index;
    scores = scoresOf(data.positives[index], data.negatives[index]);
    draw();
    showScores();
  };
  const stepOf = (threshold) => data.thresholds.filter((value) => value <= threshold).length - 1;
  get("class").onchange = ({ target }) => {
    const index = Number(target.value);
    if (data.own) get("step").value = stepOf(data.own[index]);
    showClass(index);
    wanted = { ...wanted, class: index, threshold: data.thresholds[Number(get("step").value)] };
    remember();
  };
  get("step").oninput = () => {
    showScores();
    wanted = { ...wanted, class: Number(get("class").value), threshold: data.thresholds[Number(get("step").value)] };
    remember();
  };

  /* from the address */

  const follow = () => {
    wanted = readSelection(location.hash, data);
    const asked = images.find((image) => image.path === wanted.image);
    const chosen = wanted.class !== null && wanted.class < first.length ? wanted.class : 0;
    get("step").value = stepOf(wanted.threshold ?? (data.own ? data.own[chosen] : 0.5));
    showClass(chosen);
    if (![...get("sort").options].some(({ value }) => value === wanted.sort)) wanted.sort = "loss";
    const hasSelection = writeSelection(wanted, data) !== "";
    update();
    if (asked) open(asked.row);
    else if (hasSelection && (wanted.class === null)) get("explorer").scrollIntoView();
  };
  for (const part of document.querySelectorAll(".instrument")) part.hidden = false;
  window.addEventListener("hashchange", follow);
  follow();
}

/* Single pixels of tiny images stay visible. */
function sharpen({ target }) {
  target.classList.toggle("tiny", Math.max(target.naturalWidth, target.naturalHeight) <= 64);
}

if (typeof document !== "undefined") start();
