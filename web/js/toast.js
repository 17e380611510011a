import { byId, make } from "./element.js";

const lifetime = { info: 5000, error: 12000 };

/** Shows a message for a while; an error is read out at once. */
export function toast(text, kind = "info") {
  const close = make("button", { type: "button", textContent: "✕", "aria-label": "Dismiss" });
  const box = make("div", { className: `toast ${kind}`, role: kind === "error" ? "alert" : "status" }, make("span", {}, text), close);
  const timer = setTimeout(() => box.remove(), lifetime[kind]);
  close.addEventListener("click", () => {
    clearTimeout(timer);
    box.remove();
  });
  byId("toasts").append(box);
  while (byId("toasts").children.length > 3) byId("toasts").firstElementChild.remove();
}

/** Shows what went wrong. Cancelling is not wrong. */
export function complain(error) {
  if (error.name === "AbortError") return;
  console.error(error);
  toast(error.message || String(error), "error");
}
