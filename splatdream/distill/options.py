"""What the options of a rule may be: one wording for every refusal."""


def check_range(name: str, value: float, low: float, high: float) -> None:
    """ValueError unless `value` is a number within `low`..`high`."""
    if not low <= value <= high:
        raise ValueError(f"{name} must lie within {low:g}..{high:g}; got {value:g}")


def check_guidance(rule: str, guidance_scale: float) -> None:
    """ValueError for a scale that would push away from the prompt or overflow."""
    check_range(f"guidance_scale of {rule}", guidance_scale, 0.0, 1000.0)
