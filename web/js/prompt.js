// Step 2: the prompt, its suggestions and the settings.
import { byId, make } from "./element.js";

const suggestions = [
  ["with a crown", "an illustration of WORD wearing a crown"],
  ["at the beach", "an illustration of WORD smiling, wearing sunglasses, at the beach"],
  ["pencil sketch", "a pencil sketch of WORD wearing glasses"],
  ["pixel art", "pixel art of WORD wearing headphones, in the city at night"],
  ["wizard", "an illustration of WORD wearing a wizard hat, in a forest"],
  ["in space", "an illustration of WORD laughing, in a red shirt, in space"],
  ["snow", "an illustration of WORD wearing a beanie, in the snow"],
];

let word = "me"; // of the concept in use

const prompt = () => byId("prompt");
const fill = (text) => text.replaceAll("WORD", `<${word}>`);

/** Sets the prompt up, and the settings from the model's defaults. */
export function setUpPrompt(model) {
  byId("chips").replaceChildren(...suggestions.map(([label, text]) =>
    make("button", { type: "button", onclick: () => write(fill(text)) }, label)));
  prompt().addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("draw").requestSubmit();
  });
  for (const id of ["steps", "guidance", "strength"]) {
    byId(id).addEventListener("input", showSettings);
  }
  showSettings();
  model.then((m) => {
    byId("steps").max = Math.min(m.max_steps, 50);
    byId("steps").value = m.steps;
    byId("guidance").value = m.guidance_scale;
    showSettings();
  }, () => {});
}

function showSettings() {
  byId("steps-value").value = byId("steps").value;
  byId("guidance-value").value = Number(byId("guidance").value).toFixed(2).replace(/0$/, "");
  byId("strength-value").value = `${Math.round(byId("strength").value * 100)} %`;
}

function write(text) {
  prompt().value = text;
  prompt().focus();
}

/** Puts a concept into the prompt, in the place of the one before. */
export function useConcept(concept) {
  const before = word;
  word = concept.word;
  if (!prompt().value.trim()) prompt().value = fill(suggestions[0][1]);
  else if (!replaceWord(before, word) && !prompt().value.includes(`<${word}`)) insertWord(concept);
}

/** Puts a LoRA's word behind the prompt, which keeps its subject. */
export function addStyle(concept) {
  const field = prompt();
  if (field.value.includes(`<${concept.word}>`) || field.value.includes(`<${concept.word}:`)) return;
  field.setSelectionRange(field.value.length, field.value.length);
  insertWord(concept);
}

/** Writes <from> as <to> everywhere in the prompt, and tells whether there was any. */
export function replaceWord(from, to) {
  const text = prompt().value;
  if (word === from) word = to;
  prompt().value = text.replaceAll(`<${from}>`, `<${to}>`).replaceAll(`<${from}:`, `<${to}:`);
  return text.includes(`<${from}>`) || text.includes(`<${from}:`);
}

/** Inserts a concept's word at the caret. */
export function insertWord(concept) {
  const field = prompt();
  const before = field.value.slice(0, field.selectionStart);
  const after = field.value.slice(field.selectionEnd);
  const left = before && !/\s$/.test(before) ? " " : "";
  const right = after && !/^[\s,.;:!?]/.test(after) ? " " : "";
  field.setRangeText(`${left}<${concept.word}>${right}`, field.selectionStart, field.selectionEnd, "end");
  field.focus();
}

/** The request that the form describes. */
export function readRequest() {
  const number = (id) => Number(byId(id).value);
  const seed = byId("seed").value.trim();
  const request = {
    prompt: prompt().value.trim(),
    n: Math.min(4, Math.max(1, Math.round(number("count")) || 1)),
    steps: number("steps"),
    guidance_scale: number("guidance"),
    concept_strength: number("strength"),
    cache_interval: number("speed"),
  };
  if (seed) request.seed = Number(seed);
  if (byId("negative").value.trim()) request.negative_prompt = byId("negative").value.trim();
  return request;
}

/** Fills the form with an earlier request. */
export function writeRequest(request, seed) {
  byId("count").value = request.n;
  byId("steps").value = request.steps;
  byId("guidance").value = request.guidance_scale;
  byId("strength").value = request.concept_strength;
  byId("speed").value = request.cache_interval ?? 1;
  byId("negative").value = request.negative_prompt ?? "";
  byId("seed").value = seed;
  showSettings();
  write(request.prompt);
}
