"""Stage d, the study: is a network trained sparse more robust to corruptions than a dense one?

Five methods, one seed of all of them after the other: a round is a part, so what is done when the
time ends is balanced, and only whole rounds are in the report. The pilot before them measures how
fast the machine is, says how many epochs fit, and compiles what the runs need, several programs at
a time. Called by `command`; the runs are in `study_runs`.
"""

import functools
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.accelerator import study_runs, trainer
from benchmarks.accelerator.records import one_line
from benchmarks.accelerator.stages import NOT_ASKED, Context, Outcome, Part
from dst_jax.training import build

MOST_ROUNDS = 8
WANTED = 3  # seeds of every method that the epochs are chosen for
EPOCHS = (30, 25, 20, 15, 12, 10, 8, 6, 5)
OVERHEAD = 8.0  # seconds of a run besides steps and scoring: weights, checkpoints, tracing, files


# --- the pilot


def _pilot_estimate(context: Context) -> float:
    if context.options.tiny:
        return context.toy_s("study_pilot")
    return 60 + 2 * context.longest_compile(40.0)


def _pilot(context: Context) -> Outcome:
    import jax

    from benchmarks import timing

    options, network = context.options, study_runs.network(context)
    epochs = options.epochs or EPOCHS[0]
    figures: dict[str, Any] = _training_speed(context, epochs)
    figures |= _scoring_speed(context)
    if options.tiny:
        epochs = 1
    elif not options.epochs:
        compiling = 2 * figures["compile_s"]  # the methods' programs, several at a time
        epochs = _most_epochs(figures, context.clock.left() - compiling)
    figures["epochs"] = epochs
    if jax.default_backend() != "cpu":  # there each run compiles its own
        figures |= _compile(context, epochs)
    chosen = f"{epochs} epochs: given by --epochs"
    if options.tiny:
        chosen = "24 steps, a toy"
    elif not options.epochs:
        chosen = f"{epochs} epochs: by the time that {WANTED} seeds of every method would take"
    return {
        "figures": figures,
        "rows": [
            [
                f"study: {network}, ordinary step of static, sparsity 0.5",
                f"{timing.figure(figures['images_per_s'])} images/s",
                "",
                f"compiled in {figures['compile_s']:.3g} s",
            ],
            [
                f"study: {network}, rendering and scoring",
                f"{timing.figure(figures['scored_per_s'])} images/s",
                "",
                f"a run takes about {run_seconds(figures, epochs):.3g} s",
            ],
            ["study: length of a run", chosen, "", ""],
        ],
    }


def _training_speed(context: Context, epochs: int) -> dict[str, Any]:
    """Steps and images per second of the static method's program."""
    import jax

    images, labels = context.train_images
    config = trainer.resolve(study_runs.card(context, "static", 0, epochs), len(labels))
    run = trainer.Trainer(config, images, labels)
    compile_s = run.compile(update=False)
    count = 4 if context.options.tiny else 64
    jax.block_until_ready(run.advance(count))
    began, steps = time.perf_counter(), 0
    for _ in range(2 if context.options.tiny else 4):
        jax.block_until_ready(run.advance(count))
        steps += count
    seconds = time.perf_counter() - began
    run.close()
    batch = config["train"]["batch_size"]
    return {
        "compile_s": compile_s,
        "steps_per_s": steps / seconds,
        "images_per_s": steps * batch / seconds,
        "train_images": len(labels),
    }


def _scoring_speed(context: Context) -> dict[str, Any]:
    """Images and conditions per second of the evaluation; compiles its programs for all runs."""
    import jax
    import numpy as np

    from dst_jax import models
    from dst_jax.robustness import engine, images, suites
    from dst_jax.robustness.records import Condition
    from dst_jax.runtime.devices import Devices

    config = trainer.resolve(study_runs.card(context, "dense", 0, 1), 50_000)
    options, devices = config["eval"], Devices()
    plan = suites.plan(
        options["suite"],
        context.dataset,
        options["preset"] or context.dataset.preset,
        source="rendered",
        only=options["corruptions"],
        severities=options["severities"],
        frost_dir=options["frost_dir"],
        prefix="config.eval.",
    )
    size = options["batch_size"] * devices.count
    host, labels = (np.asarray(part[:size]) for part in context.test_images)
    size = len(labels)
    ids = np.arange(size, dtype=np.int32)
    variables = models.init(build.model(config), 0, context.dataset.image_shape)
    predict = jax.tree_util.Partial(build.logits_function(config), variables)
    scorer = engine.Engine(plan, devices)
    network = scorer.network(predict)
    batch = images.put(
        {"image": host, "label": labels, "id": ids, "weight": np.ones(size, np.float32)}, devices
    )
    names = list(dict.fromkeys(c.corruption for c in plan.conditions[1:]))
    severity = plan.conditions[1].severity
    began = time.perf_counter()
    with ThreadPoolExecutor(context.workers) as pool:
        rendered = pool.map(lambda n: scorer.render(Condition(n, severity), batch), names)
        jax.block_until_ready([network.predict(batch.rows["image"]), *rendered])
    compile_all = time.perf_counter() - began
    began = time.perf_counter()
    scorer.score([network], [batch], [Condition(name, severity) for name in names])
    seconds = time.perf_counter() - began
    count = min(context.dataset.num_test or size, options["max_images"] or 10**9)
    return {
        "scored_per_s": size * len(names) / seconds,
        "to_score": len(plan.conditions) * count,
        "corruptions": len(names),
        "compile_scoring_s": compile_all,
    }


def run_seconds(figures: Mapping[str, Any], epochs: int) -> float:
    """What one run takes, once everything is compiled."""
    training = epochs * figures["train_images"] / figures["images_per_s"]
    scoring = figures["to_score"] / figures["scored_per_s"] + 0.15 * figures["corruptions"]
    return 1.1 * (training + scoring) + OVERHEAD


def _most_epochs(figures: Mapping[str, Any], left: float) -> int:
    """The most epochs, up to 30, with which the wanted rounds fit; else the fewest."""
    runs = WANTED * len(study_runs.METHODS)
    fitting = [epochs for epochs in EPOCHS if runs * run_seconds(figures, epochs) <= left]
    return fitting[0] if fitting else EPOCHS[-1]


def _compile(context: Context, epochs: int) -> dict[str, Any]:
    """Compiles the programs of all methods into JAX's cache on disk, several at a time.

    What fails is noted only: the runs compile what they do not find.
    """
    images, labels = context.train_images
    began = time.perf_counter()

    def program(job: tuple[str, bool]) -> str:
        method, update = job
        card = study_runs.card(context, method, context.options.seed, epochs)
        try:
            run = trainer.Trainer(trainer.resolve(card, len(labels)), images, labels)
            try:
                run.compile(update=update)
            finally:
                run.close()
        except Exception as error:  # such as too little memory for all of them together
            return f"{method}: {one_line(error)}"
        return ""

    # The ordinary step is one program for all sparse methods. Static has steps of updates too, in
    # which nothing changes, so that it takes as many steps of the optimizer as the others.
    sparse = [method for method in study_runs.METHODS if method != "dense"]
    jobs = [("dense", False), (sparse[0], False), *((method, True) for method in sparse)]
    with ThreadPoolExecutor(context.workers) as pool:
        failed = list(filter(None, pool.map(program, jobs)))
    return {"compile_all_s": time.perf_counter() - began, "not_compiled": failed}


# --- a round


def _missing(context: Context, number: int) -> str:
    if number >= min(context.options.rounds, WANTED if context.options.tiny else MOST_ROUNDS):
        return NOT_ASKED
    needed = "study_pilot" if number == 0 else f"study_{number - 1}"
    return "" if needed in context.results else f"needs {needed}, which is not done"


def _epochs(context: Context) -> int:
    return int(context.results["study_pilot"]["epochs"])


def _round_estimate(context: Context, number: int) -> float:
    """From the round before, of the first one from the pilot; less for runs that are trained."""
    epochs, seed = _epochs(context), context.options.seed + number
    if number:
        seconds = context.figure(f"study_{number - 1}", "round_s", 0.0)
        # A toy's first round compiles what an accelerator's pilot has compiled.
        seconds *= 0.8 if context.options.tiny and number == 1 else 1.1
    elif context.options.tiny:
        seconds = context.toy_s("study_0")
    else:
        seconds = 10 + len(study_runs.METHODS) * run_seconds(context.results["study_pilot"], epochs)
    trained = sum(
        (study_runs.path(context, method, seed, epochs) / "summary.json").exists()
        for method in study_runs.METHODS
    )
    return 5 + seconds * (1 - 0.5 * trained / len(study_runs.METHODS))


def _round(context: Context, number: int) -> Outcome:
    seed, epochs = context.options.seed + number, _epochs(context)
    began = time.perf_counter()
    scores: dict[str, dict[str, float]] = {}
    for method in study_runs.METHODS:
        context.say(f"study: {method}, seed {seed}")
        scores[method] = study_runs.do(context, method, seed, epochs)
    seconds = time.perf_counter() - began
    seeds = [context.options.seed + n for n in range(number + 1)]
    text = study_runs.report(context, seeds, epochs)
    cells = ", ".join(
        f"{method} {100 * s['clean']:.3g} / {100 * s['robust']:.3g}" for method, s in scores.items()
    )
    return {
        "figures": {
            **{"seed": seed, "epochs": epochs, "round_s": seconds, "scores": scores},
            "archive_sha256": study_runs.archive_digest(context.options.out),
        },
        "rows": [
            [
                f"study: {study_runs.network(context)}, seed {seed} of {len(scores)} methods, "
                f"sparsity {study_runs.SPARSITY:g}",
                f"clean / robust %: {cells}",
                "",
                f"{study_runs.suite(context)}, {'with' if context.options.frost_dir else 'without'}"
                " frost",
            ]
        ],
        "text": f"Whole rounds only: seeds {', '.join(map(str, seeds))} of every method.\n\n{text}",
    }


def _bring(context: Context, figures: dict[str, Any], number: int) -> dict[str, Any]:
    """Writes the archive of a kept round again, from its run directories, where it is not there."""
    digest = study_runs.archive_digest(context.options.out)
    seeds, epochs = [context.options.seed + n for n in range(number + 1)], int(figures["epochs"])
    if digest and digest == figures.get("archive_sha256"):
        return figures
    if not study_runs.all_there(context, seeds, epochs):
        return figures  # the table says so
    study_runs.report(context, seeds, epochs)
    return {**figures, "archive_sha256": study_runs.archive_digest(context.options.out)}


def _settings(context: Context) -> dict[str, Any]:
    return {"epochs": context.options.epochs, "frost": context.frost_digest}


PARTS = (
    Part(
        "study_pilot",
        "d",
        "study: how fast the machine is, how long runs can be, compilation",
        _pilot_estimate,
        _pilot,
        settings=_settings,
        missing=lambda context: "" if context.options.rounds else NOT_ASKED,
    ),
    *(
        Part(
            f"study_{number}",
            "d",
            f"study: seed number {number + 1} of every method, and the report",
            functools.partial(_round_estimate, number=number),
            functools.partial(_round, number=number),
            settings=lambda context: {**_settings(context), "chosen_epochs": _epochs(context)},
            missing=functools.partial(_missing, number=number),
            bring=functools.partial(_bring, number=number),
        )
        for number in range(MOST_ROUNDS)
    ),
)
