"""What the calls of the Open Inference Protocol that only look answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.api.oip.tensors import TensorMetadata


class ServerMetadata(BaseModel):
    """Who answers."""

    name: Literal["glad-inspect"] = "glad-inspect"
    version: str
    extensions: list[str] = ["binary_tensor_data"]


class ServerLive(BaseModel):
    """The process answers."""

    live: bool = True


class ServerReady(BaseModel):
    """An image sent now would be accepted and kept."""

    ready: bool


class ModelReady(BaseModel):
    """The product has a usable bundle."""

    name: str = Field(examples=["bracket"])
    ready: bool = True


class ModelMetadata(BaseModel):
    """What goes in and what comes out."""

    name: str = Field(examples=["bracket"])
    versions: list[str] = Field(description="the active one", examples=[["1"]])
    platform: Literal["glad"] = "glad"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
