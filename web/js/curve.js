// The loss of a training, step by step.
const width = 600, height = 160, margin = 10; // of the drawing

/** A curve that grows, in a figure. */
export class Curve {
  steps = [];

  constructor(figure) {
    [this.svg, this.loss, this.held, this.lossKey, this.heldKey] = ["svg", ".loss", ".held", ".key-loss", ".key-held"].map((part) => figure.querySelector(part));
    this.clear();
    figure.hidden = false;
  }

  clear() {
    this.steps = [];
    this.loss.setAttribute("points", "");
    this.held.setAttribute("points", "");
    this.lossKey.textContent = "loss";
    this.heldKey.textContent = "on held-out noise";
    this.svg.setAttribute("aria-label", "Loss: no step yet");
  }

  add(step) {
    this.steps.push(step);
    const values = this.steps.flatMap((s) => [s.loss, s.held_out_loss]);
    const low = Math.min(...values), high = Math.max(...values);
    const point = (s, value) => {
      const x = margin + ((width - 2 * margin) * s.step) / s.steps;
      const y = height - margin - ((height - 2 * margin) * (value - low)) / (high - low || 1);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    };
    this.loss.setAttribute("points", this.steps.map((s) => point(s, s.loss)).join(" "));
    this.held.setAttribute("points", this.steps.map((s) => point(s, s.held_out_loss)).join(" "));
    this.lossKey.textContent = `loss ${step.loss.toFixed(4)}`;
    this.heldKey.textContent = `on held-out noise ${step.held_out_loss.toFixed(4)}, best at step ${step.best_step}`;
    this.svg.setAttribute("aria-label", `Loss: ${step.loss.toFixed(4)} at step ${step.step} of ${step.steps}`);
  }
}
