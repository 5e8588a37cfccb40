"use strict";
// Everything from files and answers is set as text, never as HTML.
const answers = document.getElementById("answers");
const status_ = document.getElementById("status");

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

const percent = (share) => (100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 3 : 1) + " %";

function tableOf(heading, pairs) {
  const table = element("table");
  const head = table.createTHead().insertRow();
  for (const text of ["class", heading]) {
    const cell = element("th", text);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const [name, share] of pairs) {
    const row = body.insertRow();
    row.append(element("td", name));
    const cell = element("td", percent(share), "bar");
    cell.style.setProperty("--filled", 100 * share + "%");
    row.append(cell);
  }
  return table;
}

function shownAnswer(answer, image) {
  const box = element("section", undefined, image ? "answer" : "answer plain");
  if (image) box.append(image);
  const side = element("div");
  box.append(side);
  if (answer.error) {
    side.append(element("p", answer.error + "; " + answer.what_to_do, "error"));
    return box;
  }
  if (answer.mask_png) {
    side.append(element("h2", "Classes of the pixels"));
    const mask = element("img");
    mask.alt = "The predicted mask";
    mask.src = "data:image/png;base64," + answer.mask_png;
    side.append(mask, tableOf("share of the pixels", answer.shares.map((s) => [s.class, s.share])));
  } else {
    side.append(element("h2", answer.classes.join(", ") || "no label"));
    if (answer.unfamiliar) {
      side.append(element("p", "Unlike the training data (" + answer.unfamiliarity.toFixed(2) +
        "; images like the training images are mostly below 1): do not rely on the answer.", "unfamiliar"));
    } else if (answer.unfamiliarity !== undefined) {
      side.append(element("p", "Like the training data (unfamiliarity " + answer.unfamiliarity.toFixed(2) + ")."));
    }
    if (answer.set) side.append(element("p", "Possible classes: " + (answer.set.join(", ") || "none")));
    if (answer.unsure && answer.unsure.length) side.append(element("p", "Left open: " + answer.unsure.join(", ")));
    side.append(tableOf("probability", answer.top.map((t) => [t.class, t.probability])));
  }
  side.append(element("p", answer.file !== undefined ? answer.file : "line " + answer.row, "file"));
  return box;
}

async function ask(body, headers) {
  status_.textContent = "Waiting for the answer";
  const started = performance.now();
  try {
    const response = await fetch("predict", { method: "POST", body, headers });
    const answer = await response.json();
    const seconds = (performance.now() - started) / 1000;
    status_.textContent = "Answered in " + seconds.toFixed(2) + " s";
    return answer.predictions || [answer];
  } catch (error) {
    status_.textContent = "";
    return [{ error: "The server did not answer", what_to_do: "See whether it is still running" }];
  }
}

function preview(file) {
  const image = element("img");
  image.alt = "The image " + file.name;
  image.src = URL.createObjectURL(file);
  image.onload = () => image.classList.toggle("tiny", image.naturalWidth <= 64);
  image.onerror = () => {
    image.parentNode?.classList.add("plain");
    image.remove();
  };
  return image;
}

async function classify(files) {
  answers.replaceChildren();
  for (const file of files) {
    const form = new FormData();
    form.append("file", file, file.name);
    for (const answer of await ask(form)) answers.append(shownAnswer(answer, preview(file)));
  }
}

const drop = document.getElementById("drop");
if (drop) {
  const chooser = document.getElementById("file");
  chooser.addEventListener("change", () => { classify([...chooser.files]); chooser.value = ""; });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    classify([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) classify([...event.clipboardData.files]);
  });
} else {
  document.getElementById("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const rows = document.getElementById("rows").value;
    const found = await ask(rows, { "Content-Type": "text/csv" });
    answers.replaceChildren(...found.map((answer) => shownAnswer(answer)));
  });
}
