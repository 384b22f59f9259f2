"""What a strategy makes of a loaded model, and what the others share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline import MillError
from training.finetuning.encoded import Encoded
from training.loop import loop


class WrongStrategy(MillError):
    """A strategy that does not go with this model or task; the message says what does."""


def _nothing() -> None:
    """Leave the model as it is."""


@dataclass(frozen=True)
class Ready:
    """A model that a strategy has made ready, in place.

    ``trained`` counts the parameters that change. ``examples`` gives what is read instead of the examples of a set, by
    its name; ``finish`` makes the model what is published, and whole: after it, it reads texts. ``adapter`` says
    whether what is trained is small enough to be kept by itself, ``plain`` whether transformers opens the finished
    model without us.
    """

    trained: int
    rates: loop.Rates = loop.EVEN
    examples: Callable[[Encoded, str], Encoded] = lambda data, _name: data
    simplify: Callable[[], None] = _nothing
    finish: Callable[[], None] = _nothing
    adapter: bool = False
    plain: bool = True

    def trained_in(self, model: nn.Module, steps: int) -> int:
        """How many of ``trained`` change within ``steps``: what a rate of 0 has frozen until then does not."""
        if self.rates is loop.EVEN:
            return self.trained
        factors = ((p, self.rates.factor(self.rates.group(n), steps - 1)) for n, p in model.named_parameters())
        return sum(parameter.numel() for parameter, factor in factors if parameter.requires_grad and factor > 0)


def head(model: PreTrainedModel) -> set[str]:
    """Names of the parameters above the pretrained model: its head, and a pooler, which pretraining may have lacked."""
    inner = {id(parameter) for parameter in model.base_model.parameters()}
    return {n for n, parameter in model.named_parameters() if id(parameter) not in inner or ".pooler." in f".{n}"}


def train_only(model: nn.Module, wanted: Callable[[str], bool]) -> int:
    """Freeze the parameters whose names are not ``wanted``; return how many numbers are trained."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(wanted(name))
    return trained(model)


def trained(model: nn.Module) -> int:
    """How many numbers of ``model`` are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
