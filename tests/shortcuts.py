"""Shortcuts that make a process of the tests faster; no test is about them."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import typing

from slow import ALL_TESTS


def take() -> None:
    """Take the shortcuts below, for the modules that are imported by now."""
    plain_graphs()
    lean_shapes()
    quick_tracing()
    no_power_cut()
    one_converter()


def plain_graphs() -> None:
    """Run graphs as they are traced: for small models, optimizing them takes a fifth of the time of
    a short training. ALL_TESTS=1 optimizes them, and so do the commands that tests start."""
    tensorflow = sys.modules.get("tensorflow")
    if ALL_TESTS or not hasattr(tensorflow, "config"):
        return
    tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def lean_shapes() -> None:
    """Read all dimensions of a tensor by one operation. Keras reads each of them by five, which
    are a quarter of all operations that are traced for a small model."""
    core = sys.modules.get("keras.src.backend.tensorflow.core")
    if ALL_TESTS or core is None or hasattr(core.shape, "is_lean"):
        return
    import tensorflow as tf

    keras_shape = core.shape

    def shape(x):
        if not isinstance(x, tf.Tensor) or x.shape.rank is None or x.shape.is_fully_defined():
            return keras_shape(x)
        dynamic = tf.unstack(tf.shape(x), x.shape.rank)
        static = x.shape.as_list()
        return tuple(d if s is None else s for d, s in zip(dynamic, static, strict=True))

    shape.is_lean = True
    core.shape = shape  # which `keras.ops.shape` calls


def quick_tracing() -> None:
    """Skip work that TensorFlow does for every operation and variable and that no test looks at: a
    fifth of the time to make and trace a small model. ALL_TESTS=1 has all of it.

    - The names of all allowed types of an argument, for a message that is not raised.
    - A name for the debugger in each variable, for which TensorFlow makes a kernel, and keeps it.
    - Before Python 3.12, the members of a protocol, whenever an object is checked.
    """
    library = sys.modules.get("tensorflow.python.framework.op_def_library")
    variables = sys.modules.get("tensorflow.python.ops.gen_resource_variable_ops")
    if ALL_TESTS or library is None or variables is None:
        return
    check, new_variable = library._SatisfiesTypeConstraint, variables.var_handle_op
    if hasattr(check, "is_quick"):
        return

    def quick_check(dtype, attr_def, param_name):
        allowed = attr_def.HasField("allowed_values")
        if allowed and dtype not in attr_def.allowed_values.list.type:
            check(dtype, attr_def, param_name)

    def new_unnamed(*arguments, debug_name="", **options):
        return new_variable(*arguments, **options)

    quick_check.is_quick = True
    library._SatisfiesTypeConstraint = quick_check
    variables.var_handle_op = new_unnamed
    if sys.version_info < (3, 12):
        for name in ("_get_protocol_attrs", "_is_callable_members_only"):
            setattr(typing, name, functools.cache(getattr(typing, name)))


def no_power_cut() -> None:
    """Leave it to the system when files reach the disk; each file would wait 5 to 10 ms for that. A
    test that ends a process sees the same files. ALL_TESTS=1 waits, and so do the commands that
    tests start."""
    if not ALL_TESTS:
        os.fsync = lambda descriptor: None


def one_converter() -> None:
    """Share one process of LiteRT's converter among all conversions: TensorFlow starts there once
    instead of for every file. Tests of the process itself import `export.converter`."""
    export = sys.modules.get("tfx_transformer.export")
    if export is None or getattr(export.Converter, "shared", False):
        return
    from tfx_transformer.export import converter

    class Shared(converter.Converter):
        shared = True
        open: list[converter.Converter] = []

        def __new__(cls):
            return cls.open[-1] if cls.open else super().__new__(cls)

        def __init__(self):
            if not self.open:
                super().__init__()
                self.open.append(self)

        def __exit__(self, *error):
            if self._waiting or self._process.poll() is not None:  # it failed
                self.open.clear()
                super().__exit__(*error)

    atexit.register(lambda: [one._process.kill() for one in Shared.open])
    users = ("to_litert", "to_litertlm", "to_mediapipe", "litertlm_embedder")
    for name in ("", *(f".{user}" for user in users)):
        sys.modules[f"tfx_transformer.export{name}"].Converter = Shared
