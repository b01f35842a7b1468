"""Model sources, one function each: from a specification to a module and its input."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from resdyn.data.preprocessing import Preprocessing
from resdyn.errors import InputError, MissingExtraError, did_you_mean
from resdyn.models.spec import ModelSpec
from resdyn.nets import NETS


@dataclass(frozen=True, eq=False)
class Origin:
    """A module as its source returned it, its preprocessing, and an example input where it declares one.

    ``filled`` says that the given weights file has already been loaded.
    """

    model: nn.Module
    preprocessing: Preprocessing
    example_input: Tensor | None = None
    filled: bool = False
    notes: tuple[str, ...] = ()


def from_resdyn(spec: ModelSpec, weights: Path | None) -> Origin:
    """A network of `resdyn.nets`, initialised with seed 0."""
    if spec.name not in NETS:
        hint = did_you_mean(spec.name, NETS)
        raise InputError(f"got network '{spec.name}', expected one of {', '.join(NETS)}.{hint}")
    _check_options(NETS[spec.name], spec)
    model = _seeded(NETS[spec.name], spec)
    note = f"resdyn:{spec.name} was given no weights: it is random, not trained"
    return Origin(model, _declared(model), notes=(note,) if weights is None else ())


def from_file(spec: ModelSpec, weights: Path | None) -> Origin:
    """The module that a function in a Python file of the user returns."""
    factory = getattr(_import_file(Path(spec.path)), spec.name, None)
    if not callable(factory):
        raise InputError(f"'{spec.path}' has no function '{spec.name}'")
    _check_options(factory, spec)
    try:
        returned = _seeded(factory, spec)
    except SystemExit as error:
        raise InputError(
            f"{spec.name}() in '{spec.path}' ended the process (sys.exit({error.code!r})); expected a torch.nn.Module"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the code of a user raises
        raise InputError(
            f"{spec.name}() in '{spec.path}' raised {type(error).__name__}: {error}; expected a torch.nn.Module: "
            "call it in Python to see where"
        ) from error
    model, example = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    if not isinstance(model, nn.Module) or not (example is None or isinstance(example, Tensor)):
        raise InputError(
            f"{spec.name}() in '{spec.path}' returned {type(returned).__name__}, expected a torch.nn.Module, "
            "or a pair of a module and an example input"
        )
    declared = _declared(model)
    if example is not None and declared.input_size is None:
        declared = Preprocessing(tuple(example.shape[1:]), declared.mean, declared.std)
    return Origin(model, declared, example)


def from_timm(spec: ModelSpec, weights: Path | None) -> Origin:
    """A model of timm, with its pretrained weights unless others are given."""
    timm = _installed("timm")
    with _tensors_only(spec):
        model = timm.create_model(spec.name, **{"pretrained": weights is None, **spec.options})
    config = timm.data.resolve_model_data_config(model)
    size, mean, std = (tuple(config[key]) for key in ("input_size", "mean", "std"))
    return Origin(model, Preprocessing(size, mean, std))


def from_torchvision(spec: ModelSpec, weights: Path | None) -> Origin:
    """A model of torchvision, with its default weights unless others are given."""
    models = _installed("torchvision").models
    default = {} if weights is not None else {"weights": "DEFAULT"}
    with _tensors_only(spec):
        model = models.get_model(spec.name, **{**default, **spec.options})
        transforms = models.get_model_weights(spec.name).DEFAULT.transforms()
    side = transforms.crop_size[0]
    return Origin(model, Preprocessing((3, side, side), tuple(transforms.mean), tuple(transforms.std)))


def from_huggingface(spec: ModelSpec, weights: Path | None) -> Origin:
    """A model of transformers, from a folder or the hub; see `resdyn.models.huggingface`."""
    from resdyn.models.huggingface import load

    model, preprocessing, example = load(spec.name, weights)
    return Origin(model, preprocessing, example, filled=weights is not None)


def _installed(package: str) -> ModuleType:
    """Import a package that no extra provides: it would bring its own torch."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this needs the package '{package}' ({error}); install it with: pip install {package}"
        ) from error
    except Exception as error:
        raise InputError(
            f"the package '{package}' cannot be imported: {error}. Install builds of torch and "
            f"{package} that match each other"
        ) from error


def _declared(model: nn.Module) -> Preprocessing:
    """What a module declares about its input in the attributes ``input_size``, ``mean`` and ``std``."""
    return Preprocessing(*(_as_tuple(getattr(model, key, None)) for key in ("input_size", "mean", "std")))


def _as_tuple(value: Any) -> tuple[Any, ...] | None:
    return None if value is None else tuple(value)


def _seeded(factory: Callable[..., Any], spec: ModelSpec) -> Any:
    """Call a factory with the options of the specification, without touching the caller's random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return factory(**spec.options)


def _check_options(factory: Callable[..., Any], spec: ModelSpec) -> None:
    parameters = inspect.signature(factory).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for option in spec.options:
        if option not in parameters:
            hint = did_you_mean(option, parameters)
            known = ", ".join(parameters) or "none"
            raise InputError(f"got option '{option}' of {spec.name}, expected one of: {known}.{hint}")


def _import_file(path: Path) -> ModuleType:
    """Run a file as a module; its own folder is importable while it runs."""
    if not path.is_file():
        raise InputError(f"no file at '{path}', expected file.py:factory")
    name = f"resdyn_user_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        module_spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the code of a user raises
        raise InputError(f"'{path}' could not be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


@contextmanager
def _tensors_only(spec: ModelSpec) -> Iterator[None]:
    """Downloads of other libraries go through torch.load too: forbid unpickling, and explain failures."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    except Exception as error:
        raise InputError(
            f"{spec.scheme} cannot build '{spec.name}': {error}. Check the name, its options and the "
            "network, or give a local file by --weights"
        ) from error
    finally:
        os.environ.pop(key)
        if before is not None:
            os.environ[key] = before
