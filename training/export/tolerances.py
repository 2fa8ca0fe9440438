"""The limits of how far an exported engine may differ from the bundle's own weights, per precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import ConfigDict, Field, ValidationError

from glad.settings import Frozen
from model_store.engines.export_manifest import Precision


class Tolerances(Frozen):
    """The limits of a parity comparison. A value that is not a number passes none of them."""

    model_config = ConfigDict(allow_inf_nan=False)

    component_error: float = Field(
        ge=0, description="largest absolute error of a model's output, in units of the reference output's RMS"
    )
    score_difference: float = Field(
        ge=0,
        description="largest difference of an image's score, in units of the fail threshold "
        "(of the reference scores' median where the bundle is not calibrated)",
    )
    step_differences: float = Field(ge=0, le=1, description="share of images whose denoising step differs")
    map_correlation: float = Field(ge=-1, le=1, description="smallest Pearson correlation of an image's two maps")
    verdict_flips: int = Field(0, ge=0, description="images whose verdict differs")

    def changed(self, text: Sequence[str]) -> Self:
        """Return these tolerances with other limits, each given as `NAME=VALUE`.

        Raises:
            ValueError: for an unknown name or an impossible value.
        """
        values: dict[str, str] = {}
        for pair in text:
            name, separator, value = pair.partition("=")
            if not separator or name not in type(self).model_fields:
                names = ", ".join(type(self).model_fields)
                raise ValueError(f"tolerance is {pair!r}: give NAME=VALUE, such as verdict_flips=0; names are {names}")
            values[name] = value
        try:
            return type(self).model_validate({**self.model_dump(), **values})
        except ValidationError as error:
            problem = error.errors()[0]
            name = str(problem["loc"][0])
            raise ValueError(f"tolerance {name} is {values[name]!r}: {problem['msg']}; give another value") from error


_DEFAULTS: Mapping[Precision, Tolerances] = {
    # Unit roundoff 2^-24 = 6e-8. Other kernels add in another order: some hundred layers, each a sum of thousands, and
    # the worst of some 1e5 elements. 1e-3 leaves a margin of 16,000 roundoffs, and shows TF32 (2^-11 = 5e-4 each).
    "float32": Tolerances(
        component_error=1e-3, score_difference=1e-3, step_differences=0.02, map_correlation=0.9999, verdict_flips=0
    ),
    # Unit roundoff 2^-11 = 4.9e-4: 5e-2 is the worst element after about 100 of them. A step differs where a trigger's
    # score lies as near to delta as the rounding; scores average many pixels, and so differ less than the worst one.
    "float16": Tolerances(
        component_error=5e-2, score_difference=5e-2, step_differences=0.1, map_correlation=0.99, verdict_flips=0
    ),
    # Unit roundoff 2^-8 = 3.9e-3, eight times float16's: the same 100 of them.
    "bfloat16": Tolerances(
        component_error=0.4, score_difference=0.1, step_differences=0.2, map_correlation=0.98, verdict_flips=0
    ),
    # 255 levels between the extremes: half a level is 1/254 = 3.9e-3 of the largest value, which is some five times
    # the RMS: 2e-2 per tensor, several times bfloat16's. What must hold is the verdict; the rest bounds damage.
    "int8": Tolerances(
        component_error=1.0, score_difference=0.1, step_differences=0.2, map_correlation=0.95, verdict_flips=0
    ),
}


def tolerances_for(precision: Precision) -> Tolerances:
    """Return the default limits of a precision.

    They follow from its roundoff; no verdict may flip under any of them.
    """
    return _DEFAULTS[precision]
