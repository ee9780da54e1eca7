"""The linear layer of every block, with an optional low-rank adapter for its kernel."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.backend.common import global_state  # no public name for it

from tfx_transformer.annotations import Tensor
from tfx_transformer.layers import four_bit
from tfx_transformer.layers.rounding import StraightThrough
from tfx_transformer.layers.serializable import serializable


@serializable
class Linear(keras.layers.Dense):
    """y = f(x W + b), as `keras.layers.Dense`; with an adapter one of

    LoRA:  y = f(x V + b),  V = W + s A B,  s = alpha / rank     Hu et al. (2021), equation 3
    DoRA:  y = f(x (m V / |V|) + b)                              Liu et al. (2024), equation 5

    where W is frozen and A (inputs, rank), B (rank, units) and m (units,) are trained, in float32
    whatever the policy. |V| holds the norm of each column. B begins as zeros and m as |W|, so that
    an adapted layer begins as the plain one. Gradients take |V| as a constant (section 4.3).

    x V is computed as x W + s (x A) B: unlike Keras' LoRA, no gradient of the size of W is made.

    Args:
        units: width of the result.
        dora: `enable_lora` makes a DoRA instead of a LoRA.
        kwargs: see `keras.layers.Dense`; with `lora_rank` (and `lora_alpha`) the layer is built
            with an adapter.

    Attributes:
        rounding: rounds the kernel in each call; None: it is not rounded.

    Call arguments:
        inputs: float (…, inputs).

    Returns: float (…, units), the compute dtype of the policy.
    """

    def __init__(self, units: int, *, dora: bool = False, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.dora = dora
        self.lora_magnitude = None
        self.kernel_scale = None
        self.kernel_range = None
        self.rounding: StraightThrough | None = None

    def call(self, inputs, training=None):
        if self.rounding is not None:
            rounded = self.rounding(self._kernel, 0)
            y = multiply(inputs, ops.cast(rounded, self.compute_dtype))
        elif self.kernel_range is None:
            y = multiply(inputs, self._kernel)
        else:
            y = four_bit.multiply(inputs, *self._four_bits(), self.kernel_shape)
        # In a bfloat16 layer the two factors per column, and the y they give, are float32: 1 and
        # 1.008 are neighbours in bfloat16, so small changes of m would be lost.
        if self.kernel_scale is not None and self.kernel_range is None:
            y = ops.divide(y, self.kernel_scale)
        if self.lora_enabled:
            update = multiply(multiply(inputs, self.lora_kernel_a), self.lora_kernel_b)
            y = ops.add(y, (self.lora_alpha / self.lora_rank) * update)
        if self.lora_magnitude is not None:
            norms = ops.stop_gradient(column_norms(self._adapted_kernel()))
            y = ops.multiply(y, ops.divide(self.lora_magnitude, norms))
        y = ops.cast(y, self.compute_dtype)
        if self.bias is not None:
            y = ops.add(y, self.bias)
        return y if self.activation is None else self.activation(y)

    @property
    def kernel(self) -> Tensor:
        """The matrix (inputs, units) that the layer multiplies by: the variable W, or a float32
        tensor with the adapter merged and int8 or 4 bits scaled back."""
        if not self.lora_enabled:
            return super().kernel if self.kernel_scale is None else self._base_kernel()
        kernel = self._adapted_kernel()
        if self.lora_magnitude is None:
            return kernel
        return ops.multiply(kernel, ops.divide(self.lora_magnitude, column_norms(kernel)))

    def _base_kernel(self):
        """W as float32."""
        if self.kernel_range is not None:
            return four_bit.dequantize(*self._four_bits(), self.kernel_shape)
        kernel = ops.cast(self._kernel, "float32")
        return kernel if self.kernel_scale is None else ops.divide(kernel, self.kernel_scale)

    def _four_bits(self) -> tuple[Tensor, Tensor, Tensor]:
        """The tensors of a kernel in 4 bits: see `four_bit.quantize`."""
        return (
            ops.convert_to_tensor(self._kernel),
            ops.convert_to_tensor(self.kernel_scale),
            ops.convert_to_tensor(self.kernel_range),
        )

    @property
    def kernel_shape(self) -> tuple[int, int]:
        """(inputs, units), however W is stored."""
        return (self.input_spec.axes[-1], self.units)

    def _adapted_kernel(self):
        """V as float32."""
        a, b = ops.cast(self.lora_kernel_a, "float32"), ops.cast(self.lora_kernel_b, "float32")
        return self._base_kernel() + (self.lora_alpha / self.lora_rank) * ops.matmul(a, b)

    def enable_lora(self, rank: int, lora_alpha: float | None = None, **initializers: Any) -> None:
        """Freezes the kernel and adds the adapter: see `keras.layers.Dense.enable_lora`."""
        # `Dense.build` passes no alpha, and so would forget the one of the constructor.
        alpha = self.lora_alpha if lora_alpha is None else lora_alpha
        super().enable_lora(rank, alpha, **initializers)
        if self.dora:
            self.lora_magnitude = add_variable(
                self,
                name="lora_magnitude",
                shape=(self.units,),
                initializer=lambda shape, dtype: column_norms(self._base_kernel()),
                dtype="float32",
                autocast=False,
            )

    @property
    def adapter_weights(self) -> list[keras.Variable]:
        """The trained variables of the adapter; empty without one."""
        if not self.lora_enabled:
            return []
        magnitude = [] if self.lora_magnitude is None else [self.lora_magnitude]
        return [self.lora_kernel_a, self.lora_kernel_b, *magnitude]

    def store_kernel(self, dtype: str) -> None:
        """Freezes W and stores it in fewer bytes, before an adapter is added.

        Unlike after `Dense.quantize`, activations stay float, so that `kernel` is what the layer
        multiplies by.

        Args:
            dtype: "bfloat16"; or "int8" with one float32 scale per column:
                W = round(127 W / max |W|) / scale; or "nf4", 4 bits: see `four_bit.quantize`.
        """
        kernel = ops.cast(self._kernel, "float32")
        if dtype == "nf4":
            codes, scales, ranges = four_bit.quantize(ops.convert_to_numpy(kernel))
            self.kernel_scale = _add_frozen(self, "kernel_scale", scales)
            self.kernel_range = _add_frozen(self, "kernel_range", ranges)
            replace_variable(self, "_kernel", codes)
            return
        if dtype == "int8":
            kernel, scale = keras.quantizers.abs_max_quantize(kernel, axis=0)
            scale = ops.reshape(scale, (self.units,))
            self.kernel_scale = _add_frozen(self, "kernel_scale", scale)
        replace_variable(self, "_kernel", ops.cast(kernel, dtype))

    @property
    def stored_dtype(self) -> str:
        """The dtype in which W is stored; "nf4": 4 bits."""
        return self._kernel.dtype if self.kernel_range is None else "nf4"

    def save_own_variables(self, store):
        """Save as Keras does; of an adapted layer W (not merged), bias and adapter by name."""
        adapted = self.lora_enabled or self.kernel_scale is not None
        if not self.built or not adapted or self.quantization_mode is not None:
            return super().save_own_variables(store)
        for name, variable in self._parts().items():
            store[name] = variable
        if self.lora_enabled:
            store["lora_factor"] = np.float32(self.lora_alpha / self.lora_rank)

    def _parts(self):
        """The variables of an adapted layer by name."""
        scales = ("kernel_scale", "kernel_range")
        names = ("bias", *scales, "lora_kernel_a", "lora_kernel_b", "lora_magnitude")
        held = {name: getattr(self, name, None) for name in names}
        return {"kernel": self._kernel} | {k: v for k, v in held.items() if v is not None}

    def load_own_variables(self, store):
        """Load the saved weights of this layer, adapted or not.

        If the store has no adapter, the layer's own starts anew; an adapter of another shape than
        the layer's is merged into the kernel.
        """
        if "kernel" in store:
            names = store.keys()  # a store of Keras is not iterated over
            store = {name: np.asarray(store[name]) for name in names}
            shapes = {name: tuple(variable.shape) for name, variable in self._parts().items()}
            held = {name: x.shape for name, x in store.items() if name != "lora_factor"}
            if shapes == held:
                for name, variable in self._parts().items():
                    variable.assign(store[name])
                return
            bias = {} if self.bias is None else {"1": store["bias"]}
            store = {"0": _merge_kernel(store, self.kernel_shape), **bias}
        if self.kernel_scale is not None:
            raise ValueError(
                f"{self.path}: load the weights before the kernel is stored as {self.stored_dtype}."
            )
        super().load_own_variables(store)
        if self.lora_magnitude is not None:
            self.lora_magnitude.assign(column_norms(self._base_kernel()))

    def get_config(self):
        return {**super().get_config(), "dora": self.dora}


def _merge_kernel(store, shape: tuple[int, int]) -> np.ndarray:
    """float32 (inputs, units): W of a saved layer with its adapter merged."""
    if "kernel_range" in store:
        parts = (store["kernel"], store["kernel_scale"], store["kernel_range"])
        kernel = ops.convert_to_numpy(four_bit.dequantize(*parts, shape))
    else:
        kernel = store["kernel"].astype("float32") / store.get("kernel_scale", np.float32(1))
    if "lora_kernel_a" in store:
        kernel = kernel + store["lora_factor"] * (store["lora_kernel_a"] @ store["lora_kernel_b"])
    if "lora_magnitude" in store:
        kernel = kernel * (store["lora_magnitude"] / np.asarray(column_norms(kernel)))
    return kernel


def multiply(x: Tensor, matrix: Tensor) -> Tensor:
    """Return x W, float (…, units), of x float (…, inputs) and W (inputs, units).

    `ops.matmul` returns the same, but of more operations, which TensorFlow takes longer to trace.
    """
    if len(x.shape) < 3:
        return ops.matmul(x, matrix)
    shape: Any = ops.shape(x)
    rows = ops.matmul(ops.reshape(x, (-1, shape[-1])), matrix)
    return ops.reshape(rows, (*shape[:-1], matrix.shape[-1]))


def column_norms(kernel: Tensor) -> Tensor:
    """Euclidean norm of each column, (inputs, units) -> (units,); at least Keras' epsilon."""
    norms = ops.sqrt(ops.sum(ops.square(kernel), axis=0))
    return ops.maximum(norms, keras.config.epsilon())


def add_variable(layer: keras.layers.Layer, **arguments: Any) -> Tensor:
    """`layer.add_weight` for a layer that is built."""
    layer._tracker.unlock()
    variable = layer.add_weight(**arguments)
    layer._tracker.lock()
    return variable


def _add_frozen(layer: keras.layers.Layer, name: str, value: Tensor) -> Tensor:
    """Return a new frozen variable of a built layer, with this value and its dtype."""
    return add_variable(
        layer,
        name=name,
        shape=value.shape,
        initializer=lambda shape, dtype: value,
        dtype=value.dtype,
        autocast=False,
        trainable=False,
    )


def replace_variable(layer: keras.layers.Layer, attribute: str, value: Tensor) -> None:
    """Replace a variable of a layer by a frozen one with this value and its dtype.

    The path stays. Deleting the attribute would work too, but Keras then collects garbage, which
    takes a second for every layer.
    """
    old = getattr(layer, attribute)
    layer._untrack_variable(old)
    # At the end of a `keras.StatelessScope` Keras initializes all variables that wait for it.
    waiting = global_state.get_global_attribute("uninitialized_variables", [])
    waiting[:] = [variable for variable in waiting if variable is not old]
    new = add_variable(
        layer,
        name=old.name,
        shape=value.shape,
        initializer=lambda shape, dtype: value,
        dtype=value.dtype,
        trainable=False,
    )
    setattr(layer, attribute, new)
