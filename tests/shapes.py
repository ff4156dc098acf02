"""A tiny random Shap-E: the real classes of diffusers and transformers, in an ordinary folder."""

from pathlib import Path
from typing import Any

import torch
from diffusers import HeunDiscreteScheduler, PriorTransformer, ShapEPipeline
from diffusers.pipelines.shap_e import ShapERenderer
from families import saved
from tiny import WORDS
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from splatdream.train.text import WINDOW, new_tokenizer

WIDTH = 16


def shap_e_folder(path: Path) -> Path:
    def pipeline() -> ShapEPipeline:
        tokenizer: Any = new_tokenizer(WORDS)
        return ShapEPipeline(
            prior=PriorTransformer(
                num_attention_heads=2,
                attention_head_dim=WIDTH,
                num_layers=1,
                embedding_dim=WIDTH,
                num_embeddings=32,
                additional_embeddings=0,
                embedding_proj_dim=WIDTH,
                clip_embed_dim=2 * WIDTH,
                time_embed_dim=4 * WIDTH,
                time_embed_act_fn="gelu",
                norm_in_type="layer",
                embedding_proj_norm_type=None,
                encoder_hid_proj_type=None,
                added_emb_type=None,
            ),
            text_encoder=CLIPTextModelWithProjection(
                CLIPTextConfig(
                    vocab_size=len(tokenizer),
                    hidden_size=WIDTH,
                    intermediate_size=2 * WIDTH,
                    projection_dim=WIDTH,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    max_position_embeddings=WINDOW,
                    bos_token_id=2,
                    eos_token_id=3,
                )
            ),
            tokenizer=tokenizer,
            scheduler=HeunDiscreteScheduler(
                beta_schedule="exp",
                num_train_timesteps=1024,
                prediction_type="sample",
                use_karras_sigmas=True,
                clip_sample=True,
                clip_sample_range=1.0,
            ),
            shap_e_renderer=renderer(),
        )

    return saved(pipeline, path)


def renderer() -> ShapERenderer:
    """Its last layer is made steep and centred, so that there is a surface in the box."""
    made = ShapERenderer(
        param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)), d_latent=WIDTH, d_hidden=8, n_output=12, background=(0.1,) * 3
    )
    last = made.mlp.mlp[-1]
    with torch.no_grad():
        last.weight[0] -= last.weight[0].mean()
        last.weight[0] *= 30.0
        last.bias[0] = 0.0
    return made
