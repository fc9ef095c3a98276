"""All figures that explain a result, in the order of the report. Called by `report.write`."""

from collections.abc import Sequence

from dst_jax.report.figures import exploration, spatial, spectral
from dst_jax.report.figures.drawing import STYLE, Drawing, slug, styles_for
from dst_jax.report.groups import Comparison
from dst_jax.report.read_analyses import lacking, samples

_FIGURES = (
    spectral.examples,
    spectral.attenuation,
    spectral.heat_maps,
    spectral.noise,
    spatial.kernel_maps,
    spatial.layers,
    spatial.fans,
    exploration.exploration,
    exploration.saliency,
)


def draw(comparisons: Sequence[Comparison]) -> tuple[list[Drawing], list[str]]:
    """Draws what was analysed, once for each dataset and model.

    Args:
      comparisons: several of one dataset and model are of the same trainings.

    Returns:
      The drawings, and sentences about what was not analysed.
    """
    import matplotlib

    styles = styles_for([group for comparison in comparisons for group in comparison.all_groups])
    run_paths = {(c.dataset, c.model): c for c in comparisons if c.dataset or c.model}
    drawings: list[Drawing] = []
    notes: list[str] = []
    with matplotlib.rc_context(STYLE):
        for (dataset, model), comparison in run_paths.items():
            found = samples(comparison, styles)
            what = " on ".join(filter(None, (model, dataset)))
            suffix = slug(model, dataset) if len(run_paths) > 1 else ""
            made = [figure(found, f"{what}: ", suffix) for figure in _FIGURES]
            drawings += [drawing for drawing in made if drawing is not None]
            notes += filter(None, [lacking(found)])
    return drawings, notes
