// The page, put together.
import * as api from "./api.js";
import { activate, addConcept, isStyle, isTaken, newest, setUpConcepts } from "./concepts.js";
import { setUpEdit } from "./edit.js";
import { byId } from "./element.js";
import { setUpGallery } from "./gallery.js";
import { proposeWord, setUpPhotos } from "./photos.js";
import { addStyle, insertWord, replaceWord, setUpPrompt, useConcept } from "./prompt.js";
import { openRefine, remember, setUpRefine } from "./refine.js";
import { setUpStudio } from "./studio.js";
import { complain, toast } from "./toast.js";

const model = api.model();
model.then((m) => (byId("model").textContent = m.id), complain);

function use(concept) {
  if (isStyle(concept)) addStyle(concept);
  else useConcept(concept);
  activate(concept);
}

setUpPrompt(model);
setUpStudio(model);
setUpGallery();
setUpEdit();
setUpPhotos({
  model,
  isTaken,
  made(concept, files = []) {
    remember(concept, files);
    addConcept(concept);
    use(concept);
    byId("prompt").focus({ preventScroll: true });
    if (!concept.timings_ms) toast(`${concept.photos ? "These photos are" : "This file is"} known already, as <${concept.word}>.`);
  },
});
const tuning = await model.then((m) => m.tuning_methods, () => []);
setUpRefine(model);
await setUpConcepts({
  refine: tuning.length > 0 ? openRefine : null,
  use(concept) {
    use(concept);
    byId("prompt").focus();
  },
  insert: insertWord,
  renamed: (from, concept) => replaceWord(from, concept.word),
});
proposeWord(isTaken);
if (newest()) use(newest());
