"""AdamW and the learning-rate schedules that Transformers are trained with."""

from __future__ import annotations

import re
from typing import Any, Literal

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.layers.serializable import serializable
from tfx_transformer.models.skipping import SkipsBadSteps
from tfx_transformer.training import fused_steps
from tfx_transformer.training.limits import check_rates


@serializable
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then decay with the inverse square root of the step.

    rate(s) = peak * min((s + 1) / w, sqrt(w / (s + 1)))       Vaswani et al. (2017), equation 3

    Args:
        peak: highest rate, reached after `warmup_steps`.
        warmup_steps: w.
    """

    def __init__(self, peak: float, warmup_steps: int) -> None:
        self.peak = peak
        self.warmup_steps = warmup_steps

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32") + 1.0
        warmup = max(self.warmup_steps, 1)
        return self.peak * ops.minimum(step / warmup, ops.sqrt(warmup / step))

    def get_config(self):
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


@serializable
class AdamW(SkipsBadSteps, keras.optimizers.AdamW):
    """Keras' AdamW (Loshchilov & Hutter 2019) without decay of biases, norms and embeddings.

    Keras forgets `exclude_from_weight_decay` when a model is saved; this class does not.

    Where the norm of all gradients together is not finite, nothing is applied: weights, moments,
    averages and the step of the schedule stay as they are. Clipping would make NaN of all of them.

    The moving average of the weights (`use_ema`) follows them closely at first: its momentum after
    step t, counted from 0, is at most t / (9 + t). So it spans about the last ninth of the steps
    that were made, and nothing of the random start is left in it however few they are.

    Attributes, once it is built:
        bad_steps: int32 (), how many of the last steps in a row were not applied.
        rate: float32 (), a factor on the learning rate, 1 until somebody lowers it.

    Args:
        layer_decay: factor on the rate from each block to the one below it, and from the first to
            the embedding; the read-out learns at the full rate (Howard & Ruder 2018, section 3.2).
            Weights decay at the full rate too.
        kwargs: see `keras.optimizers.AdamW`.
    """

    _of_step: Any = None

    def __init__(self, *args: Any, layer_decay: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.layer_decay = layer_decay
        self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "scale", "embeddings"])

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        depths = [_depth(variable.path) for variable in variables]
        top = max((depth for depth in depths if depth is not None), default=0) + 1
        self._rates = [
            self.layer_decay ** (0 if depth is None else top - depth) for depth in depths
        ]
        self.bad_steps = self.add_variable((), "zeros", "int32", name="bad_steps")
        self.rate = self.add_variable((), "ones", "float32", name="rate")

    def apply(self, grads: Tensor, trainable_variables: Tensor | None = None) -> None:
        if not self.built and trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            self.build(trainable_variables)
        grads = [_dense(gradient) for gradient in grads]
        fused = all(fused_steps.can_fuse(variable) for variable in self._trainable_variables)
        squares = _sum_of_squares(grads, fused)
        finite = ops.isfinite(squares)
        # `update_step` and the averages leave their variables unchanged in a bad step.
        guarded = {id(v) for group in self._guarded() for v in group}
        states = [v for v in self.variables if id(v) not in guarded]
        states += [v for v in self._trainable_variables if v.constraint is not None]
        before = [ops.copy(ops.convert_to_tensor(state)) for state in states]
        betas = [ops.where(finite, beta, 1.0) for beta in (self.beta_1, self.beta_2)]
        self._of_step = _OfStep(finite, ops.sqrt(squares), fused and not self.amsgrad, betas)
        super().apply(grads, trainable_variables)
        # A bad update is undone afterwards: a branch around it could not assign on JAX, and the
        # replicas of a TensorFlow strategy could not skip it.
        values = [
            ops.where(finite, ops.convert_to_tensor(state), old)
            for state, old in zip(states, before, strict=True)
        ]
        _assign(states, values)
        _assign([self.bad_steps], [ops.where(finite, 0, ops.convert_to_tensor(self.bad_steps) + 1)])
        self._of_step = None

    def _guarded(self):
        """Yield the lists of variables that a bad step leaves unchanged, so none is undone."""
        yield from (self._momentums, self._velocities)
        if self.amsgrad:
            yield self._velocity_hats
        if self.use_ema:
            yield self._model_variables_moving_average

    def _clip_gradients(self, grads):
        """Clip as Keras does; the norm of all gradients is not computed a second time."""
        is_other = (
            self.clipnorm
            or not self.global_clipnorm
            or self.gradient_accumulation_steps
            or self.loss_scale_factor  # `norm` is that of the gradients before Keras unscaled them
        )
        if is_other or _strategy() is not None:  # Keras clips by the norm on a replica
            return super()._clip_gradients(grads)
        scale = self.global_clipnorm / ops.maximum(self._of_step.norm, self.global_clipnorm)
        if self._of_step.fused:  # `update_step` scales, where it reads the gradient anyway
            self._of_step.scale = ops.where(self._of_step.finite, scale, 0.0)
            return grads
        return [None if one is None else one * ops.cast(scale, one.dtype) for one in grads]

    def _apply_weight_decay(self, variables):
        """Do nothing: `update_step` applies the decay."""

    def update_step(self, gradient, variable, learning_rate):
        """Update a variable and its moments as Keras does, or leave them unchanged in a bad step.

        The numbers are those of Keras; `fused_steps` rounds them otherwise. What all variables have
        in common is computed once, and each is read and assigned once: tracing and compiling take
        3/4 of the time of a small model.
        """
        index, dtype = self._get_variable_index(variable), variable.dtype
        alpha, decay = self._scalars(self._rates[index], dtype, learning_rate)
        decays = self.weight_decay and self._use_weight_decay(variable)
        gradient = ops.cast(gradient, dtype)
        step = self._of_step
        if step.fused:
            if decays:
                fused_steps.subtract(variable, self.weight_decay * decay, _value(variable))
            moments = self._momentums[index], self._velocities[index]
            given = step.scale, step.betas, alpha, self.epsilon
            fused_steps.adam(variable, moments, gradient, *given)
            return
        old_m = _value(self._momentums[index])
        old_v = _value(self._velocities[index])
        m = old_m + ops.subtract(gradient, old_m) * (1 - self.beta_1)
        v = old_v + ops.subtract(ops.square(gradient), old_v) * (1 - self.beta_2)
        # The weight is computed from the moments that are assigned: from the new ones, XLA would
        # hold both.
        m = self._put(self._momentums[index], m, old_m)
        v = self._put(self._velocities[index], v, old_v)
        if self.amsgrad:
            old_hat = _value(self._velocity_hats[index])
            v = self._put(self._velocity_hats[index], ops.maximum(old_hat, v), old_hat)
        old = new = _value(variable)
        if decays:
            new = new - new * self.weight_decay * decay
        self._put(variable, new - m * alpha / (ops.sqrt(v) + self.epsilon), old)

    def _put(self, variable, new, old):
        """Assign the new value, or the old one in a bad step; return it."""
        value = ops.where(self._of_step.finite, new, old)
        self.assign(variable, value)
        return value

    def _scalars(self, rate, dtype, learning_rate):
        """Return (step size with Adam's correction, rate of the decay), scalars of a type, for the
        variables that learn at `rate` times the learning rate; both are 0 in a bad step."""
        alphas = self._of_step.alphas
        if (rate, dtype) not in alphas:
            decay = ops.cast(learning_rate, dtype)
            step = ops.cast(self.iterations + 1, dtype)
            beta_1_power = ops.power(ops.cast(self.beta_1, dtype), step)
            beta_2_power = ops.power(ops.cast(self.beta_2, dtype), step)
            own = decay * ops.cast(rate * self.rate, dtype)
            alpha = own * ops.sqrt(1 - beta_2_power) / (1 - beta_1_power)
            none = ops.zeros((), dtype)
            alphas[rate, dtype] = tuple(
                ops.where(self._of_step.finite, one, none) for one in (alpha, decay)
            )
        return alphas[rate, dtype]

    def _update_model_variables_moving_average(self, trainable_variables):
        """Update the averages as Keras does, with a momentum that rises to `ema_momentum`."""
        step = ops.cast(self.iterations, "float32")
        momentum = ops.minimum(self.ema_momentum, step / (9 + step))
        share = ops.where(self._of_step.finite, 1 - momentum, 0.0)
        for variable, average in zip(
            trainable_variables, self._model_variables_moving_average, strict=True
        ):
            if average is not None and self._of_step.fused:
                difference = _value(average) - _value(variable)
                fused_steps.subtract(average, share, difference)
            elif average is not None:
                kept, old = ops.cast(momentum, variable.dtype), _value(average)
                new = kept * old + (1 - kept) * _value(variable)
                average.assign(ops.where(self._of_step.finite, new, old))

    def get_config(self):
        return {**super().get_config(), "layer_decay": self.layer_decay}


class _OfStep:
    """Values that all variables share in a step.

    Attributes:
        finite: bool (), True if the step is applied.
        norm: float32 (), the norm of all gradients.
        fused: True if variables are updated by `fused_steps`.
        scale: float32 (), a factor on the gradients that `update_step` is given, for `fused_steps`:
            0 in a bad step.
        betas: float32 (), beta_1 and beta_2; 1 in a bad step, so that moments stay.
        alphas: see `AdamW._scalars`.
    """

    def __init__(self, finite: Tensor, norm: Tensor, fused: bool, betas: list[Tensor]) -> None:
        self.finite = finite
        self.norm = norm
        self.fused = fused
        self.scale = ops.cast(finite, "float32")
        self.betas = betas
        self.alphas: dict[tuple[float, Any], tuple[Tensor, Tensor]] = {}


def _dense(gradient):
    """Return a gradient as one tensor. TensorFlow's gradient of a table has a row for each lookup;
    those of a token are added here, as the norm and the squares of their sum are needed."""
    if not hasattr(gradient, "indices"):
        return gradient
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)


def _sum_of_squares(gradients, fused):
    """Return float32 (), the sum of the squares of all gradients, on all replicas."""
    found = [ops.cast(gradient, "float32") for gradient in gradients if gradient is not None]
    own = fused_steps.sum_of_squares if fused else lambda one: ops.sum(ops.square(one))
    squares = ops.sum(ops.stack([own(gradient) for gradient in found or [ops.zeros(())]]))
    if _strategy() is None:
        return squares
    import tensorflow as tf

    replica: Any = tf.distribute.get_replica_context()
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, squares)


def _value(variable: Any) -> Tensor:
    """Return the value of a variable, read once. `ops.convert_to_tensor` returns TensorFlow's
    variable itself, which every operation reads again."""
    value: Any = ops.convert_to_tensor(variable)
    return value.value() if hasattr(value, "read_value") else value


def sync_variables(model: keras.Model) -> None:
    """Set the variables of a model and of its optimizer to the current values of the training.

    On JAX, Keras keeps the values apart from the variables while `fit` runs; on other backends the
    variables have them already.
    """
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def _strategy():
    """Return the TensorFlow strategy that distributes the training, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy() if tf.distribute.has_strategy() else None


def _assign(variables, values):
    """Assign a value to each variable; with a strategy, to its copy on every replica."""
    if _strategy() is None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return
    import tensorflow as tf

    def update(strategy, variables, values):
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(variable, lambda v, new: v.assign(new), args=(value,))

    variables = [variable.value for variable in variables]
    tf.distribute.get_replica_context().merge_call(update, args=(variables, values))


def _depth(path: str) -> int | None:
    """Return 0 for a weight of the embeddings, 1 for the first block, …; None for the read-out."""
    if path.startswith(("embedding/", "ngrams/")):
        return 0
    block = re.search(r"/block_(\d+)/", path)
    if block:
        return 1 + int(block[1])
    return 0 if "/positions/" in path or "/embedding_norm/" in path else None


def adamw(
    learning_rate: float = 1e-3,
    warmup_steps: int = 0,
    decay: Literal["inverse_square_root", "cosine", "constant"] = "inverse_square_root",
    total_steps: int | None = None,
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
    beta_2: float = 0.98,
    layer_decay: float = 1.0,
    average: float = 0.0,
) -> keras.optimizers.Optimizer:
    """Return `AdamW` with warm-up, decay of the rate and clipping of the global norm.

    Args:
        learning_rate: highest rate.
        warmup_steps: steps over which the rate rises from 0.
        decay: after warm-up; "cosine" falls to a tenth at `total_steps`. "inverse_square_root"
            is measured in warm-up steps: without any, the rate stays constant.
        total_steps: length of training, for "cosine".
        weight_decay: decoupled decay per step, times the rate.
        clip_norm: largest norm of all gradients together (Pascanu et al. 2013); None: no limit.
        beta_2: 0.98 as in Vaswani et al. (2017), 5.3.
        layer_decay: see `AdamW`.
        average: momentum of a moving average of the weights, such as 0.999 (Polyak & Juditsky
            1992), which the final model has; `AdamW` lowers it in the first steps. 0: the final
            model has the weights themselves. `keras.callbacks.SwapEMAWeights` validates with the
            averages during training.
    """
    check_rates(learning_rate, warmup_steps, layer_decay, average)
    return AdamW(
        learning_rate=_schedule(learning_rate, warmup_steps, decay, total_steps),
        weight_decay=weight_decay,
        beta_2=beta_2,
        epsilon=1e-9,
        global_clipnorm=clip_norm,
        layer_decay=layer_decay,
        use_ema=bool(average),
        ema_momentum=average or 0.99,
    )


def _schedule(learning_rate: float, warmup_steps: int, decay: str, total_steps: int | None):
    """Return the rate as a schedule, or as a number if it is constant."""
    if decay == "cosine":
        if total_steps is None:
            raise ValueError("adamw: decay='cosine' needs total_steps.")
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup_steps else learning_rate,
            decay_steps=max(total_steps - warmup_steps, 1),
            alpha=0.1,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    if decay not in ("constant", "inverse_square_root"):
        raise ValueError(f"adamw: there is no decay {decay!r}.")
    if warmup_steps and decay == "constant":
        # A cosine from the full rate to the full rate.
        return keras.optimizers.schedules.CosineDecay(
            0.0, 1, alpha=1.0, warmup_target=learning_rate, warmup_steps=warmup_steps
        )
    if warmup_steps:
        return InverseSquareRoot(learning_rate, warmup_steps)
    return learning_rate
