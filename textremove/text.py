"""Tokenizer and text encoder, of CLIP's own classes, at the size of the tiny preset.

At full size both come from the hub (``openai/clip-vit-base-patch32``, or the base inpainter's own
folders). Here they are built from nothing, small enough to be trained and shipped with the package.
"""

from __future__ import annotations

from collections.abc import Iterable

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
_END_OF_WORD = "</w>"


def _byte_characters() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level BPE works on (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + rank) for rank, byte in enumerate(others)
    }
    return [table[byte] for byte in range(256)]


def build_tokenizer(words: Iterable[str], *, max_length: int) -> CLIPTokenizer:
    """Builds a CLIP tokenizer that holds each given word as one token and spells all others in bytes.

    Args:
        words: Lower-case ASCII words.
        max_length: Tokens in a prompt, begin and end tokens included; longer ones are cut.
    """
    characters = _byte_characters()
    vocabulary = {token: n for n, token in enumerate([*characters, *(c + _END_OF_WORD for c in characters)])}
    merges: list[tuple[str, str]] = []
    for word in sorted(set(words)):
        parts = [*word[:-1], word[-1] + _END_OF_WORD]
        # Merging from the right end first keeps one word's merges from firing inside another one.
        while len(parts) > 1:
            pair = (parts[-2], parts[-1])
            parts[-2:] = ["".join(pair)]
            if parts[-1] not in vocabulary:
                vocabulary[parts[-1]] = len(vocabulary)
                merges.append(pair)
    for token in (_BEGIN, _END):
        vocabulary[token] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def build_text_encoder(tokenizer: CLIPTokenizer, *, width: int, num_layers: int) -> CLIPTextModel:
    """Builds a CLIP text encoder with random weights for a tokenizer's vocabulary.

    Args:
        tokenizer: Whose tokens it embeds.
        width: Channels of a token.
        num_layers: Transformer layers.
    """
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)
