"""Functions of any kind, of one or many numbers: what a learner of functions for everybody is trained on.

A function is a sum of one to three terms, each of one of the kinds in `_KINDS`, perhaps warped, with noise that is
Gaussian, heteroscedastic, heavy-tailed or absent, at points that are uniform, normal, clustered, correlated, skewed or
in steps, in units of any size. Most functions depend on a few of their numbers only. All tasks of one draw take
vectors of one length, which is drawn, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.functions import Family

Points = Float[Tensor, "tasks points dim"]
Values = Float[Tensor, "tasks points"]
_FEATURES = 128
"""Random features of a draw from a Gaussian process."""
_HIDDEN = 12


@dataclass(frozen=True)
class RandomFunctions(Family):
    """Functions of 1 to `most` numbers with one value."""

    dim = None
    target = 1
    most_tasks = 10
    most: int = 30
    any_units: bool = True
    """Numbers and values are stretched and shifted at random."""

    def in_plain_units(self) -> RandomFunctions:
        return replace(self, any_units=False)

    def draw(self, rng: torch.Generator, tasks: int, points: int) -> tuple[Tensor, Tensor]:
        dim = _dimension(rng, self.most)
        x = _points(rng, tasks, points, dim)
        relevant = _relevant(rng, tasks, dim)
        value = torch.zeros(tasks, points)
        terms = torch.randint(1, 4, (tasks, 1), generator=rng)
        for term in range(3):
            kind = torch.randint(len(_KINDS), (tasks,), generator=rng)
            made = torch.zeros(tasks, points)
            for index, function in enumerate(_KINDS):
                chosen = kind == index
                if bool(chosen.any()):
                    # Later terms often see other columns than the first.
                    seen = relevant if term == 0 else relevant * _relevant(rng, tasks, dim)
                    made[chosen] = function(rng, x[chosen], seen[chosen])
            size = torch.rand(tasks, 1, generator=rng) if term else torch.ones(tasks, 1)
            value = value + size * _standard(made) * (term < terms)
        value = _warped(rng, _standard(value))
        # One function in twenty is noise alone.
        value = value * (torch.rand(tasks, 1, generator=rng) > 0.05)
        y = value + _noise(rng, value, x)
        if not self.any_units:
            return x, _standard(y)[..., None]
        return _in_some_units(rng, x), _in_some_units(rng, y[..., None], alike=0.3)


def _uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=rng)


def _log_uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return _uniform(rng, math.log(low), math.log(high), *shape).exp()


def _normal(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng)


def _dimension(rng: torch.Generator, most: int) -> int:
    """Return 1 for a quarter of the draws, else a number up to `most`, the small ones more often."""
    if float(torch.rand((), generator=rng)) < 0.25:
        return 1
    return min(most, int(_log_uniform(rng, 1.0, most + 1.0, 1)))


def _standard(values: Values) -> Values:
    """Return values of mean 0 and deviation 1, constants as 0."""
    centred = values - values.mean(1, keepdim=True)
    deviation: Tensor = centred.square().mean(1, keepdim=True).sqrt()
    return centred / torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))


def _points(rng: torch.Generator, tasks: int, points: int, dim: int) -> Points:
    """Draw points about 0 with deviation about 1 in each column."""
    way = torch.rand(tasks, 1, 1, generator=rng)
    uniform = _uniform(rng, -1.7, 1.7, tasks, points, dim)
    normal = _normal(rng, tasks, points, dim)
    x = torch.where(way < 0.5, uniform, normal)
    # Columns that share factors.
    mixing = _normal(rng, tasks, dim, dim) / math.sqrt(dim)
    share = _uniform(rng, 0, 1, tasks, 1, 1) * (torch.rand(tasks, 1, 1, generator=rng) < 0.4)
    x = (1 - share) * x + share * normal @ mixing
    # Clusters.
    centres = _normal(rng, tasks, 4, dim)
    which = torch.randint(4, (tasks, points), generator=rng)
    clustered = centres.gather(1, which[..., None].expand(-1, -1, dim)) + 0.3 * normal
    x = torch.where(torch.rand(tasks, 1, 1, generator=rng) < 0.15, clustered, x)
    # Skewed, stepped and binary columns.
    kind = torch.rand(tasks, 1, dim, generator=rng) + 0.3 * torch.rand(tasks, 1, 1, generator=rng)
    level = torch.randint(2, 8, (tasks, 1, dim), generator=rng)
    x = torch.where(kind < 0.12, (0.8 * x).exp(), x)
    x = torch.where((kind > 0.15) & (kind < 0.28), (x * level / 3).round() * 3 / level, x)
    return torch.where((kind > 0.3) & (kind < 0.4), (x > 0.5).float(), x)


def _relevant(rng: torch.Generator, tasks: int, dim: int) -> Float[Tensor, "tasks dim"]:
    """Draw weights of columns: many are 0, at least one is not."""
    share = torch.rand(tasks, 1, generator=rng) ** 2 + 1.0 / dim
    chosen = torch.rand(tasks, dim, generator=rng) < share
    chosen[torch.arange(tasks), torch.randint(dim, (tasks,), generator=rng)] = True
    size = (0.6 * _normal(rng, tasks, dim)).exp()
    weight: Tensor = chosen * size
    return weight / weight.square().sum(1, keepdim=True).sqrt()


def _directions(rng: torch.Generator, seen: Float[Tensor, "tasks dim"], count: int) -> Tensor:
    """Return directions [tasks, dim, count] of about unit length along the columns that are seen."""
    return _normal(rng, *seen.shape, count) * seen[..., None]


def _line(rng: torch.Generator, x: Points, seen: Tensor) -> Values:
    return (x @ _directions(rng, seen, 1))[..., 0]


def _polynomial(rng: torch.Generator, x: Points, seen: Tensor) -> Values:
    first, second, third = (x @ _directions(rng, seen, 3)).unbind(-1)
    third_power = (torch.rand(len(x), 1, generator=rng) < 0.3) * first**3
    product = (torch.rand(len(x), 1, generator=rng) < 0.5) * first * second
    return first.square() + product + third_power + _normal(rng, len(x), 1) * third


def _wave(rng: torch.Generator, x: Points, seen: Tensor) -> Values:
    along = _line(rng, x, seen)
    return torch.sin(_log_uniform(rng, 0.5, 6.0, len(x), 1) * along + _uniform(rng, 0, 6.3, len(x), 1))


def _steps(rng: torch.Generator, x: Points, seen: Tensor) -> Values:
    """A few thresholds, most of them on single columns."""
    tasks = len(x)
    count = int(torch.randint(1, 6, (), generator=rng))
    column = torch.multinomial(seen + 1e-9, count, replacement=True, generator=rng)
    along = x.gather(2, column[:, None].expand(-1, x.shape[1], -1))
    oblique = x @ _directions(rng, seen, count)
    along = torch.where(torch.rand(tasks, 1, 1, generator=rng) < 0.8, along, oblique)
    above = (along > 0.8 * _normal(rng, tasks, 1, count)).float()
    if count > 1:
        # Trees: some steps only where another one is up.
        above[..., 1:] *= torch.where(torch.rand(tasks, 1, 1, generator=rng) < 0.5, above[..., :1], 1.0)
    return (above * _normal(rng, tasks, 1, count)).sum(-1)


def _additive(rng: torch.Generator, x: Points, seen: Tensor) -> Values:
    """A curve of every column that is seen."""
    shape = (len(x), 1, x.shape[2])
    size = seen[:, None] * _normal(rng, *shape)
    inside = _log_uniform(rng, 0.5, 3.0, *shape) * x + _normal(rng, *shape)
    kind = torch.randint(5, shape, generator=rng)
    curves = (inside, inside.square() / 2, inside.sin(), inside.tanh(), inside.abs())
    made = sum(torch.where(kind == index, curve, 0.0) for index, curve in enumerate(curves))
    return (size * made).sum(-1)


def _smooth(rng: torch.Generator, x: Points, seen: Tensor) -> Values:
    """A draw from a Gaussian process with an RBF kernel."""
    return _process(rng, x, seen, torch.ones(len(x), 1, _FEATURES))


def _rough(rng: torch.Generator, x: Points, seen: Tensor) -> Values:
    """A draw with a Matérn kernel of degree ½, 3/2 or 5/2: frequencies have a t-distribution."""
    half = torch.randint(3, (len(x), 1, 1), generator=rng) * 2 + 1
    squares = _normal(rng, len(x), 5, _FEATURES).square()
    used = torch.arange(5)[:, None] < half
    return _process(rng, x, seen, (half / (squares * used).sum(1, keepdim=True)).sqrt())


def _process(rng: torch.Generator, x: Points, seen: Tensor, stretch: Tensor) -> Values:
    frequency = _normal(rng, *seen.shape, _FEATURES) * seen[..., None] * stretch
    frequency = frequency * _log_uniform(rng, 0.3, 6.0, len(x), 1, 1)
    wave = torch.cos(x @ frequency + _uniform(rng, 0, 2 * math.pi, len(x), 1, _FEATURES))
    return (wave * _normal(rng, len(x), 1, _FEATURES)).sum(-1) * math.sqrt(2 / _FEATURES)


def _product(rng: torch.Generator, x: Points, seen: Tensor) -> Values:
    one, other = (x @ _directions(rng, seen, 2)).unbind(-1)
    return (one + _normal(rng, len(x), 1)) * torch.sin(other * 1.5 + _normal(rng, len(x), 1))


def _network(rng: torch.Generator, x: Points, seen: Tensor) -> Values:
    """A random perceptron with one or two hidden layers."""
    inside = x @ _directions(rng, seen, _HIDDEN) * _log_uniform(rng, 0.5, 4.0, len(x), 1, 1)
    inside = inside + _normal(rng, len(x), 1, _HIDDEN)
    kinked = torch.rand(len(x), 1, 1, generator=rng) < 0.5
    hidden = torch.where(kinked, inside.relu(), inside.tanh())
    again = hidden @ _normal(rng, len(x), _HIDDEN, _HIDDEN) / math.sqrt(_HIDDEN)
    again = torch.where(kinked, again.relu(), again.tanh())
    hidden = torch.where(torch.rand(len(x), 1, 1, generator=rng) < 0.5, again, hidden)
    return (hidden * _normal(rng, len(x), 1, _HIDDEN)).sum(-1)


_KINDS: tuple[Callable[[torch.Generator, Tensor, Tensor], Tensor], ...] = (
    _line,
    _polynomial,
    _wave,
    _steps,
    _additive,
    _additive,
    _smooth,
    _smooth,
    _rough,
    _product,
    _network,
)


def _warped(rng: torch.Generator, value: Values) -> Values:
    """Bend the values of every fourth function: skewed, bounded, kinked, in steps."""
    way = torch.rand(len(value), 1, generator=rng)
    skewed = (_uniform(rng, 0.3, 1.2, len(value), 1) * value.clamp(-4, 4)).exp()
    value = torch.where(way < 0.10, skewed, value)
    value = torch.where((way > 0.10) & (way < 0.14), (2 * value).tanh(), value)
    value = torch.where((way > 0.14) & (way < 0.18), value.abs(), value)
    return _standard(torch.where((way > 0.18) & (way < 0.22), (1.5 * value).round(), value))


def _noise(rng: torch.Generator, value: Values, x: Points) -> Values:
    """Draw noise of 0 to 2 deviations of the function."""
    tasks, points = value.shape
    size = _log_uniform(rng, 1e-3, 2.0, tasks, 1)
    size = size * (torch.rand(tasks, 1, generator=rng) > 0.2)
    white = _normal(rng, tasks, points)
    way = torch.rand(tasks, 1, generator=rng)
    chi = _normal(rng, tasks, 4, points).square().sum(1) / 4
    heavy = white / chi.sqrt().clamp_min(0.15)
    uneven = white * (0.7 * (value if points > 1 else 0.0 * value) + 0.5 * x[..., 0]).clamp(-3, 3).exp()
    outliers = white * torch.where(torch.rand(tasks, points, generator=rng) < 0.05, 6.0, 1.0)
    white = torch.where(way < 0.15, heavy, white)
    white = torch.where((way > 0.15) & (way < 0.27), uneven, white)
    return size * torch.where((way > 0.27) & (way < 0.33), outliers, white)


def _in_some_units(rng: torch.Generator, values: Points, alike: float = 0.0) -> Points:
    """Stretch and shift each column; the share `alike` of tasks stays about 0 with deviation 1."""
    shape = (values.shape[0], 1, values.shape[2])
    scale = _log_uniform(rng, 1e-3, 1e3, *shape)
    shift = _normal(rng, *shape) * _log_uniform(rng, 0.1, 30.0, *shape)
    moved: Tensor = scale * (values + shift)
    return torch.where(torch.rand(values.shape[0], 1, 1, generator=rng) < alike, values, moved)
