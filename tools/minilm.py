"""all-MiniLM-L6-v2 (a BERT of six layers, mean of its tokens, unit length) in plain torch, for `tools.feature_spaces`.

Needs `pip install tokenizers` and a folder with `model.safetensors`, `config.json` and `tokenizer.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

_MOST_TOKENS, _AT_ONCE = 64, 64


class MiniLm:
    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        weights = load_file(folder / "model.safetensors")
        self._weights = {name.removeprefix("bert."): value.float() for name, value in weights.items()}
        settings = json.loads((folder / "config.json").read_text())
        self._layers, self._heads = settings["num_hidden_layers"], settings["num_attention_heads"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MOST_TOKENS)
        self._tokenizer.enable_padding()

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return unit vectors [n, 384]."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        out = np.zeros((len(texts), 384), dtype=np.float32)
        for start in range(0, len(texts), _AT_ONCE):
            index = order[start : start + _AT_ONCE]
            encoded = self._tokenizer.encode_batch([texts[i] for i in index])
            ids = torch.tensor([one.ids for one in encoded])
            out[index] = self._embed(ids, torch.tensor([one.attention_mask for one in encoded])).numpy()
        return out

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        weights = self._weights
        x = weights["embeddings.word_embeddings.weight"][ids]
        x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = self._norm("embeddings.LayerNorm", x + weights["embeddings.token_type_embeddings.weight"][0])
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}."
            q, k, v = (
                self._linear(f"{name}attention.self.{part}", x)
                .unflatten(2, (self._heads, -1))
                .transpose(1, 2)
                for part in ("query", "key", "value")
            )
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None].bool())
            mixed = self._linear(f"{name}attention.output.dense", mixed.transpose(1, 2).flatten(2))
            x = self._norm(f"{name}attention.output.LayerNorm", x + mixed)
            hidden = F.gelu(self._linear(f"{name}intermediate.dense", x))
            x = self._norm(f"{name}output.LayerNorm", x + self._linear(f"{name}output.dense", hidden))
        counted = mask[..., None].float()
        return F.normalize((x * counted).sum(1) / counted.sum(1), dim=1)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(
            x, x.shape[-1:], self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], 1e-12
        )
