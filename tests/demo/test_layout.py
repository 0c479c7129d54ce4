import pytest
import torch
from sam3_export import sam3_layout
from sam3_export.architecture import Architecture


@pytest.mark.parametrize("layout", sam3_layout.LAYOUTS, ids=lambda layout: layout.release)
def test_what_is_written_reads_back_the_same(layout: sam3_layout.Layout) -> None:
    sizes = Architecture(
        image_size=56,
        pretrain_image_size=28,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        window_size=2,
        global_attn_indexes=(1,),
        fpn_hidden_size=32,
        decoder_mlp_size=40,
    )
    state = {name: torch.randn_like(tensor) for name, tensor in sizes.build().state_dict().items()}
    # One table in sam3.pt, two names in transformers.
    state["prompt_encoder.shared_embedding.positional_embedding"] = state["shared_image_embedding.positional_embedding"]
    written = sam3_layout.write(state, layout)
    assert written["detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight"].shape == (96, 32)
    assert written["detector.backbone.vision_backbone.trunk.pos_embed"].shape == (1, 5, 32)
    assert written[f"{layout.tracker}{layout.heads}_prompt_encoder.point_embeddings.3.weight"].shape == (1, 32)
    for name, tensor in state.items():
        assert torch.equal(sam3_layout.read(written, name, layout), tensor), name
