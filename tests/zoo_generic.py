"""Tiny models of configurations that nobody here chose, by rules of names alone.

`small(config)` shrinks the default configuration of a model type of transformers, nested ones too; `made(kind)` builds
the model and finds inputs, by the names that its forward takes, with which it runs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo import FAMILIES, Built, missing
from zoo_smallest import TIMM, TORCHVISION

VOCABULARY, TOKENS, IMAGE = 64, 8, 32
LAYERS = 2
LAYER_COUNT = r"(^|_)(num_)?(\w+_)?layers?$|^depth$|n_layers?$|num_blocks$|num_hidden_groups|_depth$|layers_per_stack$"
FEWER: tuple[dict[str, Any], ...] = (
    {"depth": 2, "embed_dim": 16, "num_heads": 2},
    {"depth": 2},
    {"depths": (1, 1, 1, 1)},
    {"layers": (1, 1, 1, 1)},
    {},
)
# What a name of a whole number asks for: the first rule whose pattern matches; numbers already smaller stay.
RULES: tuple[tuple[str, int], ...] = (
    (r"token_(id|index)$|_token$", -1),
    (r"vocab_size|codebook_size|entity_vocab", VOCABULARY),
    (r"(max|num|n)_\w*position(s|_embeddings|al_embeddings)?$|max_seq|n_positions|context_length|n_ctx", 64),
    (r"first_k_dense|num_dense_layers|num_kv_shared_layers|nextn|mtp_", 0),
    (LAYER_COUNT, LAYERS),
    (r"image_size|img_size|input_size|crop_size|pretrain_image_size", IMAGE),
    (r"^patch_size|encoder_stride", 8),
    (r"experts_per_tok|moe_topk|top_k|moe_k|topk$", 2),
    (r"^(n|num)_group$|topk_group|num_expert_group", 1),
    (r"groups$", 2),
    (r"(n|num)_\w*experts$|moe_num_experts", 4),
    (r"key_value_heads|kv_heads|query_groups", 1),
    (r"(n|num)_\w*heads?$|attention_heads$|_heads$|n_head$", 2),
    (r"qk_rope_head_dim", 4),
    (r"mamba_(d_head|head_?dim)", 16),
    (r"head_dim|d_kv|key_dim|value_dim|d_head|headdim|rotary_dim|head_size", 8),
    (r"lora_rank|_rank$", 8),
    (r"ffn|intermediate|d_ff|inner|mlp_dim|feedforward|linear_units|hidden_size_global", 32),
    (r"mel|num_frequency_bins|spec_size", 16),
    (r"state|d_conv", 4),
    (r"kernel", 3),
    (r"window|attention_chunk|local_attention|block_size|chunk_size", 4),
    (r"hidden|d_model|dim|embd|width|channels|units|embedding_size|projection_size|lru|latent|proj", 16),
    (r"num_queries|query_tokens|num_latents|num_patches|num_labels|num_frames|image_tokens|seq_length", 4),
)
KEPT = re.compile(
    r"num_channels|in_chans|in_channels|audio_channels|eps|type_vocab|head_in|mask_in|initializer|spatial|temporal"
    r"|kernel_sizes|router|coef|multiple_of|downsample"
)


DERIVED = (
    "transformers_version",
    "architectures",
    "torch_dtype",
    "dtype",
    "out_features",
    "out_indices",
    "stage_names",
)
DERIVED += ("per_layer_config",)
FIXED = ("id2label", "label2id", "vocabulary_map", "rope_parameters", "rope_scaling", "stage_names")


def small_number(name: str, value: int) -> int:
    """A whole number of a configuration, shrunk by what its name says."""
    if isinstance(value, bool) or KEPT.search(name):
        return value
    for pattern, size in RULES:
        if re.search(pattern, name):
            return value % VOCABULARY if size < 0 else min(value, size)
    return value


def small(config: dict[str, Any], widths: int = 1) -> dict[str, Any]:
    """A configuration as a mapping with every number and list shrunk, nested configurations too."""
    numbers = {k: v for k, v in config.items() if isinstance(k, str) and isinstance(v, int)}
    layers = set() if "depths" in config else {v for k, v in numbers.items() if re.search(LAYER_COUNT, k)}

    def one(name: Any, value: Any) -> Any:
        if not isinstance(name, str) or name in FIXED:
            return value
        if isinstance(value, dict):
            return small(value, widths)
        if isinstance(value, int) and not isinstance(value, bool):
            shrunk = small_number(name, value)
            return shrunk * widths if shrunk in (8, 16, 32) and shrunk < value else shrunk
        if isinstance(value, list | tuple) and value:
            return small_list(name, list(value), layers)
        return value

    shrunk = {name: one(name, value) for name, value in config.items() if name not in DERIVED}
    return consistent(shrunk, config)


def small_list(name: str, values: list[Any], layers: set[int]) -> list[Any]:
    """A list with an entry per layer keeps one entry of each of two kinds; sizes of stages keep their order."""
    if len(values) in layers and not re.search("depths|repeats", name) and len(values) > LAYERS:
        kinds = list(dict.fromkeys(map(str, values)))[:LAYERS]
        chosen = [values[[str(v) for v in values].index(kind)] for kind in kinds]
        values = (chosen + chosen[-1:] * LAYERS)[:LAYERS]
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        return values
    if re.search(r"depths|repeats|num_layers|blocks", name):
        return [min(v, 1) for v in values]
    if re.search(r"indexes|indices|layer_ids|_layers$|_idx|out_features", name):
        return sorted({min(v, LAYERS - 1) for v in values})
    if re.search(r"heads", name):
        return [min(v, 2) for v in values]
    if re.search(r"image_size|img_size", name):
        return [min(v, IMAGE) for v in values]
    if re.search(r"hidden_sizes|dims?$|channels|embed|neck", name) and max(values) > 16 and not KEPT.search(name):
        order = sorted(set(values))
        return [8 * 2 ** min(order.index(v), 3) if v > 4 else v for v in values]
    if re.search(r"conv_dim|tdnn_dim", name):
        return [8] * len(values)
    return values


def consistent(shrunk: dict[str, Any], original: dict[str, Any]) -> dict[str, Any]:
    """What rules of single names cannot know: numbers that divide or equal each other."""
    heads = next((k for k in ("num_attention_heads", "n_head", "num_heads") if isinstance(original.get(k), int)), None)
    for name, value in original.items():
        same_as_heads = heads is not None and value == original[heads] and re.search(r"key_value_heads|kv_heads", name)
        if same_as_heads and isinstance(value, int):
            shrunk[name] = shrunk[heads]
    if "expand" in original and "head_dim" in original:
        shrunk["head_dim"] = 16  # heads that fill twice the width
    if "head_dim" in original and original["head_dim"] is None and isinstance(shrunk.get("hidden_size"), int):
        shrunk["head_dim"] = shrunk["hidden_size"] // 2
    if original.get("head_dim") is not None and original["head_dim"] == original.get("qk_rope_head_dim"):
        shrunk["head_dim"] = shrunk["qk_rope_head_dim"]
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(shrunk.get(name), dict):
            shrunk[name] = rotation(shrunk[name])
    for name in ("layer_types", "mlp_layer_types", "layers_block_type", "block_types"):
        if name in shrunk and isinstance(shrunk[name], list):
            shrunk[name] = shrunk[name][:LAYERS]
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if isinstance(shrunk.get(name), int):
            shrunk[name] = ("pad_token_id", "bos_token_id", "eos_token_id").index(name)
    return shrunk


def rotation(rope: dict[str, Any]) -> dict[str, Any]:
    """Rotary embeddings whose sections (of time, height and width) fill the half of a head of 8."""
    half = int(4 * (rope.get("partial_rotary_factor") or 1))
    third = half // 3
    sections = {"mrope_section": [half - 2 * third, third, third]} if "mrope_section" in rope else {}
    return rope | sections


def configuration(kind: str, widths: int = 1) -> Any:
    """The tiny configuration of a model type of transformers."""
    import transformers

    cls = transformers.models.auto.configuration_auto.CONFIG_MAPPING[kind]
    values = small(cls().to_dict(), widths)
    config = cls.from_dict(values)
    for part in parts(config):
        for name in ("use_cache", "output_attentions"):
            if hasattr(part, name):
                setattr(part, name, False)
        part._attn_implementation = "eager"
    return config


def parts(config: Any) -> Iterator[Any]:
    """A configuration and those nested in it."""
    yield config
    for value in vars(config).values():
        if hasattr(value, "to_dict"):
            yield from parts(value)


def classes(kind: str) -> list[Any]:
    """The model classes of a type, its base first, then those of tasks."""
    import transformers
    from transformers.models.auto import modeling_auto

    names: list[str] = []
    tables = ["MODEL_MAPPING_NAMES", *sorted(n for n in dir(modeling_auto) if n.endswith("_MAPPING_NAMES"))]
    for table in tables:
        found = getattr(modeling_auto, table).get(kind, ()) if table != "CONFIG_MAPPING_NAMES" else ()
        names += [found] if isinstance(found, str) else list(found)
    return [getattr(transformers, name) for name in dict.fromkeys(names) if hasattr(transformers, name)]


def built(kind: str) -> tuple[Built, Any]:
    """Model with inputs and its configuration. Raises the first error where nothing runs."""
    errors: list[Exception] = []
    for widths in (1, 2, 4):
        try:
            config = configuration(kind, widths)
        except Exception as error:
            errors.append(error)
            continue
        for cls in own_classes(kind)[:3]:
            torch.manual_seed(0)
            try:
                model = cls._from_config(config) if hasattr(cls, "_from_config") else cls(config)
                return (model.eval(), running_inputs(model.eval(), config)), config
            except Exception as error:
                errors.append(error)
    raise errors[0] if errors else ValueError("no model class of this type")


def own_classes(kind: str) -> list[Any]:
    """Classes of the automatic tables, or those whose configuration is of this type."""
    if found := classes(kind):
        return found
    import importlib

    import transformers

    cls = transformers.models.auto.configuration_auto.CONFIG_MAPPING[kind]
    module = importlib.import_module(cls.__module__.replace("configuration_", "modeling_"))
    named = [v for v in vars(module).values() if inspect.isclass(v) and getattr(v, "config_class", None) is cls]
    return [v for v in named if "PreTrained" not in v.__name__]


def running_inputs(model: nn.Module, config: Any) -> dict[str, Tensor]:
    """The first of a few sets of inputs, by the names of its forward, with which the model runs."""
    names = set(inspect.signature(model.forward).parameters)
    errors: list[Exception] = []
    for inputs in candidates(names, config):
        try:
            with torch.no_grad():
                model(**inputs)
            return inputs
        except Exception as error:
            errors.append(error)
    raise errors[0] if errors else ValueError(f"inputs of other kinds: {', '.join(sorted(names))}")


def candidates(names: set[str], config: Any) -> Iterator[dict[str, Tensor]]:
    """Sets of inputs to try: text, images, sound, both, states of another network."""
    ids = {"input_ids": torch.randint(3, 60, (1, TOKENS))}
    decoder = {"decoder_input_ids": torch.randint(3, 60, (1, TOKENS))} if "decoder_input_ids" in names else {}
    sizes = [value(config, "image_size"), IMAGE, 64, 224]
    channels = value(config, "num_channels") or 3
    wide = [n for n in ("pixel_values", "pixel_values_videos", "hidden_states", "inputs_embeds") if n in names]
    if "input_ids" in names:
        yield ids | decoder
        if "bbox" in names:
            yield (
                ids
                | decoder
                | {"bbox": torch.arange(4 * TOKENS).reshape(1, TOKENS, 4) % 8 + torch.tensor([0, 0, 8, 8])}
            )
    if "pixel_values" in names:
        for size in [s for s in sizes if s]:
            height, width = size if isinstance(size, list | tuple) else (size, size)
            image = torch.randn(1, channels, height, width)
            frames = torch.randn(1, value(config, "num_frames") or 2, channels, height, width)
            for form in (image, image[:, None], frames):
                pixels = {"pixel_values": form}
                yield from [pixels | decoder] + ([pixels | ids] if "input_ids" in names else [])
    if "pixel_values_videos" in names:
        for size in (IMAGE, 64):
            yield {"pixel_values_videos": torch.randn(1, value(config, "num_frames") or 4, channels, size, size)}
    yield from sounds(names, config, decoder)
    width = next((value(config, n) for n in ("hidden_size", "d_model", "embed_dim") if value(config, n)), 16)
    for name in wide:
        if name in ("hidden_states", "inputs_embeds"):
            yield {name: torch.randn(1, TOKENS, width)}


def sounds(names: set[str], config: Any, decoder: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    mels = next(
        (value(config, n) for n in ("num_mel_bins", "feature_size", "input_feat_per_channel") if value(config, n)), 16
    )
    if "input_features" in names:
        frames = 2 * (value(config, "max_source_positions") or 16)
        for shape in ((1, mels, frames), (1, frames, mels), (1, 32, mels)):
            yield {"input_features": torch.randn(shape)} | decoder
    if "input_values" in names:
        for shape in ((1, 1, 640), (1, 640), (1, 32, mels)):
            yield {"input_values": torch.randn(shape)} | decoder
    if "past_values" in names:
        yield {"past_values": torch.randn(1, value(config, "context_length") or 32, 1)}


def value(config: Any, name: str) -> Any:
    """A number of a configuration or of one nested in it."""
    return next((v for part in parts(config) if (v := vars(part).get(name)) is not None), None)


def families(library: str) -> dict[str, Callable[[], tuple[Built, Any]]]:
    """What builds each family of a library, and its configuration where it has one."""
    if missing(library):
        return {}
    if library == "transformers":
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
        from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

        known = {f"{family.name}Config" for family in FAMILIES if family.package == "transformers"}
        kinds = [kind for kind, config in CONFIG_MAPPING_NAMES.items() if config not in known]
        return {kind: partial(built, kind) for kind in sorted(kinds, key=lambda kind: kind not in MODEL_MAPPING_NAMES)}
    return {name: partial(of_images, library, name) for name in {"timm": TIMM, "torchvision": TORCHVISION}[library]}


def of_images(library: str, name: str) -> tuple[Built, None]:
    """A vision model with as few layers as its builder takes, and the smallest image that it runs on."""
    import importlib

    create = {"timm": "create_model", "torchvision": "models.get_model"}[library]
    function: Any = importlib.import_module(library)
    for part in create.split("."):
        function = getattr(function, part)
    errors: list[Exception] = []
    for sizes in FEWER if library == "timm" else ({"weights_backbone": None}, {}):
        torch.manual_seed(0)
        try:
            model = function(name, **sizes).eval()
            return (model, running_image(model)), None
        except Exception as error:
            errors.append(error)
    raise errors[0]


def running_image(model: nn.Module) -> Tensor:
    default = getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))
    errors: list[Exception] = []
    sizes = [
        *((default[0], size, size) for size in (64, 96, 128, 224, default[-1])),
        (3, 16, 112, 112),
        (3, 16, 224, 224),
    ]
    for size in sizes:
        image = torch.randn(1, *size)
        try:
            with torch.no_grad():
                model(image)
            return image
        except Exception as error:
            errors.append(error)
    raise errors[-1]
