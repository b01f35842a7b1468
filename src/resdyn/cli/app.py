"""`resdyn`: parsing, configuration files, exit codes.

Parsing, help and usage errors load neither PyTorch nor xarray: a command imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import warnings
from collections.abc import Sequence
from inspect import BoundArguments
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError

from resdyn._version import __version__
from resdyn.cli import commands
from resdyn.cli.compare import compare
from resdyn.cli.options import EVERY, Measurement
from resdyn.cli.output import end_output, reserved_for_json, terminal
from resdyn.cli.paper import paper
from resdyn.cli.prune import prune
from resdyn.cli.transport import transport
from resdyn.errors import InputError, ResdynError

if TYPE_CHECKING:
    from rich.console import Console

EPILOGUE = (
    "Exit codes: 0 done, 1 a computation failed, 2 bad usage or input, 130 interrupted (the same command resumes "
    "where it stopped). MODEL is file.py:factory, resdyn:NET, hf:ID, timm:NAME or torchvision:NAME; DATA is digits, "
    "mnist, fashion_mnist, cifar10, cifar100, imagenette, a folder of images by class or a text file (.txt)."
)

app = App(
    name="resdyn",
    help="Find the residual stream inside a PyTorch model and measure it as a dynamical system.",
    help_epilogue=EPILOGUE,
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,  # `run` says what an interruption means
)
app.meta.suppress_keyboard_interrupt = False
OWN = (
    *(commands.demo, commands.inspect, commands.capture, commands.report, commands.analyze),
    *(compare, transport, paper, prune),
)
USAGE = {
    compare: "Usage: resdyn compare [OPTIONS] STORES...",
    paper: "Usage: resdyn paper [OPTIONS] [NAME [EXPERIMENT]]",
}
for command in OWN:
    app.command(command, usage=USAGE.get(command))


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(group=EVERY)] = None,
    print_config: Annotated[bool, Parameter(group=EVERY)] = False,
    debug: Annotated[bool, Parameter(group=EVERY)] = False,
) -> Any:
    """
    Parameters
    ----------
    config
        YAML file with options of the command (`samples: 8`); options on the command line override it.
    print_config
        Print the resolved options as YAML and stop.
    debug
        Show the whole traceback of an error.
    """
    if config is not None and not config.is_file():
        raise InputError(f"there is no configuration file {config}; give a YAML file of options")
    app.config = () if config is None else (_options_of(config),)
    function, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    if print_config and function in OWN:
        return print_resolved(function, bound)
    if function not in OWN:  # help, or the version
        return function(*bound.args, **bound.kwargs)
    from resdyn.progress import show_progress

    with show_progress(), reserved_for_json() if bound.arguments.get("json") else contextlib.nullcontext():
        return function(*bound.args, **bound.kwargs)


def _options_of(file: Path) -> Any:
    from cyclopts.config import Yaml

    return Yaml(file, use_commands_as_keys=False, must_exist=True)


def print_resolved(function: Any, bound: BoundArguments) -> None:
    """The options of a command as YAML that --config reads back."""
    bound.apply_defaults()
    options: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        options |= dataclasses.asdict(value) if isinstance(value, Measurement) else {name: value}
    for name, value in options.items():
        if value is not None and value != ():
            print(f"{name.replace('_', '-')}: {json.dumps(value, default=str)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code; no traceback unless --debug is given."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    code = run(tokens)
    end_output()
    sys.exit(code)


def usage_error(error: CycloptsError, tokens: list[str]) -> str:
    """The message in one line, and where the options of that command are listed."""
    text = str(error).strip().removesuffix(".")
    command = f" {tokens[0]}" if tokens and tokens[0] in app else ""
    return f"{text}{'' if text.endswith('?') else ';'} {'See' if text.endswith('?') else 'see'} resdyn{command} --help"


def run(tokens: list[str]) -> int:
    """The exit code of one command line."""
    errors = terminal(stderr=True)
    app.config = ()  # that of an earlier command line of this process
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            app.meta(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return report_error(errors, usage_error(error, tokens), 2)
    except ResdynError as error:
        if "--debug" in tokens:
            raise
        return report_error(errors, str(error), 2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        return report_error(errors, "interrupted; the same command resumes where it stopped", 130)
    except BrokenPipeError:
        return 1
    except SystemExit as error:  # code of a model; nothing here leaves this way
        return report_error(errors, f"the model's code ended the process: sys.exit({error.code!r})", 1)
    except BaseException as error:  # code of a model may raise anything
        if "--debug" in tokens:
            raise
        return report_error(errors, f"{type(error).__name__}: {error} (--debug shows where)", 1)
    return 0


def report_error(console: Console, message: str, code: int) -> int:
    """Say what went wrong, on standard error."""
    console.print("resdyn: ", style="bold red", end="")
    console.print(message.strip(), markup=False)
    return code
