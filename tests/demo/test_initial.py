import torch
from sam3_demo.initial import waves
from sam3_demo.network import fresh


def test_the_first_kernels_keep_the_detail_of_a_patch() -> None:
    kernels = waves(14)
    assert kernels.shape == (192, 3, 14, 14)
    assert torch.linalg.matrix_rank(kernels.flatten(1)) == 192


def test_clicks_and_pixels_share_one_table_of_places() -> None:
    state = fresh(126).state_dict()
    table = state["shared_image_embedding.positional_embedding"]
    assert torch.equal(state["prompt_encoder.shared_embedding.positional_embedding"], table)


def test_a_query_and_a_key_of_one_place_are_alike() -> None:
    attention = fresh(126).mask_decoder.transformer.final_attn_token_to_image
    assert torch.equal(attention.q_proj.weight, attention.k_proj.weight)


def test_what_a_patch_shows_stays_quieter_than_where_it_is() -> None:
    model = fresh(126)
    coarse = model.vision_encoder.neck.fpn_layers[2]
    assert not any(parameter.requires_grad for parameter in coarse.parameters())
    # Drawn by PyTorch's default, the deviation would be five times as large.
    default = torch.nn.Conv2d(coarse.proj2.in_channels, coarse.proj2.out_channels, coarse.proj2.kernel_size)
    assert 0.15 < coarse.proj2.weight.std() / default.weight.std() < 0.25
