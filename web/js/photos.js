// Step 1: choosing photos and making a concept of them.
import * as api from "./api.js";
import { byId, make } from "./element.js";
import { complain, toast } from "./toast.js";

const wordSyntax = /^[a-z0-9_-]{1,32}$/;
let photos = []; // of { file, url, sample }
let limits = { max_photos: 4, max_upload_bytes: Infinity };
let busy = false;
let imported = () => {};

/** Sets the page's first step up; made(concept, files) is called with each concept and its photos, isTaken(word) tells whether one has it. */
export function setUpPhotos({ model, isTaken, made }) {
  model.then((m) => (limits = m), () => {});
  imported = (concept) => {
    made(concept);
    proposeWord(isTaken);
  };
  const files = byId("files");
  files.addEventListener("change", () => {
    add([...files.files].map((file) => ({ file })));
    files.value = "";
  });
  setUpDrop(byId("drop"));
  loadSamples();
  byId("word").addEventListener("input", () => markWord(true));
  byId("upload").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(made, isTaken);
  });
}

function setUpDrop(drop) {
  const over = (on) => (event) => {
    event.preventDefault();
    drop.classList.toggle("over", on);
  };
  for (const target of [drop, document.body]) {
    target.addEventListener("dragover", over(true));
    target.addEventListener("dragleave", over(false));
    target.addEventListener("drop", over(false));
  }
  document.body.addEventListener("drop", (event) => add([...event.dataTransfer.files].map((file) => ({ file }))));
  document.addEventListener("paste", (event) => add([...event.clipboardData.files].map((file) => ({ file }))));
}

async function loadSamples() {
  try {
    const list = await (await fetch("samples/index.json")).json();
    byId("sample-list").replaceChildren(...list.map(sampleButton));
    byId("samples").hidden = list.length === 0;
  } catch (error) {
    console.error(error);
  }
}

function sampleButton({ file, name }) {
  const url = `samples/${file}`;
  const button = make("button", { type: "button", title: name, "aria-label": `Sample face: ${name}`, "aria-pressed": "false" },
    make("img", { src: url, alt: "", width: 56, height: 56, loading: "lazy" }));
  button.dataset.sample = file;
  button.addEventListener("click", async () => {
    if (photos.some((photo) => photo.sample === file)) return remove((photo) => photo.sample === file);
    try {
      const blob = await (await fetch(url)).blob();
      photos = []; // a sample is another person than the photos chosen before
      add([{ file: new File([blob], file, { type: blob.type }), sample: file, name }]);
      byId("word").focus({ preventScroll: true });
    } catch (error) {
      complain(error);
    }
  });
  return button;
}

const isModelFile = (file) => /\.(safetensors|pt|ckpt|bin)$/i.test(file.name);

/** Makes concepts of LoRA and embedding files, one after the other. */
async function importFiles(files) {
  for (const file of files) {
    if (file.size > limits.max_upload_bytes) {
      toast(`${file.name} is larger than the ${Math.floor(limits.max_upload_bytes / 1e6)} MB that the server takes.`, "error");
      continue;
    }
    toast(`Reading ${file.name}…`);
    try {
      imported(await api.importFile(file));
    } catch (error) {
      complain(error);
    }
  }
}

function add(chosen) {
  const pictures = chosen.filter(({ file }) => file.type.startsWith("image/"));
  const models = chosen.map(({ file }) => file).filter(isModelFile);
  importFiles(models);
  if (pictures.length + models.length < chosen.length) toast("Only pictures can be used (PNG, JPEG, WebP), and LoRA or embedding files (.safetensors).", "error");
  if (pictures.some((photo) => !photo.sample)) photos = photos.filter((photo) => !photo.sample);
  for (const photo of pictures) {
    if (photos.length === limits.max_photos) {
      toast(`Up to ${limits.max_photos} photos of one person are read together; the rest was left out.`, "error");
      break;
    }
    photos.push({ ...photo, url: URL.createObjectURL(photo.file) });
  }
  show();
}

function remove(matches) {
  photos = photos.filter((photo) => !matches(photo));
  show();
}

function show() {
  const chosen = byId("chosen");
  chosen.hidden = photos.length === 0;
  chosen.replaceChildren(...photos.map((photo, i) =>
    make("li", {}, make("img", { src: photo.url, alt: `Chosen photo ${i + 1}: ${photo.file.name}` }),
      make("button", { type: "button", textContent: "✕", "aria-label": `Remove ${photo.file.name}`, onclick: () => { remove((p) => p === photo); byId("files").focus(); } }))));
  for (const button of byId("sample-list").children) {
    button.setAttribute("aria-pressed", String(photos.some((photo) => photo.sample === button.dataset.sample)));
  }
  byId("make").disabled = busy || photos.length === 0;
}

function markWord(good) {
  byId("word").setAttribute("aria-invalid", String(!good));
  byId("word").closest(".wordbox").classList.toggle("wrong", !good);
}

/** Proposes a word that no concept has: me, me2, me3, … */
export function proposeWord(isTaken) {
  let word = "me";
  for (let n = 2; isTaken(word); n++) word = `me${n}`;
  byId("word").value = word;
}

async function submit(made, isTaken) {
  if (busy || photos.length === 0) return;
  const word = byId("word").value.trim().toLowerCase().replace(/^<|>$/g, "");
  if (!wordSyntax.test(word)) {
    markWord(false);
    byId("word").focus();
    return toast("The word needs 1 to 32 small letters, digits, - or _.", "error");
  }
  if (photos.reduce((sum, { file }) => sum + file.size, 0) > limits.max_upload_bytes) {
    return toast(`The photos are larger than ${Math.floor(limits.max_upload_bytes / 1e6)} MB together.`, "error");
  }
  busy = true;
  show();
  byId("make").textContent = "Reading…";
  try {
    const start = performance.now();
    const files = photos.map(({ file }) => file);
    const concept = await api.createConcept(files, word, photos[0].name);
    concept.waited = performance.now() - start;
    photos = [];
    made(concept, files);
    proposeWord(isTaken);
  } catch (error) {
    if (error.param === "word") markWord(false);
    complain(error);
  } finally {
    busy = false;
    byId("make").textContent = "Make concept";
    show();
  }
}
