"""A simulated GPU, for machines without one: CPU tensors that claim to be on the device "cuda:0".

Operations compute on the CPU. As on a GPU, one that mixes tensors of both devices raises an error,
unless it copies, or the tensor on the CPU is a single number; so does `numpy()`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

_GPU, _META, _CPU = torch.device("cuda:0"), torch.device("meta"), torch.device("cpu")
_COPIES = ("aten::_to_copy", "aten::copy_")


class GpuTensor(torch.Tensor):
    """A tensor that claims to be on the GPU; `held` is the real one."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> GpuTensor:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=_META,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"GpuTensor({self.held})"

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return _GPU

    is_meta = False  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), named=None) -> Any:
        return _compute(operation, arguments, named or {})


def _compute(operation: Any, arguments: Any, named: Mapping[str, Any]) -> Any:
    """Compute an operation of torch on the tensors that are held; its result is on their device."""
    tensors = [each for each in tree_leaves((arguments, named)) if isinstance(each, torch.Tensor)]
    on_gpu = any(isinstance(each, GpuTensor) for each in tensors)
    is_copy = operation.name().partition(".")[0] in _COPIES
    if on_gpu and not is_copy:
        for each in tensors:
            if not isinstance(each, GpuTensor) and each.ndim:
                raise RuntimeError(f"{operation.name()}: tensors on the devices cuda:0 and cpu")
    arguments, named = tree_map_only(GpuTensor, lambda each: each.held, (arguments, dict(named)))
    if (device := named.get("device")) is not None:
        on_gpu, named["device"] = torch.device(device) == _META, _CPU
    if is_copy and operation.name().startswith("aten::copy_"):
        on_gpu = isinstance(tensors[0], GpuTensor)
    result = operation(*arguments, **named)
    return tree_map_only(torch.Tensor, GpuTensor, result) if on_gpu else result


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, arguments=(), named=None) -> Any:
        return _compute(operation, arguments, named or {})


class _Devices(TorchFunctionMode):
    """Lets code name the GPU, which torch without CUDA does not know."""

    def __torch_function__(self, function, types, arguments=(), named=None) -> Any:
        def hide(value: Any) -> Any:
            is_device = isinstance(value, torch.device) and value.type == "cuda"
            return _META if is_device or (isinstance(value, str) and value == "cuda") else value

        if function is torch.device:
            return function(*arguments, **named or {})
        return function(*tree_map(hide, arguments), **tree_map(hide, named or {}))


@contextlib.contextmanager
def simulated_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """Simulate one GPU inside the block, in this process; the same seed gives what the CPU gives.

    Yields
    ------
    list
        The arguments of each `torch.autocast` on the GPU, whose arithmetic is not simulated.
    """
    casts: list[tuple[Any, ...]] = []
    autocast = torch.autocast

    def cast(kind: str, dtype: torch.dtype, *, enabled: bool) -> Any:
        if kind == "cpu":
            return autocast(kind, dtype, enabled=enabled)
        casts.append((kind, dtype, enabled))
        return contextlib.nullcontext()

    with monkeypatch.context() as patched, _Devices(), _Operations():
        patched.setattr(torch, "autocast", cast)
        patched.setattr(torch, "inference_mode", torch.no_grad)  # the former knows no subclasses
        patched.setattr(torch.backends.cudnn, "allow_tf32", True)  # as before, at the end
        patched.setattr(torch.cuda, "is_available", lambda: True)
        patched.setattr(torch.cuda, "device_count", lambda: 1)
        patched.setattr(torch.cuda, "get_device_name", lambda _: "Simulated GPU")
        patched.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
        patched.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
        yield casts
