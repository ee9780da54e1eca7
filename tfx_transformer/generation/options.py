"""How the next token is chosen, as one validated value."""

from __future__ import annotations

import dataclasses

from tfx_transformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """How a text is generated; the defaults are greedy decoding.

    Attributes:
        max_new_tokens: most tokens to write; None: as many as the model can.
        beams: hypotheses of beam search; 1: no search.
        length_penalty: exponent of the length a beam's score is divided by (Wu et al. 2016,
            equation 14, with lp = length^a); 0 favours short texts.
        temperature: 0 takes the most probable token, otherwise tokens are drawn from
            softmax(logits / temperature).
        top_k: draw only among the k most probable tokens (Fan et al. 2018); 0: all.
        top_p: draw only among the most probable tokens that together reach p (Holtzman et al.
            2020); 1: all.
        repetition_penalty: divides the logits of tokens already written (Keskar et al. 2019,
            4.1); 1: none.
        seed: of the draws; the same seed draws the same tokens in every engine.
        stop: texts before which an answer ends.

    Raises:
        InputError: a value is out of range, or beams are combined with temperature,
            repetition_penalty or stop.
    """

    max_new_tokens: int | None = None
    beams: int = 1
    length_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens": self.max_new_tokens is None or self.max_new_tokens >= 1,
            "beams": 1 <= self.beams <= 64,
            "length_penalty": 0 <= self.length_penalty <= 10,
            "temperature": 0 <= self.temperature <= 100,
            "top_k": self.top_k >= 0,
            "top_p": 0 < self.top_p <= 1,
            "repetition_penalty": 0 < self.repetition_penalty <= 100,
            "seed": self.seed >= 0,
            "stop": isinstance(self.stop, tuple) and all(self.stop),
        }
        ranges = {
            "max_new_tokens": "at least 1",
            "beams": "from 1 to 64",
            "length_penalty": "from 0 to 10",
            "temperature": "from 0 (greedy) to 100",
            "top_k": "0 (all tokens) or more",
            "top_p": "above 0, at most 1 (all tokens)",
            "repetition_penalty": "above 0, at most 100; 1 is no penalty",
            "seed": "0 or more",
            "stop": "a tuple of texts, none of them empty",
        }
        for name, fits in checks.items():
            if not fits:
                raise InputError(f"{name} is {getattr(self, name)}.\n  Expected {ranges[name]}.")
        for name, neutral in (("temperature", 0), ("repetition_penalty", 1), ("stop", ())):
            if self.beams > 1 and getattr(self, name) != neutral:
                raise InputError(
                    f"beams and {name} exclude each other.\n"
                    "  Beam search looks for the most probable text; drop one of the two."
                )
