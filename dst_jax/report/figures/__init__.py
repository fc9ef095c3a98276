"""The figures of the report, as SVG text with captions; matplotlib is imported when one is drawn.

`scores` and `gains` draw what was scored, `analysis` what `--mode=analyze` wrote, with `spectral`,
`spatial` and `exploration`; colours and lines are in `drawing`. Called by `report.write`.
"""
