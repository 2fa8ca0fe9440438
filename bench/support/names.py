"""Lists that the commands take as one word."""

from __future__ import annotations

from typing import TypeVar

from model_store.engines.engine_spec import EngineSpec

Name = TypeVar("Name", bound=str)


def engine_names(given: str) -> tuple[str, ...]:
    """`torch,onnx` -> two engines, each as GLAD_ENGINE has it; an exception belongs to the engine before it.

    So `torch,onnx,torch,unet=onnx` is three: torch, onnx, and torch but for the UNet. ValueError for what
    GLAD_ENGINE would not take, and for an engine that stands there twice.
    """
    names: list[str] = []
    for part in (word.strip() for word in given.split(",")):
        if "=" in part and names:
            names[-1] += f",{part}"
        else:
            names.append(part)
    for name in names:
        EngineSpec.parse(name)
    if len(set(names)) < len(names):
        raise ValueError(f"--engines is {given!r}: name each engine once")
    return tuple(names)


def some_of(option: str, given: str, names: tuple[Name, ...]) -> tuple[Name, ...]:
    """`float32,float16` -> those of the names, each once. ValueError for another one."""
    return tuple(one_of(option, part, names) for part in dict.fromkeys(given.split(",")))


def one_of(option: str, given: str, names: tuple[Name, ...]) -> Name:
    """The name that was given. ValueError for another one."""
    for name in names:
        if name == given.strip():
            return name
    raise ValueError(f"{option} is {given!r}: choose of {', '.join(names)}")
