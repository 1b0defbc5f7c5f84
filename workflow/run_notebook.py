"""Execute one notebook with parameters.

    python -m workflow.run_notebook NAME EXECUTED.ipynb ARTEFACT PARAMETERS-AS-JSON [STUDY.json KEY]

STUDY.json holds parameters under "parameters" and KEY. $INPAINT_GPUS, if set, lists the slots of
GPUs (gpus.py): the kernel gets one of them for itself.

The job is done only if the notebook's last cell wrote ARTEFACT: after a dead kernel papermill marks
the cells that never ran as completed. EXECUTED.ipynb appears in one step; of a failed execution
EXECUTED.failed.ipynb is kept. Exit code: 0 done, 1 the notebook failed, 2 wrong arguments or
settings (everything is as before), 130 interrupted.
"""

import ast
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

from inpaint_lib.study import files
from inpaint_lib.study.command import say

from . import gpus
from .processes import die_with_parent, interrupt_on_terminate, stop_with

# jsonschema would compile a grammar of URIs, over a second that no notebook needs
sys.modules["rfc3987_syntax"] = None
Failure = namedtuple("Failure", "ename evalue")  # of an execution: the error's name and its message
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
# by name: importing their modules takes seconds
USER_ERRORS = ("ConfigError", "WeightsError", "SourceError", "SettingsChanged")


def main(name, executed, artefact, parameters, study=None, key=None):
    """Execute a notebook and return the exit code."""
    import papermill

    notebook = NOTEBOOKS / f"{name}.ipynb"
    executed, artefact = Path(executed).resolve(), Path(artefact).resolve()
    if not notebook.is_file():
        there = ", ".join(sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
        return fail(2, f"there is no notebook {name}; there are: {there}")
    try:
        parameters = _shared(study, key) | _object("PARAMETERS-AS-JSON", parameters)
        _check(parameters, papermill.inspect_notebook(_literal(notebook)))
    except ValueError as error:
        return fail(2, f"{name}: {error}")

    shown = ("dataset", "architecture", "setup", "seed")
    label = " ".join([name, *(str(parameters[key]) for key in shown if key in parameters)])
    say(f"  start   {label}")
    with (
        files.locked(executed.parent, f".{executed.stem}.lock"),
        gpus.leased(os.environ.get("INPAINT_GPUS")) as gpu,
    ):
        if gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        begun = time.monotonic()
        error = _execute(notebook, parameters, executed, artefact)
    if error is None or error.ename == "Diverged":  # an outcome: the page ends where the run did
        outcome = f"diverged: {error.evalue}" if error else f"{time.monotonic() - begun:.0f} s"
        say(f"  done    {label}  {outcome}")
        return 0
    if error.ename in USER_ERRORS:
        return fail(2, f"{label}: {error.evalue}")
    return fail(1, f"{label}: {error.ename + ': ' if error.ename else ''}{error.evalue}")


def _execute(notebook, parameters, executed, artefact):
    """Execute a notebook into `executed`; return None, or the Failure."""
    import papermill

    failed = executed.with_suffix(".failed.ipynb")
    temporary = files.temporary_for(executed)
    earlier = files.temporary_for(artefact)
    if artefact.is_file():  # set aside: that there is one again proves that the last cell wrote it
        os.replace(artefact, earlier)
    found = None
    try:
        with files.writing(executed), _private_folder() as private:
            _papermill(notebook, temporary, parameters, private)
    except papermill.PapermillExecutionError as error:
        found = Failure(error.ename, f"{error.evalue} (cell {error.exec_count}; see {failed})")
        if error.ename in (*USER_ERRORS, "Diverged"):
            found = Failure(error.ename, error.evalue)
    except (RuntimeError, OSError) as error:  # a kernel that died or does not start
        found = Failure(type(error).__name__, str(error))
    finally:
        done = artefact.is_file() and (found is None or found.ename == "Diverged")
        if done:
            os.replace(temporary, executed)
            failed.unlink(missing_ok=True)
        elif found and found.ename in USER_ERRORS:  # everything is as before
            if earlier.is_file() and not artefact.exists():
                os.replace(earlier, artefact)
        elif files.read_json(temporary) and not isinstance(sys.exception(), KeyboardInterrupt):
            os.replace(temporary, failed)  # on a full disk it may be torn
        earlier.unlink(missing_ok=True)
        temporary.unlink(missing_ok=True)
    if done or found and found.ename != "Diverged":
        return found
    return Failure("", f"the notebook ended without writing {artefact.name}: its kernel died")


def _papermill(notebook, output, parameters, private):
    import papermill
    from traitlets.config import Config

    papermill.execute_notebook(
        _literal(notebook),
        _literal(output),
        parameters,
        kernel_name="python3",
        cwd=str(NOTEBOOKS),
        progress_bar=False,
        extra_arguments=["--log-level=50"],  # its shutdown by interrupt is no error worth a line
        # sockets of its own: no ports, so no race for them
        config=Config({"KernelManager": {"transport": "ipc", "ip": f"{private}/k"}}),
    )


@contextlib.contextmanager
def _private_folder():
    """Yield a folder for one kernel: its sockets, and this very Python instead of the user's.

    The kernel knows by $INPAINT_UNSEEN that nobody looks on while it works.
    """
    long = len(os.fsencode(tempfile.gettempdir())) > 80  # a socket's path may have about 104 bytes
    with tempfile.TemporaryDirectory(prefix="kernel-", dir="/tmp" if long else None) as folder:
        write_kernel(folder)
        names = ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
        os.environ |= dict.fromkeys(names, folder)
        os.environ.pop("MPLBACKEND", None)
        yield folder


def write_kernel(folder):
    """Let the kernel python3 be of this very Python where `folder` is $JUPYTER_PATH."""
    kernel = Path(folder, "kernels", "python3")
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    files.write_json(kernel / "kernel.json", spec | {"env": {"INPAINT_UNSEEN": "1"}})


def _literal(path):
    """Return a path as papermill takes it: it fills in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _shared(study, key):
    """Return the parameters that STUDY.json holds under KEY. Raises ValueError."""
    if not study:
        return {}
    try:
        return dict(_object("it", Path(study).read_text(encoding="utf-8"))["parameters"][key])
    except (OSError, ValueError, TypeError, LookupError) as error:
        what = f"{study} has no parameters {key!r} ({error}); ./run_all.sh PROFILE writes them"
        raise ValueError(what) from None


def _object(what, text):
    """Return the JSON object in `text`. Raises ValueError."""
    try:
        return dict(json.loads(text).items())
    except (ValueError, AttributeError) as error:
        raise ValueError(f'{what} must be a JSON object like {{"seed": 0}} ({error})') from None


def _check(parameters, known):
    """Raise ValueError for parameters that the notebook lacks or has of another kind."""
    for name, value in parameters.items():
        if name not in known:
            what = f"no parameter {name!r} in its parameters cell, which has {', '.join(known)}"
            raise ValueError(what)
        default = known[name]["default"]
        if type(value) is not type(ast.literal_eval(default)):
            what = f"must be of the kind of its default, {default}, not {json.dumps(value)}"
            raise ValueError(f"parameter {name}: {what}")


def fail(code, message):
    """Print why a notebook failed in one line and return the exit code."""
    print(f"  FAILED  {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


def command(arguments):
    """Do what the command line says and return its exit code."""
    if len(arguments) not in (4, 6):
        return fail(2, __doc__.splitlines()[2].strip())
    die_with_parent()
    interrupt_on_terminate()
    if "INPAINT_STUDY_PID" in os.environ:
        stop_with(int(os.environ["INPAINT_STUDY_PID"]))
    try:
        return main(*arguments)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return fail(1, f"{arguments[0]}: {error}")


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
