"""What commands of `cdlm-train` share."""

from __future__ import annotations

from bmi_cdlm.names.errors import ConfigError


def require_torch() -> None:
    """Refuse, with the remedy, where what trains is not installed."""
    try:
        import cdlm_training.loop  # noqa: F401
    except ModuleNotFoundError as cause:
        raise ConfigError(
            f"training needs the Python package '{cause.name}', which is not installed here; running a model does not. "
            'Run: pip install "bmi-cdlm[train]"'
        ) from cause
