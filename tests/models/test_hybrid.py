"""Hybrids (section 3.1): tokens are places of a ResNet's feature map."""

from itertools import product

import pytest
import torch
from torch import Tensor

from tests.models.small import lively, pictures, vit
from vitrail.core.errors import BadInput
from vitrail.models.build import build
from vitrail.models.hybrid import Backbone, backbone
from vitrail.models.resnet import Root, Stages
from vitrail.models.variants import variant
from vitrail.models.vit import ViT, ViTConfig, cropped_border


def shapes(model: ViT, resolution: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """The shape that leaves each module, for one image; on the meta device nothing is computed."""
    seen: dict[str, tuple[int, ...]] = {}

    def remember(name: str) -> None:
        def hook(_: torch.nn.Module, __: object, output: Tensor | tuple[Tensor, None]) -> None:
            seen[name] = tuple((output[0] if isinstance(output, tuple) else output).shape[1:])

        model.get_submodule(name).register_forward_hook(hook)

    for name, _ in model.named_modules():
        if name:
            remember(name)
    model(torch.zeros(1, 3, *resolution))
    return seen


def test_the_worked_shapes_of_r50_b16() -> None:
    """At 224 pixels, the last stage's three units moved to the third: 196 tokens."""
    config = variant("R50+B/16")
    assert isinstance(config, ViTConfig)
    with torch.device("meta"):
        model = build(config)
        seen = shapes(model, (224, 224))
    under = "patch_embed.backbone"
    assert seen[f"{under}.stem.conv"] == (64, 112, 112)
    assert seen[f"{under}.stem"] == (64, 56, 56)
    assert [seen[f"{under}.stages.{s}"] for s in range(3)] == [(256, 56, 56), (512, 28, 28), (1024, 14, 14)]
    assert [len(stage.blocks) for stage in model.patch_embed.backbone.stages] == [3, 4, 9]
    assert seen["patch_embed"] == (196, 768)
    assert seen["blocks.0"] == (197, 768)
    assert seen["blocks.11"] == (197, 768)
    assert tuple(model.patch_embed.proj.weight.shape) == (768, 1024, 1, 1)


@pytest.mark.parametrize(
    ("name", "units", "at_224", "at_384", "kernel"),
    [
        ("R+Ti/16", (), (7, 7), (12, 12), (192, 64, 8, 8)),
        ("R26+S/32", (2, 2, 2, 2), (7, 7), (12, 12), (384, 2048, 1, 1)),
        ("R26+B/32", (2, 2, 2, 2), (7, 7), (12, 12), (768, 2048, 1, 1)),
        ("R50+B/32", (3, 4, 6, 3), (7, 7), (12, 12), (768, 2048, 1, 1)),
        ("R50+L/32", (3, 4, 6, 3), (7, 7), (12, 12), (1024, 2048, 1, 1)),
        ("R50+B/16", (3, 4, 9), (14, 14), (24, 24), (768, 1024, 1, 1)),
        ("R50+L/16", (3, 4, 9), (14, 14), (24, 24), (1024, 1024, 1, 1)),
    ],
)
def test_the_papers_hybrids_have_its_grids(
    name: str, units: tuple[int, ...], at_224: tuple[int, int], at_384: tuple[int, int], kernel: tuple[int, ...]
) -> None:
    config = variant(name)
    assert isinstance(config, ViTConfig)
    assert config.backbone == Stages(units=units, width=64, order="post", eps=1e-6, weight_eps=1e-5)
    assert config.grid == at_224
    assert vit(patch=config.patch, backbone=config.backbone, resolution=(384, 384)).grid == at_384
    with torch.device("meta"):
        model = build(config)
        assert tuple(model.patch_embed.proj.weight.shape) == kernel
        assert model.patch_embed(torch.zeros(1, 3, 224, 224)).shape == (1, at_224[0] * at_224[1], config.width)


@pytest.mark.parametrize("units", [(), (1,), (1, 1), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_grid_and_stride_are_those_of_the_tokens_at_odd_sizes(patch: int, units: tuple[int, ...]) -> None:
    under = Stages(units=units, width=32)
    with torch.device("meta"):
        features = backbone(under)
        for size in ((65, 97), (96, 130), (97, 65), (128, 66)):
            made = features(torch.zeros(1, 3, *size))
            assert tuple(made.shape[1:]) == (under.channels, *under.grid(size))
            config = vit(patch=patch, backbone=under, resolution=size)
            assert config.stride == patch * 4 * 2 ** max(0, len(units) - 1)
            h, w = config.grid
            assert (h, w) == (made.shape[2] // patch, made.shape[3] // patch)
        assert build(config)(torch.zeros(1, 3, *size)).tokens.shape == (1, h * w + 1, 24)


def test_a_token_is_a_linear_map_of_its_place_in_the_feature_map() -> None:
    config = vit(patch=2, backbone=Stages(units=(1, 1), width=32), resolution=(65, 49))
    assert config.grid == (4, 3)
    model, images = lively(config), pictures(2, (65, 49))
    embed = model.patch_embed
    with torch.no_grad():
        features, tokens = embed.backbone(images), embed(images)
    assert features.shape == (2, 256, 9, 7)
    for row, column in product(range(4), range(3)):
        place = features[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        expected = torch.einsum("bcyx,dcyx->bd", place, embed.proj.weight) + embed.proj.bias
        assert (tokens[:, 3 * row + column] - expected).abs().max() < 1e-4  # measured 5e-6


def test_the_backbone_is_its_root_then_its_stages_and_without_stages_the_root() -> None:
    torch.manual_seed(0)
    images = pictures(2, (33, 33))
    made = backbone(Stages(units=(1, 2), width=32))
    assert isinstance(made, Backbone)
    with torch.no_grad():
        assert torch.equal(made(images), made.stages[1](made.stages[0](made.stem(images))))
    assert isinstance(backbone(Stages(units=())), Root)


def test_a_hybrid_drops_no_border_because_its_backbone_pads() -> None:
    """Each of the last rows and columns of pixels reaches the logits."""
    config = vit(patch=1, backbone=Stages(units=(1,), width=32), resolution=(33, 35))
    assert cropped_border(config) is None
    model, images = lively(config), pictures(1, (33, 35)).requires_grad_()
    model(images).logits.square().sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().amax(dim=(0, 1)) > 0).all()


def test_attention_of_a_hybrid_is_between_places_of_the_feature_map() -> None:
    model = lively(vit(patch=1, backbone=Stages(units=(1, 1), width=32), resolution=(32, 40), registers=1))
    output = model(pictures(2, (32, 40)), attention=[1])
    assert output.attention is not None
    assert output.attention[0].shape == (2, 3, 22, 22)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="28 x 32 pixels is smaller than one patch of 32 x 32"):
        build(vit(patch=8, backbone=Stages(units=()), resolution=(28, 32)))
    with pytest.raises(BadInput, match="multiple of 32"):
        build(vit(patch=1, backbone=Stages(width=33)))
    with pytest.raises(ValueError, match=r"\(32, 40\) pixels"):
        build(vit(patch=1, backbone=Stages(units=(1,), width=32), resolution=(32, 32)))(pictures(1, (32, 40)))
