// What the pages do beyond a plain form: drop a photo, see it, take one on a phone, say that work is going on.
"use strict";

for (const form of document.querySelectorAll("form.question")) {
  const most = Number(form.dataset.mostBytes);
  const button = form.querySelector("button[type=submit]");
  const status = form.querySelector(".status");

  for (const place of form.querySelectorAll("[data-place]")) {
    preparePlace(place, most);
  }
  form.addEventListener("submit", () => {
    button.disabled = true;
    status.textContent = "Finding the faces and comparing them; this takes a few seconds.";
  });
  window.addEventListener("pageshow", () => {  // also when the visitor comes back to this page
    button.disabled = false;
    status.textContent = "";
  });
}

function preparePlace(place, most) {
  const input = place.querySelector("input[type=file]");
  const preview = place.querySelector(".preview");
  const hint = place.querySelector(".hint");
  const before = { preview: [...preview.childNodes], hint: hint.textContent };

  input.addEventListener("change", () => {
    const file = input.files[0];
    const wrong = file ? whatIsWrong(file, most) : "";
    input.setCustomValidity(wrong);
    hint.classList.toggle("wrong", Boolean(wrong));
    hint.textContent = wrong || (file ? "" : before.hint);  // the browser shows the name itself
    preview.replaceChildren(...(file && !wrong ? [picture(file, preview, before.preview)] : before.preview));
  });

  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    place.addEventListener(kind, (event) => {
      event.preventDefault();
      place.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  place.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length) {
      const first = new DataTransfer();
      first.items.add(event.dataTransfer.files[0]);
      input.files = first.files;
      input.dispatchEvent(new Event("change"));
    }
  });

  if (window.matchMedia("(pointer: coarse)").matches) {
    place.append(cameraButton(input));
  }
}

function whatIsWrong(file, most) {
  if (file.size === 0) return "This file is empty; choose another.";
  if (file.size > most / 2) return `This file has more than ${Math.floor(most / 2 ** 21)} MB; save it smaller.`;
  return "";
}

function picture(file, preview, before) {
  const image = new Image();
  image.alt = "Preview";
  image.src = URL.createObjectURL(file);
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  image.addEventListener("error", () => preview.replaceChildren(...before));  // the browser cannot show it; the server may
  return image;
}

function cameraButton(input) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "camera";
  button.textContent = "Take a photo";
  button.addEventListener("click", () => {
    input.setAttribute("capture", "user");
    input.click();
    input.removeAttribute("capture");
  });
  return button;
}
