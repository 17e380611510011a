"""Golden trajectories: diffusers' samplers walked with a fixed stand-in for the network.

    pip install torch==2.7.1 diffusers==0.42.1 numpy
    python scripts/golden/scheduler.py

Rewrites models/scheduler/testdata/trajectories.json. The stand-in is 0.3·x + sin(t/1000 + j) for element j of the
scaled input x at timestep t; the k-th draw of noise is 1.5·cos(1.7·k + 0.9·j + 0.3). Samples, ᾱ and σ are float64
from set_timesteps on, where diffusers does not round them itself. See README.md beside this file.
"""

import itertools
import json
import pathlib
import sys
import warnings

import diffusers
import torch

OUT = pathlib.Path(__file__).resolve().parents[2] / "models/scheduler/testdata/trajectories.json"
CLASSES = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "pndm": "PNDM",
    "euler": "EulerDiscrete",
    "euler_ancestral": "EulerAncestralDiscrete",
    "heun": "HeunDiscrete",
    "dpmsolver++": "DPMSolverMultistep",
    "sde-dpmsolver++": "DPMSolverMultistep",
    "unipc": "UniPCMultistep",
    "lcm": "LCM",
}
X0 = torch.tensor([[0.3, -0.7, 1.4]], dtype=torch.float64)
NOISE = torch.tensor([[-1.2, 0.5, 2.0]], dtype=torch.float64)
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SDE = dict(algorithm_type="sde-dpmsolver++")
KARRAS = dict(use_karras_sigmas=True)
ZERO_SNR = dict(SD, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
COUNTS = (1, 3, 10, 25)


def make(name, config):
    return getattr(diffusers, CLASSES[name] + "Scheduler")(**config)


def configurations():
    """(sampler, configuration, step counts, first steps of walks that begin later)."""
    yield from common()
    yield from variance_preserving()
    yield from sigmas()
    yield from solvers()


def common():
    """Every sampler: spacing × prediction × Karras, then other schedules."""
    betas = [0.001 + 0.0004 * i for i in range(40)]
    spacings, predictions = ("leading", "trailing", "linspace"), ("epsilon", "v_prediction", "sample")
    for name in CLASSES:
        own = dict(ddim=dict(clip_sample=False, set_alpha_to_one=False), ddpm=dict(clip_sample=False))
        own |= {"pndm": dict(skip_prk_steps=True), "sde-dpmsolver++": SDE}
        own = own.get(name, {})
        for spacing, prediction in itertools.product(spacings, predictions):
            if prediction == "sample" and name in ("pndm", "euler_ancestral"):  # not in diffusers
                continue
            base = dict(SD, timestep_spacing=spacing, prediction_type=prediction, steps_offset=1, **own)
            if name == "lcm":
                base = base if spacing == "leading" else None  # has one grid of its own
            begins = (2, 6) if prediction == "epsilon" else ()
            if base:
                yield name, base, COUNTS, begins
            if name in ("euler", "heun", "dpmsolver++", "sde-dpmsolver++", "unipc"):
                yield name, dict(base, **KARRAS), COUNTS, begins
        yield name, own, (10,), ()
        yield name, dict(own, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"), (10,), ()
        original = dict(original_inference_steps=20) if name == "lcm" else {}
        yield name, dict(own, num_train_timesteps=250, timestep_spacing="trailing", **SD), (7,), ()
        yield name, dict(own, trained_betas=betas, num_train_timesteps=40, **original), (6,), ()
        if name not in ("pndm", "heun"):
            yield name, dict(own, **ZERO_SNR), (10,), ()


def variance_preserving():
    yield "ddim", dict(SD, clip_sample=True, clip_sample_range=0.8), (10,), ()
    yield "ddim", dict(SD, clip_sample=False, timestep_spacing="leading"), (1000, 300), ()
    yield "ddpm", dict(SD, clip_sample=True, clip_sample_range=0.8), (10,), ()
    for variance in ("fixed_small_log", "fixed_large"):
        yield "ddpm", dict(SD, clip_sample=False, variance_type=variance), (10,), ()
    yield "ddpm", dict(SD, clip_sample=False), (1000,), ()
    yield "pndm", dict(SD, skip_prk_steps=True, set_alpha_to_one=True), (10, 50), (1, 3)
    for prediction in ("epsilon", "v_prediction"):
        yield "pndm", dict(SD, prediction_type=prediction, skip_prk_steps=False), (4, 10, 25), ()
    yield "lcm", dict(SD, clip_sample=True, clip_sample_range=0.8, set_alpha_to_one=False), (4,), ()
    yield "lcm", dict(SD, original_inference_steps=100, timestep_scaling=3.0), (2, 8), ()


def sigmas():
    yield "euler", dict(SD, sigma_min=0.1, sigma_max=10.0, **KARRAS), (10,), ()
    yield "euler", dict(SD, final_sigmas_type="sigma_min"), (10,), ()
    yield "euler", dict(SD, final_sigmas_type="sigma_min", **KARRAS), (10,), ()
    yield "heun", dict(SD, clip_sample=True, clip_sample_range=0.8), (10,), ()


def solvers():
    sd = dict(SD, timestep_spacing="leading")
    least = dict(final_sigmas_type="sigma_min")
    for name, own in (("dpmsolver++", {}), ("sde-dpmsolver++", SDE)):
        yield name, dict(SD, **own, **least), (10,), ()
        yield name, dict(SD, **own, **least, **KARRAS), (10,), ()
        yield name, dict(sd, **own, solver_order=1), (10,), ()
        yield name, dict(sd, **own, solver_order=3), (10, 25), (4,)
        yield name, dict(sd, **own, solver_type="heun"), (10, 25), ()
        yield name, dict(sd, **own, **least, euler_at_final=True), (20,), ()
        yield name, dict(sd, **own, **least, lower_order_final=False), (10,), ()
        yield name, dict(sd, **own, lambda_min_clipped=-1.5), (10,), ()
    yield "dpmsolver++", dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1), (10,), ()
    for algorithm, order, kind in itertools.product(("dpmsolver", "sde-dpmsolver"), (1, 2, 3), ("midpoint", "heun")):
        if (algorithm, order) != ("sde-dpmsolver", 3) and (order, kind) != (1, "heun"):
            name = "sde-dpmsolver++" if algorithm.startswith("sde") else "dpmsolver++"
            config = dict(sd, **least, algorithm_type=algorithm, solver_order=order, solver_type=kind)
            yield name, config, (10, 25), ()
    yield "dpmsolver++", dict(sd, **least, algorithm_type="dpmsolver", prediction_type="v_prediction"), (10,), ()
    for order, kind in itertools.product((1, 2, 3), ("bh1", "bh2")):
        yield "unipc", dict(sd, **least, solver_order=order, solver_type=kind), (10, 25), (4,)
        yield "unipc", dict(sd, **least, solver_order=order, solver_type=kind, predict_x0=False), (10,), ()
    yield "unipc", dict(sd, solver_order=3), (10,), ()
    yield "unipc", dict(sd, **least, lower_order_final=False, disable_corrector=[0, 3]), (10,), ()
    yield "unipc", dict(sd, **least, predict_x0=False, prediction_type="v_prediction"), (10,), ()
    yield "unipc", dict(SD, **least, sigma_min=0.1, sigma_max=10.0, **KARRAS), (10,), ()


class Draws:
    """Stands in for diffusers' randn_tensor, and counts."""

    def __init__(self):
        self.count = 0

    def __call__(self, shape, generator=None, device=None, dtype=None, layout=None):
        j = torch.arange(shape[-1], dtype=torch.float64)
        noise = 1.5 * torch.cos(1.7 * self.count + 0.9 * j + 0.3)
        self.count += 1
        return noise.expand(shape).to(dtype)


def stand_in(x, t):
    j = torch.arange(x.shape[-1], dtype=torch.float64)
    return 0.3 * x + torch.sin(float(t) / 1000 + j)


def trajectory(name, config, steps, begin=0):
    scheduler = make(name, config)
    scheduler.set_timesteps(steps)
    for key in ("alphas_cumprod", "final_alpha_cumprod", "one", "sigmas"):
        if key in vars(scheduler):
            setattr(scheduler, key, getattr(scheduler, key).double())
    draws = sys.modules[type(scheduler).__module__].randn_tensor = Draws()
    sigma = float(scheduler.init_noise_sigma)
    timesteps = scheduler.timesteps
    x = NOISE * sigma
    if begin > 0:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        x = scheduler.add_noise(X0, NOISE, timesteps[begin : begin + 1])
    start, samples = x, []
    for t in timesteps[begin:]:
        out = stand_in(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(out, t, x).prev_sample
        samples.append(numbers(x))
    assert all(abs(v) < 1e6 for row in samples for v in row), (name, config, steps, samples)
    return dict(
        sampler=name,
        steps=steps,
        begin=begin,
        draws=draws.count,
        init_noise_sigma=digits(sigma),
        timesteps=[digits(float(t)) for t in timesteps],
        start=numbers(start),
        samples=samples if len(samples) <= 25 and steps <= 10 else samples[-1:],  # of long walks only the last
    )


def digits(v):
    return float(f"{v:.9g}")


def numbers(x):
    return [digits(v) for v in x.flatten().tolist()]


def schedule(config):
    """ᾱ, noisy samples and predicted x_0 at a few timesteps, by the schedule's own DDIM."""
    scheduler = make("ddim", dict(config, clip_sample=False))
    scheduler.set_timesteps(10)
    rows = []
    for t in (0, 1, 500, 900, 999):
        noisy = scheduler.add_noise(X0, NOISE, torch.tensor([t]))
        predicted = {}
        for prediction in ("epsilon", "v_prediction", "sample"):
            scheduler.register_to_config(prediction_type=prediction)
            if scheduler.alphas_cumprod[t] > 0 or prediction != "epsilon":
                step = scheduler.step(stand_in(noisy, t), t, noisy)
                predicted[prediction] = numbers(step.pred_original_sample)
        alpha = digits(scheduler.alphas_cumprod[t].item())
        rows.append(dict(t=t, alpha_cumprod=alpha, noisy=numbers(noisy), x0=predicted))
    return dict(config=text(make("ddim", config)), rows=rows)


def text(scheduler):
    """The text of scheduler_config.json without its blanks, kept as a string: it may hold -Infinity."""
    return json.dumps(json.loads(scheduler.to_json_string()), separators=(",", ":"))


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    walks = []
    for name, config, counts, begins in configurations():
        runs = [trajectory(name, config, steps) for steps in counts]
        runs += [trajectory(name, config, 10, begin) for begin in begins]
        walks.append(dict(config=text(make(name, config)), runs=runs))
    cosine = dict(beta_schedule="squaredcos_cap_v2")
    schedules = [schedule(c) for c in ({}, SD, cosine, dict(SD, rescale_betas_zero_snr=True))]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = ["{", '"x0": ' + json.dumps(numbers(X0)) + ',\n"noise": ' + json.dumps(numbers(NOISE)) + ",", '"schedules": [']
    lines.append(",\n".join(json.dumps(s, separators=(",", ":")) for s in schedules))
    lines += ["],", '"walks": [', ",\n".join(json.dumps(w, separators=(",", ":")) for w in walks), "]", "}"]
    OUT.write_text("\n".join(lines) + "\n")
    print(len(walks), "configurations,", sum(len(w["runs"]) for w in walks), "walks,", OUT.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()
