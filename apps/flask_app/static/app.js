// What the pages do beyond a plain form: drop, paste or take photos, see them, choose faces, print, say that work is going on.
"use strict";

const MOST_PHOTOS = 5;  // of one person
const MORE = ["Drop more here, or choose others", "Choose others"];
const CAMERAS = { "Photograph a print": "environment", "Take a selfie": "user" };

for (const form of document.querySelectorAll("form.question")) {
  const buttons = form.querySelectorAll("button[type=submit]");
  const status = form.querySelector(".status");
  const places = [...form.querySelectorAll("[data-place]")].map((element) => preparePlace(element, form));

  form.addEventListener("submit", () => {
    buttons.forEach((button) => { button.disabled = true; });
    status.textContent = "Finding the faces and comparing them; this takes a few seconds.";
  });
  window.addEventListener("pageshow", () => {  // also when the visitor comes back to this page
    buttons.forEach((button) => { button.disabled = false; });
    status.textContent = "";
  });
  form.addEventListener("change", () => places.forEach((place) => place.check()));
  document.addEventListener("paste", (event) => {  // into the first place that is empty, else the last
    const photos = [...(event.clipboardData?.files ?? [])];
    const place = places.find((other) => other.isEmpty()) ?? places.at(-1);
    if (photos.length && place) place.add(photos);
  });
  form.addEventListener("change", showChoice);
  showChoice();

  function showChoice() {  // the thumbnails follow the boxes in the pictures
    for (const radio of form.querySelectorAll(".photo input")) {
      radio.labels.forEach((label) => label.classList.toggle("chosen", radio.checked));
    }
  }
}

for (const button of document.querySelectorAll("button.print")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}

function preparePlace(place, form) {
  const input = place.querySelector("input[type=file]");
  const preview = place.querySelector(".preview");
  const more = place.querySelector(".more");
  const hint = place.querySelector(".hint");
  const calls = place.querySelectorAll(".call > span");
  const before = { preview: [...preview.childNodes], more: [...more.childNodes], hint: hint.textContent,
    calls: [...calls].map((call) => call.textContent) };

  function check() {  // also when the other place changes: all photos together have a limit
    const files = [...input.files];
    const wrong = whatIsWrong(files, form);
    input.setCustomValidity(wrong);
    hint.classList.toggle("wrong", Boolean(wrong));
    hint.textContent = wrong || (files.length ? names(files) : before.hint);
  }
  function show() {
    const files = [...input.files];
    calls.forEach((call, index) => { call.textContent = files.length ? MORE[index] : before.calls[index]; });
    const [main, ...others] = files;
    preview.replaceChildren(...(main ? [picture(main, "The photo that you chose")] : before.preview));
    const kept = input.required ? before.more : [];  // those of a person whose main photo was refused
    more.replaceChildren(...(main ? [...kept, ...others.map((file, index) => further(file, index + 1))] : before.more));
  }
  function set(files) {
    const transfer = new DataTransfer();
    files.forEach((file) => transfer.items.add(file));
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
  function add(files) {
    set([...input.files, ...files]);
  }
  function further(file, index) {
    const figure = document.createElement("span");
    figure.className = "further";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Remove";
    button.setAttribute("aria-label", `Remove ${file.name}`);
    button.addEventListener("click", () => {
      set([...input.files].filter((_, place) => place !== index));
      input.focus();
    });
    figure.append(picture(file, file.name), button);
    return figure;
  }

  input.addEventListener("change", show);
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    place.addEventListener(kind, (event) => {
      event.preventDefault();
      place.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  place.addEventListener("drop", (event) => add([...event.dataTransfer.files]));
  if (window.matchMedia("(pointer: coarse)").matches) more.after(cameras(add));
  return { add, check, isEmpty: () => input.files.length === 0 };
}

function whatIsWrong(files, form) {
  const most = Number(form.dataset.mostBytes);
  if (files.length === 0) return "";
  const all = [...form.querySelectorAll("input[type=file][name]")].flatMap((input) => [...input.files]);
  const megabytes = Math.floor(most / 2 ** 20);
  if (files.some((file) => file.size === 0)) return "This file is empty; choose another.";
  if (files.length > MOST_PHOTOS) return `These are ${files.length} photos; five of a person are the most.`;
  if (all.reduce((sum, file) => sum + file.size, 0) > 0.98 * most) {
    return `All photos together have more than ${megabytes} MB; choose fewer, or save them smaller.`;
  }
  return "";
}

function names(files) {
  return files.length === 1 ? files[0].name : `${files.length} photos; this one is shown, all are averaged.`;
}

function picture(file, text) {
  const image = new Image();
  image.alt = text;
  image.src = URL.createObjectURL(file);
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  image.addEventListener("error", () => {  // the browser cannot show it; the server may
    const name = document.createElement("span");
    name.textContent = file.name;
    image.replaceWith(name);
  });
  return image;
}

function cameras(add) {
  const row = document.createElement("div");
  row.className = "cameras";
  for (const [text, side] of Object.entries(CAMERAS)) {
    const input = document.createElement("input");  // without a name: it is not sent
    input.type = "file";
    input.accept = "image/*";
    input.hidden = true;
    input.setAttribute("capture", side);
    input.addEventListener("change", () => {
      add([...input.files]);
      input.value = "";
    });
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", () => input.click());
    row.append(button, input);
  }
  return row;
}
