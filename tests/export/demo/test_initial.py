import torch
from sam3_export.demo.initial import waves
from sam3_export.demo.network import fresh


def test_the_first_kernels_keep_the_detail_of_a_patch() -> None:
    kernels = waves(14)
    assert kernels.shape == (192, 3, 14, 14)
    assert torch.linalg.matrix_rank(kernels.flatten(1)) == 192


def test_clicks_and_pixels_share_one_table_of_places() -> None:
    state = fresh(126).state_dict()
    table = state["shared_image_embedding.positional_embedding"]
    assert torch.equal(state["prompt_encoder.shared_embedding.positional_embedding"], table)
