"""The constant condition: a product's prompt and the empty one, embedded once by Stable Diffusion's text encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from glad.protocols import Condition
from model_store.checkpoints import ImportRefused
from model_store.importing.base import Base
from model_store.pretrained import quiet


@dataclass(frozen=True, eq=False)
class Embedded:
    """A condition, and a description of the text encoder that made it."""

    condition: Condition
    about: Mapping[str, Any]


def embed_prompt(base: Base, prompt: str) -> Embedded:
    """Return the last hidden states (77, 768) of the prompt and of the empty one, each padded and cut to full length.

    Raises:
        ImportRefused: if the base has no text encoder or tokenizer that loads.
    """
    try:
        with quiet():
            tokenizer = CLIPTokenizer.from_pretrained(base.place, subfolder="tokenizer", local_files_only=base.local)
            encoder, info = CLIPTextModel.from_pretrained(
                base.place,
                subfolder="text_encoder",
                local_files_only=base.local,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # the libraries raise whatever a wrong configuration happens to break
        raise ImportRefused(f"{base.place}: tokenizer or text encoder does not load: {error}. {base.LAYOUT}") from error
    if missing := sorted(info["missing_keys"]):
        raise ImportRefused(
            f"{base.place}/text_encoder lacks {len(missing)} weights ({missing[0]}, ...): copy it again"
        )
    product, empty = (_embed(tokenizer, encoder.eval(), text) for text in (prompt, ""))
    return Embedded(Condition(product, empty), _about(tokenizer, encoder, prompt))


@torch.no_grad()
def _embed(tokenizer: Any, encoder: Any, text: str) -> Tensor:
    length = encoder.config.max_position_embeddings
    tokens = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    embedded: Tensor = encoder(tokens.input_ids).last_hidden_state[0]
    return embedded


def _about(tokenizer: Any, encoder: Any, prompt: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return {
        "prompt": prompt,
        "tokenizer": {
            "class": "CLIPTokenizer",
            "tokens": len(tokenizer),
            "vocabulary_sha256": hashlib.sha256(vocabulary.encode()).hexdigest(),
        },
        "text_encoder": {
            "class": "CLIPTextModel",
            "layers": encoder.config.num_hidden_layers,
            "weights_sha256": digest.hexdigest(),
        },
    }
