"""Golden trajectories: diffusers' samplers walked with a fixed stand-in for the network.

    pip install torch==2.7.1 diffusers==0.42.1 numpy
    python scripts/golden/scheduler.py

Rewrites models/scheduler/testdata/trajectories.json. The stand-in is 0.3·x + sin(t/1000 + j) for element j of the
scaled input x at timestep t. See README.md beside this file.
"""

import itertools
import json
import pathlib
import warnings

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

OUT = pathlib.Path(__file__).resolve().parents[2] / "models/scheduler/testdata/trajectories.json"
CLASSES = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
NOISE = torch.tensor([-1.2, 0.5, 2.0])
STEPS = (1, 2, 3, 10, 25)
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def configurations():
    """(sampler, configuration, step counts): every spacing × prediction × Karras, then one option at a time."""
    spacings, predictions = ("leading", "trailing", "linspace"), ("epsilon", "v_prediction", "sample")
    for spacing, prediction in itertools.product(spacings, predictions):
        base = dict(SD, timestep_spacing=spacing, prediction_type=prediction, steps_offset=1)
        yield "ddim", dict(base, clip_sample=False, set_alpha_to_one=False), STEPS
        for name, karras in itertools.product(("euler", "dpmsolver++"), (False, True)):
            yield name, dict(base, use_karras_sigmas=karras), STEPS
    zero = dict(SD, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
    betas = [0.001 + 0.0004 * i for i in range(40)]
    for name in CLASSES:
        yield name, {}, (10,)
        yield name, dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"), (10,)
        yield name, dict(SD, num_train_timesteps=250, timestep_spacing="trailing"), (7,)
        yield name, dict(trained_betas=betas, num_train_timesteps=40), (6,)
        yield name, zero, (10,)
    yield "ddim", dict(SD, clip_sample=True, clip_sample_range=0.8), (10,)
    yield "ddim", dict(SD, clip_sample=False, timestep_spacing="leading"), (1000, 300)
    yield "euler", dict(SD, use_karras_sigmas=True, sigma_min=0.1, sigma_max=10.0), (10,)
    for name in ("euler", "dpmsolver++"):
        yield name, dict(SD, final_sigmas_type="sigma_min"), (10,)
        yield name, dict(SD, final_sigmas_type="sigma_min", use_karras_sigmas=True), (10,)
    sd = dict(SD, timestep_spacing="leading")
    yield "dpmsolver++", dict(sd, solver_order=1), (10,)
    yield "dpmsolver++", dict(sd, solver_type="heun"), (10, 25)
    yield "dpmsolver++", dict(sd, euler_at_final=True, final_sigmas_type="sigma_min"), (20,)
    yield "dpmsolver++", dict(sd, lower_order_final=False, final_sigmas_type="sigma_min"), (10,)
    yield "dpmsolver++", dict(sd, lambda_min_clipped=-1.5), (10,)
    yield "dpmsolver++", dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1), (10,)


def stand_in(x, t):
    return 0.3 * x + torch.sin(torch.tensor([float(t) / 1000 + j for j in range(len(x))], dtype=torch.float64)).float()


def trajectory(name, config, steps):
    scheduler = CLASSES[name](**config)
    scheduler.set_timesteps(steps)
    sigma = float(scheduler.init_noise_sigma)
    x = NOISE * sigma
    samples = []
    for t in scheduler.timesteps:
        out = stand_in(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(out, t, x).prev_sample
        samples.append(x.tolist())
    keep = slice(None) if steps <= 25 else slice(-1, None)
    return dict(
        sampler=name,
        steps=steps,
        init_noise_sigma=digits(sigma),
        timesteps=[digits(float(t)) for t in scheduler.timesteps],
        samples=[[digits(v) for v in row] for row in samples[keep]],  # of long walks only the last
    )


def digits(v):
    return float(f"{v:.9g}")


def schedule(config):
    """ᾱ, noisy samples and predicted x_0 at a few timesteps, by the schedule's own DDIM."""
    scheduler = DDIMScheduler(**config, clip_sample=False)
    scheduler.set_timesteps(10)
    x0, noise = torch.tensor([0.3, -0.7, 1.4]), NOISE
    rows = []
    for t in (0, 1, 500, 900, 999):
        noisy = scheduler.add_noise(x0, noise, torch.tensor([t]))
        predicted = {}
        for prediction in ("epsilon", "v_prediction", "sample"):
            scheduler.register_to_config(prediction_type=prediction)
            if scheduler.alphas_cumprod[t] > 0 or prediction != "epsilon":
                step = scheduler.step(stand_in(noisy, t), t, noisy)
                predicted[prediction] = [digits(v) for v in step.pred_original_sample.tolist()]
        alpha = digits(scheduler.alphas_cumprod[t].item())
        rows.append(dict(t=t, alpha_cumprod=alpha, noisy=[digits(v) for v in noisy.tolist()], x0=predicted))
    return dict(config=config_text(DDIMScheduler(**config)), rows=rows)


def config_text(scheduler):
    return scheduler.to_json_string()  # the text of scheduler_config.json, kept as a string: it may hold -Infinity


def main():
    warnings.simplefilter("ignore")
    walks = []
    for name, config, counts in configurations():
        runs = [trajectory(name, config, steps) for steps in counts]
        walks.append(dict(config=config_text(CLASSES[name](**config)), runs=runs))
    schedules = [
        schedule(c)
        for c in ({}, SD, dict(beta_schedule="squaredcos_cap_v2"), dict(SD, rescale_betas_zero_snr=True))
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = ["{", '"noise": ' + json.dumps(NOISE.tolist()) + ",", '"schedules": [']
    lines.append(",\n".join(json.dumps(s) for s in schedules))
    lines += ["],", '"walks": [', ",\n".join(json.dumps(w) for w in walks), "]", "}"]
    OUT.write_text("\n".join(lines) + "\n")
    print(len(walks), "configurations,", sum(len(w["runs"]) for w in walks), "walks,", OUT.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()
