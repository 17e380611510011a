// The stored concepts: cards to use, rename, download and delete.
import * as api from "./api.js";
import { byId, duration, make, size } from "./element.js";
import { complain, toast } from "./toast.js";

let concepts = [];
let next = "";
let active = null; // its id
let listeners = { use() {}, insert() {}, renamed() {}, refine: null };

/** Loads and shows the concepts. use(concept) is called when one is chosen, insert(word) to put a word into the prompt,
 *  refine(concept), where the server can, to tune one. */
export async function setUpConcepts(on) {
  listeners = { ...listeners, ...on };
  byId("more-concepts").addEventListener("click", load);
  byId("concepts").replaceChildren(make("li", { className: "skeleton", "aria-label": "Loading" }));
  await load();
}

async function load() {
  const list = byId("concepts");
  try {
    const page = await api.listConcepts(next);
    if (!next) list.replaceChildren();
    next = page.next;
    concepts.push(...page.data);
    list.append(...page.data.map(card), ...page.damaged.map(damagedCard));
  } catch (error) {
    list.replaceChildren();
    complain(error);
  }
  list.removeAttribute("aria-busy");
  update();
}

function update() {
  byId("concepts-empty").hidden = byId("concepts").children.length > 0;
  byId("more-concepts").hidden = !next;
  for (const item of byId("concepts").children) item.setAttribute("aria-current", String(item.dataset.id === active));
}

/** Tells whether a concept has this word. */
export const isTaken = (word) => concepts.some((concept) => concept.word === word);

/** Tells whether a concept is a LoRA file's, and nobody that was learned from photos. */
export const isStyle = ({ method, photos }) => method === "lora" && photos === 0;

/** The newest concept that is somebody, if there is one. */
export const newest = () => concepts.find((concept) => !isStyle(concept));

/** Marks the concept that the prompt is about. */
export function activate(concept) {
  active = concept.id;
  update();
}

/** Shows a concept that was just made at the top. */
export function addConcept(concept) {
  concepts = [concept, ...concepts.filter(({ id }) => id !== concept.id)];
  byId("concepts").querySelector(`[data-id="${concept.id}"]`)?.remove();
  const item = card(concept);
  item.classList.add("fresh");
  byId("concepts").prepend(item);
  update();
  item.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

/** Shows a concept as it is now. */
export function updateConcept(concept) {
  concepts = concepts.map((other) => (other.id === concept.id ? concept : other));
  byId("concepts").querySelector(`[data-id="${concept.id}"]`)?.replaceWith(card(concept));
  update();
}

function facts(concept) {
  const list = [size(concept.bytes)];
  if (concept.photos) list.unshift(concept.photos === 1 ? "1 photo" : `${concept.photos} photos`);
  if (concept.timings_ms) list.unshift(`made in ${duration(concept.timings_ms.total)}`);
  else if (concept.waited) list.unshift("known already");
  if (concept.version > 0) list.push(`version ${concept.version + 1}`);
  if (!concept.usable) list.push("of another model");
  return list.join(" · ");
}

const title = (concept) => concept.name || concept.word;

function card(concept) {
  const item = make("li", { className: "concept" });
  item.dataset.id = concept.id;
  const use = () => listeners.use(concept);
  item.append(
    make("button", { type: "button", className: "face", "aria-label": `Use ${title(concept)}`, onclick: use },
      concept.image_url ? make("img", { src: concept.image_url, alt: "", width: 60, height: 60 }) : "✎"),
    make("div", { className: "who" },
      make("span", { className: "name" }, title(concept)),
      make("button", { type: "button", className: "pill", title: "Insert into the prompt", "aria-label": `Insert ${concept.word} into the prompt`, onclick: () => listeners.insert(concept) }, `<${concept.word}>`)),
    make("p", { className: "facts" }, facts(concept)),
    ...concept.notes.map((note) => make("p", { className: "note" }, note)),
    tools(item, concept, use));
  return item;
}

function tools(item, concept, use) {
  return make("div", { className: "tools" },
    make("button", { type: "button", className: "use", onclick: use, disabled: !concept.usable, "aria-label": `Use ${title(concept)} in the prompt` }, "Use"),
    make("button", { type: "button", className: "quiet rename", onclick: () => edit(item, concept), "aria-label": `Rename ${title(concept)}` }, "Rename"),
    ...(listeners.refine && concept.photos > 0
      ? [make("button", { type: "button", className: "quiet refine", onclick: () => listeners.refine(concept), "aria-label": `Refine ${title(concept)}` }, "Refine")] : []),
    files(concept),
    make("button", { type: "button", className: "quiet danger delete", onclick: () => confirmDelete(item, concept), "aria-label": `Delete ${title(concept)}` }, "Delete"));
}

const formatNames = { kohya: "LoRA (kohya)", diffusers: "LoRA (diffusers)", embedding: "Embedding" };

/** The concept's file, in its own form and as other programs read it. */
function files(concept) {
  const link = (href, name, label) =>
    make("a", { className: "button", href, download: `${name}.safetensors`, "aria-label": `Download ${title(concept)} as a file: ${label}` }, label);
  return make("details", { className: "files" }, make("summary", { className: "button", "aria-label": `Download ${title(concept)}` }, "File"),
    make("div", {}, link(concept.file_url, concept.word, "Concept"),
      ...concept.formats.map((format) => link(`${concept.file_url}?format=${format}`, `${concept.word}-${format}`, formatNames[format]))));
}

function onEscape(element, act) {
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation(); // it would cancel the pictures being drawn
    act();
  });
}

function edit(item, concept) {
  const name = make("input", { type: "text", name: "name", value: concept.name, maxLength: 64 });
  const word = make("input", { type: "text", name: "word", value: concept.word, maxLength: 32, autocapitalize: "none", spellcheck: false });
  const close = () => restore(item, concept, ".rename");
  const form = make("form", { noValidate: true },
    make("label", {}, "Name", name), make("label", {}, "Word", word),
    make("div", { className: "tools" }, make("button", { type: "submit", className: "primary" }, "Save"), make("button", { type: "button", className: "quiet", onclick: close }, "Keep as it is")));
  onEscape(form, close);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const changed = await api.changeConcept(concept, { name: name.value.trim(), word: word.value.trim().toLowerCase() });
      const old = concept.word;
      concepts = concepts.map((other) => (other.id === changed.id ? changed : other));
      restore(item, changed, ".rename");
      listeners.renamed(old, changed);
    } catch (error) {
      complain(error);
    }
  });
  item.querySelector(".tools").replaceWith(form);
  name.focus();
  name.select();
}

/** Puts a fresh card in an item's place and the focus where it was. */
function restore(item, concept, focus) {
  const fresh = card(concept);
  item.replaceWith(fresh);
  update();
  fresh.querySelector(focus)?.focus();
}

function confirmDelete(item, concept) {
  const keep = make("button", { type: "button", className: "quiet", onclick: () => restore(item, concept, ".delete") }, "Keep");
  const really = make("button", { type: "button", className: "danger", onclick: () => remove(item, concept) }, `Delete ${title(concept)} for good`);
  const bar = make("div", { className: "tools" }, really, keep);
  onEscape(bar, () => restore(item, concept, ".delete"));
  item.querySelector(".tools").replaceWith(bar);
  keep.focus();
}

async function remove(item, concept) {
  try {
    await api.deleteConcept(concept);
    concepts = concepts.filter(({ id }) => id !== concept.id);
    item.remove();
    update();
    toast(`${title(concept)} is deleted.`);
    (byId("concepts").querySelector(".use") ?? byId("files")).focus();
  } catch (error) {
    complain(error);
  }
}

function damagedCard({ id, error }) {
  const item = make("li", { className: "concept" });
  item.dataset.id = id;
  const concept = { id, name: id, url: `v1/concepts/${id}` };
  item.append(make("p", { className: "note" }, error),
    make("div", { className: "tools" }, make("button", { type: "button", className: "quiet danger", onclick: () => remove(item, concept) }, "Delete")));
  return item;
}
