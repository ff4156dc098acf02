"""The built-in prior's words: a tokenizer of whole words and a small CLIP-style text encoder."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.pre_tokenizers import Split, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from splatdream.corpus.captions import vocabulary

SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")
WINDOW = 32
WIDTH = 192


def new_tokenizer(words: tuple[str, ...] | None = None) -> PreTrainedTokenizerFast:
    """One token a word of the corpus (all words by default); others become <unk>. Commas and full stops vanish."""
    words = vocabulary() if words is None else words
    table = {word: index for index, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(WordLevel(table, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = PreTokenizers([Split(",", "removed"), Split(".", "removed"), WhitespaceSplit()])  # type: ignore[assignment]
    tokenizer.post_processor = TemplateProcessing(  # type: ignore[assignment]
        single="<start> $A <end>", special_tokens=[("<start>", table["<start>"]), ("<end>", table["<end>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=WINDOW,
    )


def tokens(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """Token ids, padded to the window: (number of texts, WINDOW)."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def new_text_encoder(tokenizer: PreTrainedTokenizerFast, layers: int = 3) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=6,
            max_position_embeddings=WINDOW,
            hidden_act="gelu",
            pad_token_id=SPECIAL.index("<pad>"),
            bos_token_id=SPECIAL.index("<start>"),
            eos_token_id=SPECIAL.index("<end>"),
        )
    )
