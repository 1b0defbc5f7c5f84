"""Execute one notebook with parameters.

    python -m workflow.run_notebook NOTEBOOK EXECUTED.ipynb ARTEFACT PARAMETERS-AS-JSON [STUDY.json KEY]

STUDY.json holds, under "parameters" and KEY, parameters that all notebooks of a kind share. $INPAINT_GPUS, if set, lists the
slots of GPUs (gpus.py): the kernel gets one of them for itself. $INPAINT_WARM, if set, is where kernels are forked (warm.py).

The job counts as done only if the notebook's last cell wrote ARTEFACT: after a dead kernel papermill marks the cells that never
ran as completed. EXECUTED.ipynb appears in one step; what a failed execution got to is kept as EXECUTED.failed.ipynb.
Exit code: 0 done, 1 the notebook failed, 2 wrong arguments or settings (all is as before), 130 interrupted.
"""

import ast
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from inpaint_lib.study import files
from inpaint_lib.study.command import say

from . import gpus
from .processes import die_with_parent, interrupt_on_terminate, stop_with

sys.modules["rfc3987_syntax"] = None  # jsonschema would compile a grammar of URIs, two seconds that no notebook needs
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
WARM = Path(__file__).with_name("warm.py")
# by name: importing their modules takes seconds
USER_ERRORS = ("ConfigError", "WeightsError", "SourceError", "SettingsChanged")


def main(name, executed, artefact, parameters, study=None, key=None):
    import papermill
    from traitlets.config import Config

    notebook, executed, artefact = NOTEBOOKS / f"{name}.ipynb", Path(executed).resolve(), Path(artefact).resolve()
    if not notebook.is_file():
        there = ", ".join(sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
        return fail(2, f"there is no notebook {name}; there are: {there}")
    try:
        parameters = _shared(study, key) | _object("PARAMETERS-AS-JSON", parameters)
        _check(parameters, papermill.inspect_notebook(_literal(notebook)))
    except ValueError as error:
        return fail(2, f"{name}: {error}")

    label = f"{name} {describe(parameters)}".strip()
    say(f"  start   {label}")
    failed = executed.with_suffix(".failed.ipynb")
    with files.locked(executed.parent, f".{executed.stem}.lock"), gpus.leased(os.environ.get("INPAINT_GPUS")) as gpu:
        if gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        begun = time.monotonic()
        earlier = files.temporary_for(artefact)  # set aside: that there is one again proves that the last cell wrote it
        if artefact.is_file():
            os.replace(artefact, earlier)
        temporary = files.temporary_for(executed)
        private = _private_folder()  # sockets of its own: no ports, so no race for them
        try:
            with files.writing(executed):
                papermill.execute_notebook(
                    _literal(notebook),
                    _literal(temporary),
                    parameters,
                    kernel_name="python3",
                    cwd=str(NOTEBOOKS),
                    progress_bar=False,
                    extra_arguments=["--log-level=50"],  # its shutdown by interrupt is no error worth a line
                    config=Config({"KernelManager": {"transport": "ipc", "ip": f"{private.name}/k"}}),
                )
            if artefact.is_file():
                os.replace(temporary, executed)
                failed.unlink(missing_ok=True)
        except KeyboardInterrupt:
            temporary.unlink(missing_ok=True)
            raise
        except papermill.PapermillExecutionError as error:
            if error.ename == "Diverged" and artefact.is_file():  # an outcome: the page ends where the run did
                os.replace(temporary, executed)
                failed.unlink(missing_ok=True)
                print(f"  done    {label}  diverged: {error.evalue}", flush=True)
                return 0
            if error.ename in USER_ERRORS:
                temporary.unlink(missing_ok=True)
                if earlier.is_file() and not artefact.exists():
                    os.replace(earlier, artefact)
                return fail(2, f"{label}: {error.evalue}")
            return fail(1, f"{label}: {error.ename}: {error.evalue} (cell {error.exec_count}; see {failed})")
        except Exception as error:  # a dead kernel, a kernel that does not start: nbclient has no common class for them
            return fail(1, f"{label}: {type(error).__name__}: {error}")
        finally:
            if files.read_json(temporary):  # on a full disk it may be torn
                os.replace(temporary, failed)
            earlier.unlink(missing_ok=True)
            temporary.unlink(missing_ok=True)
            private.cleanup()
    if not artefact.is_file():
        return fail(1, f"{label}: the notebook ended without writing {artefact.name}: its kernel died")
    say(f"  done    {label}  {time.monotonic() - begun:.0f} s")
    return 0


def _private_folder():
    """A folder for a kernel alone: its sockets, and in place of the user's settings the kernel of this very Python and an empty
    profile, so that whatever is registered or configured under the same name is not asked."""
    long = len(os.fsencode(tempfile.gettempdir())) > 80  # the system allows a socket's path 104 bytes or a few more
    folder = tempfile.TemporaryDirectory(prefix="kernel-", dir="/tmp" if long else None)
    write_kernel(folder.name, os.environ.get("INPAINT_WARM"))
    os.environ |= dict.fromkeys(("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"), folder.name)
    os.environ.pop("MPLBACKEND", None)
    return folder


def write_kernel(folder, warm=None):
    """Let the kernel python3 be of this very Python where `folder` is $JUPYTER_PATH; forked at `warm` (warm.py), if given.
    It knows by $INPAINT_UNSEEN that nobody looks on while it works."""
    kernel = Path(folder, "kernels", "python3")
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    if warm:
        argv = [sys.executable, "-I", "-S", str(WARM), "kernel", warm, "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python", "env": {"INPAINT_UNSEEN": "1"}}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


def _literal(path):
    """A path as papermill takes it: it fills in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _shared(study, key):
    """The parameters that STUDY.json holds under KEY. Raises ValueError."""
    if not study:
        return {}
    try:
        return dict(_object("it", Path(study).read_text(encoding="utf-8"))["parameters"][key])
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ValueError(f"{study} has no parameters {key!r} ({error}); ./run_all.sh writes it anew") from None


def _object(what, text):
    """The JSON object in `text`. Raises ValueError."""
    try:
        return dict(json.loads(text).items())
    except (ValueError, AttributeError) as error:
        raise ValueError(f'{what} must be a JSON object like {{"seed": 0}} ({error})') from None


def _check(parameters, known):
    """Raise ValueError for parameters that the notebook lacks or whose defaults are of another kind: papermill only warns."""
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"no parameter {name!r} in its parameters cell, which has {', '.join(known)}")
        if type(value) is not type(ast.literal_eval(known[name]["default"])):
            example = known[name]["default"]
            raise ValueError(f"parameter {name}: must be of the kind of its default, {example}, not {json.dumps(value)}")


def describe(parameters):
    return " ".join(str(parameters[key]) for key in ("dataset", "setup", "seed") if key in parameters)


def fail(code, message):
    print(f"  FAILED  {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


def command(arguments):
    """What the command line asks for -> its exit code."""
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
