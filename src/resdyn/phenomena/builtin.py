"""The phenomena that come with resdyn, in the order of the metrics table and of the report."""

from __future__ import annotations

from resdyn.phenomena.phenomenon import Phenomenon


def _phenomenon(name: str, probe: str, *variables: str, report: bool = True, properties: bool = True) -> Phenomenon:
    """One whose parts lie in files of its name."""
    return Phenomenon(
        name,
        probe=f"resdyn.probes.{name}:{probe}",
        variables=variables,
        metrics=f"resdyn.metrics.summary.{name}:SUMMARY",
        properties=f"resdyn.metrics.properties.builtin:{name.upper()}" if properties else (),
        sections=f"resdyn.report.sections.{name}:SECTIONS" if report else (),
        overlays=f"resdyn.report.sections.{name}:OVERLAYS" if report else (),
    )


BUILT_IN = (
    _phenomenon("trajectory", "Trajectory", "states"),
    _phenomenon("coupling", "Coupling", "coupling_uv", "coupling_vu", "overlap_uu", "overlap_vv", "overlap_uv"),
    _phenomenon("singular", "Singular", "singular_values"),
    _phenomenon("spectrum", "Spectrum", "largest_real"),
    _phenomenon("robustness", "Robustness", "noise_amplitude", "gradient_amplitude", report=False, properties=False),
    _phenomenon("cushion", "Cushion", "span_product_norm"),
    _phenomenon("features", "Features", "class_count"),
    Phenomenon(
        "lyapunov",
        probe="resdyn.probes.lyapunov:Lyapunov",
        variables=("lyapunov_exponent",),
        metrics="resdyn.metrics.summary.lyapunov:SUMMARY",
        sections="resdyn.report.sections.lyapunov:SECTIONS",
    ),
    Phenomenon(
        "transport",
        variables=("transport",),
        metrics="resdyn.metrics.summary.transport:SUMMARY",
        properties="resdyn.metrics.properties.builtin:TRANSPORT",
        sections="resdyn.report.sections.transport:SECTIONS",
    ),
    Phenomenon("training", attribute="training", sections="resdyn.report.sections.training:SECTIONS"),
)
